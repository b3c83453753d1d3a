"""What the worker and the window say to each other; no Qt here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_app.cells import Cells
from goose_app.explain import Explain as Explain
from goose_app.explain import Explanation, HeadNow
from goose_app.model_facts import ModelFacts
from goose_app.ponder import Answer, Progress
from goose_app.questions import Memory, Question
from goose_app.series import Series
from goose_viz import Frame, Sampler, Session
from goose_viz.edits import StateEdit

#: A memory: of a snapshot's file, of a branch's end, by its row, or the mean of some prompts'.
Source = Memory

# -- to the worker -----------------------------------------------------------------------------


@dataclass(frozen=True)
class BeginWith:
    """Begin texts with a memory: that in a file, the one behind a text, or an empty one.

    Attributes
    ----------
    path : Path or None
        None: an empty memory.
    text : bool
        Whether the file is a text, which is read first.
    layout, orientation : str
        See `goose_viz.load_state`.
    """

    path: Path | None
    text: bool = False
    layout: str = "auto"
    orientation: str = "auto"


@dataclass(frozen=True)
class Load:
    """Open a model; None is the embedded one."""

    source: str | None
    device: str = "auto"
    dtype: str = "auto"
    tokenizer: str | None = None
    begin: BeginWith | None = None


@dataclass(frozen=True)
class Restart:
    """Forget the run and feed a prompt."""

    prompt: str
    sampler: Sampler


@dataclass(frozen=True)
class Say:
    """A turn of a conversation, and the model's answer.

    Attributes
    ----------
    words, template, system : str
        See `goose_viz.templates`.
    sampler : Sampler
    fresh : bool
        Whether a conversation begins with it.
    """

    words: str
    template: str
    system: str
    sampler: Sampler
    fresh: bool


@dataclass(frozen=True)
class Run:
    """Write on, until told otherwise or for so many tokens."""

    tokens: int | None = None


@dataclass(frozen=True)
class Pause:
    """Stop writing."""


@dataclass(frozen=True)
class RunOrPause:
    """Write on, or stop if it writes."""


@dataclass(frozen=True)
class Step:
    """One token on: the recorded one, or a new one at the end."""


@dataclass(frozen=True)
class Back:
    """One token back."""


@dataclass(frozen=True)
class Goto:
    """Put the cursor behind so many tokens; the end, if there are fewer."""

    position: int


@dataclass(frozen=True)
class Choose:
    """Go on with one of what is expected next: 0 is the likeliest."""

    rank: int


@dataclass(frozen=True)
class Diverge:
    """Write on differently from here: a new branch, with the sampling of now."""


@dataclass(frozen=True)
class Branch:
    """Another token behind so many."""

    position: int
    token: int


@dataclass(frozen=True)
class Switch:
    """Another branch: so many further on, round and round."""

    by: int


@dataclass(frozen=True)
class Apply:
    """Edit the memory ahead of the last token and read that again, to see what is expected then.

    Attributes
    ----------
    edit : StateEdit
    words : str
        What it does.
    source, minus : Source or None
        The memory that is put or added, and the one that is taken off before.
    tokens : int
        For how many tokens it lasts, if it is a Mute; 0 for good.
    """

    edit: StateEdit
    words: str
    source: Source | None = None
    minus: Source | None = None
    tokens: int = 0


@dataclass(frozen=True)
class ReadTruly:
    """Read the text that a replacement stands for, beside what it expects."""


@dataclass(frozen=True)
class Undo:
    """Take the last edit back."""


@dataclass(frozen=True)
class Redo:
    """Make it again."""


@dataclass(frozen=True)
class Watch:
    """Observe from now on, of every token and of the one at the cursor, what views show.

    Attributes
    ----------
    recorded : frozenset of str
        What is charted of every token.
    shown : frozenset of str
        What is looked at behind the cursor.
    """

    recorded: frozenset[str]
    shown: frozenset[str]


@dataclass(frozen=True)
class Ask:
    """Answer these at every place of the cursor from now on, as time allows."""

    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Study:
    """Work something out for the place of the cursor now, however long it takes."""

    question: Question


@dataclass(frozen=True)
class Abandon:
    """Give a study up; all of them when left out."""

    question: Question | None = None


@dataclass(frozen=True)
class Pin:
    """Watch how likely these words are, at every token; no others from now on."""

    tokens: tuple[int, ...]


@dataclass(frozen=True)
class StopAt:
    """Stop writing where a condition holds; empty words for nowhere."""

    words: str


@dataclass(frozen=True)
class ToStop:
    """Go to the next place where it holds, or the one before."""

    by: int


@dataclass(frozen=True)
class Twin:
    """Have the past of a branch of another run, by its row; of the current one when left out."""

    run: int
    row: int | None = None


@dataclass(frozen=True)
class Share:
    """Another run of the model that a run has open."""

    run: int


@dataclass(frozen=True)
class GoToBranch:
    """Return to a branch, by its row."""

    row: int


@dataclass(frozen=True)
class NameBranch:
    """Call a branch something."""

    row: int
    name: str


@dataclass(frozen=True)
class CloseBranch:
    """Forget a branch."""

    row: int


@dataclass(frozen=True)
class Resample:
    """Other sampling from here on."""

    sampler: Sampler


@dataclass(frozen=True)
class Export:
    """Write a snapshot."""

    path: Path


@dataclass(frozen=True)
class Record:
    """Record the run from its beginning on, as it goes on; None ends that.

    Attributes
    ----------
    path : Path or None
        A new folder.
    state : bool
        Whether with the memory behind every token, which takes most of the room.
    """

    path: Path | None
    state: bool = False


@dataclass(frozen=True, eq=False)
class SaveSession:
    """Write the whole session, with what the window has beside it."""

    path: Path
    window: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Adopt:
    """Show a session that somebody else has, and goes on using."""

    session: Session


@dataclass(frozen=True)
class Look:
    """Somebody else may have gone on with the session: show it as it is."""


@dataclass(frozen=True)
class Reopen:
    """Go on with a session that was saved, on the model that it was saved with."""

    path: Path


@dataclass(frozen=True)
class Resume:
    """Go on from a snapshot."""

    path: Path


Move = Step | Back | Goto  # of many in a row, only where they lead matters
Command = (
    Load | Share | Restart | Say | Run | Pause | RunOrPause | Move | Choose | Diverge | Branch
    | Switch | Resample | Export | Record | Resume | SaveSession | Reopen | Adopt | Look | Apply
    | ReadTruly
    | Undo | Redo | Watch
    | Explain | GoToBranch | NameBranch | CloseBranch | Ask | Study | Abandon | Pin | StopAt
    | ToStop | Twin | BeginWith
)  # fmt: skip

# -- to the window -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Loading:
    """Work that takes a while, and how far it is; words are empty when it has ended."""

    fraction: float
    words: str


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model is there; the window begins with its prompt, unless a session follows."""

    model: ModelFacts
    follows: bool = False


@dataclass(frozen=True, eq=False)
class Began:
    """A run begins: no token yet; here will be its figures, and so it samples.

    Attributes
    ----------
    series : Series
    sampler : Sampler
    memory : str
        What its texts begin with, in words; empty for an empty memory.
    """

    series: Series
    sampler: Sampler
    memory: str = ""


@dataclass(frozen=True, eq=False)
class Charted:
    """Another branch was taken: its figures are here."""

    series: Series


@dataclass(frozen=True)
class BranchRow:
    """A branch for the list.

    Attributes
    ----------
    words : str
        What it says where it parts from the one that it came from.
    edits : str
        What was done to the memory on the way, in words.
    name : str
    fork, stop : int
        Tokens ahead of where it parts, and in all.
    current : bool
    parent : int or None
        The row that it parts from; None for a text of its own.
    """

    words: str
    edits: str
    name: str
    fork: int
    stop: int
    current: bool
    parent: int | None = None


@dataclass(frozen=True)
class Branches:
    """The branches, in their order."""

    rows: list[BranchRow]


@dataclass(frozen=True)
class Running:
    """Whether the worker writes; the number of the last command that it had then."""

    running: bool
    serial: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Told:
    """Something happened that is worth a line: an export, a stop."""

    words: str


@dataclass(frozen=True)
class Failed:
    """Something did not work, in words; the run up to there is kept."""

    words: str


@dataclass(frozen=True)
class Sampled:
    """It samples otherwise from now on, and not because the window said so."""

    sampler: Sampler


@dataclass(frozen=True, eq=False)
class Reopened:
    """A session was opened again: what the window had beside it."""

    window: dict[str, Any]
    path: Path


@dataclass(frozen=True)
class Recording:
    """A run is being recorded, or, with None, not any more."""

    path: Path | None


@dataclass(frozen=True)
class Stops:
    """Where the condition for stopping holds on the current branch, as far as is known."""

    words: str
    positions: list[int]


Event = (
    Loading | Loaded | Began | Charted | Cells | Branches | Running | Sampled | Told | Failed
    | Stops | Answer | Progress | Recording | Reopened
)  # fmt: skip
Said = tuple[int, Event]  # which run it is about, and what


def merged(said: deque[Said]) -> Iterator[Said]:
    """What was said so far; tokens of a run that follow each other come as one."""
    pending: tuple[int, Cells] | None = None
    while said:
        run, event = said.popleft()
        if pending is not None:
            cells = pending[1]
            if isinstance(event, Cells) and (run, event.start) == (pending[0], cells.stop):
                cells.replace(event)
                continue
            yield pending
            pending = None
        if isinstance(event, Cells):
            pending = run, event
        else:
            yield run, event
    if pending is not None:
        yield pending


@dataclass(frozen=True, eq=False)
class Made:
    """An edit up to the cursor, and the memories that it was made from."""

    position: int
    edit: StateEdit
    source: Source | None = None
    minus: Source | None = None


@dataclass(frozen=True)
class Comparison:
    """What was expected before an edit, and what is now.

    Attributes
    ----------
    words : str
        What was done.
    before : list of (token, label, probability)
        The likeliest then.
    were, are : dict of int to float
        The probabilities of all tokens in any list, before and now.
    truth : list of (token, label, probability) or None
        The likeliest in a true run of the text that a replacement stands for.
    askable : bool
        Whether one can ask for that.
    """

    words: str
    before: list[tuple[int, str, float]]
    were: dict[int, float]
    are: dict[int, float]
    truth: list[tuple[int, str, float]] | None = None
    askable: bool = False


@dataclass(frozen=True)
class Came:
    """The token that follows the cursor: its probability, and its rank among all."""

    token: int
    label: str
    probability: float
    rank: int


@dataclass(frozen=True, eq=False)
class PinnedWord:
    """A word that is watched.

    Attributes
    ----------
    token, label : int, str
    start : int
        The first token that is told of; while the model writes, only the last are.
    rows : ndarray (n, 2)
        Its probability and rank behind each token from there on; NaN: not known yet.
    """

    token: int
    label: str
    start: int
    rows: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Picture:
    """The model at the cursor; only the newest matters.

    Attributes
    ----------
    position, recorded : int
        Tokens up to the cursor, and in the line.
    frame : Frame or None
        What was observed at the last token; None before the first.
    wkv : ndarray (L, H, N, N)
    next_tokens : list of (token, label, probability)
    rate : float
        Tokens a second, lately; 0 when paused.
    branch, branches : int
        Which branch this is, and how many there are.
    can_undo, can_redo : bool
        Whether an edit of the memory can be taken back, or made again.
    comparison : Comparison or None
        What was expected before the edit behind which the cursor stands.
    why : Explanation or None
        Where the next word comes from, if somebody asks.
    head : HeadNow or None
        How the selected head stands, then.
    stale : bool
        Whether that is of another moment: the newest is still being worked out.
    edits : tuple of Made
        The edits of the memory up to the cursor.
    number : int
        How many were made before.
    serial : int
        The number of the last command that it answers.
    came : Came or None
        The token that follows, if one does.
    pins : tuple of PinnedWord
    """

    position: int
    recorded: int
    frame: Frame | None
    wkv: NDArray[Any]
    next_tokens: list[tuple[int, str, float]] = field(default_factory=list)
    rate: float = 0.0
    branch: int = 0
    branches: int = 1
    can_undo: bool = False
    can_redo: bool = False
    comparison: Comparison | None = None
    why: Explanation | None = None
    head: HeadNow | None = None
    stale: bool = False
    edits: tuple[Made, ...] = ()
    number: int = 0
    serial: int = 0
    came: Came | None = None
    pins: tuple[PinnedWord, ...] = ()

    def observed(self, name: str) -> NDArray[Any] | None:
        """An observable of the last token; None if there is none, or nobody asked for it."""
        return None if self.frame is None else self.frame.arrays().get(name)

    @staticmethod
    def empty() -> Picture:
        """Before any model."""
        return Picture(0, 0, None, np.zeros((1, 1, 1, 1), np.float32))

"""What the worker and the window say to each other; no Qt here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_app.explain import Explanation
from goose_app.series import Series
from goose_viz import Frame, Model, Sampler
from goose_viz.edits import StateEdit

# -- to the worker -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """Open a model; None is the embedded one."""

    source: str | None
    device: str = "auto"
    dtype: str = "auto"
    tokenizer: str | None = None


@dataclass(frozen=True)
class Restart:
    """Forget the run and feed a prompt."""

    prompt: str
    sampler: Sampler


@dataclass(frozen=True)
class Run:
    """Write on, until told otherwise or for so many tokens."""

    tokens: int | None = None


@dataclass(frozen=True)
class Pause:
    """Stop writing."""


@dataclass(frozen=True)
class Step:
    """One token on."""


@dataclass(frozen=True)
class Goto:
    """Put the cursor behind so many tokens."""

    position: int


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
    """Edit the memory ahead of the last token and read that again, to see what is expected then."""

    edit: StateEdit
    words: str


@dataclass(frozen=True)
class Undo:
    """Take the last edit back."""


@dataclass(frozen=True)
class Redo:
    """Make it again."""


@dataclass(frozen=True)
class Explain:
    """Say from now on where the next word comes from; or cease to.

    Attributes
    ----------
    on : bool
    target, against : int or None
        The word, and the one that it is compared with; None takes the likeliest two.
    alone : bool
        Compare with nothing.
    layer, head : int
        Of which retention is asked.
    edit : bool
        Whether what the last token did to that head is wanted as well.
    """

    on: bool
    target: int | None = None
    against: int | None = None
    alone: bool = False
    layer: int = 0
    head: int = 0
    edit: bool = False


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
class Resume:
    """Go on from a snapshot."""

    path: Path


Command = (
    Load | Restart | Run | Pause | Step | Goto | Branch | Switch | Resample | Export | Resume
    | Apply | Undo | Redo | Explain | GoToBranch | NameBranch | CloseBranch
)  # fmt: skip

# -- to the window -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Loading:
    """Work that takes a while, and how far it is; words are empty when it has ended."""

    fraction: float
    words: str


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model is there."""

    model: Model


@dataclass(frozen=True, eq=False)
class Began:
    """A run begins: no token yet; here will be its figures, and so it samples."""

    series: Series
    sampler: Sampler


@dataclass(frozen=True, eq=False)
class Charted:
    """Another branch was taken: its figures are here."""

    series: Series


@dataclass(frozen=True, slots=True)
class Cell:
    """A token for the text: index in the line, id, text, name, probability, chosen or given."""

    index: int
    token: int
    text: str
    label: str
    probability: float
    generated: bool


@dataclass(frozen=True)
class Cells:
    """Tokens from an index on; what stood there and behind is gone."""

    start: int
    cells: list[Cell]


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
    """

    words: str
    edits: str
    name: str
    fork: int
    stop: int
    current: bool


@dataclass(frozen=True)
class Branches:
    """The branches, in their order."""

    rows: list[BranchRow]


@dataclass(frozen=True)
class Running:
    """Whether the worker writes."""

    running: bool


@dataclass(frozen=True)
class Told:
    """Something happened that is worth a line: an export, a stop."""

    words: str


@dataclass(frozen=True)
class Failed:
    """Something did not work, in words; the run up to there is kept."""

    words: str


Event = Loading | Loaded | Began | Charted | Cells | Branches | Running | Told | Failed


def merged(events: deque[Event]) -> Iterator[Event]:
    """The events so far; tokens that follow each other come as one."""
    pending: Cells | None = None
    while events:
        event = events.popleft()
        if not isinstance(event, Cells):
            if pending is not None:
                yield pending
            pending = None
            yield event
        elif pending is not None and event.start == pending.start + len(pending.cells):
            pending.cells.extend(event.cells)
        else:
            if pending is not None:
                yield pending
            pending = event
    if pending is not None:
        yield pending


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
        The probabilities of all tokens in either list, before and now.
    """

    words: str
    before: list[tuple[int, str, float]]
    were: dict[int, float]
    are: dict[int, float]


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
    stale : bool
        Whether that is of another moment: the newest is still being worked out.
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
    stale: bool = False

    def observed(self, name: str) -> NDArray[Any] | None:
        """An observable of the last token; None if there is none, or nobody asked for it."""
        return None if self.frame is None else self.frame.arrays().get(name)

    @staticmethod
    def empty() -> Picture:
        """Before any model."""
        return Picture(0, 0, None, np.zeros((1, 1, 1, 1), np.float32))

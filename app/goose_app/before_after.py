"""What was expected before an edit of the memory, what is now, what a true run expects; no Qt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import goose_viz as gv
from goose_app.messages import Comparison
from goose_viz.edits import StateEdit, memory_of
from goose_viz.history import Segment
from goose_viz.ranking import pairs, rank, softmax


@dataclass(frozen=True, eq=False)
class Edited:
    """An edit that a person made, and what was expected ahead of it.

    Attributes
    ----------
    segment : Segment
    position : int
        The place behind it, its last token read again.
    words : str
        What was done.
    edit : StateEdit
    before : ndarray (V,)
        Logits.
    truth : ndarray (V,) or None
        Those of a true run of the other text, if somebody asked.
    """

    segment: Segment
    position: int
    words: str
    edit: StateEdit
    before: Any
    truth: Any = None

    def stands(self, session: gv.Session) -> bool:
        """Whether the cursor is where it was made."""
        return (self.segment, self.position) == (session.segment, session.position)

    def read_truly(self, session: gv.Session, wanted: Callable[[], bool]) -> Edited:
        """Read the text that a replacement stands for from its first other token on."""
        edit = self.edit
        if not isinstance(edit, gv.Replace):
            return self
        other = edit.tokens
        ids = session.model.tokenizer.encode(other) if isinstance(other, str) else list(other)
        later = session.path.tokens(edit.stop, self.position)
        reader = gv.Session(session.model, history_bytes=0, frames_bytes=0)
        reader.feed([*session.path.tokens(0, edit.start), *ids, *later], lambda _share: wanted())
        return replace(self, truth=reader.logits) if wanted() else self


def filled(edit: StateEdit, memory: Any, minus: Any) -> StateEdit:
    """An edit with the memory that it puts or adds, less another if one is given."""
    numbers = memory_of(memory)
    if minus is not None:
        numbers = numbers - memory_of(minus)
    name = "source" if isinstance(edit, gv.Put) else "change"
    return replace(edit, **{name: numbers})  # type: ignore[type-var]


def compare(edited: Edited, session: gv.Session, k: int) -> Comparison:
    """The k likeliest tokens of each, and in each the probabilities of all of them."""
    label = session.model.tokenizer.label
    columns = [edited.before, session.logits, *([] if edited.truth is None else [edited.truth])]
    likeliest = [pairs(rank(logits, k)[0]) for logits in columns]
    ids = {t for column in likeliest for t, _ in column}
    chances = [{t: float(p[t]) for t in ids} for p in map(softmax, columns)]
    rows = [[(t, label(t), p) for t, p in column] for column in likeliest]
    return Comparison(
        edited.words, rows[0], chances[0], chances[1], rows[2] if len(rows) > 2 else None,
        isinstance(edited.edit, gv.Replace) and edited.truth is None,
    )  # fmt: skip

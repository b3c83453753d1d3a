"""Token cells laid out as text: words stay whole, lines break between them; no painting here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from goose_app.messages import Cell

_SPECIAL = 2.0  # pixels around a cell that shows a name instead of text


@dataclass(slots=True)
class Placed:
    """A cell and where it lies: x in pixels, line, width in pixels, index of its word's first."""

    cell: Cell
    shown: str
    x: float = 0.0
    line: int = 0
    width: float = 0.0
    word: int = 0

    @property
    def named(self) -> bool:
        """Whether a name is shown in place of text."""
        return self.shown != self.cell.text


class Flow:
    """Places cells one after another; only what is new, or moves, is measured.

    Parameters
    ----------
    measure : callable str -> float
        Width of a text in pixels.
    """

    def __init__(self, measure: Callable[[str], float]) -> None:
        self.measure = measure
        self.placed: list[Placed] = []
        self.width = 400.0
        self._word = 0  # index of the cell that the current word begins with
        self._breaks = False  # whether the last cell ended its line

    @property
    def n_lines(self) -> int:
        """Lines used."""
        return self.placed[-1].line + 1 if self.placed else 0

    def replace(self, start: int, cells: list[Cell]) -> None:
        """Put cells from an index on; those behind are gone."""
        begin = self.placed[start - 1].word if start > 0 else 0
        kept = [p.cell for p in self.placed[begin:start]]  # what follows decides where a word goes
        del self.placed[begin:]
        self._word = self.placed[-1].word if begin else 0
        self._breaks = begin > 0 and self.placed[-1].cell.text.endswith("\n")
        for cell in (*kept, *cells):
            self._put(Placed(cell, shown_text(cell)))

    def set_width(self, width: float) -> None:
        """Lay everything out anew."""
        self.width = width
        self.replace(0, [p.cell for p in self.placed])

    def at(self, x: float, line: int) -> int | None:
        """Index of the cell at a place."""
        low, high = 0, len(self.placed)
        while low < high:  # cells are ordered by line, then x
            middle = (low + high) // 2
            p = self.placed[middle]
            if (p.line, p.x + p.width) <= (line, x):
                low = middle + 1
            else:
                high = middle
        if low < len(self.placed):
            p = self.placed[low]
            if p.line == line and p.x <= x:
                return low
        return None

    def first_on(self, line: int) -> int:
        """Index of the first cell on a line or behind it."""
        low, high = 0, len(self.placed)
        while low < high:
            middle = (low + high) // 2
            if self.placed[middle].line < line:
                low = middle + 1
            else:
                high = middle
        return low

    def _put(self, p: Placed) -> None:
        previous = self.placed[-1] if self.placed else None
        p.width = self.measure(p.shown) + (2 * _SPECIAL if p.named else 0)
        p.x = previous.x + previous.width if previous else 0.0
        p.line = previous.line if previous else 0
        if self._breaks:
            p.x, p.line = 0.0, p.line + 1
        index = len(self.placed)
        self.placed.append(p)
        if self._breaks or _begins_word(p) or (previous is not None and previous.named):
            self._word = index
        if p.x + p.width > self.width and p.x > 0:
            self._wrap(index)
        p.word = self._word
        self._breaks = p.cell.text.endswith("\n")

    def _wrap(self, index: int) -> None:
        """Move the unfinished word to the next line, or break it where it fills a line alone."""
        begin = self._word if self.placed[self._word].x > 0 else index
        x, line = 0.0, self.placed[begin].line + 1
        for moved in self.placed[begin : index + 1]:
            moved.x, moved.line = x, line
            x += moved.width
        self._word = begin


def shown_text(cell: Cell) -> str:
    """What a cell shows: its text, or a name where it has none or ends a line."""
    if not cell.text:
        return cell.label if cell.label.startswith("<") else "·"
    return cell.text.replace("\n", "⏎").replace("\t", "⇥")


def _begins_word(p: Placed) -> bool:
    return p.named or p.shown[:1].isspace()

"""Token cells laid out as text: words stay whole, lines break between them; no painting here."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import NamedTuple

from goose_app.cells import Cell, Cells, Label

_SPECIAL = 2.0  # pixels around a cell that shows a name instead of text


class Placed(NamedTuple):
    """A cell and where it lies: x and width in pixels, line; what it shows."""

    cell: Cell
    shown: str
    x: float
    line: int
    width: float

    @property
    def named(self) -> bool:
        """Whether a name is shown in place of text."""
        return self.shown != self.cell.text


class Flow:
    """Places cells one after another; only what is new, or moves, is measured.

    A line's begin is all there is to know of what came before it: x is 0 and a word begins.

    Parameters
    ----------
    measure : callable str -> float
        Width of a text in pixels.
    """

    def __init__(self, measure: Callable[[str], float]) -> None:
        self.measure = measure
        self.cells = Cells()
        self.label: Label = str
        self.width = 400.0
        self._x, self._widths = array("f"), array("f")
        self._begins = array("i")  # index of the first cell of every line
        self._word = 0  # index of the cell that the current word begins with
        self._new_line = True  # whether the next cell begins a line
        self._named = False  # whether the last cell shows a name

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, index: int) -> Placed:
        index = range(len(self))[index]
        cell = self.cells[index]
        shown = shown_text(cell.text, cell.token, self.label)
        return Placed(cell, shown, self._x[index], self.line(index), self._widths[index])

    def span(self, begin: int, end: int) -> Iterator[tuple[float, float, str, bool, bool]]:
        """(x, width, what is shown, whether that is a name, chosen by the model) of some cells."""
        tokens, texts, generated = self.cells.tokens, self.cells.texts, self.cells.generated
        for i in range(begin, end):
            shown = shown_text(texts[i], tokens[i], self.label)
            named = shown != texts[i]
            yield self._x[i], self._widths[i], shown, named, bool(generated[i])

    @property
    def n_lines(self) -> int:
        """Lines used."""
        return len(self._begins)

    def line(self, index: int) -> int:
        """The line of a cell."""
        return bisect_right(self._begins, index) - 1

    def first_on(self, line: int) -> int:
        """Index of the first cell on a line or behind it."""
        return self._begins[line] if line < len(self._begins) else len(self)

    def at(self, x: float, line: int) -> int | None:
        """Index of the cell at a place."""
        if not 0 <= line < len(self._begins):
            return None
        begin, end = self._begins[line], self.first_on(line + 1)
        index = bisect_right(self._x, x, begin, end) - 1
        return index if index >= begin and x < self._x[index] + self._widths[index] else None

    def show(self, cells: Cells, label: Label) -> None:
        """Lay out other cells."""
        self.cells, self.label = cells, label
        self.cut(0)
        self.catch_up()

    def set_width(self, width: float) -> None:
        """Lines break elsewhere; `catch_up` lays everything out anew."""
        if width != self.width:
            self.width = width
            self.cut(0)

    def cut(self, n: int) -> None:
        """Only the first n cells are as they were; `catch_up` places what is there now."""
        if n >= len(self):
            return
        # What is gone may have pushed a word from one line to the next, not further.
        line = max(self.line(n - 1) - 1, 0)
        begin = self.first_on(line) if n > 0 else 0
        del self._x[begin:], self._widths[begin:], self._begins[line if n > 0 else 0 :]
        self._new_line = True

    def catch_up(self) -> None:
        """Place the cells that are not placed yet."""
        tokens, texts = self.cells.tokens, self.cells.texts
        for index in range(len(self), len(tokens)):
            self._put(index, tokens[index], texts[index])

    def _put(self, index: int, token: int, text: str) -> None:
        shown = shown_text(text, token, self.label)
        named = shown != text
        width = self.measure(shown) + (2 * _SPECIAL if named else 0)
        if self._new_line:
            x, self._word = 0.0, index
            self._begins.append(index)
        else:
            x = self._x[-1] + self._widths[-1]
            if named or self._named or shown[:1].isspace():
                self._word = index
        self._x.append(x)
        self._widths.append(width)
        if x + width > self.width and x > 0:
            self._wrap(index)
        self._new_line, self._named = text.endswith("\n"), named

    def _wrap(self, index: int) -> None:
        """Move the unfinished word to the next line, or break it where it fills a line alone."""
        begin = self._word if self._x[self._word] > 0 else index
        self._begins.append(begin)
        x = 0.0
        for moved in range(begin, index + 1):
            self._x[moved] = x
            x += self._widths[moved]
        self._word = begin


def shown_text(text: str, token: int, label: Label) -> str:
    """What a cell shows: its text, or a name where it has none or ends a line."""
    if not text:
        name = label(token)
        return name if name.startswith("<") else "·"
    return text.replace("\n", "⏎").replace("\t", "⇥") if "\n" in text or "\t" in text else text

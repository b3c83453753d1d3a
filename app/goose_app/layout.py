"""Where the docks stand at first, in each perspective: a table of columns."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDockWidget, QMainWindow

#: The height of a dock in a column, by its title; several titles are tabs of one place.
Column = tuple[int, tuple[tuple[tuple[str, ...], int], ...]]


@dataclass(frozen=True)
class Perspective:
    """Docks in columns from left to right, each with its width; below them the transport."""

    columns: tuple[Column, ...]

    def titles(self) -> set[str]:
        """The docks that it shows."""
        shown = {t for _, places in self.columns for titles, _ in places for t in titles}
        return shown | {"Transport"}


#: Widths and heights in pixels of a window of 1600 × 1000.
PERSPECTIVES = {
    "watch": Perspective((
        (440, ((("Text",), 560), (("Next token", "Model"), 300))),
        (560, ((("State",), 470), (("All heads",), 390))),
        (560, ((("Decay",), 430), (("In-context learning rate",), 430))),
    )),
    "why": Perspective((
        (470, ((("Text",), 430), (("Remember",), 210), (("Branches",), 210))),
        (1090, ((("Why",), 300), (("Next token",), 240), (("The edit of this token",), 290))),
    )),
}  # fmt: skip


def place(window: QMainWindow, docks: dict[str, QDockWidget], perspective: str) -> None:
    """Put the docks of a perspective in their places, and the others away."""
    window.setCentralWidget(None)  # type: ignore[arg-type]
    window.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
    window.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
    for dock in docks.values():
        dock.setFloating(False)
        window.removeDockWidget(dock)
    horizontal, vertical = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
    columns = PERSPECTIVES[perspective].columns
    heads = [docks[places[0][0][0]] for _, places in columns]
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, heads[0])
    for left, right in pairwise(heads):
        window.splitDockWidget(left, right, horizontal)
    for _, places in columns:
        above = None
        for titles, _ in places:
            first = docks[titles[0]]
            if above is not None:
                window.splitDockWidget(above, first, vertical)
            for other in titles[1:]:
                window.tabifyDockWidget(first, docks[other])
            above = first
    window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, docks["Transport"])
    for title in PERSPECTIVES[perspective].titles():
        docks[title].show()
    window.resizeDocks(heads, [width for width, _ in columns], horizontal)
    for _, places in columns:
        stack = [docks[titles[0]] for titles, _ in places]
        window.resizeDocks(stack, [height for _, height in places], vertical)
        for titles, _ in places:
            docks[titles[0]].raise_()

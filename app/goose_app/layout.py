"""Where the docks stand, in each perspective and on screens of any size: a table of columns."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDockWidget, QMainWindow, QToolBar

from goose_app.settings import Settings

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
        (1090, ((("Why",), 330), (("Next token",), 220), (("The edit of this token",), 280))),
    )),
}  # fmt: skip

#: The same for a small window, of 800 × 600: what stood in a column is behind each other.
SMALL = {
    "watch": Perspective((
        (360, ((("Text",), 360), (("Next token", "Model"), 150))),
        (440, ((("State", "All heads", "Decay", "In-context learning rate"), 510),)),
    )),
    "why": Perspective((
        (300, ((("Text", "Remember", "Branches"), 340), (("Next token",), 170))),
        (500, ((("Why", "The edit of this token"), 510),)),
    )),
}  # fmt: skip
_WIDE, _HIGH = 1150, 660  # pixels from which a window is not small
_VERSION = 4  # of what is remembered of the docks


class Arrangement:
    """The docks of a window: as they were left, or in their places.

    Parameters
    ----------
    window : QMainWindow
    docks : dict of str to QDockWidget
        By their titles.
    settings : Settings

    Attributes
    ----------
    perspective : str
        One of `PERSPECTIVES`; empty before the first.
    small : bool
        Whether the window is.
    """

    def __init__(
        self, window: QMainWindow, docks: dict[str, QDockWidget], settings: Settings
    ) -> None:
        self._window, self._docks, self._settings = window, docks, settings
        self.perspective, self.small = "", False
        self._standing = ""  # under which name the docks are remembered as they stand

    def show(self, perspective: str) -> None:
        """A perspective as it was left."""
        self.perspective = perspective if perspective in PERSPECTIVES else "watch"
        self.fit()

    def fit(self) -> None:
        """The perspective as it was left in a window of this size."""
        self.remember()
        self.small = self._is_small()
        self.reset()
        if docks := self._settings[self._key]:
            messages = {bar: bar.isHidden() for bar in self._window.findChildren(QToolBar)}
            self._window.restoreState(docks, _VERSION)
            for bar, hidden in messages.items():  # what they say has nothing to do with docks
                bar.setHidden(hidden)
        self._standing = self._key

    def reset(self) -> None:
        """Put every dock in its place."""
        place(self._window, self._docks, (SMALL if self.small else PERSPECTIVES)[self.perspective])

    def remember(self) -> None:
        """Keep how the docks stand, for the next time."""
        if self._standing:
            self._settings[self._standing] = bytes(self._window.saveState(_VERSION).data())

    def outgrown(self) -> bool:
        """Whether the window has become small, or is not any more."""
        return bool(self.perspective) and self.small != self._is_small()

    def _is_small(self) -> bool:
        return self._window.width() < _WIDE or self._window.height() < _HIGH

    @property
    def _key(self) -> str:
        return f"docks {self.perspective}{' small' if self.small else ''}"


def place(window: QMainWindow, docks: dict[str, QDockWidget], perspective: Perspective) -> None:
    """Put the docks of a perspective in their places, and the others away."""
    window.setCentralWidget(None)  # type: ignore[arg-type]
    window.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
    window.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
    for dock in docks.values():
        dock.setFloating(False)
        window.removeDockWidget(dock)
    horizontal, vertical = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
    columns = perspective.columns
    heads = [docks[places[0][0][0]] for _, places in columns]
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, heads[0])
    for left, right in pairwise(heads):
        window.splitDockWidget(left, right, horizontal)
    for _, places in columns:
        for (above, _), (below, _) in pairwise(places):
            window.splitDockWidget(docks[above[0]], docks[below[0]], vertical)
        for titles, _ in places:  # only now: beside a tab nothing can be put below
            for other in titles[1:]:
                window.tabifyDockWidget(docks[titles[0]], docks[other])
    window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, docks["Transport"])
    for title in perspective.titles():
        docks[title].show()
    window.resizeDocks(heads, [width for width, _ in columns], horizontal)
    for _, places in columns:
        stack = [docks[titles[0]] for titles, _ in places]
        window.resizeDocks(stack, [height for _, height in places], vertical)
        for titles, _ in places:
            docks[titles[0]].raise_()

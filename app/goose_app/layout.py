"""Where the docks stand: as they were left, or as the table of perspectives says."""

from __future__ import annotations

from itertools import pairwise

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QDockWidget, QMainWindow, QTabBar, QToolBar

from goose_app.perspectives import PERSPECTIVES, SMALL, Perspective, beside
from goose_app.settings import Settings

_WIDE, _HIGH = 1150, 660  # pixels from which a window is not small
_VERSION = 5  # of what is remembered of the docks


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
        One of `PERSPECTIVES`, or a person's own; empty before the first.
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
        known = perspective in PERSPECTIVES or perspective in self.own
        self.perspective = perspective if known else "watch"
        self.fit()

    @property
    def own(self) -> list[str]:
        """The names of a person's own perspectives."""
        return self._settings["own perspectives"]

    def save(self, name: str) -> None:
        """The docks as they stand now are a perspective of that name."""
        if name not in self.own:
            self._settings["own perspectives"] = [*self.own, name]
        self.perspective = name
        self._standing = self._key
        self.remember()

    def remove(self, name: str) -> None:
        """Forget one of a person's own."""
        self._settings["own perspectives"] = [n for n in self.own if n != name]
        for small in ("", " small"):
            self._settings[f"docks {name}{small}"] = b""
        if name == self.perspective:
            self._standing = ""
            self.show("watch")

    def fit(self) -> None:
        """The perspective as it was left in a window of this size."""
        self.remember()
        self.small = self._is_small()
        self.reset()
        if docks := self._settings[self._key]:
            self.stand(docks)
        self._standing = self._key

    def _settle(self) -> None:
        """The transport is as low as it can be, and no row of tabs is left that Qt has lost."""
        self._window.resizeDocks([self._docks["Transport"]], [1], Qt.Orientation.Vertical)
        menus = self._window.menuBar().geometry()
        direct = Qt.FindChildOption.FindDirectChildrenOnly
        for bar in self._window.findChildren(QTabBar, options=direct):
            if bar.geometry().intersects(menus):  # a layout that was restored leaves one there
                bar.hide()

    def reset(self) -> None:
        """Put every dock in its place."""
        table = SMALL if self.small else PERSPECTIVES
        place(self._window, self._docks, table.get(self.perspective, table["watch"]))
        QTimer.singleShot(0, self._window, self._settle)  # once the docks know their sizes

    def remember(self) -> None:
        """Keep how the docks stand, for the next time."""
        if self._standing:
            self._settings[self._standing] = self.standing()

    def standing(self) -> bytes:
        """How the docks stand now."""
        return bytes(self._window.saveState(_VERSION).data())

    def stand(self, docks: bytes) -> None:
        """Have the docks stand as they did once; what cannot be read changes nothing."""
        messages = {bar: bar.isHidden() for bar in self._window.findChildren(QToolBar)}
        self._window.restoreState(docks, _VERSION)
        for bar, hidden in messages.items():  # what they say has nothing to do with docks
            bar.setHidden(hidden)

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
    window.setCentralWidget(None)
    window.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
    window.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
    for dock in docks.values():
        dock.setFloating(False)
        window.removeDockWidget(dock)
    horizontal, vertical = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
    columns = perspective.columns
    heads = [docks[beside(places[0][0])[0][0]] for _, places in columns]
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, heads[0])
    for left, right in pairwise(heads):
        window.splitDockWidget(left, right, horizontal)
    for _, places in columns:
        for (above, _), (below, _) in pairwise(places):
            first, second = beside(above)[0][0], beside(below)[0][0]
            window.splitDockWidget(docks[first], docks[second], vertical)
        for titles, _ in places:
            for one, other in pairwise(beside(titles)):
                window.splitDockWidget(docks[one[0]], docks[other[0]], horizontal)
        for titles, _ in places:  # only now: beside a tab nothing can be put below
            for group in beside(titles):
                for tab in group[1:]:
                    window.tabifyDockWidget(docks[group[0]], docks[tab])
    window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, docks["Transport"])
    for title in perspective.titles():
        docks[title].show()
    corner = docks[beside(columns[-1][1][-1][0])[-1][0]]
    for title, dock in docks.items():
        if title not in perspective.titles():  # where it comes if somebody wants it
            window.tabifyDockWidget(corner, dock)
            dock.hide()
    window.resizeDocks(heads, [width for width, _ in columns], horizontal)
    for width, places in columns:
        stack = [docks[beside(titles)[0][0]] for titles, _ in places]
        window.resizeDocks(stack, [height for _, height in places], vertical)
        for titles, _ in places:
            row = [docks[group[0]] for group in beside(titles)]
            if len(row) > 1:
                window.resizeDocks(row, [width // len(row)] * len(row), horizontal)
            for dock in row:
                dock.raise_()

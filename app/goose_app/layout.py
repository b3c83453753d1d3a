"""Where the docks stand, in each perspective and on screens of any size: a table of columns."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QDockWidget, QMainWindow, QToolBar

from goose_app.settings import Settings

Tabs = tuple[str, ...]  # titles of docks behind each other

#: A width, and what stands above each other in it, each with a height: docks behind each other, or
#: beside each other.
Column = tuple[int, tuple[tuple[Tabs | tuple[Tabs, ...], int], ...]]


@dataclass(frozen=True)
class Perspective:
    """Docks in columns from left to right, each with its width; below them the transport."""

    columns: tuple[Column, ...]

    def titles(self) -> set[str]:
        """The docks that it shows."""
        groups = [g for _, places in self.columns for titles, _ in places for g in beside(titles)]
        return {t for group in groups for t in group} | {"Transport"}


def beside(titles: Tabs | tuple[Tabs, ...]) -> tuple[Tabs, ...]:
    """What stands beside each other in a place of a column."""
    return titles if isinstance(titles[0], tuple) else (titles,)  # type: ignore[return-value]


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
    "state": Perspective((
        (400, ((("Text",), 500), (("Spectrum",), 290))),
        (1200, (
            (("The edit of this token",), 320),
            ((("Attention map",), ("Health",), ("State",)), 470),
        )),
    )),
    "compare": Perspective((
        (500, ((("Text",), 480), (("Next token",), 320))),
        (600, ((("Compare",), 460), (("State difference",), 380))),
        (500, ((("Other text",), 480), (("Other next token",), 320))),
    )),
    "study": Perspective((
        (450, ((("Text",), 480), (("Next token",), 320))),
        (600, ((("Logit lens",), 440), (("Pinned words",), 330))),
        (550, ((("Sensitivity", "Causal trace"), 400), (("Steer",), 400))),
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
    "state": Perspective((
        (300, ((("Text",), 340), (("Spectrum",), 170))),
        (500, ((("Attention map", "Health", "State", "The edit of this token"), 510),)),
    )),
    "compare": Perspective((
        (300, ((("Text", "Other text"), 340), (("Next token", "Other next token"), 170))),
        (500, ((("Compare", "State difference"), 510),)),
    )),
    "study": Perspective((
        (300, ((("Text",), 340), (("Next token",), 170))),
        (500, (
            (("Logit lens", "Pinned words", "Sensitivity", "Causal trace", "Steer"), 510),
        )),
    )),
}  # fmt: skip
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
        return self._settings["own perspectives"]  # type: ignore[no-any-return]

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
            messages = {bar: bar.isHidden() for bar in self._window.findChildren(QToolBar)}
            self._window.restoreState(docks, _VERSION)
            for bar, hidden in messages.items():  # what they say has nothing to do with docks
                bar.setHidden(hidden)
        self._standing = self._key

    def _settle(self) -> None:
        """The transport is as low as it can be."""
        self._window.resizeDocks([self._docks["Transport"]], [1], Qt.Orientation.Vertical)

    def reset(self) -> None:
        """Put every dock in its place."""
        table = SMALL if self.small else PERSPECTIVES
        place(self._window, self._docks, table.get(self.perspective, table["watch"]))
        QTimer.singleShot(0, self._window, self._settle)  # once the docks know their sizes

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
                for other in group[1:]:
                    window.tabifyDockWidget(docks[group[0]], docks[other])
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

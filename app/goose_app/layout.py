"""Where the docks stand at first, in each perspective."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDockWidget, QMainWindow

_WHY_ONLY = {"Why", "The edit of this token", "Branches"}


def place_watch(window: QMainWindow, d: dict[str, QDockWidget]) -> None:
    """Text on the left, the state in the middle, rates on the right, transport below."""
    _clear(window, d)
    horizontal, vertical = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, d["Text"])
    window.splitDockWidget(d["Text"], d["State"], horizontal)
    window.splitDockWidget(d["State"], d["Decay"], horizontal)
    window.splitDockWidget(d["Decay"], d["In-context learning rate"], vertical)
    window.splitDockWidget(d["State"], d["All heads"], vertical)
    window.splitDockWidget(d["Text"], d["Next token"], vertical)
    window.tabifyDockWidget(d["Next token"], d["Model"])
    window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, d["Transport"])
    for title in set(d) - _WHY_ONLY:
        d[title].show()
    d["Next token"].raise_()
    window.resizeDocks([d["Text"], d["State"], d["Decay"]], [440, 560, 560], horizontal)
    window.resizeDocks([d["Text"], d["Next token"]], [560, 300], vertical)
    window.resizeDocks([d["State"], d["All heads"]], [520, 340], vertical)
    window.resizeDocks([d["Decay"], d["In-context learning rate"]], [430, 430], vertical)


def place_why(window: QMainWindow, d: dict[str, QDockWidget]) -> None:
    """Text on the left, the explanation on the right, what is expected next below it."""
    _clear(window, d)
    horizontal, vertical = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, d["Text"])
    window.splitDockWidget(d["Text"], d["Why"], horizontal)
    window.splitDockWidget(d["Why"], d["Next token"], vertical)
    window.splitDockWidget(d["Next token"], d["The edit of this token"], vertical)
    window.splitDockWidget(d["Text"], d["Branches"], vertical)
    window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, d["Transport"])
    for title in ("Text", "Next token", "Transport", *_WHY_ONLY):
        d[title].show()
    window.resizeDocks([d["Text"], d["Why"]], [470, 1090], horizontal)
    middle = [d["Why"], d["Next token"], d["The edit of this token"]]
    window.resizeDocks(middle, [300, 240, 290], vertical)
    window.resizeDocks([d["Text"], d["Branches"]], [560, 290], vertical)


def _clear(window: QMainWindow, d: dict[str, QDockWidget]) -> None:
    window.setCentralWidget(None)
    window.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
    window.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
    for dock in d.values():
        dock.setFloating(False)
        window.removeDockWidget(dock)


#: Perspective -> what puts the docks in their places there.
PERSPECTIVES = {"watch": place_watch, "why": place_why}

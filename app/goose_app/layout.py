"""Where the docks stand at first."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDockWidget, QMainWindow


def place_docks(window: QMainWindow, d: dict[str, QDockWidget]) -> None:
    """Text on the left, the state in the middle, rates on the right, transport below.

    Parameters
    ----------
    window : QMainWindow
    d : dict of str to QDockWidget
        The docks by title.
    """
    window.setCentralWidget(None)
    window.setCorner(Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
    window.setCorner(Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.BottomDockWidgetArea)
    for dock in d.values():
        dock.setFloating(False)
        window.removeDockWidget(dock)
    horizontal, vertical = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, d["Text"])
    window.splitDockWidget(d["Text"], d["State"], horizontal)
    window.splitDockWidget(d["State"], d["Decay"], horizontal)
    window.splitDockWidget(d["Decay"], d["In-context learning rate"], vertical)
    window.splitDockWidget(d["State"], d["All heads"], vertical)
    window.splitDockWidget(d["Text"], d["Next token"], vertical)
    window.tabifyDockWidget(d["Next token"], d["Model"])
    window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, d["Transport"])
    for dock in d.values():
        dock.show()
    d["Next token"].raise_()
    window.resizeDocks([d["Text"], d["State"], d["Decay"]], [440, 560, 560], horizontal)
    window.resizeDocks([d["Text"], d["Next token"]], [560, 300], vertical)
    window.resizeDocks([d["State"], d["All heads"]], [520, 340], vertical)
    window.resizeDocks([d["Decay"], d["In-context learning rate"]], [430, 430], vertical)

"""Room for things on any screen."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QFrame, QScrollArea, QWidget

_FRAME = QSize(16, 48)  # pixels for the window's own frame and title
_LEAST = QSize(120, 60)  # a dock may become as small


def fitting(wanted: QSize, free: QSize) -> QSize:
    """The wanted size of a window, or what a screen has for it."""
    return wanted.boundedTo(free - _FRAME)


def scrolling(content: QWidget) -> QScrollArea:
    """Content that scrolls where it is given less room than it needs."""
    area = QScrollArea()
    area.setWidget(content)
    area.setWidgetResizable(True)
    area.setFrameShape(QFrame.Shape.NoFrame)
    area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    area.setMinimumSize(_LEAST)
    return area

"""Whether a widget paints for a figure: what is cached in the screen's pixels will not do then."""

from __future__ import annotations

from PySide6.QtGui import QPaintEngine, QPainter
from PySide6.QtWidgets import QWidget

_VECTORS = (QPaintEngine.Type.SVG, QPaintEngine.Type.Pdf, QPaintEngine.Type.Picture)


def in_vectors(painter: QPainter) -> bool:
    """Whether shapes and letters stay what they are."""
    return painter.paintEngine().type() in _VECTORS


def on_paper(painter: QPainter, widget: QWidget) -> bool:
    """Whether it is not the screen, or finer than the screen."""
    ratio = painter.device().devicePixelRatioF()
    return in_vectors(painter) or ratio != widget.devicePixelRatioF()

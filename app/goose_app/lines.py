"""Many lines over tokens as one graphics item: pyqtgraph keeps the axes, one call paints all."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import QRectF
from PySide6.QtGui import QPainter, QPen, QPolygonF


class Lines(pg.GraphicsObject):
    """Polylines in plot coordinates.

    An item a line would cost some 0.2 ms each and repaint, most of it for bounds that are known:
    here they are the plot's own range.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bounds = QRectF(0, 0, 1, 1)
        self._pens: list[QPen] = []
        self._polygons: list[QPolygonF] = []

    def set_bounds(self, bounds: QRectF) -> None:
        """The plot shows another range."""
        if bounds != self._bounds:
            self.prepareGeometryChange()
            self._bounds = bounds

    def set_pens(self, pens: list[QPen]) -> None:
        """One pen a line, later ones on top."""
        for pen in pens:
            pen.setCosmetic(True)
        self._pens = pens
        self.update()

    def set_data(self, x: NDArray[np.floating], rows: list[NDArray[np.floating]]) -> None:
        """Values (T,) of every line at x (T,)."""
        self._polygons = [pg.functions.arrayToQPolygonF(x, np.asarray(y, np.float64)) for y in rows]
        self.update()

    def boundingRect(self) -> QRectF:
        """The plot's range."""
        return self._bounds

    def paint(self, painter: QPainter, *_ignored: object) -> None:
        """All lines."""
        for pen, polygon in zip(self._pens, self._polygons, strict=False):
            painter.setPen(pen)
            painter.drawPolyline(polygon)

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
        self._pens: list[tuple[QPen, int]] = []
        self._polygons: list[QPolygonF] = []

    def set_bounds(self, bounds: QRectF) -> None:
        """The plot shows another range."""
        if bounds != self._bounds:
            self.prepareGeometryChange()
            self._bounds = bounds

    def set_pens(self, pens: list[QPen]) -> None:
        """One pen a line, later ones on top; whole widths in pixels.

        A line of two pixels is drawn as two of one: Qt takes seven times as long for a wide pen.
        """
        self._pens = []
        for pen in pens:
            thin = QPen(pen)
            thin.setCosmetic(True)
            thin.setWidth(1)
            self._pens.append((thin, pen.width()))
        self.update()

    def set_data(self, x: NDArray[np.floating], rows: list[NDArray[np.floating]]) -> None:
        """Values (T,) of every line at x (T,); none where T is 0."""
        convert = pg.functions.arrayToQPolygonF  # which does not take no points
        self._polygons = [convert(x, np.asarray(y, np.float64)) for y in rows] if len(x) else []
        self.update()

    def boundingRect(self) -> QRectF:
        """The plot's range."""
        return self._bounds

    def paint(self, painter: QPainter, *_ignored: object) -> None:
        """All lines."""
        pixel = 1 / (painter.transform().m22() or 1)
        for (pen, width), polygon in zip(self._pens, self._polygons, strict=False):
            painter.setPen(pen)
            for i in range(width):
                painter.drawPolyline(polygon.translated(0, i * pixel) if i else polygon)

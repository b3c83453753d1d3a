"""Layers × heads as cells with their figures, signed colours around zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, QSizeF, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QStaticText
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from goose_app.bars import signed
from goose_app.contrast import readable
from goose_app.theme import DARK, Table, Theme, gradient, sequential

_LEFT, _TOP = 30, 20
_FIGURES = 4000  # laid out at most


class HeadGrid(QWidget):
    """A cell a head; a click selects it.

    Parameters
    ----------
    colours : str
        A sequential map for values without a sign, from the least to the largest; zero in the
        middle of the theme's own when left out.
    """

    cell_clicked = Signal(int, int)  # layer, head

    def __init__(self, colours: str = "") -> None:
        super().__init__()
        self._map = colours
        self._figures: dict[str, tuple[QStaticText, QSizeF]] = {}
        self.values: NDArray[np.floating] = np.zeros((0, 0))
        self._marked = (-1, -1)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(150, 110)
        self.set_theme(DARK)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        self.theme = theme
        self._colours = [QColor(*row) for row in self._table(theme).tolist()]
        self._pens = [readable(QColor(theme.text), colour) for colour in self._colours]
        self.update()

    def _table(self, theme: Theme) -> Table:
        return sequential(self._map) if self._map else gradient(theme.diverging)

    def words(self, value: float) -> str:
        """A figure as it stands in a cell."""
        if not self._map:
            return signed(value)
        if 0 < abs(value) < 0.0005:
            return "<0.001"
        return (f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"[:5]).replace("-", "−")

    def _places(self) -> list[list[int]]:
        """Of each value, in the map."""
        finite = np.nan_to_num(self.values, posinf=0, neginf=0)
        if self._map:
            low, high = float(finite.min()), float(finite.max())
            scaled = (finite - low) / ((high - low) or 1.0)
        else:
            scaled = 0.5 + 0.5 * finite / (float(np.abs(finite).max()) or 1.0)
        return np.clip(np.rint(255 * scaled), 0, 255).astype(int).tolist()

    def set_values(self, values: NDArray[np.floating]) -> None:
        """(L, H)."""
        self.values = values
        self.update()

    def mark(self, layer: int, head: int) -> None:
        """Frame the selected head."""
        if (layer, head) != self._marked:
            self._marked = layer, head
            self.update()

    def sizeHint(self) -> QSize:
        """A comfortable size."""
        return QSize(260, 190)

    def cell_rect(self, layer: int, head: int) -> QRectF:
        """Where a cell lies."""
        L, H = self.values.shape
        width = (self.width() - _LEFT - 4) / max(H, 1)
        height = min((self.height() - _TOP - 4) / max(L, 1), 34.0)
        return QRectF(_LEFT + head * width, _TOP + layer * height, width, height)

    def cell_at(self, point: QPointF) -> tuple[int, int] | None:
        """(layer, head) under a point."""
        L, H = self.values.shape
        cells = ((i, h) for i in range(L) for h in range(H))
        return next((c for c in cells if self.cell_rect(*c).contains(point)), None)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Names of layers and heads, colours, and figures where they fit."""
        painter = QPainter(self)
        t, (L, H) = self.theme, self.values.shape
        if L == 0 or H == 0:
            return
        centre, metrics = Qt.AlignmentFlag.AlignCenter, painter.fontMetrics()
        cell = self.cell_rect(0, 0)
        wide, high = cell.width(), cell.height()
        fits = wide >= metrics.horizontalAdvance("+0.00") + 4 and high >= metrics.height() - 2
        painter.setPen(QColor(t.dim))
        for i in range(0, L, max(1, int(np.ceil(metrics.height() / max(high, 1))))):
            painter.drawText(QRectF(0, _TOP + i * high, _LEFT - 4, high), centre, str(i))
        for h in range(0, H, max(1, int(np.ceil(24 / max(wide, 1))))):
            painter.drawText(QRectF(_LEFT + h * wide, 0, wide, _TOP), centre, str(h))
        for i, row in enumerate(self._places()):
            y = _TOP + i * high
            for h, place in enumerate(row):
                x = _LEFT + h * wide
                painter.fillRect(QRectF(x + 1, y + 1, wide - 2, high - 2), self._colours[place])
                if fits:
                    figure, size = self._figure(self.words(float(self.values[i, h])))
                    painter.setPen(self._pens[place])
                    at = QPointF(x + (wide - size.width()) / 2, y + (high - size.height()) / 2)
                    painter.drawStaticText(at, figure)
        if 0 <= self._marked[0] < L and 0 <= self._marked[1] < H:
            painter.setPen(QPen(QColor(t.accent), 1.6))
            painter.drawRect(self.cell_rect(*self._marked).adjusted(1, 1, -1, -1))

    def _figure(self, words: str) -> tuple[QStaticText, QSizeF]:
        """A figure with its glyphs laid out, and its size: the same ones come again and again."""
        known = self._figures.get(words)
        if known is None:
            if len(self._figures) > _FIGURES:
                self._figures.clear()
            text = QStaticText(words)
            text.setTextFormat(Qt.TextFormat.PlainText)
            text.prepare(font=self.font())
            known = self._figures[words] = text, text.size()
        return known

    def event(self, event: QEvent) -> bool:
        """Say the figure of the cell under the mouse."""
        if event.type() == QEvent.Type.ToolTip:
            at = self.mapFromGlobal(event.globalPos())
            cell = self.cell_at(QPointF(at))
            if cell is not None:
                words = f"layer {cell[0]} head {cell[1]}: {self.words(float(self.values[cell]))}"
                QToolTip.showText(event.globalPos(), words)
            return True
        return super().event(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Select the head."""
        cell = self.cell_at(event.position())
        if cell is not None and event.button() == Qt.MouseButton.LeftButton:
            self.cell_clicked.emit(*cell)

"""Layers × heads as cells with their figures, signed colours around zero."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from goose_app.bars import signed
from goose_app.theme import DARK, Theme, gradient, legible

_LEFT, _TOP = 30, 20


class HeadGrid(QWidget):
    """A cell a head; a click selects it."""

    cell_clicked = Signal(int, int)  # layer, head

    def __init__(self) -> None:
        super().__init__()
        self.theme: Theme = DARK
        self.values: NDArray[np.floating] = np.zeros((0, 0))
        self._marked = (-1, -1)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(150, 110)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        self.theme = theme
        self.update()

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
        table = gradient(t.diverging)
        top = float(np.abs(self.values).max(initial=0)) or 1.0
        centre, metrics = Qt.AlignmentFlag.AlignCenter, painter.fontMetrics()
        fits = L > 0 and H > 0 and (
            self.cell_rect(0, 0).width() >= metrics.horizontalAdvance("+0.00") + 4
            and self.cell_rect(0, 0).height() >= metrics.height() - 2
        )  # fmt: skip
        step_down = max(1, int(np.ceil(metrics.height() / max(self.cell_rect(0, 0).height(), 1))))
        step_right = max(1, int(np.ceil(24 / max(self.cell_rect(0, 0).width(), 1))))
        for i in range(L):
            rect = self.cell_rect(i, 0)
            painter.setPen(QColor(t.dim))
            if i % step_down == 0:
                painter.drawText(QRectF(0, rect.y(), _LEFT - 4, rect.height()), centre, str(i))
            for h in range(H):
                rect = self.cell_rect(i, h)
                if i == 0 and h % step_right == 0:
                    painter.setPen(QColor(t.dim))
                    painter.drawText(QRectF(rect.x(), 0, rect.width(), _TOP), centre, str(h))
                value = float(self.values[i, h])
                colour = QColor(*table[int(np.clip(round(127.5 + 127.5 * value / top), 0, 255))])
                painter.fillRect(rect.adjusted(1, 1, -1, -1), colour)
                if fits:
                    painter.setPen(QColor(legible(colour)))
                    painter.drawText(rect, centre, signed(value))
        if 0 <= self._marked[0] < L and 0 <= self._marked[1] < H:
            painter.setPen(QPen(QColor(t.accent), 1.6))
            painter.drawRect(self.cell_rect(*self._marked).adjusted(1, 1, -1, -1))

    def event(self, event: QEvent) -> bool:
        """Say the figure of the cell under the mouse."""
        if event.type() == QEvent.Type.ToolTip:
            at = self.mapFromGlobal(event.globalPos())  # type: ignore[attr-defined]
            cell = self.cell_at(QPointF(at))
            if cell is not None:
                words = f"layer {cell[0]} head {cell[1]}: {signed(float(self.values[cell]))}"
                QToolTip.showText(event.globalPos(), words)  # type: ignore[attr-defined]
            return True
        return super().event(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Select the head."""
        cell = self.cell_at(event.position())
        if cell is not None and event.button() == Qt.MouseButton.LeftButton:
            self.cell_clicked.emit(*cell)

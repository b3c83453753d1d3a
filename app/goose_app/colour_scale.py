"""A small scale beside a choice of colours: what their two ends stand for."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from goose_app.colouring import COLOURINGS
from goose_app.panels.token_view import TokenView
from goose_app.theme import gradient

_LENGTH, _HEIGHT, _GAP = 56, 9, 5  # pixels
_WIDEST = "−0.000"


class ColourScale(QWidget):
    """``low ▒▒▒▒ high unit`` of the colours of a text."""

    def __init__(self, view: TokenView) -> None:
        super().__init__()
        self._view = view
        self._bar: QImage | None = None
        self._low = self._high = self._unit = ""
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        view.scaled.connect(self.rescale)

    def text(self) -> str:
        """What it says."""
        return f"{self._low} to {self._high} {self._unit}".strip() if self._bar else ""

    def rescale(self) -> None:
        """The text's colours, or what their ends stand for, are others."""
        (low, high), colouring = self._view.scale, COLOURINGS[self._view.colouring]
        theme = self._view.theme
        if low < high:
            table = gradient(theme.diverging if colouring.explained else theme.heat)
            self._bar = QImage(table.data, 256, 1, 768, QImage.Format.Format_RGB888).copy()
        else:
            self._bar = None
        self._low, self._high = f"{low:.3g}".replace("-", "−"), f"{high:.3g}"
        if self._unit != colouring.unit:
            self._unit = colouring.unit
            self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Room for figures that change."""
        metrics = self.fontMetrics()
        words = 2 * metrics.horizontalAdvance(_WIDEST) + metrics.horizontalAdvance(" " + self._unit)
        return QSize(words + _LENGTH + 2 * _GAP, metrics.height() + 2)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Figure, bar, figure and unit."""
        if self._bar is None:
            return
        painter = QPainter(self)
        metrics = painter.fontMetrics()
        left, centre = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignVCenter
        painter.setPen(QColor(self._view.theme.dim))
        painter.drawText(self.rect(), left | centre, self._low)
        x = metrics.horizontalAdvance(self._low) + _GAP
        bar = QRectF(x, (self.height() - _HEIGHT) / 2, _LENGTH, _HEIGHT)
        painter.drawImage(bar, self._bar)
        painter.drawRect(bar)
        rest = self.rect().adjusted(x + _LENGTH + _GAP, 0, 0, 0)
        painter.drawText(rest, left | centre, f"{self._high} {self._unit}".strip())

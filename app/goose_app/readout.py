"""A line of figures that change all the time."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QToolTip, QWidget

from goose_app.plain import tip


class Readout(QWidget):
    """Text of a fixed place: unlike a label it never asks the window to lay itself out anew.

    Parameters
    ----------
    widest : str
        The longest text to come: there is room for it, if there is room at all.  Empty for one that
        hardly changes: then there is room for what it is.
    align : Qt.AlignmentFlag
    """

    def __init__(self, widest: str, align: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignRight) -> None:
        super().__init__()
        self._widest, self._align = widest, align
        self._text = ""
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def text(self) -> str:
        """What it says."""
        return self._text

    def setText(self, text: str) -> None:
        """Say something else, on one line."""
        text = text.replace("\n", "⏎")
        if text != self._text:
            self._text = text
            self.update()
            if not self._widest:
                self.updateGeometry()

    def sizeHint(self) -> QSize:
        """Room for the widest text."""
        metrics = self.fontMetrics()
        widest = metrics.horizontalAdvance(self._widest or self._text)
        return QSize(widest + 2, metrics.height() + 2)

    def minimumSizeHint(self) -> QSize:
        """It may be cut short."""
        return QSize(20, self.sizeHint().height())

    def event(self, event: QEvent) -> bool:
        """What is cut short is told whole, where there is nothing else to tell."""
        if event.type() == QEvent.Type.ToolTip and not self.toolTip():
            cut = self.fontMetrics().horizontalAdvance(self._text) > self.width()
            QToolTip.showText(event.globalPos(), tip(self._text) if cut else "")
            return True
        return super().event(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """The text, cut with an ellipsis where it does not fit."""
        painter = QPainter(self)
        words = painter.fontMetrics().elidedText(
            self._text, Qt.TextElideMode.ElideRight, self.width()
        )
        painter.drawText(self.rect(), self._align | Qt.AlignmentFlag.AlignVCenter, words)

"""Rows of a name, a note, a signed bar and a figure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QContextMenuEvent, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from goose_app.theme import DARK, Theme

_ROW, _FIGURE = 22, 58  # pixels


@dataclass(frozen=True)
class Bar:
    """One row.

    Attributes
    ----------
    name : str
    value : float
    note : str
        Small, beside the name.
    key : int or None
        What it stands for: told when the mouse is over the row.
    total : bool
        Whether a line above says that it is the sum.
    """

    name: str
    value: float
    note: str = ""
    key: int | None = None
    total: bool = False


class Bars(QWidget):
    """Signed bars on one scale, zero in the middle.

    Parameters
    ----------
    name_width, note_width : int
        Pixels for the names and for what stands beside them.
    """

    hovered = Signal(object)  # key of the row under the mouse, or None
    clicked = Signal(object)
    menu_wanted = Signal(object, object)  # key, global position

    def __init__(self, name_width: int, note_width: int = 0) -> None:
        super().__init__()
        self.theme: Theme = DARK
        self.bars: list[Bar] = []
        self._name_width, self._note_width = name_width, note_width
        self._hover = -1
        self._told: int | None = None
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        self.theme = theme
        self.update()

    def set_bars(self, bars: list[Bar]) -> None:
        """New rows."""
        if len(bars) != len(self.bars):
            self.updateGeometry()
        self.bars = bars
        self._tell()  # another may be under the mouse now
        self.update()

    def sizeHint(self) -> QSize:
        """As high as its rows."""
        return QSize(
            self._name_width + self._note_width + _FIGURE + 130, _ROW * max(len(self.bars), 1) + 4
        )

    def minimumSizeHint(self) -> QSize:
        """The bars may be short."""
        return QSize(self._name_width + self._note_width + _FIGURE + 30, self.sizeHint().height())

    def row_rect(self, row: int) -> QRectF:
        """Where a row lies."""
        return QRectF(0, 2 + row * _ROW, self.width(), _ROW)

    def paintEvent(self, event: QPaintEvent) -> None:
        """All rows."""
        painter = QPainter(self)
        t = self.theme
        right, left, centre = (
            Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignVCenter
        )  # fmt: skip
        start = self._name_width + self._note_width
        middle = start + (self.width() - start - _FIGURE) / 2
        reach = (self.width() - start - _FIGURE) / 2 - 4
        finite = (abs(b.value) for b in self.bars if math.isfinite(b.value))
        largest = max(finite, default=0.0) or 1.0
        for row, bar in enumerate(self.bars):
            rect = self.row_rect(row)
            if row == self._hover and bar.key is not None:
                painter.fillRect(rect, QColor(t.line))
            if bar.total:
                painter.setPen(QPen(QColor(t.dim), 1))
                painter.drawLine(rect.topLeft(), rect.topRight())
            painter.setPen(QColor(t.text if bar.key is not None or bar.total else t.dim))
            box = QRectF(6, rect.y(), self._name_width - 10, _ROW)
            words = painter.fontMetrics().elidedText(
                bar.name, Qt.TextElideMode.ElideRight, int(box.width())
            )
            painter.drawText(box, left | centre, words)
            hovered = row == self._hover and bar.key is not None
            painter.setPen(QColor(t.text if hovered else t.dim))
            painter.drawText(
                QRectF(self._name_width, rect.y(), self._note_width - 6, _ROW),
                left | centre,
                bar.note,
            )
            length = bar.value / largest * reach if math.isfinite(bar.value) else 0.0
            colour = QColor(t.diverging[5] if length > 0 else t.diverging[1])
            painter.fillRect(
                QRectF(min(middle, middle + length), rect.y() + 4, max(abs(length), 1), _ROW - 8),
                colour,
            )
            painter.setPen(QColor(t.line))
            painter.drawLine(QPointF(middle, rect.y()), QPointF(middle, rect.bottom()))
            painter.setPen(QColor(t.text))
            figure = QRectF(rect.right() - _FIGURE, rect.y(), _FIGURE - 6, _ROW)
            painter.drawText(figure, right | centre, signed(bar.value))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell which row the mouse is over."""
        self._set_hover(int((event.position().y() - 2) // _ROW))

    def leaveEvent(self, event: QEvent) -> None:
        """No row is under the mouse."""
        self._set_hover(-1)

    def _set_hover(self, row: int) -> None:
        if row != self._hover:
            self._hover = row
            self._tell()
            self.update()

    def _tell(self) -> None:
        key = self._key(self._hover)
        if key != self._told:
            self._told = key
            self.hovered.emit(key)

    def _key(self, row: int) -> int | None:
        return self.bars[row].key if 0 <= row < len(self.bars) else None

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Tell of a click on a row that stands for something."""
        key = self._key(int((event.position().y() - 2) // _ROW))
        if key is not None and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit(key)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Ask for the menu of the row's thing."""
        key = self._key(int((event.pos().y() - 2) // _ROW))
        if key is not None:
            self.menu_wanted.emit(key, event.globalPos())


def signed(value: float) -> str:
    """A figure with its sign, two places; a true minus."""
    return f"{value:+.2f}".replace("-", "−")

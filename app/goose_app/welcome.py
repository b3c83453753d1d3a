"""The Welcome page: what there is to see, one click each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QColor, QIcon, QPainter, QPalette, QPixmap, QPolygonF
from PySide6.QtWidgets import (
    QCommandLinkButton,
    QDialog,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
)

from goose_app.plain import Label, item
from goose_app.presets import PRESETS, Preset

if TYPE_CHECKING:
    from goose_app.window import Window

_WORDS = (
    "RWKV-7 keeps all that it knows of a text in a memory of fixed size, which every token fades, "
    "corrects and writes. Here it can be watched, and asked."
)
_WIDTH, _MARGIN = 640, 18


class Welcome(QDialog):
    """A list of presets, the tour, and the way to a model of one's own.

    Parameters
    ----------
    window : Window
    """

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self.setWindowTitle("Welcome")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._window = window
        self._arrow = _arrow(self.palette().color(QPalette.ColorRole.Highlight))
        layout = QVBoxLayout(self)
        heading, words = Label("Goose Viz"), Label(_WORDS)
        heading.setStyleSheet("font-size: 16pt; font-weight: bold")
        words.setWordWrap(True)
        layout.setSpacing(2)
        layout.setContentsMargins(_MARGIN, 14, _MARGIN, 14)
        layout.addWidget(heading)
        layout.addWidget(words)
        layout.addSpacing(10)
        self.tour = self._link("Take the tour", "Five steps through the window, on a story.")
        self.tour.clicked.connect(self._take_the_tour)
        self.presets = {}
        for preset in PRESETS:
            button = self._link(preset.title, preset.line)
            button.clicked.connect(lambda _=False, p=preset: self._open(p))
            self.presets[preset.title] = button
        self.own, self.leave = QPushButton("Open a model…"), QPushButton("Close")
        self.own.clicked.connect(self._open_file)
        self.leave.clicked.connect(self.close)
        layout.addSpacing(10)
        row = QHBoxLayout()
        row.addWidget(self.own)
        row.addStretch()
        row.addWidget(self.leave)
        layout.addLayout(row)
        width = min(_WIDTH, round(0.95 * window.width()))
        for link in (self.tour, *self.presets.values()):
            link.setFixedHeight(link.heightForWidth(width - 2 * _MARGIN) + 4)
        self.setFixedWidth(width)

    def _link(self, title: str, words: str) -> QCommandLinkButton:
        button = QCommandLinkButton(item(title), item(words))
        button.setAutoDefault(True)
        button.setIcon(self._arrow)
        self.layout().addWidget(button)
        return button

    def _take_the_tour(self) -> None:
        self.close()
        self._window.show_tour()

    def _open(self, preset: Preset) -> None:
        self.close()
        self._window.open_preset(preset)

    def _open_file(self) -> None:
        self.close()
        self._window.open_file()


def _arrow(colour: QColor) -> QIcon:
    """A triangle that points on; Qt's own is black on any ground."""
    picture = QPixmap(40, 40)
    picture.setDevicePixelRatio(2)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(colour)
    painter.drawPolygon(QPolygonF([QPointF(6, 4), QPointF(14, 10), QPointF(6, 16)]))
    painter.end()
    return QIcon(picture)

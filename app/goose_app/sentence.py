"""A sentence with some words in another colour, painted without a layout engine."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QSize
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QGuiApplication, QPainter, QPaintEvent
from PySide6.QtWidgets import QMenu, QSizePolicy, QWidget

from goose_app.plain import tip
from goose_app.theme import DARK, Theme

_LINES = 2  # it has room for so many: what stands below must not jump when the words change


class Sentence(QWidget):
    """Like a label with word wrap, but new words never ask the window to lay itself out anew.

    What stands in “quotation marks” has the accent's colour.
    """

    def __init__(self) -> None:
        super().__init__()
        self.theme: Theme = DARK
        self._text = ""
        self._stale = False
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * 1.2)
        self.setFont(font)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def text(self) -> str:
        """What it says."""
        return self._text

    def set_text(self, text: str, stale: bool = False) -> None:
        """Say something else; what is of another moment is pale."""
        text = text.replace("\n", "⏎")
        if (text, stale) != (self._text, self._stale):
            self._text, self._stale = text, stale
            self.setToolTip(tip(text))
            self.update()

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        self.theme = theme
        self.update()

    def sizeHint(self) -> QSize:
        """Room for some lines."""
        return QSize(300, round(_LINES * QFontMetricsF(self.font()).lineSpacing()) + 2)

    def minimumSizeHint(self) -> QSize:
        """It may be narrow."""
        return QSize(120, self.sizeHint().height())

    def contextMenuEvent(self, event) -> None:  # type: ignore[no-untyped-def]
        """It can be copied."""
        menu = QMenu(self)
        menu.addAction("Copy", lambda: QGuiApplication.clipboard().setText(self._text))
        menu.popup(event.globalPos())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Word by word; the last line is cut with an ellipsis."""
        painter = QPainter(self)
        metrics = QFontMetricsF(self.font())
        plain = QColor(self.theme.dim if self._stale else self.theme.text)
        accent = QColor(self.theme.dim if self._stale else self.theme.accent)
        x, y, end = 0.0, metrics.ascent(), metrics.ascent() + (_LINES - 1) * metrics.lineSpacing()
        for piece in _pieces(self._text):
            word, width = piece, metrics.horizontalAdvance(piece)
            if x + width > self.width() and x > 0:
                if y >= end:
                    painter.drawText(QPointF(x, y), "…")
                    return
                x, y = 0.0, y + metrics.lineSpacing()
                word = piece.lstrip()
                width = metrics.horizontalAdvance(word)
            painter.setPen(accent if piece.startswith("“") else plain)
            painter.drawText(QPointF(x, y), word)
            x += width


def _pieces(text: str) -> list[str]:
    """Words with the blanks ahead of them; what is in quotation marks stays together."""
    out: list[str] = []
    rest = text
    while rest:
        begin = rest.find("“")
        plain = rest if begin < 0 else rest[:begin]
        words = plain.split(" ")
        out += [w if i == 0 else " " + w for i, w in enumerate(words) if i or w]
        if begin < 0:
            break
        end = rest.find("”", begin)
        end = len(rest) if end < 0 else end + 1
        out.append(rest[begin:end])
        rest = rest[end:]
    return out

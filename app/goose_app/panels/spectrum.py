"""The spectrum of a token's transition: what it does to each direction of a head's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen

from goose_app.panels.panel import AskingPanel
from goose_app.ponder import Answer
from goose_app.questions import SpectrumAsked
from goose_app.selection import Selection
from goose_app.theme import Theme

_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 26, 24
_TICKS = (-1.0, -0.5, 0.0, 0.5, 1.0)


class SpectrumPanel(AskingPanel):
    """Eigenvalues in order, as stems from 1: how far each falls is what the token does."""

    title = "Spectrum"
    needs = SpectrumAsked.needs
    help = (
        "What the last token does to each direction of the selected head's memory, before it "
        "writes: an eigenvalue of 1 keeps a direction, one near 0 erases it, one below 0 turns it "
        "round. Most only fade; the lowest is along the removal key."
    )
    formula = "eigenvalues of G = diag(w) − c κ (κ a)ᵀ, real because G is similar to diag(w) − b bᵀ"

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setMinimumSize(180, 120)

    def question(self) -> SpectrumAsked:
        """Of the selected head."""
        return SpectrumAsked(self.selection.layer, self.selection.head)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.update()

    def show_answer(self, answer: Answer) -> None:
        """Other stems."""
        self.update()

    @property
    def values(self) -> NDArray[np.float64] | None:
        """(N,), ascending."""
        return self.answer.result if self.answer is not None else None

    @property
    def place(self) -> SpectrumAsked:
        """Whose they are."""
        asked = self.answer.question if self.answer is not None else self.question()
        assert isinstance(asked, SpectrumAsked)
        return asked

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The eigenvalues."""
        return {} if self.values is None else {"eigenvalues": self.values}

    def python(self) -> str | None:
        """The same."""
        s = self.place
        return f"print(ga.spectrum(session.frames()[-1], {s.layer}, {s.head}))\n"

    def paintEvent(self, event: QPaintEvent) -> None:
        """Axes, stems and the lowest in words."""
        painter, t, values = QPainter(self), self.theme, self.values
        painter.fillRect(event.rect(), QColor(t.panel))
        painter.setPen(QColor(t.dim))
        if values is None:
            failed = self.answer.failed if self.answer is not None else ""
            flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
            painter.drawText(self.rect(), flags, failed or "waiting for a token")
            return
        s, low = self.place, min(float(values[0]), 0.0) - 0.05
        words = f"layer {s.layer} head {s.head} · lowest {values[0]:.3f}".replace("-", "−")
        painter.drawText(QRectF(8, 2, self.width() - 16, 20), Qt.AlignmentFlag.AlignLeft, words)
        box = QRectF(_LEFT, _TOP, self.width() - _LEFT - _RIGHT, self.height() - _TOP - _BOTTOM)

        def y(value: float) -> float:
            return box.bottom() - (value - low) / (1.05 - low) * box.height()

        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for tick in (t for t in _TICKS if t >= low):
            painter.setPen(QColor(t.line))
            painter.drawLine(QPointF(box.left(), y(tick)), QPointF(box.right(), y(tick)))
            painter.setPen(QColor(t.dim))
            painter.drawText(
                QRectF(0, y(tick) - 9, _LEFT - 6, 18), right, f"{tick:g}".replace("-", "−")
            )
        below = QRectF(box.left(), box.bottom() + 3, box.width(), 18)
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, "directions, the lowest first")
        each = box.width() / len(values)
        for i, value in enumerate(values.tolist()):
            x = box.left() + (i + 0.5) * each
            colour = QColor(t.diverging[5] if value < 0 else t.diverging[1])
            painter.setPen(QPen(colour, max(1.0, min(each - 1, 3.0))))
            painter.drawLine(QPointF(x, y(1.0)), QPointF(x, y(value)))
            painter.fillRect(QRectF(x - 2, y(value) - 2, 4, 4), colour)

"""The logit lens: what each layer would say, and what the selected head pushes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QPointF, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QContextMenuEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
)
from PySide6.QtWidgets import QMenu, QVBoxLayout, QWidget

from goose_app.contrast import readable
from goose_app.panels.next_token import percent, visible
from goose_app.panels.panel import AskingPanel
from goose_app.plain import tip
from goose_app.ponder import Answer
from goose_app.questions import LensAsked, LensFound, Word
from goose_app.selection import Selection
from goose_app.theme import Theme, gradient

_ROW, _NAME, _PIN, _WORD = 24, 62, 150, 108  # pixels
_BAR = 60  # pixels of a pinned word's bar where it is certain


class LensPanel(AskingPanel):
    """A row a layer with its likeliest words; pinned words beside it; a head's own say below."""

    title = "Logit lens"
    computes = True
    help = (
        "What each layer would say were it the last: its likeliest words, the brighter the "
        "likelier. Read it from the top down: where the word that wins in the end first comes up "
        "is where the model decided. A pinned word (right-click one, or P) has its probability "
        "and rank in every layer at the right. Below: the words that the selected head by itself "
        "pushes up and down, in logits."
    )
    formula = "softmax(head · LN_out(x behind the layer)); of a head: its part of x, LN_out held"
    pinned = Signal(int)
    why_wanted = Signal(int)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.rows = _Rows(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.rows)

    def question(self) -> LensAsked:
        """With the words that are pinned."""
        pins = self.picture.pins if self.picture is not None else ()
        s = self.selection
        return LensAsked(s.layer, s.head, tuple(p.token for p in pins))

    def set_picture(self, picture: Any) -> None:
        """Other words may be pinned."""
        before = self.question()
        super().set_picture(picture)
        if self.question() != before:
            self.seen.emit()

    @property
    def found(self) -> LensFound | None:
        """The newest."""
        return self.answer.result if self.answer is not None else None

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.rows.update()

    def show_answer(self, answer: Answer) -> None:
        """Other rows."""
        n = len(answer.result.layers) if answer.result is not None else 1
        self.rows.setMinimumHeight(_ROW * (n + 4) + 8)
        self.rows.update()

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Pinned words over the layers, or the likeliest words' probabilities."""
        found = self.found
        if found is None:
            return {}
        out = {f"“{label}”": p.probability for label, p in found.pinned}
        return out or {
            "ids": np.array([[t for t, _, _ in row] for row in found.layers]),
            "probabilities": np.array([[p for *_, p in row] for row in found.layers]),
        }

    def python(self) -> str | None:
        """The lens, the pinned words and the head."""
        q = self.question()
        pins = "".join(f"print(ga.decided(model, frame, {t}))\n" for t in q.tokens)
        return (
            "frame = session.frames()[-1]\nfor words in ga.lens(model, frame):\n    print(words)\n"
            f"{pins}print(ga.promoted(model, frame, {q.layer}, {q.head}))\n"
        )


class _Rows(QWidget):
    """Paints the table and tells what is under the mouse."""

    def __init__(self, panel: LensPanel) -> None:
        super().__init__()
        self._panel = panel
        self._hover: QPointF | None = None
        self.setMouseTracking(True)
        self.setMinimumSize(300, 120)

    def cells(self) -> list[tuple[QRectF, Word, float]]:
        """Where each word lies, and how bright it is, from 0 to 1."""
        found = self._panel.found
        if found is None:
            return []
        out = []
        wide = self.width() - _NAME - 8 - (_PIN * min(len(found.pinned), 2))
        many = max(1, min(len(found.layers[0]), int(wide // _WORD)))
        for i, row in enumerate(found.layers):
            for k, word in enumerate(row[:many]):
                each = wide / many
                rect = QRectF(_NAME + k * each, _ROW * (i + 1), each - 2, _ROW - 2)
                out.append((rect, word, word[2]))
        each, top = (self.width() - _NAME - 8) / 5, _ROW * (len(found.layers) + 2)
        most = max((abs(w[2]) for w in (*found.promoted, *found.demoted)), default=1.0) or 1.0
        for line, words in enumerate((found.promoted, found.demoted)):
            for k, word in enumerate(words):
                rect = QRectF(_NAME + k * each, top + _ROW * line, each - 2, _ROW - 2)
                out.append((rect, word, abs(word[2]) / most))
        return out

    def paintEvent(self, event: QPaintEvent) -> None:
        """Names of layers, words, pinned words' bars, the head's two rows."""
        painter, t, found = QPainter(self), self._panel.theme, self._panel.found
        painter.setPen(QColor(t.dim))
        if found is None:
            failed = self._panel.answer.failed if self._panel.answer is not None else ""
            painter.drawText(
                self.rect(), Qt.AlignmentFlag.AlignCenter, failed or "waiting for a token"
            )
            return
        left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        n, table, metrics = len(found.layers), gradient(t.heat), painter.fontMetrics()
        painter.drawText(QRectF(_NAME, 0, 300, _ROW), left, "likeliest words, by layer")
        for i in range(n):
            chosen = i == found.layer
            painter.setPen(QColor(t.text if chosen else t.dim))
            painter.drawText(QRectF(8, _ROW * (i + 1), _NAME, _ROW), left, f"layer {i}")
        self._draw_pins(painter, found)
        top = _ROW * (n + 1)
        words = f"layer {found.layer} head {found.head} by itself pushes, in logits"
        painter.setPen(QColor(t.dim))
        painter.drawText(QRectF(_NAME, top, self.width() - _NAME, _ROW), left, words)
        for line, name in enumerate(("up", "down")):
            painter.drawText(QRectF(8, top + _ROW * (line + 1), _NAME, _ROW), left, name)
        for rect, (_, label, value), bright in self.cells():
            bright = min(bright, 1.0) if bright == bright else 0.0
            ground = QColor(*table[round(255 * bright)].tolist())
            painter.fillRect(rect, ground)
            painter.setPen(readable(QColor(t.text), ground))
            figure = percent(value) if rect.y() < top else f"{value:+.2f}".replace("-", "−")
            room = int(rect.width()) - 10
            space = metrics.horizontalAdvance(figure)
            both = room > space + 44
            name = metrics.elidedText(
                visible(label), Qt.TextElideMode.ElideRight, room - space - 4 if both else room
            )
            painter.drawText(rect.adjusted(5, 0, -5, 0), left, name)
            if both:
                right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                painter.drawText(rect.adjusted(5, 0, -5, 0), right, figure)

    def _draw_pins(self, painter: QPainter, found: LensFound) -> None:
        """The first two pinned words: a bar and a rank in each layer."""
        t, metrics = self._panel.theme, painter.fontMetrics()
        left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        for k, (label, pinned) in enumerate(found.pinned[:2]):
            x = self.width() - _PIN * (min(len(found.pinned), 2) - k)
            painter.setPen(QColor(t.accent))
            name = metrics.elidedText(f"“{visible(label)}”", Qt.TextElideMode.ElideRight, _PIN - 8)
            painter.drawText(QRectF(x, 0, _PIN, _ROW), left, name)
            for i, (p, rank) in enumerate(zip(pinned.probability, pinned.rank, strict=True)):
                y = _ROW * (i + 1)
                bar = QRectF(x, y + 4, max(1.0, float(np.nan_to_num(p)) * _BAR), _ROW - 10)
                painter.fillRect(bar, QColor(t.diverging[1]))
                painter.setPen(QColor(t.text))
                painter.drawText(
                    QRectF(x + _BAR + 6, y, _PIN - _BAR - 8, _ROW - 2),
                    left,
                    f"{percent(float(p))} · {_nth(int(rank))}",
                )

    def word_at(self, at: QPointF) -> Word | None:
        """The word under a point."""
        return next((word for rect, word, _ in self.cells() if rect.contains(at)), None)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Say the whole word."""
        word = self.word_at(event.position())
        self.setToolTip("" if word is None else tip(f"“{visible(word[1])}” (token {word[0]})"))

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """What can be done with a word."""
        word = self.word_at(QPointF(event.pos()))
        if word is not None:
            menu = QMenu(self)
            menu.addAction("Pin this word", lambda: self._panel.pinned.emit(word[0]))
            menu.addAction("Why this word", lambda: self._panel.why_wanted.emit(word[0]))
            menu.popup(event.globalPos())


def _nth(rank: int) -> str:
    """A rank in words."""
    end = "th" if rank % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(rank % 10, "th")
    return f"{rank}{end}"

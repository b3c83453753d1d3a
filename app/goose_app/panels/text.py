"""Prompt and text: every token a cell that can be clicked."""

from __future__ import annotations

import math

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor, QFontMetricsF, QHelpEvent, QKeyEvent, QMouseEvent, QPainter, QPaintEvent, QPen,
    QResizeEvent,
)  # fmt: skip
from PySide6.QtWidgets import (
    QAbstractScrollArea, QComboBox, QDoubleSpinBox, QHBoxLayout, QLabel, QPlainTextEdit,
    QPushButton, QSpinBox, QToolTip, QVBoxLayout,
)  # fmt: skip

from goose_app.flow import Flow
from goose_app.messages import Cell, Picture
from goose_app.panels.panel import Panel
from goose_app.selection import Selection
from goose_app.series import Series
from goose_app.theme import DARK, Table, Theme, gradient
from goose_viz import Sampler

_MARGIN = 8
_SURPRISED = 10.0  # bits at which a cell has its full colour

#: What cells can be coloured by -> (words for it, the series behind it or None).
COLOURINGS: dict[str, str | None] = {
    "surprisal": None,
    "removed by the head": "removed_norm",
    "written by the head": "written_norm",
    "nothing": None,
}


_LEGENDS = (
    "strong: the model did not expect it",
    "strong: much was erased from the chosen head",
    "strong: much was written to the chosen head",
    "",
)


class PromptEdit(QPlainTextEdit):
    """The prompt; Ctrl+Return begins with it, Escape leaves it."""

    submitted = Signal()
    left = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Two keys of its own."""
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.submitted.emit()
        elif event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        else:
            super().keyPressEvent(event)


class TokenView(QAbstractScrollArea):
    """The cells; paints only what is in sight."""

    clicked = Signal(int)  # position behind the clicked token

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.theme: Theme = DARK
        self.selection = selection
        self.series: Series | None = None
        self.colouring = "surprisal"
        self.cursor_position = 0
        self._table: Table = gradient(self.theme.heat)
        font = self.font()
        font.setPointSizeF(font.pointSizeF() + 1.5)
        self.setFont(font)
        metrics = QFontMetricsF(font)
        self._ascent, self._line_height = metrics.ascent(), metrics.height() * 1.35
        self._widths: dict[str, float] = {}
        self._metrics = metrics
        self.flow = Flow(self._measure)
        self._follow = True
        self.viewport().setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.verticalScrollBar().valueChanged.connect(self._scrolled)

    def replace(self, start: int, cells: list[Cell]) -> None:
        """Tokens from an index on; those behind are gone."""
        self.flow.replace(start, cells)
        self._resize_bar()

    def set_cursor(self, position: int) -> None:
        """The token before the cursor is framed, those behind it are pale."""
        if position != self.cursor_position:
            self.cursor_position = position
            if not self._follow and 0 < position <= len(self.flow.placed):
                self._show_line(self.flow.placed[position - 1].line)
        self.viewport().update()

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        self.theme = theme
        self._table = gradient(theme.heat)
        self.viewport().update()

    def cell_rect(self, index: int) -> QRectF:
        """Where a cell lies in the viewport."""
        p = self.flow.placed[index]
        y = _MARGIN + p.line * self._line_height - self.verticalScrollBar().value()
        return QRectF(_MARGIN + p.x, y, p.width, self._line_height * 0.86)

    def index_at(self, point: QPointF) -> int | None:
        """Which cell is at a point of the viewport."""
        y = point.y() + self.verticalScrollBar().value() - _MARGIN
        return self.flow.at(point.x() - _MARGIN, int(y // self._line_height))

    def describe(self, index: int) -> str:
        """What there is to know of a token."""
        cell = self.flow.placed[index].cell
        origin = "chosen by the model" if cell.generated else "given"
        words = f"token {index + 1}: {cell.label!r} · id {cell.token} · {origin}"
        if not math.isnan(cell.probability):
            bits = -math.log2(max(cell.probability, 1e-30))
            words += f"\nprobability {cell.probability:.4f} · surprisal {bits:.2f} bits"
        for name, word in (("removed_norm", "removed"), ("written_norm", "written")):
            if self.series is not None:
                _, rows = self.series.window(name, index, index + 1)
                if len(rows):
                    norm = rows[0, self.selection.layer, self.selection.head]
                    words += f"\n{word} {norm:.3f} in layer {self.selection.layer} "
                    words += f"head {self.selection.head}"
        return words

    def paintEvent(self, event: QPaintEvent) -> None:
        """The lines in sight."""
        painter = QPainter(self.viewport())
        painter.fillRect(event.rect(), QColor(self.theme.panel))
        top = self.verticalScrollBar().value() - _MARGIN
        first = self.flow.first_on(max(0, int(top // self._line_height)))
        last_line = int((top + self.viewport().height()) // self._line_height)
        last = self.flow.first_on(last_line + 1)
        heat = self._heat(first, last)
        text, dim, accent = (
            QColor(c) for c in (self.theme.text, self.theme.dim, self.theme.accent)
        )
        future = QColor(self.theme.dim)
        future.setAlphaF(0.55)
        for i in range(first, last):
            p = self.flow.placed[i]
            rect = self.cell_rect(i)
            if heat is not None and i < self.cursor_position:
                colour = self._table[int(heat[i - first])]
                painter.fillRect(rect, QColor(*(int(v) for v in colour)))
            if i + 1 == self.cursor_position:
                painter.setPen(QPen(accent, 1.6))
                painter.drawRect(rect)
            quiet = p.named or not p.cell.generated
            painter.setPen(future if i >= self.cursor_position else dim if quiet else text)
            offset = 2.0 if p.named else 0.0
            painter.drawText(QPointF(rect.x() + offset, rect.y() + self._ascent), p.shown)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Lines break elsewhere."""
        self.flow.set_width(self.viewport().width() - 2 * _MARGIN)
        self._resize_bar()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """A click on a token puts the cursor behind it."""
        index = self.index_at(event.position())
        if index is not None and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit(index + 1)

    def viewportEvent(self, event: QEvent) -> bool:
        """Say what is under the mouse."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            index = self.index_at(QPointF(event.pos()))
            if index is not None:
                QToolTip.showText(event.globalPos(), self.describe(index), self)
            else:
                QToolTip.hideText()
            return True
        return super().viewportEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Scrolling by pages only: the other keys step through the run."""
        if event.key() in (Qt.Key.Key_PageUp, Qt.Key.Key_PageDown):
            super().keyPressEvent(event)
        else:
            event.ignore()

    def _heat(self, first: int, last: int) -> np.ndarray | None:
        """Places in the heat map for cells first to last, or None for no colour."""
        if self.colouring == "nothing" or last <= first:
            return None
        source = COLOURINGS[self.colouring]
        if source is None:
            p = np.array([q.cell.probability for q in self.flow.placed[first:last]])
            bits = -np.log2(np.maximum(np.nan_to_num(p, nan=1.0), 1e-30))
            return np.clip(bits / _SURPRISED * 255, 0, 255)
        out = np.zeros(last - first)
        if self.series is not None:
            begin, rows = self.series.window(source, first, last)
            norms = rows[:, self.selection.layer, self.selection.head] if rows.size else rows
            if len(norms):
                out[begin - first : begin - first + len(norms)] = norms / max(norms.max(), 1e-9)
        return out * 255

    def _measure(self, text: str) -> float:
        width = self._widths.get(text)
        if width is None:
            if len(self._widths) > 100_000:
                self._widths.clear()
            width = self._widths[text] = self._metrics.horizontalAdvance(text)
        return width

    def _resize_bar(self) -> None:
        height = self.flow.n_lines * self._line_height + 2 * _MARGIN
        bar = self.verticalScrollBar()
        follow = self._follow
        bar.setPageStep(self.viewport().height())
        bar.setSingleStep(int(self._line_height))
        bar.setRange(0, max(0, math.ceil(height - self.viewport().height())))
        if follow:
            bar.setValue(bar.maximum())
        self.viewport().update()

    def _scrolled(self) -> None:
        bar = self.verticalScrollBar()
        self._follow = bar.value() >= bar.maximum() - 2

    def _show_line(self, line: int) -> None:
        bar, y = self.verticalScrollBar(), line * self._line_height
        if y < bar.value() or y + self._line_height > bar.value() + self.viewport().height():
            bar.setValue(int(y - self.viewport().height() / 2))


class TextPanel(Panel):
    """Prompt on top, stream below."""

    title = "Text"
    help = (
        "Grey: the prompt; bright: what the model wrote. Click a token to go back to it; hover for "
        "its probability."
    )
    restart = Signal()
    sampling_changed = Signal()
    goto = Signal(int)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.setToolTip("")  # the cells have their own
        self.prompt = PromptEdit()
        self.prompt.setObjectName("prompt")
        self.prompt.setFixedHeight(64)
        self.prompt.setTabChangesFocus(True)
        self.prompt.setPlaceholderText("Text for the model to go on from")
        self.begin = QPushButton("Begin anew")
        self.begin.setToolTip("Forget this run and feed the prompt (Ctrl+Return)")
        self.temperature = _spin(0.0, 5.0, 0.1, 1.0, "Temperature: 0 takes the likeliest token")
        self.top_p = _spin(0.0, 1.0, 0.05, 0.85, "top-p: keep the likeliest tokens up to this sum")
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setValue(1)
        self.seed.setToolTip("Seed: the same seed and prompt give the same text")
        row = QHBoxLayout()
        for word, widget in (("T", self.temperature), ("top-p", self.top_p), ("seed", self.seed)):
            row.addWidget(QLabel(word))
            row.addWidget(widget)
        row.addStretch()
        row.addWidget(self.begin)
        self.colouring = QComboBox()
        self.colouring.addItems([f"colour: {name}" for name in COLOURINGS])
        self.view = TokenView(selection)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.prompt)
        layout.addLayout(row)
        layout.addWidget(self.view, 1)
        self.legend = QLabel()
        bottom = QHBoxLayout()
        bottom.addWidget(self.colouring)
        bottom.addWidget(self.legend, 1)
        layout.addLayout(bottom)
        self.begin.clicked.connect(self.restart)
        self.prompt.submitted.connect(self.restart)
        self.prompt.left.connect(self.view.setFocus)
        self.view.clicked.connect(self.goto)
        self.colouring.currentIndexChanged.connect(self._recolour)
        self._recolour(0)
        for box in (self.temperature, self.top_p, self.seed):
            box.valueChanged.connect(self.sampling_changed)

    def sampler(self) -> Sampler:
        """The sampling that the boxes say."""
        return Sampler(
            temperature=self.temperature.value(), top_p=self.top_p.value(), seed=self.seed.value()
        )

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.view.set_theme(theme)

    def set_series(self, series: Series) -> None:
        """A run began."""
        super().set_series(series)
        self.view.series = series
        self.view.replace(0, [])

    def replace(self, start: int, cells: list[Cell]) -> None:
        """Tokens from an index on."""
        self.view.replace(start, cells)

    def show_picture(self, picture: Picture) -> None:
        """Move the cursor."""
        self.view.set_cursor(picture.position)

    def _selection_changed(self) -> None:
        self.view.viewport().update()

    def _recolour(self, index: int) -> None:
        self.view.colouring = list(COLOURINGS)[index]
        self.legend.setText(_LEGENDS[index])
        self.view.viewport().update()


def _spin(low: float, high: float, step: float, value: float, tip: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setValue(value)
    box.setToolTip(tip)
    return box

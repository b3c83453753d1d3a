"""Prompt and text: every token a cell that can be clicked."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QPointF, QRectF, QSizeF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetricsF,
    QHelpEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QPixmap,
    QResizeEvent,
    QStaticText,
)  # fmt: skip
from PySide6.QtWidgets import (
    QAbstractScrollArea,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QSpinBox,
    QToolTip,
    QVBoxLayout,
)  # fmt: skip

from goose_app.flow import Flow
from goose_app.messages import Cell, Picture
from goose_app.panels.panel import Panel
from goose_app.selection import Selection
from goose_app.series import Series
from goose_app.theme import DARK, Theme, gradient
from goose_viz import Model, Sampler

_MARGIN = 8
_SURPRISED = 10.0  # bits at which a cell has its full colour
_CACHED_LINES = 400
_CACHED_TEXTS = 20_000

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
        self._heat_colours: list[QColor] = []
        font = self.font()
        font.setPointSizeF(font.pointSizeF() + 1.5)
        self.setFont(font)
        metrics = QFontMetricsF(font)
        self._line_height = metrics.height() * 1.35
        self._widths: dict[str, float] = {}
        self._glyphs: dict[str, QStaticText] = {}
        self._metrics = metrics
        self.flow = Flow(self._measure)
        self._lines: dict[int, tuple[tuple[float, ...], QPixmap]] = {}
        self._version = 0
        self._follow = True
        self.viewport().setMouseTracking(True)
        self.viewport().setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.verticalScrollBar().valueChanged.connect(self._scrolled)

    def replace(self, start: int, cells: list[Cell]) -> None:
        """Tokens from an index on; those behind are gone."""
        if start < len(self.flow.placed):
            self._version += 1
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
        self._heat_colours = [QColor(*row) for row in gradient(theme.heat).tolist()]
        self.redraw()

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
        """The lines in sight; lines that have not changed come from the cache."""
        painter = QPainter(self.viewport())
        painter.fillRect(event.rect(), QColor(self.theme.panel))
        top = self.verticalScrollBar().value() - _MARGIN
        first_line = max(0, int(top // self._line_height))
        last_line = min(
            self.flow.n_lines - 1, int((top + self.viewport().height()) // self._line_height)
        )
        begin = self.flow.first_on(first_line)
        scale = self._norm_scale(begin, self.flow.first_on(last_line + 1))
        for line in range(first_line, last_line + 1):
            end = self.flow.first_on(line + 1)
            cursor = min(max(self.cursor_position, begin), end + 1)
            key = (begin, end, cursor, scale, self._version)
            known = self._lines.get(line)
            if known is None or known[0] != key:
                known = key, self._draw_line(begin, end, scale)
                self._lines[line] = known
            painter.drawPixmap(QPointF(0, line * self._line_height - top), known[1])
            begin = end
        if len(self._lines) > _CACHED_LINES:
            self._lines.clear()

    def _draw_line(self, begin: int, end: int, scale: float) -> QPixmap:
        """The cells begin to end, which make a line."""
        ratio = self.devicePixelRatioF()
        size = QSizeF(self.viewport().width(), self._line_height) * ratio
        pixmap = QPixmap(size.toSize())
        pixmap.setDevicePixelRatio(ratio)
        pixmap.fill(QColor(self.theme.panel))
        painter = QPainter(pixmap)
        painter.setFont(self.font())
        heat = self._heat(begin, end, scale)
        text, dim = QColor(self.theme.text), QColor(self.theme.dim)
        future = QColor(dim)
        future.setAlphaF(0.55)
        for i in range(begin, end):
            p = self.flow.placed[i]
            rect = QRectF(_MARGIN + p.x, 0, p.width, self._line_height * 0.86)
            if heat is not None and i < self.cursor_position:
                painter.fillRect(rect, self._heat_colours[int(heat[i - begin])])
            if i + 1 == self.cursor_position:
                painter.setPen(QPen(QColor(self.theme.accent), 1.6))
                painter.drawRect(rect.adjusted(0.5, 0.8, -0.5, -0.8))
            quiet = p.named or not p.cell.generated
            painter.setPen(future if i >= self.cursor_position else dim if quiet else text)
            offset = 2.0 if p.named else 0.0
            painter.drawStaticText(QPointF(rect.x() + offset, 0), self._shaped(p.shown))
        painter.end()
        return pixmap

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Lines break elsewhere."""
        self.flow.set_width(self.viewport().width() - 2 * _MARGIN)
        self._version += 1
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

    def _norm_scale(self, first: int, last: int) -> float:
        """The norm that has the full colour: the largest in sight, rounded up to hold still."""
        source = COLOURINGS[self.colouring]
        if source is None or self.series is None:
            return 0.0
        _, rows = self.series.window(source, first, last)
        largest = float(rows[:, self.selection.layer, self.selection.head].max(initial=1e-9))
        return 1.5 ** math.ceil(math.log(largest, 1.5))

    def _heat(self, first: int, last: int, scale: float) -> NDArray[np.float64] | None:
        """Places in the heat map for cells first to last, or None for no colour."""
        if self.colouring == "nothing" or last <= first:
            return None
        source = COLOURINGS[self.colouring]
        if source is None:
            p = np.array([q.cell.probability for q in self.flow.placed[first:last]])
            bits = -np.log2(np.maximum(np.nan_to_num(p, nan=1.0), 1e-30))
            return np.clip(bits / _SURPRISED, 0, 1) * 255
        out = np.zeros(last - first)
        if self.series is not None:
            begin, rows = self.series.window(source, first, last)
            norms = rows[:, self.selection.layer, self.selection.head]
            out[begin - first : begin - first + len(norms)] = np.minimum(norms / scale, 1)
        return out * 255

    def redraw(self) -> None:
        """Draw every line anew: colours or what they mean have changed."""
        self._version += 1
        self.viewport().update()

    def _measure(self, text: str) -> float:
        width = self._widths.get(text)
        if width is None:
            if len(self._widths) > _CACHED_TEXTS:
                self._widths.clear()
            width = self._widths[text] = self._metrics.horizontalAdvance(text)
        return width

    def _shaped(self, text: str) -> QStaticText:
        """A text with its glyphs laid out: tokens repeat, shaping them anew costs most."""
        shaped = self._glyphs.get(text)
        if shaped is None:
            if len(self._glyphs) > _CACHED_TEXTS:
                self._glyphs.clear()
            shaped = QStaticText(text)
            shaped.setTextFormat(Qt.TextFormat.PlainText)
            shaped.prepare(font=self.font())
            self._glyphs[text] = shaped
        return shaped

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

    def set_model(self, model: Model) -> None:
        """Another model: its text begins anew."""
        super().set_model(model)
        self.view.series = None
        self.view.replace(0, [])

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
        self.view.redraw()

    def _recolour(self, index: int) -> None:
        self.view.colouring = list(COLOURINGS)[index]
        self.legend.setText(_LEGENDS[index])
        self.view.redraw()


def _spin(low: float, high: float, step: float, value: float, tip: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setValue(value)
    box.setToolTip(tip)
    return box

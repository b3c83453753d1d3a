"""The text as cells, one a token, that can be clicked and asked about."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, QSizeF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QContextMenuEvent,
    QCursor,
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
)
from PySide6.QtWidgets import QAbstractScrollArea, QToolTip

from goose_app.explain import Explanation
from goose_app.flow import Flow
from goose_app.messages import Cell
from goose_app.selection import Selection
from goose_app.series import Series
from goose_app.theme import DARK, Theme, gradient, legible

_MARGIN = 8
_SURPRISED = 10.0  # bits at which a cell has its full colour
_FAINT = 6  # of 255: nobody sees a colour below
_STRONG = 24  # from the middle: quiet writing would not be read on it
_CACHED_LINES = 400
_CACHED_TEXTS = 20_000


class Colouring(NamedTuple):
    """What a cell's colour tells: the series or explanation behind it, and words for it."""

    series: str | None
    legend: str
    explained: str | None = None


#: What cells can be coloured by.
COLOURINGS = {
    "surprisal": Colouring(None, "strong: not expected"),
    "removed by the head": Colouring("removed_norm", "strong: much left the head"),
    "written by the head": Colouring("written_norm", "strong: much entered the head"),
    "what it gives to the next word": Colouring(
        None, "orange: for it, blue: against it", "by_token"
    ),
    "still held by the head": Colouring(None, "strong: most is left", "retention"),
    "read now by the head": Colouring(None, "strong: read most; blue: negative", "attention"),
    "nothing": Colouring(None, ""),
}


class TokenView(QAbstractScrollArea):
    """The cells; paints only what is in sight."""

    clicked = Signal(int)  # position behind the clicked token
    menu_wanted = Signal(object, object)  # index of a token, global position

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.theme: Theme = DARK
        self.selection = selection
        self.series: Series | None = None
        self.explanation: Explanation | None = None
        self.colouring = "surprisal"
        self.cursor_position = 0
        self._heat_colours: list[QColor] = []
        self._signed_colours: list[QColor] = []
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
        end = len(self.flow.placed)
        if position != self.cursor_position:
            was_past, self.cursor_position = self.cursor_position < end, position
            if position < end:
                self._show_line(self.flow.placed[max(position - 1, 0)].line)
            elif was_past:
                self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())
        self.viewport().update()

    def set_explanation(self, explanation: Explanation | None) -> None:
        """Another explanation: redraw if the colours tell of it."""
        if explanation is not self.explanation:
            self.explanation = explanation
            if COLOURINGS[self.colouring].explained is not None:
                self.redraw()

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        self.theme = theme
        self._signed_colours = [QColor(*row) for row in gradient(theme.diverging).tolist()]
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
            words += f"\nprobability {cell.probability:.4f} · "
            words += f"surprisal {surprisal(cell.probability):.2f} bits"
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
        heat = self._heat(begin, min(end, self.cursor_position), scale)
        height = self._line_height * 0.86
        signed = COLOURINGS[self.colouring].explained is not None
        colours, nothing = (self._signed_colours, 128) if signed else (self._heat_colours, 0)
        for p, level in zip(self.flow.placed[begin:end], heat, strict=False):
            if abs(level - nothing) > _FAINT:
                painter.fillRect(QRectF(_MARGIN + p.x, 0, p.width, height), colours[level])
        text, dim = QColor(self.theme.text), QColor(self.theme.dim)
        future = QColor(dim)
        future.setAlphaF(0.55)
        pen = None
        for i, p in enumerate(self.flow.placed[begin:end], begin):
            if i + 1 == self.cursor_position:
                painter.setPen(QPen(QColor(self.theme.accent), 1.6))
                painter.drawRect(QRectF(_MARGIN + p.x + 0.5, 0.8, p.width - 1, height - 1.6))
                pen = None
            quiet = p.named or not p.cell.generated
            wanted = future if i >= self.cursor_position else dim if quiet else text
            if signed and i - begin < len(heat) and abs(heat[i - begin] - nothing) > _STRONG:
                wanted = QColor(legible(colours[heat[i - begin]]))
            if wanted is not pen:
                painter.setPen(wanted)
                pen = wanted
            offset = _MARGIN + (2.0 if p.named else 0.0)
            painter.drawStaticText(QPointF(p.x + offset, 0), self._shaped(p.shown))
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

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Ask for the menu of the token under the mouse."""
        index = self.index_at(QPointF(event.pos()))
        if index is not None:
            self.menu_wanted.emit(index, event.globalPos())

    def hovered_index(self) -> int | None:
        """The token under the mouse; None if there is none."""
        at = self.viewport().mapFromGlobal(QCursor.pos())
        return self.index_at(QPointF(at)) if self.viewport().rect().contains(at) else None

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
        source = COLOURINGS[self.colouring].series
        if source is None or self.series is None:
            return 0.0
        _, rows = self.series.window(source, first, last)
        largest = float(rows[:, self.selection.layer, self.selection.head].max(initial=1e-9))
        return 1.5 ** math.ceil(math.log(largest, 1.5))

    def _heat(self, first: int, last: int, scale: float) -> list[int]:
        """Places in the heat map for cells first to last; empty for no colour."""
        if self.colouring == "nothing" or last <= first:
            return []
        source = COLOURINGS[self.colouring].series
        if COLOURINGS[self.colouring].explained is not None:
            return self._signed(first, last)
        if source is None:
            factor = 255 / _SURPRISED
            bits = (surprisal(p.cell.probability) for p in self.flow.placed[first:last])
            return [min(255, int(factor * b)) for b in bits]
        if self.series is None:
            return []
        begin, rows = self.series.window(source, first, last)
        norms = rows[:, self.selection.layer, self.selection.head]
        levels = (255 * np.minimum(norms / scale, 1)).astype(int).tolist()
        return [0] * (begin - first) + levels

    def _signed(self, first: int, last: int) -> list[int]:
        """Places in the diverging map by the explanation; the middle for what it does not know."""
        name = COLOURINGS[self.colouring].explained
        if self.explanation is None or name is None:
            return []
        values = getattr(self.explanation, name)
        top = float(np.abs(values).max(initial=1e-30))
        levels = np.clip(np.rint(128 + 127 * values[first:last] / top), 0, 255).astype(int).tolist()
        return levels + [128] * (last - first - len(levels))

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


def surprisal(probability: float) -> float:
    """Bits of a token's surprise; 0 where nothing was expected yet (NaN)."""
    return -math.log2(max(probability, 1e-30)) if probability == probability else 0.0

"""The text as cells, one a token, that can be clicked and asked about."""

from __future__ import annotations

import math

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
    QShowEvent,
    QStaticText,
)
from PySide6.QtWidgets import QAbstractScrollArea, QToolTip

from goose_app.colouring import COLOURINGS, SURPRISAL, levels, surprisal
from goose_app.contrast import readable
from goose_app.flow import Flow
from goose_app.on_paper import on_paper
from goose_app.plain import tip
from goose_app.run_view import RunView, Viewed
from goose_app.selection import Selection
from goose_app.theme import DARK, Theme, gradient

_MARGIN = 8
_FAINT = 6  # of 255: nobody sees a colour below
_CACHED_LINES = 400
_CACHED_TEXTS = 20_000


class TokenView(QAbstractScrollArea):
    """The cells; paints only what is in sight."""

    clicked = Signal(int)  # position behind the clicked token
    menu_wanted = Signal(object, object)  # index of a token, global position
    hovered = Signal(object)  # index of the token under the mouse, or None
    marked_changed = Signal()
    scaled = Signal()  # the ends of the colour map stand for something else

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        self.run: Viewed = RunView()
        self.colouring = SURPRISAL
        self.cursor_position = 0
        self.marked = range(0)  # tokens that are chosen by keys or were searched for
        self.text_version = 0  # of tokens that were replaced by others
        self._pointed = False  # the mouse moved here since something was marked
        self._heat_colours: list[QColor] = []
        self._signed_colours: list[QColor] = []
        self.scale = (0.0, 0.0)  # what the ends of the colour map stand for
        self._scaled: tuple[object, ...] = ()
        font = self.font()
        font.setPointSizeF(font.pointSizeF() + 1.5)
        self.setFont(font)
        metrics = QFontMetricsF(font)
        self._line_height = metrics.height() * 1.35
        self._widths: dict[str, float] = {}
        self._glyphs: dict[str, QStaticText] = {}
        self._metrics = metrics
        self.flow = Flow(self._measure)
        self._lines: dict[int, tuple[tuple[object, ...], QPixmap]] = {}
        self._version = 0
        self._follow = True
        self.viewport().setMouseTracking(True)
        self.viewport().setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)
        self.verticalScrollBar().valueChanged.connect(self._scrolled)
        self.set_theme(DARK)

    def set_run(self, run: Viewed) -> None:
        """Another run, or another model in it."""
        self.run = run
        self._version += 1
        self.flow.show(run.cells, run.model.label if run.model is not None else str)
        self._resize_bar()

    def text_changed(self, start: int, at_once: bool = True) -> None:
        """The tokens from an index on are others; if not now, `catch_up` lays them out."""
        if start < len(self.flow):
            self._version += 1
            self.text_version += 1
            if self.marked.stop > start:
                self.marked = range(0)
            self.flow.cut(start)
        if at_once and self.isVisible():
            self.catch_up()

    def catch_up(self) -> None:
        """Lay out what came."""
        self.flow.catch_up()
        self._resize_bar()

    def set_cursor(self, position: int) -> None:
        """The token before the cursor is framed, those behind it are pale."""
        end = len(self.flow)
        if position != self.cursor_position:
            was_past, self.cursor_position = self.cursor_position < end, position
            if position < end:
                self._show_line(self.flow.line(max(position - 1, 0)))
            elif was_past:
                self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())
        self.viewport().update()

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        self.theme = theme
        self._signed_colours = [QColor(*row) for row in gradient(theme.diverging).tolist()]
        self._heat_colours = [QColor(*row) for row in gradient(theme.heat).tolist()]
        self._inks = QColor(theme.text), QColor(theme.given), QColor(theme.future)
        self._inked: dict[bool, dict[tuple[int, int], QColor]] = {}  # what is read on a colour
        self.redraw()

    def cell_rect(self, index: int) -> QRectF:
        """Where a cell lies in the viewport."""
        p = self.flow[index]
        y = _MARGIN + p.line * self._line_height - self.verticalScrollBar().value()
        return QRectF(_MARGIN + p.x, y, p.width, self._line_height * 0.86)

    def index_at(self, point: QPointF) -> int | None:
        """Which cell is at a point of the viewport."""
        y = point.y() + self.verticalScrollBar().value() - _MARGIN
        return self.flow.at(point.x() - _MARGIN, int(y // self._line_height))

    def describe(self, index: int) -> str:
        """What there is to know of a token."""
        cell = self.run.cells[index]
        origin = "chosen by the model" if cell.generated else "given"
        words = f"token {index + 1}: {self.flow.label(cell.token)!r} · id {cell.token} · {origin}"
        model = self.run.model
        if model is not None and cell.token == model.end_token:
            words += "\nends a text: what follows begins another, and so does a fresh run"
        if not math.isnan(cell.probability):
            words += f"\nprobability {cell.probability:.4f} · "
            words += f"surprisal {float(surprisal(cell.probability)):.2f} bits"
        for name, word in (("removed_norm", "removed"), ("written_norm", "written")):
            if self.run.series is not None:
                _, rows = self.run.series.window(name, index, index + 1)
                if len(rows):
                    norm = rows[0, self.selection.layer, self.selection.head]
                    words += f"\n{word} {norm:.3f} in layer {self.selection.layer} "
                    words += f"head {self.selection.head}"
        return words

    def paintEvent(self, event: QPaintEvent) -> None:
        """The lines in sight; lines that have not changed come from the cache."""
        painter = QPainter(self.viewport())
        paper = on_paper(painter, self)
        painter.fillRect(event.rect(), QColor(self.theme.panel))
        top = self.verticalScrollBar().value() - _MARGIN
        first_line = max(0, int(top // self._line_height))
        last_line = min(
            self.flow.n_lines - 1, int((top + self.viewport().height()) // self._line_height)
        )
        begin, behind = self.flow.first_on(first_line), self.flow.first_on(last_line + 1)
        found = levels(self.colouring, self.run, self.selection, begin, behind)
        places = [] if found is None else found.places.tolist()
        heat = places[: max(self.cursor_position - begin, 0)]
        self.scale = (0.0, 0.0) if found is None else (found.low, found.high)
        if self._scaled != (self.scale, self.colouring, self.theme):
            self._scaled = self.scale, self.colouring, self.theme
            self.scaled.emit()
        first = begin
        for line in range(first_line, last_line + 1):
            end = self.flow.first_on(line + 1)
            cursor = min(max(self.cursor_position, begin), end + 1)
            colours = tuple(heat[begin - first : end - first])
            if paper:
                painter.save()
                painter.translate(0, line * self._line_height - top)
                self._paint_line(painter, begin, end, colours)
                painter.restore()
                begin = end
                continue
            key = (begin, end, cursor, self._version, colours)
            known = self._lines.get(line)
            if known is None or known[0] != key:
                known = key, self._draw_line(begin, end, colours)
                self._lines[line] = known
            painter.drawPixmap(QPointF(0, line * self._line_height - top), known[1])
            begin = end
        self._draw_mark(painter, first, behind)
        if len(self._lines) > _CACHED_LINES:
            self._lines.clear()

    def _draw_mark(self, painter: QPainter, begin: int, end: int) -> None:
        """A dashed frame around the marked tokens that are in sight."""
        painter.setPen(QPen(QColor(self.theme.accent), 1.4, Qt.PenStyle.DashLine))
        for i in range(max(begin, self.marked.start), min(end, self.marked.stop)):
            painter.drawRect(self.cell_rect(i).adjusted(0.5, 0.8, -0.5, -0.8))

    def _draw_line(self, begin: int, end: int, heat: tuple[int, ...]) -> QPixmap:
        """The cells begin to end, which make a line."""
        ratio = self.devicePixelRatioF()
        size = QSizeF(self.viewport().width(), self._line_height) * ratio
        pixmap = QPixmap(size.toSize())
        pixmap.setDevicePixelRatio(ratio)
        pixmap.fill(QColor(self.theme.panel))
        painter = QPainter(pixmap)
        self._paint_line(painter, begin, end, heat)
        painter.end()
        return pixmap

    def _paint_line(self, painter: QPainter, begin: int, end: int, heat: tuple[int, ...]) -> None:
        painter.setFont(self.font())
        height = self._line_height * 0.86
        signed = COLOURINGS[self.colouring].explained is not None
        colours, nothing = (self._signed_colours, 128) if signed else (self._heat_colours, 0)
        cells = list(self.flow.span(begin, end))
        for (x, width, *_), level in zip(cells, heat, strict=False):
            if abs(level - nothing) > _FAINT:
                painter.fillRect(QRectF(_MARGIN + x, 0, width, height), colours[level])
        text, given, future = self._inks
        inked = self._inked.setdefault(signed, {})
        pen = None
        for i, (x, width, shown, named, generated) in enumerate(cells, begin):
            if i + 1 == self.cursor_position:
                painter.setPen(QPen(QColor(self.theme.accent), 1.6))
                painter.drawRect(QRectF(_MARGIN + x + 0.5, 0.8, width - 1, height - 1.6))
                pen = None
            quiet = named or not generated
            wanted = future if i >= self.cursor_position else given if quiet else text
            if i - begin < len(heat) and abs(heat[i - begin] - nothing) > _FAINT:
                key = wanted.rgb(), heat[i - begin]
                if key not in inked:
                    inked[key] = readable(wanted, colours[key[1]])
                wanted = inked[key]
            if wanted is not pen:
                painter.setPen(wanted)
                pen = wanted
            offset = _MARGIN + (2.0 if named else 0.0)
            painter.drawStaticText(QPointF(x + offset, 0), self._shaped(shown))

    def showEvent(self, event: QShowEvent) -> None:
        """Catch up with what came while nobody looked."""
        self.catch_up()
        super().showEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Lines break elsewhere."""
        self.flow.set_width(self.viewport().width() - 2 * _MARGIN)
        self._version += 1
        if self.isVisible():
            self.catch_up()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """A click on a token puts the cursor behind it."""
        index = self.index_at(event.position())
        if index is not None and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit(index + 1)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell which token the mouse is over."""
        self._pointed = True
        self.hovered.emit(self.index_at(event.position()))

    def leaveEvent(self, event: QEvent) -> None:
        """None."""
        self.hovered.emit(None)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Ask for the menu of the token under the mouse."""
        index, at = self.index_at(QPointF(event.pos())), event.globalPos()
        if event.reason() == QContextMenuEvent.Reason.Keyboard:
            index = self.marked.start if self.marked else None
            if index is not None:
                at = self.viewport().mapToGlobal(self.cell_rect(index).bottomLeft().toPoint())
        if index is not None:
            self.menu_wanted.emit(index, at)

    def target(self) -> int | None:
        """The token that keys act on: the marked one, or that under a mouse that moved since."""
        index = self.hovered_index()
        if self.marked and (index is None or not self._pointed):
            return self.marked.start
        return index

    def mark(self, tokens: range) -> None:
        """Mark tokens, and bring them into sight."""
        self.marked, self._pointed = tokens, False
        self.marked_changed.emit()
        if tokens:
            self._show_line(self.flow.line(tokens.start))
            self.hovered.emit(tokens.start)
        self.viewport().update()

    def first_in_sight(self) -> int:
        """Index of the first token that is in sight."""
        return self.flow.first_on(int(self.verticalScrollBar().value() // self._line_height))

    def move_mark(self, by: int) -> None:
        """Mark the token before or after the marked one, at first the last."""
        if len(self.flow):
            last = len(self.flow) - 1
            at = self.marked.start + by if self.marked else min(self.cursor_position - 1, last)
            at = min(max(at, 0), last)
            self.mark(range(at, at + 1))

    def hovered_index(self) -> int | None:
        """The token under the mouse; None if there is none, or nobody sees it."""
        if not self.isVisible():
            return None
        at = self.viewport().mapFromGlobal(QCursor.pos())
        return self.index_at(QPointF(at)) if self.viewport().rect().contains(at) else None

    def viewportEvent(self, event: QEvent) -> bool:
        """Say what is under the mouse."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            index = self.index_at(QPointF(event.pos()))
            if index is not None:
                QToolTip.showText(event.globalPos(), tip(self.describe(index)), self)
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

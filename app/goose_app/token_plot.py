"""Lines over tokens around the cursor, that can be zoomed, dragged and asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from goose_app.lines import Lines
from goose_app.theme import DARK, Theme

BEFORE, AFTER = 192, 24  #: tokens that are shown around the cursor at first
_FEWEST, _MOST = 8, 16_384  # tokens that can be shown
_ZOOM = 1.25  # a notch of the wheel
#: A sample of some lines, and what they are.
Sample = tuple[list[QPen], str]

_POINTS = 600  # a line of more tokens is drawn by its lowest and highest values


class _Box(pg.ViewBox):
    """pyqtgraph's place for lines, with the mouse as it is used here."""

    def __init__(self, plot: TokenPlot) -> None:
        super().__init__(enableMenu=False)
        self._plot = plot

    def wheelEvent(self, event: Any, axis: int | None = None) -> None:
        """Nearer or farther, around the mouse."""
        event.accept()
        x = self.mapSceneToView(event.scenePos()).x()
        self._plot.zoom(_ZOOM ** (-event.delta() / 120), x)

    def mouseDragEvent(self, event: Any, axis: int | None = None) -> None:
        """Earlier or later."""
        event.accept()
        was, now = (self.mapToView(p).x() for p in (event.lastPos(), event.pos()))
        self._plot.pan(was - now)

    def mouseClickEvent(self, event: Any) -> None:
        """There; twice: all again."""
        if event.button() == Qt.MouseButton.LeftButton:
            event.accept()
            if event.double():
                self._plot.click_twice()
            else:
                self._plot.click(self.mapToView(event.pos()).x())


class _Axis(pg.AxisItem):
    """Tokens before the cursor are counted backwards."""

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """Numbers without a minus; what follows the cursor gets a plus."""
        return [f"+{v:.0f}" if v > 0 else f"{abs(v):.0f}" for v in values]


class _Side(pg.AxisItem):
    """Values, in words if there are any for them."""

    words: Callable[[float], str] | None = None

    def tickStrings(self, values: list[float], scale: float, spacing: float) -> list[str]:
        """The words, or plain numbers."""
        if self.words is None:
            return super().tickStrings(values, scale, spacing)
        return [self.words(v) for v in values]


class TokenPlot(QWidget):
    """Lines over tokens, the cursor at 0.

    Parameters
    ----------
    words : str
        What the lines are.
    whole : bool
        Show all tokens at first, up to a bound, instead of the last ones.
    """

    goto = Signal(int)  # position
    hovered = Signal(object)  # index of the token under the mouse, or None
    moved = Signal()  # other tokens are to be shown

    def __init__(self, words: str, whole: bool = False) -> None:
        super().__init__()
        self.theme: Theme = DARK
        self._whole = self._fits = whole  # as long as nobody looks at a part
        self.span = (-float(BEFORE), float(AFTER))  # what is shown, from the cursor
        self._position = self._recorded = 0
        # where the cursor was before the last click, and what was in sight
        self._came_from: tuple[int, tuple[float, float]] | None = None
        self._ranged, self._reach = self.span, (0.0, 1.0)  # what the axes show
        self._words = words
        self.legend = Legend()
        self.box = _Box(self)
        self.plot = pg.PlotWidget(
            viewBox=self.box,
            axisItems={"bottom": _Axis(orientation="bottom"), "left": _Side(orientation="left")},
        )
        self.plot.setMinimumHeight(90)
        self.plot.hideButtons()
        self.plot.getPlotItem().layout.setContentsMargins(2, 8, 8, 2)  # room for the last ticks
        for side in ("left", "bottom"):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
        self.plot.getAxis("left").setWidth(46)
        self.plot.setAntialiasing(False)
        self.plot.disableAutoRange()
        self.plot.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self._lines = Lines()
        self._cursor, self._mark = (pg.InfiniteLine(0, angle=90) for _ in range(2))
        self._mark.hide()
        for thing in (self._lines, self._cursor, self._mark):
            self.plot.addItem(thing)
        self.plot.scene().sigMouseMoved.connect(self._hover)
        self.plot.viewport().installEventFilter(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.legend)
        layout.addWidget(self.plot, 1)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        self.theme = theme
        self.plot.setBackground(theme.panel)
        for side in ("left", "bottom"):
            self.plot.getAxis(side).setPen(QColor(theme.line))
            self.plot.getAxis(side).setTextPen(QColor(theme.dim))
        self.plot.setLabel("left", self._words, color=theme.dim)
        self.plot.setLabel("bottom", "tokens before the cursor", color=theme.dim)
        self._cursor.setPen(pg.mkPen(theme.dim, width=1))
        self._mark.setPen(pg.mkPen(theme.accent, width=1))

    def set_pens(self, pens: list[QPen], samples: list[Sample]) -> None:
        """A pen a line, later ones on top; and what the legend says of them."""
        self._lines.set_pens(pens)
        self.legend.set_samples(samples, self.theme)

    def set_words(self, words: str, ticks: Callable[[float], str] | None = None) -> None:
        """What the lines are, and how a value is written beside the axis."""
        if words != self._words:
            self._words = words
            axis = self.plot.getAxis("left")
            axis.words = ticks
            axis.picture = None  # what it drew before
            self.plot.setLabel("left", words, color=self.theme.dim)

    def tokens(self, position: int, recorded: int) -> tuple[int, int]:
        """The tokens [start, stop) that are in sight when the cursor stands at a position."""
        self._position, self._recorded = position, recorded
        if self._fits:
            self.span = self._all()
        low, high = self.span = self._clamped(*self.span)
        return max(0, position + int(low) - 1), min(recorded, position + int(high) + 1)

    def set_lines(self, first: int, rows: NDArray[np.floating]) -> None:
        """Values (T, lines) of the tokens from an index on."""
        self.set_points(np.arange(first, first + len(rows)), rows)

    def set_points(self, indices: NDArray[np.integer], rows: NDArray[np.floating]) -> None:
        """Values (n, lines) of some tokens, in order."""
        if self._ranged != self.span:
            self.set_range(*self._reach)
        x = indices.astype(np.float64) + 1 - self._position
        x, rows = thinned(x, rows, _POINTS)
        self._lines.set_data(x, list(rows.T))

    def clear(self) -> None:
        """No lines."""
        self._lines.set_data(np.zeros(0), [])

    def set_range(self, low: float, high: float) -> None:
        """What the y axis reaches from and to."""
        self._ranged, self._reach = self.span, (low, high)
        left, right = self.span
        margin = 0.03 * (high - low) + 1e-6
        low, high = low - margin, high + margin
        self.plot.setRange(xRange=(left, right), yRange=(low, high), padding=0)
        self._lines.set_bounds(QRectF(left, low, right - left, high - low))

    # -- the mouse ---------------------------------------------------------------------------------

    def zoom(self, factor: float, x: float) -> None:
        """More tokens or fewer, those at x hold still."""
        low, high = self.span
        wide = min(max((high - low) * factor, _FEWEST), _MOST)
        factor = wide / (high - low)
        self._show(x + (low - x) * factor, x + (high - x) * factor)

    def pan(self, by: float) -> None:
        """Other tokens, as many."""
        low, high = self.span
        self._show(low + by, high + by)

    def click(self, x: float) -> None:
        """Go to a token."""
        index, self._came_from = self._index(x), None
        if index is not None:
            self._came_from = self._position, self.span
            low, high = self.span  # what is in sight stays where it is
            shift = self._position - (index + 1)
            self.span = low + shift, high + shift
            self.goto.emit(index + 1)

    def click_twice(self) -> None:
        """Back to what is shown at first; from there, all tokens that there are."""
        if self._came_from is not None:  # the first of two clicks went somewhere
            (self._position, self.span), self._came_from = self._came_from, None
            self.goto.emit(self._position)
        usual, everything = (-float(BEFORE), float(AFTER)), self._all()
        first, other = (everything, usual) if self._whole else (usual, everything)
        at_first = self.span == first
        self._show(*(other if at_first else first))
        self._fits = self._whole and not at_first

    def _all(self) -> tuple[float, float]:
        """All tokens, as many as can be shown."""
        low = -min(self._position, _MOST - AFTER)
        least = 1 if self._whole else AFTER
        return float(low), float(max(least, min(self._recorded - self._position, _MOST + low)))

    def _show(self, low: float, high: float) -> None:
        self._fits = False
        self.span = self._clamped(low, high)
        self.moved.emit()

    def _clamped(self, low: float, high: float) -> tuple[float, float]:
        """As many tokens, but never none of the run's."""
        least, most = -self._position, self._recorded - self._position
        wide = high - low
        low = min(max(low, least - wide + _FEWEST), max(most, AFTER) - _FEWEST)
        return low, low + wide

    def _index(self, x: float) -> int | None:
        index = self._position + round(x) - 1
        return index if 0 <= index < self._recorded else None

    def _hover(self, at: QPointF) -> None:
        inside = self.box.sceneBoundingRect().contains(at)
        index = self._index(self.box.mapSceneToView(at).x()) if inside else None
        self._mark.setVisible(index is not None)
        if index is not None:
            self._mark.setPos(index + 1 - self._position)
        self.hovered.emit(index)

    def eventFilter(self, watched: object, event: QEvent) -> bool:
        """The mouse may leave without a last move."""
        if event.type() == QEvent.Type.Leave:
            self._mark.hide()
            self.hovered.emit(None)
        return False


def thinned(
    x: NDArray[np.floating], rows: NDArray[np.floating], n: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Some 2 n points of lines (T, lines): of each of n parts the lowest and the highest."""
    if len(x) <= 2 * n:
        return x, rows
    each = -(-len(x) // n)
    begins = np.arange(0, len(x), each)
    low, high = np.fmin.reduceat(rows, begins), np.fmax.reduceat(rows, begins)
    out = np.empty((2 * len(begins), rows.shape[1]))
    out[::2], out[1::2] = low, high
    return np.repeat(x[begins], 2), out


class Legend(QWidget):
    """What the lines are: a sample of each and a word."""

    def __init__(self) -> None:
        super().__init__()
        self._samples: list[Sample] = []
        self._ink = QColor()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(self.fontMetrics().height() + 2)

    def text(self) -> str:
        """What it says."""
        return ", ".join(words for _, words in self._samples)

    def set_samples(self, samples: list[Sample], theme: Theme) -> None:
        """Other lines, or other colours."""
        self._samples = samples
        self._ink = QColor(theme.dim)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """As many as fit."""
        painter = QPainter(self)
        metrics, x, y = painter.fontMetrics(), 54.0, self.height() / 2
        for pens, words in self._samples:
            if not pens:
                continue
            step = 18 / len(pens)
            end = x + 24 + metrics.horizontalAdvance(words)
            if end > self.width():
                return
            for i, pen in enumerate(pens):
                painter.setPen(pen)
                painter.drawLine(QPointF(x + i * step, y), QPointF(x + (i + 1) * step, y))
            painter.setPen(self._ink)
            painter.drawText(QPointF(x + 23, y + metrics.ascent() / 2 - 1), words)
            x = end + 14

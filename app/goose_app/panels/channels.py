"""Decay and in-context learning rate: layers × channels at the cursor, and lines over tokens."""

from __future__ import annotations

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QSplitter, QVBoxLayout

from goose_app.heatmap import Heatmap, to_indices
from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.selection import Selection
from goose_app.series import HIGH, LOW, MEAN
from goose_app.theme import Theme, layer_colours, sequential
from goose_viz import Model
from goose_viz.metrics import half_life

_SPAN = 256  # tokens that the lines show
_SCROLL = 64  # the lines move on in such steps, so that their axis is not redrawn at every token


class ChannelsPanel(Panel):
    """One (L, D) observable: heatmap above, a line per layer below."""

    observable = ""
    low, high = 0.0, 1.0
    colours = "viridis"
    short = ""  # what the lines are, short enough to stand beside them

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.map = Heatmap("channel", "layer", self._describe)
        self.sort = QCheckBox("sort channels")
        self.sort.setToolTip(
            "Order each layer's channels by their value now, and keep that order while it runs"
        )
        self._order: NDArray[np.intp] | None = None
        self.plot = pg.PlotWidget()
        self.plot.setMinimumHeight(90)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.setMouseEnabled(False, False)
        for side in ("left", "bottom"):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
        self.plot.getAxis("left").setWidth(46)
        self.plot.setAntialiasing(False)
        self._lines: list[pg.PlotDataItem] = []
        self._band = [pg.PlotDataItem(), pg.PlotDataItem()]
        self._cursor = pg.InfiniteLine(angle=90)
        self._y = [np.inf, -np.inf]
        self._x_range = (-1, -1)
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self.map)
        splitter.addWidget(self.plot)
        splitter.setSizes([260, 200])
        row = QHBoxLayout()
        row.setContentsMargins(6, 4, 6, 0)
        row.addWidget(self.sort)
        row.addStretch()
        self.figures = QLabel()
        row.addWidget(self.figures)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(splitter, 1)
        self.sort.toggled.connect(self._resort)
        self.map.cell_clicked.connect(lambda row, _: selection.select(row, selection.head))

    # -- what a subclass says ----------------------------------------------------------------------

    def meaning(self, value: float) -> str:
        """A value in words."""
        return f"{value:.4f}"

    # -- the panel ---------------------------------------------------------------------------------

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.map.set_theme(theme)
        self.map.set_colours(sequential(self.colours), f"{self.low:g}", f"{self.high:g}")
        self.plot.setBackground(theme.panel)
        for side in ("left", "bottom"):
            self.plot.getAxis(side).setPen(QColor(theme.line))
            self.plot.getAxis(side).setTextPen(QColor(theme.dim))
        self.plot.setLabel("left", self.short, color=theme.dim)
        self.plot.setLabel("bottom", "token", color=theme.dim)
        self._cursor.setPen(pg.mkPen(theme.accent, width=1))
        self._make_lines(len(self._lines))

    def set_model(self, model: Model) -> None:
        """Other layers."""
        super().set_model(model)
        self._order = None
        self.map.set_blank("waiting for the first token")
        self._make_lines(model.config.n_layer)

    def set_series(self, series: object) -> None:
        """A new run: the scale begins anew."""
        super().set_series(series)  # type: ignore[arg-type]
        self._y = [np.inf, -np.inf]
        self._x_range = (-1, -1)

    def show_picture(self, picture: Picture) -> None:
        """Channels at the cursor, lines up to the last token."""
        values = getattr(picture, self.observable)
        if values is None:
            self.map.set_blank("waiting for the first token")
            for line in (*self._lines, *self._band):
                line.clear()
            self.figures.setText("")
            return
        if self._order is not None and self._order.shape == values.shape:
            values = np.take_along_axis(values, self._order, 1)
        self.map.set_indices(to_indices(values, self.low, self.high))
        self.map.mark(QRectF(0, self.selection.layer, values.shape[1], 1))
        layer = self.selection.layer
        if layer < len(values):
            median = float(np.median(values[layer]))
            self.figures.setText(f"layer {layer}: median {self.meaning(median)}")
        self._show_lines(picture)

    def _show_lines(self, picture: Picture) -> None:
        if self.series is None:
            return
        stop = max(picture.position, min(self.series.n, picture.recorded))
        start = max(0, -(-(max(picture.position, stop - _SCROLL) - _SPAN) // _SCROLL) * _SCROLL)
        stop = min(stop, start + _SPAN + _SCROLL)
        first, rows = self.series.window(self.observable, start, stop)
        if len(rows) == 0 or rows.shape[1] != len(self._lines):
            return
        # the first token meets an empty memory and no past; its figures stand far off the others
        seen = rows[1 - first :] if first == 0 and len(rows) > 1 else rows
        x = np.arange(first + len(rows) - len(seen), first + len(rows)) + 1
        for layer, line in enumerate(self._lines):
            line.setData(x, seen[:, layer, MEAN])
        layer = self.selection.layer
        for item, column in zip(self._band, (LOW, HIGH), strict=True):
            item.setData(x, seen[:, layer, column])
        self._cursor.setValue(picture.position)
        shown = seen[:, :, MEAN]
        low = min(float(shown.min()), float(seen[:, layer, LOW].min()))
        high = max(float(shown.max()), float(seen[:, layer, HIGH].max()))
        if low < self._y[0] or high > self._y[1]:
            self._y = [min(low, self._y[0]), max(high, self._y[1])]
            margin = 0.03 * (self._y[1] - self._y[0]) + 1e-6
            self.plot.setYRange(self._y[0] - margin, self._y[1] + margin, padding=0)
        x_range = (start, -(-max(stop, 1) // _SCROLL) * _SCROLL)
        if self._x_range != x_range:
            self._x_range = x_range
            self.plot.setXRange(*x_range, padding=0)

    def _make_lines(self, n: int) -> None:
        self.plot.clear()
        colours = layer_colours(self.theme, n)
        self._lines = [self.plot.plot(pen=pg.mkPen(c, width=1)) for c in colours]
        for item in self._band:
            item.setPen(pg.mkPen(self.theme.dim, width=1, style=Qt.PenStyle.DotLine))
            self.plot.addItem(item)
        self.plot.addItem(self._cursor)
        self._style_lines()
        self.refresh()

    def _style_lines(self) -> None:
        colours = layer_colours(self.theme, len(self._lines))
        for i, line in enumerate(self._lines):
            chosen = i == self.selection.layer
            colour = QColor(self.theme.accent) if chosen else colours[i]
            line.setPen(pg.mkPen(colour, width=1))
            line.setZValue(1 if chosen else 0)

    def _selection_changed(self) -> None:
        self._style_lines()
        super()._selection_changed()

    def _resort(self, on: bool) -> None:
        values = getattr(self.picture, self.observable, None)
        self._order = np.argsort(-values, axis=1, kind="stable") if on and values is not None else None
        self.refresh()

    def _describe(self, row: int, column: int) -> str:
        values = getattr(self.picture, self.observable, None)
        if values is None:
            return ""
        channel = column if self._order is None else int(self._order[row, column])
        return f"layer {row} · channel {channel} · {self.meaning(float(values[row, channel]))}"


class DecayPanel(ChannelsPanel):
    """w: what each channel keeps."""

    title = "Decay"
    help = (
        "How much of each key channel survives a token: 1 keeps everything, 0.545 is the fastest "
        "fading there is. Orange line: the chosen layer; dotted: its 10 and 90 % quantiles."
    )
    observable = "decay"
    low, high = 0.545, 1.0
    colours = "viridis"
    short = "mean decay"

    def meaning(self, value: float) -> str:
        """Decay and its half-life."""
        life = float(half_life(np.array(value)))
        words = "never fades" if not np.isfinite(life) else f"half-life {life:.3g} tokens"
        return f"{value:.4f} ({words})"


class IclrPanel(ChannelsPanel):
    """a: how strongly each channel is corrected."""

    title = "In-context learning rate"
    help = (
        "How strongly a token corrects what the memory holds under its key: 0 leaves it, 1 replaces "
        "it. Orange line: the chosen layer; dotted: its 10 and 90 % quantiles."
    )
    observable = "iclr"
    low, high = 0.0, 1.0
    colours = "inferno"
    short = "mean rate"

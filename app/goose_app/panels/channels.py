"""Observables of channels: layers × channels at the cursor, and lines over tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QSplitter, QVBoxLayout

from goose_app.heatmap import Heatmap, to_indices
from goose_app.lines import Lines
from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.series import HIGH, LOW, MEAN
from goose_app.theme import Theme, layer_colours, sequential
from goose_viz.metrics import half_life

_BEHIND, _AHEAD = 192, 24  # tokens that the lines show around the cursor


@dataclass(frozen=True)
class Channels:
    """How an (L, D) observable is shown.

    Attributes
    ----------
    observable : str
    title, help : str
    low, high : float
        What the ends of the colour map stand for.
    colours : str
        The map.
    short : str
        What the lines are, short enough to stand beside them.
    meaning : callable float -> str
        A value in words.
    """

    observable: str
    title: str
    help: str
    low: float
    high: float
    colours: str
    short: str
    meaning: Callable[[float], str]


class ChannelsPanel(Panel):
    """One (L, D) observable: heatmap above, a line per layer below."""

    phase = (1, 2)

    def __init__(self, selection: Selection, view: Channels) -> None:
        self.title, self.help = view.title, view.help
        self.recorded = frozenset((view.observable,))
        super().__init__(selection)
        self.view = view
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
        self.plot.getPlotItem().layout.setContentsMargins(2, 8, 8, 2)  # room for the last ticks
        self.plot.setMouseEnabled(False, False)
        for side in ("left", "bottom"):
            self.plot.getAxis(side).enableAutoSIPrefix(False)
        self.plot.getAxis("left").setWidth(46)
        self.plot.setAntialiasing(False)
        self.plot.disableAutoRange()
        self._lines = Lines()
        self._cursor = pg.InfiniteLine(0, angle=90)
        self.plot.addItem(self._lines)
        self.plot.addItem(self._cursor)
        self._n_layer = 0
        self._y = [np.inf, -np.inf]
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.addWidget(self.map)
        splitter.addWidget(self.plot)
        splitter.setSizes([260, 200])
        row = QHBoxLayout()
        row.setContentsMargins(6, 4, 6, 0)
        row.addWidget(self.sort)
        self.figures = Readout("layer 10: median 0.0000 (half-life 1.23e+10 tokens)")
        row.addWidget(self.figures, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(splitter, 1)
        self.sort.toggled.connect(self._resort)
        self.map.cell_clicked.connect(lambda row, _: selection.select(row, selection.head))

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.map.set_theme(theme)
        v = self.view
        self.map.set_colours(sequential(v.colours), f"{v.low:g}", f"{v.high:g}")
        self.plot.setBackground(theme.panel)
        for side in ("left", "bottom"):
            self.plot.getAxis(side).setPen(QColor(theme.line))
            self.plot.getAxis(side).setTextPen(QColor(theme.dim))
        self.plot.setLabel("left", v.short, color=theme.dim)
        self.plot.setLabel(
            "bottom",
            "from the cursor · thick: chosen layer, dotted: its 10–90 %",
            color=theme.dim,
        )
        self._cursor.setPen(pg.mkPen(theme.dim, width=1))
        self._style_lines()
        self.refresh()

    def set_run(self, run: Viewed) -> None:
        """Other layers."""
        super().set_run(run)
        self._order = None
        self.map.set_blank("waiting for the first token")
        self._n_layer = run.model.config.n_layer if run.model is not None else 0
        self._style_lines()

    def series_changed(self) -> None:
        """Another text: the scale begins anew."""
        self._y = [np.inf, -np.inf]
        self._fit()

    def show_picture(self, picture: Picture) -> None:
        """Channels at the cursor, lines up to the last token."""
        values = picture.observed(self.view.observable)
        if values is None:
            self.map.set_blank("waiting for the first token")
            self._lines.set_data(np.zeros(0), [])
            self.figures.setText("")
            return
        if self.sort.isChecked() and self._order is None:
            self._order = np.argsort(-values, axis=1, kind="stable")
        if self._order is not None:
            values = np.take_along_axis(values, self._order, 1)
        self.map.set_indices(to_indices(values, self.view.low, self.view.high))
        self.map.mark(QRectF(0, self.selection.layer, values.shape[1], 1))
        layer = self.selection.layer
        if layer < len(values):
            median = float(np.median(values[layer]))
            self.figures.setText(f"layer {layer}: median {self.view.meaning(median)}")
        self._show_lines(picture)

    def python(self) -> str | None:
        """The observable of the last token."""
        name = self.view.observable
        return f"print(session.frames(observables=[{name!r}])[-1].{name})\n"

    def _show_lines(self, picture: Picture) -> None:
        if self.series is None:
            return
        at = picture.position
        first, rows = self.series.window(
            self.view.observable, at - _BEHIND, min(at + _AHEAD, picture.recorded)
        )
        if first == 0:  # the first token meets no past; its figures stand far off all others
            first, rows = 1, rows[1:]
        if len(rows) == 0 or rows.shape[1] != self._n_layer:
            self._lines.set_data(np.zeros(0), [])
            return
        x = np.arange(first, first + len(rows), dtype=np.float64) + 1 - at
        layer = self.selection.layer
        chosen = [rows[:, layer, c] for c in (LOW, HIGH, MEAN)]
        others = [rows[:, i, MEAN] for i in range(self._n_layer)]
        self._lines.set_data(x, [*others, *chosen])
        low = min(float(rows[:, :, MEAN].min()), float(chosen[0].min()))
        high = max(float(rows[:, :, MEAN].max()), float(chosen[1].max()))
        if low < self._y[0] or high > self._y[1]:
            self._y = [min(low, self._y[0]), max(high, self._y[1])]
            self._fit()

    def _fit(self) -> None:
        """The range grows with the values and never shrinks within a run: axes hold still."""
        low, high = self._y
        if low > high:
            low, high = self.view.low, self.view.high
        margin = 0.03 * (high - low) + 1e-6
        self.plot.setRange(
            xRange=(-_BEHIND, _AHEAD), yRange=(low - margin, high + margin), padding=0
        )
        self._lines.set_bounds(
            QRectF(-_BEHIND, low - margin, _BEHIND + _AHEAD, high - low + 2 * margin)
        )

    def _style_lines(self) -> None:
        colours = layer_colours(self.theme, self._n_layer)
        dotted = QPen(QColor(self.theme.dim), 1, Qt.PenStyle.DotLine)
        chosen = QPen(QColor(self.theme.accent), 2)
        self._lines.set_pens([*(QPen(c, 1) for c in colours), dotted, dotted, chosen])

    def _selection_changed(self) -> None:
        self._style_lines()
        super()._selection_changed()

    def _resort(self, on: bool) -> None:
        self._order = None  # the next picture makes it
        self.map.set_x_label("channels, by their value when sorted" if on else "channel")
        self.refresh()

    def _describe(self, row: int, column: int) -> str:
        values = None if self.picture is None else self.picture.observed(self.view.observable)
        if values is None:
            return ""
        channel = column if self._order is None else int(self._order[row, column])
        return f"layer {row} · channel {channel} · {self.view.meaning(float(values[row, channel]))}"


def _decay(value: float) -> str:
    life = float(half_life(np.array(value)))
    words = "never fades" if not np.isfinite(life) else f"half-life {life:.3g} tokens"
    return f"{value:.4f} ({words})"


DECAY = Channels(
    "decay",
    "Decay",
    "How much of each key channel survives a token: 1 keeps everything, 0.545 is the fastest "
    "fading there is. Thick line: the chosen layer; dotted: its 10 and 90 % quantiles.",
    0.545, 1.0, "viridis", "mean decay", _decay,
)  # fmt: skip
ICLR = Channels(
    "iclr",
    "In-context learning rate",
    "How strongly a token corrects what the memory holds under its key: 0 leaves it, 1 puts "
    "it right at once. Thick line: the chosen layer; dotted: its 10 and 90 % quantiles.",
    0.0, 1.0, "inferno", "mean rate", "{:.4f}".format,
)  # fmt: skip

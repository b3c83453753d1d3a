"""Observables of channels: layers × channels at the cursor, and lines over tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QSplitter, QVBoxLayout

from goose_app.heatmap import Heatmap, to_indices
from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.series import HIGH, LOW, MEAN
from goose_app.theme import Theme, layer_colours, sequential
from goose_app.token_plot import TokenPlot
from goose_viz.metrics import half_life


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
    turn : int
        Which of every five pictures it shows while the model writes.
    """

    observable: str
    title: str
    help: str
    low: float
    high: float
    colours: str
    short: str
    meaning: Callable[[float], str]
    turn: int


class ChannelsPanel(Panel):
    """One (L, D) observable: heatmap above, a line per layer below."""

    goto = Signal(int)

    def __init__(self, selection: Selection, view: Channels) -> None:
        self.title, self.help = view.title, view.help
        self.recorded, self.phase = frozenset((view.observable,)), (view.turn, 5)
        self.needs = self.recorded
        super().__init__(selection)
        self.view = view
        self.map = Heatmap("channel", "layer", self._describe)
        self.sort = QCheckBox("sort channels")
        self.sort.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.sort.setToolTip(
            "Order each layer's channels by their value now, and keep that order while it runs"
        )
        self._order: NDArray[np.intp] | None = None
        self.plot = TokenPlot(view.short)
        self._n_layer, self._head_size = 0, 1
        self._hovered: int | None = None
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
        self.map.cell_clicked.connect(self._select)
        self.plot.goto.connect(self.goto)
        self.plot.moved.connect(self._moved)
        self.plot.hovered.connect(self._hover)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.map.set_theme(theme)
        v = self.view
        self.map.set_colours(sequential(v.colours), f"{v.low:g}", f"{v.high:g}")
        self.plot.set_theme(theme)
        self._set_pens()
        self.refresh()

    def set_run(self, run: Viewed) -> None:
        """Other layers."""
        super().set_run(run)
        self._order = None
        self.map.set_blank("waiting for the first token")
        config = run.model.config if run.model is not None else None
        self._n_layer = config.n_layer if config is not None else 0
        self._head_size = config.head_size if config is not None else 1
        self.map.set_grid(0 if self.sort.isChecked() else self._head_size)
        self._set_pens()

    def series_changed(self) -> None:
        """Another text: the scale begins anew."""
        self._y = [np.inf, -np.inf]
        self._fit()

    def show_picture(self, picture: Picture) -> None:
        """Channels at the cursor, lines up to the last token."""
        values = picture.observed(self.view.observable)
        if values is None:
            self.map.set_blank("waiting for the first token")
            self.plot.clear()
            self._tell()
            return
        if self.sort.isChecked() and self._order is None:
            self._order = np.argsort(-values, axis=1, kind="stable")
        if self._order is not None:
            values = np.take_along_axis(values, self._order, 1)
        self.map.set_indices(to_indices(values, self.view.low, self.view.high))
        self.map.mark(QRectF(0, self.selection.layer, values.shape[1], 1))
        self._tell()
        self._show_lines(picture)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Layers × channels at the cursor."""
        name = self.view.observable
        values = self.picture.observed(name) if self.picture is not None else None
        return {} if values is None else {name: values}

    def python(self) -> str | None:
        """The observable of the last token."""
        name = self.view.observable
        return f"print(session.frames(observables=[{name!r}])[-1].{name})\n"

    def _show_lines(self, picture: Picture) -> None:
        if self.series is None:
            return
        start, stop = self.plot.tokens(picture.position, picture.recorded)
        first, rows = self.series.window(self.view.observable, start, stop)
        if first == 0:  # the first token meets no past; its figures stand far off all others
            first, rows = 1, rows[1:]
        if len(rows) == 0 or rows.shape[1] != self._n_layer:
            self.plot.clear()
            return
        chosen = rows[:, self.selection.layer][:, [LOW, HIGH, MEAN]]
        lines = np.concatenate([rows[:, :, MEAN], chosen], axis=1)
        self.plot.set_lines(first, lines)
        low = float(np.fmin.reduce(lines, axis=None))  # nanmin takes ten times as long
        high = float(np.fmax.reduce(lines, axis=None))
        if low < self._y[0] or high > self._y[1]:
            self._y = [min(low, self._y[0]), max(high, self._y[1])]
            self._fit()

    def _fit(self) -> None:
        """The range grows with the values and never shrinks within a run: axes hold still."""
        low, high = self._y
        if low > high:
            low, high = self.view.low, self.view.high
        self.plot.set_range(low, high)

    def _moved(self) -> None:
        """Other tokens are in sight."""
        self._fit()
        if self.picture is not None:
            self._show_lines(self.picture)

    def _hover(self, index: int | None) -> None:
        """What the chosen layer had at the token under the mouse."""
        self._hovered = index
        self._tell()

    def _tell(self) -> None:
        """A token's mean and quantiles while the mouse is over it; else the median now."""
        layer, name = self.selection.layer, self.view.observable
        values = None if self.picture is None else self.picture.observed(name)
        if self._hovered is not None and self.series is not None:
            _, rows = self.series.window(name, self._hovered, self._hovered + 1)
            if len(rows) and layer < rows.shape[1]:
                mean, low, _, high = rows[0, layer].tolist()
                words = f"{self.view.meaning(mean)}, {low:.4g} to {high:.4g}"
                self.figures.setText(f"token {self._hovered + 1}, layer {layer}: {words}")
                return
        if values is None or layer >= len(values):
            self.figures.setText("")
        else:
            median = float(np.median(values[layer]))
            self.figures.setText(f"layer {layer}: median {self.view.meaning(median)}")

    def _select(self, row: int, column: int) -> None:
        """The layer and the head that a channel belongs to."""
        self.selection.select(row, self._channel(row, column) // self._head_size)

    def _channel(self, row: int, column: int) -> int:
        """Which channel a cell of the map shows."""
        return column if self._order is None else int(self._order[row, column])

    def _selection_changed(self) -> None:
        self._set_pens()
        super()._selection_changed()

    def _set_pens(self) -> None:
        """A line for each layer, then three for the chosen one."""
        colours = layer_colours(self.theme, self._n_layer)
        dotted = QPen(QColor(self.theme.dim), 1, Qt.PenStyle.DotLine)
        chosen = QPen(QColor(self.theme.accent), 2)
        shades = [QPen(c, 2) for c in colours[:: max(1, len(colours) // 4)]]
        self.plot.set_pens(
            [*(QPen(c, 1) for c in colours), dotted, dotted, chosen],
            [([chosen], "chosen layer"), ([dotted], "10–90 % of its channels"),
             (shades, "layers, first to last")],
        )  # fmt: skip

    def _resort(self, on: bool) -> None:
        self._order = None  # the next picture makes it
        self.map.set_grid(0 if on else self._head_size)
        self.map.set_x_label("channels, by their value when sorted" if on else "channel")
        self.refresh()

    def _describe(self, row: int, column: int) -> str:
        values = None if self.picture is None else self.picture.observed(self.view.observable)
        if values is None:
            return ""
        channel = self._channel(row, column)
        head = channel // self._head_size
        value = self.view.meaning(float(values[row, channel]))
        return f"layer {row} · head {head} · channel {channel} · {value}"


def _decay(value: float) -> str:
    life = float(half_life(np.array(value)))
    words = "never fades" if not np.isfinite(life) else f"half-life {life:.3g} tokens"
    return f"{value:.4f} ({words})"


DECAY = Channels(
    "decay",
    "Decay",
    "How much of each key channel survives a token: 1 keeps everything, 0.545 is the fastest "
    "fading there is. Thick line: the chosen layer; dotted: its 10 and 90 % quantiles.",
    0.545, 1.0, "viridis", "mean decay", _decay, 2,
)  # fmt: skip
ICLR = Channels(
    "iclr",
    "In-context learning rate",
    "How strongly a token corrects what the memory holds under its key: 0 leaves it, 1 takes "
    "it out at once (or turns it round, with a removal scale of 2). Thick line: the chosen layer; "
    "dotted: its 10 and 90 % quantiles.",
    0.0, 1.0, "inferno", "mean rate", "{:.4f}".format, 3,
)  # fmt: skip

"""One head's memory: the N × N matrix, value × key."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QComboBox, QHBoxLayout, QVBoxLayout

from goose_app.heatmap import Heatmap, to_indices
from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme, gradient
from goose_viz.metrics import rms, stable_rank


class StatePanel(Panel):
    """The selected head's state with diverging colours around zero."""

    title = "State"
    needs = frozenset(("wkv",))
    phase = (0, 5)
    help = (
        "The memory of one head. Each token fades its columns, erases along one key and writes a "
        "value under another. Blue is negative, orange positive."
    )

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.layer_box, self.head_box = QComboBox(), QComboBox()
        self.layer_box.setToolTip("Layer (↑ ↓)")
        self.head_box.setToolTip("Head ([ ], or Shift+← →)")
        self.lock = QCheckBox("lock")
        for control in (self.layer_box, self.head_box, self.lock):
            control.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.lock.setToolTip("Keep the colour scale while the state changes")
        self.map = Heatmap("key channel", "value channel", self._describe, square=True)
        self._level = 1.0
        row = QHBoxLayout()
        row.setContentsMargins(6, 4, 6, 0)
        row.setSpacing(4)
        for widget in (self.layer_box, self.head_box, self.lock):
            row.addWidget(widget)
        self.figures = Readout("RMS 10.00, rank 10.00, max 1.2e+02")
        self.figures.setToolTip(
            "RMS: the root of the mean square of the head's numbers.\n"
            "Rank: the stable rank, how many directions the memory really uses, 1 to the head "
            "size.\nMax: the largest number, whatever its sign."
        )
        row.addWidget(self.figures, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.map, 1)
        self.layer_box.activated.connect(lambda i: selection.select(i, selection.head))
        self.head_box.activated.connect(lambda i: selection.select(selection.layer, i))
        self.lock.toggled.connect(lambda _: self.refresh())

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.map.set_theme(theme)
        self.refresh()

    def set_run(self, run: Viewed) -> None:
        """Other layers and heads."""
        super().set_run(run)
        config = run.model.config if run.model is not None else None
        for box, word, n in (
            (self.layer_box, "layer", config.n_layer if config else 0),
            (self.head_box, "head", config.n_head if config else 0),
        ):
            box.clear()
            box.addItems([f"{word} {i}" for i in range(n)])
        self._selection_changed()

    def show_picture(self, picture: Picture) -> None:
        """The selected head at the cursor."""
        if self.selection.layer >= len(picture.wkv):
            return
        S = picture.wkv[self.selection.layer, self.selection.head]
        top = float(np.abs(S).max())
        if not self.lock.isChecked() and top > 0:
            # a few large numbers would leave the rest in the dark: they saturate instead
            self._level = round_up(min(top, 4 * float(rms(S))))
        self.map.set_colours(
            gradient(self.theme.diverging),
            f"{'≤ ' if S.min() < -self._level else ''}−{self._level:g}",
            f"{'≥ ' if top > self._level else ''}+{self._level:g}",
        )
        self.map.set_indices(to_indices(S, -self._level, self._level))
        self.map.set_caption("all zero before the first token" if top == 0 else "")
        self.figures.setText(f"RMS {rms(S):.3g}, rank {stable_rank(S):.2f}, max {top:.3g}")

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The head's matrix, a row a value channel."""
        s, picture = self.selection, self.picture
        if picture is None or s.layer >= len(picture.wkv):
            return {}
        return {f"layer {s.layer} head {s.head}": picture.wkv[s.layer, s.head]}

    def python(self) -> str | None:
        """The matrix."""
        return f"print(session.state.wkv[{self.selection.layer}, {self.selection.head}])\n"

    def _selection_changed(self) -> None:
        self.layer_box.setCurrentIndex(self.selection.layer)
        self.head_box.setCurrentIndex(self.selection.head)
        super()._selection_changed()

    def _describe(self, row: int, column: int) -> str:
        if self.picture is None:
            return ""
        value = self.picture.wkv[self.selection.layer, self.selection.head, row, column]
        return f"value {row} · key {column} · {value:+.5f}"


def round_up(top: float) -> float:
    """The next of 1, 1.5, 2, 3, 5, 7 times a power of ten: a scale that holds still for a while."""
    power = 10.0 ** np.floor(np.log10(top))
    return next(float(m * power) for m in (1, 1.5, 2, 3, 5, 7, 10) if m * power >= top)

"""What the last token did to one head's memory: decayed - removed + written = memory now."""

from __future__ import annotations

import numpy as np
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout

from goose_app.heatmap import Heatmap, to_indices
from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.panels.state import round_up
from goose_app.readout import Readout
from goose_app.selection import Selection
from goose_app.theme import Theme, gradient
from goose_viz import Model

_PARTS = (
    ("decayed", "decayed", "what the decay left of the memory ahead of the token"),
    ("removed", "− removed", "what was erased along the removal key"),
    ("written", "+ written", "value times replacement key"),
    ("result", "= memory now", "the sum"),
)


class EditPanel(Panel):
    """Four matrices that add up."""

    title = "The edit of this token"
    help = (
        "What the last token did to the selected head: its memory fades (decayed), loses what "
        "stood under one key (removed), gains a value under another (written). The four add up."
    )
    wanted = Signal(bool)  # somebody looks, or nobody does

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.one_scale = QCheckBox("one scale")
        self.one_scale.setToolTip("The same colours for the same numbers in all four")
        self.place = Readout("layer 10 head 10 · “ something long”")
        row = QHBoxLayout()
        row.setContentsMargins(6, 4, 6, 0)
        row.addWidget(self.one_scale)
        row.addWidget(self.place, 1)
        grid = QGridLayout()
        grid.setSpacing(2)
        self.maps: dict[str, Heatmap] = {}
        self.titles: dict[str, QLabel] = {}
        for column, (name, words, tip) in enumerate(_PARTS):
            self.titles[name] = QLabel(words)
            self.titles[name].setToolTip(tip)
            describe = self._describer(name)
            self.maps[name] = Heatmap("key", "value" if column == 0 else "", describe, square=True)
            grid.addWidget(self.titles[name], 0, column)
            grid.addWidget(self.maps[name], 1, column)
            grid.setColumnStretch(column, 1)
        grid.setRowStretch(1, 1)
        grid.setContentsMargins(6, 0, 0, 0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addLayout(grid, 1)
        self.one_scale.toggled.connect(lambda _: self.refresh())

    def showEvent(self, event: object) -> None:
        """Somebody looks."""
        self.wanted.emit(True)
        super().showEvent(event)

    def hideEvent(self, event: object) -> None:
        """Nobody looks."""
        self.wanted.emit(False)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        for view in self.maps.values():
            view.set_theme(theme)
        self.refresh()

    def set_model(self, model: Model) -> None:
        """Nothing is known of it yet."""
        super().set_model(model)
        for view in self.maps.values():
            view.set_blank("")

    def show_picture(self, picture: Picture) -> None:
        """The four parts, with their norms and scales."""
        why = picture.why
        if why is None or why.edit is None:
            return
        parts = {name: getattr(why.edit, name) for name, _, _ in _PARTS}
        levels = {name: _level(part) for name, part in parts.items()}
        if self.one_scale.isChecked():
            levels = dict.fromkeys(levels, max(levels.values()))
        for name, words, _ in _PARTS:
            level, norm = levels[name], getattr(why.edit, f"{name}_norm")
            view = self.maps[name]
            view.set_colours(gradient(self.theme.diverging), f"−{level:g}", f"+{level:g}")
            view.set_indices(to_indices(parts[name], -level, level))
            self.titles[name].setText(f"{words}  ·  norm {norm:.3g}")
        self.place.setText(f"layer {why.layer} head {why.head} · “{why.labels[-1]}”")

    def _describer(self, name: str):  # type: ignore[no-untyped-def]
        def describe(row: int, column: int) -> str:
            why = self.picture.why if self.picture is not None else None
            if why is None or why.edit is None:
                return ""
            value = float(getattr(why.edit, name)[row, column])
            return f"value {row} · key {column} · {value:+.5f}"

        return describe


def _level(part: np.ndarray) -> float:
    """The number that has the full colour: a few large ones may saturate."""
    top = float(np.abs(part).max())
    return round_up(min(top, 4 * float(np.sqrt((part * part).mean())))) if top > 0 else 1.0

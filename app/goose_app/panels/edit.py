"""What the last token did to one head's memory: decayed - removed + written = memory now."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QVBoxLayout

from goose_app.heatmap import Heatmap, to_indices
from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.panels.state import round_up
from goose_app.plain import Label
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme, gradient
from goose_viz.analysis.memory import PAST

_PARTS = (
    ("decayed", "decayed", "what the decay left of the memory before the token"),
    ("removed", "− removed", "what was erased along the removal key; the strips are its factors"),
    ("written", "+ written", "value times replacement key; the strips are these"),
    ("result", "= memory now", "the sum"),
)


class EditPanel(Panel):
    """Four matrices that add up."""

    title = "The edit of this token"
    needs = frozenset((*PAST, "receptance", "bonus", "wkv"))
    help = (
        "What the last token did to the selected head: its memory fades (decayed), loses what "
        "stood under one key (removed), gains a value under another (written). The four add up; "
        "the strips along the axes are the value and the key of what is removed and written."
    )

    asks = asks_edit = True
    phase = (1, 3)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.one_scale = QCheckBox("one scale")
        self.one_scale.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.one_scale.setToolTip("The same colours for the same numbers in all four")
        self.place = Readout("layer 10 head 10 · “ something long”")
        row = QHBoxLayout()
        row.setContentsMargins(6, 4, 6, 0)
        row.addWidget(self.one_scale)
        row.addWidget(self.place, 1)
        self._grid = grid = QGridLayout()
        self._columns = 0
        grid.setSpacing(2)
        self.maps: dict[str, Heatmap] = {}
        self.titles: dict[str, Label] = {}
        for name, words, tip in _PARTS:
            self.titles[name] = Label(words)
            self.titles[name].setToolTip(tip)
            describe = self._describer(name)
            self.maps[name] = Heatmap(
                "key", "value" if name == "decayed" else "", describe, square=True, strips=True
            )
        self._arrange(4)
        grid.setContentsMargins(6, 0, 0, 0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addLayout(grid, 1)
        for view in self.maps.values():
            view.hovered.connect(self._point_at)
        self.one_scale.toggled.connect(lambda _: self.refresh())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Four in a row, or two by two where that makes them larger."""
        super().resizeEvent(event)
        self._arrange(2 if self.height() > 0.7 * self.width() else 4)

    def _arrange(self, columns: int) -> None:
        if columns == self._columns:
            return
        self._columns = columns
        for i, (name, _, _) in enumerate(_PARTS):
            row, column = divmod(i, columns)
            self._grid.addWidget(self.titles[name], 2 * row, column)
            self._grid.addWidget(self.maps[name], 2 * row + 1, column)
        for i in range(4):
            self._grid.setColumnStretch(i, 1 if i < columns else 0)
            self._grid.setRowStretch(i, i % 2 if i < 8 // columns else 0)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        for view in self.maps.values():
            view.set_theme(theme)
        self.refresh()

    def set_run(self, run: Viewed) -> None:
        """Nothing is known of it yet."""
        super().set_run(run)
        for view in self.maps.values():
            view.set_blank("")

    def show_picture(self, picture: Picture) -> None:
        """The four parts, with their norms and scales."""
        now = picture.head
        if now is None or now.edit is None or not self.due(picture):
            return
        parts = {name: getattr(now.edit, name) for name, _, _ in _PARTS}
        levels = {name: _level(part) for name, part in parts.items()}
        if self.one_scale.isChecked():
            levels = dict.fromkeys(levels, max(levels.values()))
        for name, words, _ in _PARTS:
            level, norm = levels[name], getattr(now.edit, f"{name}_norm")
            view = self.maps[name]
            view.set_colours(gradient(self.theme.diverging), f"−{level:g}", f"+{level:g}")
            view.set_indices(to_indices(parts[name], -level, level))
            if factors := getattr(now.edit, f"{name}_factors", None):  # of rank one
                value, key = (f / (np.abs(f).max() or 1.0) for f in factors)
                view.set_strips(to_indices(value, -1, 1), to_indices(key, -1, 1))
            self.titles[name].setText(f"{words}  ·  norm {norm:.3g}")
        word = self.run.cells.tokens[now.position - 1] if now.position <= len(self.run.cells) else 0
        label = self.run.model.label(word) if self.run.model is not None else ""
        self.place.setText(f"layer {now.layer} head {now.head} · “{label}”")

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The four matrices."""
        now = self.picture.head if self.picture is not None else None
        if now is None or now.edit is None:
            return {}
        return {name: getattr(now.edit, name) for name, _, _ in _PARTS}

    def python(self) -> str | None:
        """The edit."""
        s = self.selection
        return (
            f"before = session.state_at(session.position - 1).wkv[{s.layer}, {s.head}]\n"
            f"edit = ga.edit(before, session.frames()[-1], {s.layer}, {s.head})\n"
            "print(edit.decayed_norm, edit.removed_norm, edit.written_norm, edit.result_norm)\n"
        )

    def _point_at(self, cell: tuple[int, int] | None) -> None:
        """The same cell in all four."""
        for view in self.maps.values():
            view.set_hover(cell)

    def _describer(self, name: str):  # type: ignore[no-untyped-def]
        def describe(row: int, column: int) -> str:
            now = self.picture.head if self.picture is not None else None
            if now is None or now.edit is None:
                return ""
            value = float(getattr(now.edit, name)[row, column])
            return f"value {row} · key {column} · {value:+.5f}"

        return describe


def _level(part: np.ndarray) -> float:
    """The number that has the full colour: a few large ones may saturate."""
    top = float(np.abs(part).max())
    return round_up(min(top, 4 * float(np.sqrt((part * part).mean())))) if top > 0 else 1.0

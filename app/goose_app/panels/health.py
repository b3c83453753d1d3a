"""How the memories fare: size, rank, surprise, as a map of all heads and lines of a layer's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QSplitter, QVBoxLayout

from goose_app.head_grid import HeadGrid
from goose_app.panels.panel import AskingPanel
from goose_app.plain import Label
from goose_app.ponder import Answer
from goose_app.questions import HEALTH, HealthAsked, HealthFound
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme, layer_colours
from goose_app.token_plot import TokenPlot

_TIPS = {
    "RMS": "how large the numbers of the memory are",
    "surprise": "how far the memory was from what was written: 0 it knew, 1 it was empty there",
    "least eigenvalue": "below 0, a token turns something round instead of only fading it",
    "stable rank": "directions the memory uses, by size: |S|²_F / |S|²₂",
    "effective rank": "directions the memory uses, counting small ones",
}
_SHORT = {"least eigenvalue": "least eig."}
_CODE = {
    "RMS": "rms", "surprise": "relative_surprise", "least eigenvalue": "least",
    "stable rank": "stable_rank", "effective rank": "effective_rank",
}  # fmt: skip


class HealthPanel(AskingPanel):
    """Layers × heads at the cursor, lines over tokens for the selected layer."""

    title = "Health"
    needs = HealthAsked.needs
    help = (
        "How the memories fare. The map shows every head behind the last token, the lines the "
        "heads of the selected layer over the tokens (the selected head thick). Lines that level "
        "off are healthy; one that climbs without end, or a warning, is not. Click a cell to "
        "select its head, a line to go to its token."
    )
    formula = (
        "RMS √mean(S²) · surprise |v − S κ| / |v| · least eigenvalue of diag(w) − c κ (κ a)ᵀ · "
        "stable rank |S|²_F / |S|²₂ · effective rank exp(entropy of the singular values' shares)"
    )
    phase = (1, 5)
    goto = Signal(int)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.figure = QComboBox()
        self.figure.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        for i, name in enumerate(HEALTH):
            self.figure.addItem(name)
            self.figure.setItemData(i, _TIPS[name], Qt.ItemDataRole.ToolTipRole)
        self.what = Readout(_TIPS["surprise"], Qt.AlignmentFlag.AlignLeft)
        self.warning = Label("")
        self.warning.setWordWrap(True)
        self.warning.hide()
        self.grid = HeadGrid("viridis")
        self.plot = TokenPlot("RMS", whole=True)
        self._hovered: int | None = None
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        splitter.addWidget(self.grid)
        splitter.addWidget(self.plot)
        splitter.setSizes([200, 200])
        row = QHBoxLayout()
        row.setContentsMargins(6, 4, 6, 0)
        row.addWidget(self.figure)
        row.addWidget(self.what, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.warning)
        layout.addWidget(splitter, 1)
        self.figure.currentIndexChanged.connect(lambda _: self.refresh())
        self.grid.cell_clicked.connect(selection.select)
        self.plot.goto.connect(self.goto)
        self.plot.moved.connect(self._draw_lines)
        self.plot.hovered.connect(self._hover)

    def question(self) -> HealthAsked:
        """Lines of the selected layer."""
        return HealthAsked(self.selection.layer)

    @property
    def found(self) -> HealthFound | None:
        """The newest figures."""
        return self.answer.result if self.answer is not None else None

    @property
    def name(self) -> str:
        """The figure that is shown."""
        return self.figure.currentText()

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.grid.set_theme(theme)
        self.plot.set_theme(theme)
        self.warning.setStyleSheet(f"color: {theme.accent}; padding: 2px 6px")
        self.refresh()

    def set_run(self, run: Viewed) -> None:
        """Nothing is known of it."""
        super().set_run(run)
        self.grid.set_values(np.zeros((0, 0)))
        self.plot.clear()
        self.warning.hide()

    def show_answer(self, answer: Answer) -> None:
        """The map and the lines of the chosen figure."""
        found: HealthFound | None = answer.result
        if found is None:
            self.set_run(self.run)
            self.warning.setText(answer.failed)
            self.warning.setVisible(bool(answer.failed))
            return
        self.grid.set_values(found.now[self.name])
        self.grid.mark(self.selection.layer, self.selection.head)
        self.warning.setText("\n".join(found.warnings))
        self.warning.setVisible(bool(found.warnings))
        self._draw_lines()
        self._tell()

    def _draw_lines(self) -> None:
        found, picture = self.found, self.picture
        if found is None or picture is None:
            return
        rows = found.lines[self.name]
        heads, t = rows.shape[1], self.theme
        colours = layer_colours(t, heads)
        chosen = QPen(QColor(t.accent), 2)
        shades = [QPen(c, 2) for c in colours[:: max(1, heads // 4)]]
        self.plot.set_words(_SHORT.get(self.name, self.name))
        self.plot.set_pens(
            [*(QPen(c, 1) for c in colours), chosen],
            [([chosen], "selected head"), (shades, f"heads of layer {found.layer}")],
        )
        indices = found.start + (found.at if "rank" in self.name else np.arange(len(rows)))
        start, stop = self.plot.tokens(picture.position, picture.recorded)
        seen = (indices >= max(start, 1)) & (indices < stop)  # the first token meets no past
        rows = np.concatenate([rows, rows[:, [min(self.selection.head, heads - 1)]]], 1)[seen]
        finite = rows[np.isfinite(rows)]
        if len(finite):
            self.plot.set_range(float(finite.min()), float(finite.max()))
        self.plot.set_points(indices[seen], rows)

    def show_picture(self, picture: object) -> None:
        """The lines stay where their tokens are while the cursor moves on."""
        if self.found is not None:
            self._draw_lines()

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The map and the lines."""
        found = self.found
        if found is None:
            return {}
        return {f"{self.name}, all heads": found.now[self.name],
                f"{self.name}, layer {found.layer}": found.lines[self.name]}  # fmt: skip

    def python(self) -> str | None:
        """The same figures."""
        return (
            f"health = ga.health(session.frames())\n"
            f"print(health.{_CODE[self.name]}[-1])  # (layers, heads), behind the last token\n"
            "print(health.warnings())\n"
        )

    def _hover(self, index: int | None) -> None:
        self._hovered = index
        self._tell()

    def _tell(self) -> None:
        """The selected head's figure under the mouse; else what the figure is."""
        found, at = self.found, self._hovered
        words = _TIPS[self.name]
        if found is not None and at is not None and at >= found.start:
            rows, head = found.lines[self.name], self.selection.head
            row = at - found.start
            if "rank" in self.name:
                row = int(np.abs(found.at - row).argmin())
                at = found.start + int(found.at[row])
            if row < len(rows) and head < rows.shape[1]:
                words = f"token {at + 1}, layer {found.layer} head {head}: {rows[row, head]:.4g}"
        self.what.setText(words)

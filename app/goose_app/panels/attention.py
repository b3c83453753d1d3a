"""The attention map: which earlier tokens each token reads through a head."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QRectF, Qt, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QVBoxLayout

from goose_app.heatmap import Heatmap, to_indices
from goose_app.panels.next_token import visible
from goose_app.panels.panel import AskingPanel
from goose_app.ponder import Answer
from goose_app.questions import AttentionAsked, AttentionFound
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme, gradient, sequential

_MEANS = (("this head", ""), ("mean of the layer", "layer"), ("mean of the model", "model"))


class AttentionPanel(AskingPanel):
    """Token × token: a row a token that reads, a column one that is read."""

    title = "Attention map"
    needs = AttentionAsked.needs
    help = (
        "Which earlier tokens each token reads through the selected head, exactly: a row is a "
        "token that reads, a column one that is read. A bright column is a word that stays in the "
        "memory; a diagonal reads only what came just before. Click a cell to go to its row's "
        "token. A mean takes each head's magnitudes as shares of their sum."
    )
    formula = (
        "α(T, t) = k̃ₜ · Gₜ₊₁ … G_T r_T, with Gₜ = diag(wₜ) − c κₜ (κₜ aₜ)ᵀ; y_T = Σₜ α(T, t) vₜ"
    )
    goto = Signal(int)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.mean = QComboBox()
        self.mean.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.mean.addItems([words for words, _ in _MEANS])
        self.place = Readout("layer 10 head 10 · the last 384 tokens")
        self.map = Heatmap("token that is read", "token that reads", self._describe, square=True)
        row = QHBoxLayout()
        row.setContentsMargins(6, 4, 6, 0)
        row.addWidget(self.mean)
        row.addWidget(self.place, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.map, 1)
        self.mean.currentIndexChanged.connect(lambda _: self.ask_anew())
        self.map.cell_clicked.connect(self._go)

    def question(self) -> AttentionAsked:
        """Of the selected head, or an average."""
        s, mean = self.selection, _MEANS[self.mean.currentIndex()][1]
        if mean == "model":
            return AttentionAsked(0, 0, mean)
        return AttentionAsked(s.layer, 0 if mean else s.head, mean)

    @property
    def found(self) -> AttentionFound | None:
        """The newest map."""
        return self.answer.result if self.answer is not None else None

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.map.set_theme(theme)
        self.refresh()

    def set_run(self, run: Viewed) -> None:
        """Nothing is known of it."""
        super().set_run(run)
        self.map.set_blank("waiting for the first token")

    def show_answer(self, answer: Answer) -> None:
        """The map, with its scale."""
        found: AttentionFound | None = answer.result
        if found is None:
            self.map.set_blank(answer.failed or "waiting for the first token")
            return
        weights, mean = found.weights, bool(getattr(answer.question, "mean", ""))
        lower = np.abs(weights[np.tril_indices(len(weights))])
        level = float(np.quantile(lower, 0.995)) or float(lower.max()) or 1.0
        if mean:
            self.map.set_colours(sequential("viridis"), "0", f"{level:.2g}")
            self.map.set_indices(to_indices(weights, 0, level))
        else:
            self.map.set_colours(gradient(self.theme.diverging), f"−{level:.2g}", f"+{level:.2g}")
            self.map.set_indices(to_indices(weights, -level, level))
        n, start = len(weights), found.start
        step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200) if n / s <= 8 or s == 200)
        ticks = [(i + 0.5, str(start + i)) for i in range(-start % step, n, step)]
        self.map.set_ticks(ticks, ticks)
        self.map.mark(QRectF(0, n - 1, n, 1))
        q = answer.question
        assert isinstance(q, AttentionAsked)
        where = {"": f"layer {q.layer} head {q.head}", "layer": f"layer {q.layer}"}
        far = f" · the last {n} tokens" if start else ""
        self.place.setText(where.get(q.mean, "all layers") + far)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The weights."""
        return {} if self.found is None else {"attention": self.found.weights}

    def python(self) -> str | None:
        """The same map."""
        q = self.question() if self.answer is None else self.answer.question
        assert isinstance(q, AttentionAsked)
        found = self.found
        start = 0 if found is None else found.start
        layer = "" if q.mean == "model" else f", {q.layer}"
        call = f"attention_mean(frames{layer})" if q.mean else (
            f"attention_map(frames, {q.layer}, {q.head})"
        )  # fmt: skip
        return (
            'observables = (*ga.memory.PAST, "receptance")\n'
            f"frames = session.frames({start}, None, observables, initial=False)\n"
            f"print(ga.{call})\n"
        )

    def _go(self, row: int, _column: int) -> None:
        if self.found is not None:
            self.goto.emit(self.found.start + row + 1)

    def _describe(self, row: int, column: int) -> str:
        found, cells = self.found, self.run.cells
        if found is None or found.start + row >= len(cells) or self.run.model is None:
            return ""
        if column > row:
            return "it was not there yet"
        words = [
            visible(self.run.model.label(cells.tokens[found.start + i])) for i in (row, column)
        ]
        weight = f"{found.weights[row, column]:+.4g}"
        return f"“{words[0]}” reads “{words[1]}”, {row - column} before: {weight}"

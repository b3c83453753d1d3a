"""Pinned words: how likely each was behind every token of the run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QPushButton, QVBoxLayout

from goose_app.messages import Picture
from goose_app.panels.next_token import percent, visible
from goose_app.panels.panel import Panel
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme, sequential
from goose_app.token_plot import TokenPlot

MOST = 4  #: words that can be pinned at once
_RANKS = 1e5  # the worst rank that is drawn


class PinnedPanel(Panel):
    """A line a word, probability or rank, over the tokens."""

    title = "Pinned words"
    computes = True
    help = (
        "How likely the pinned words were behind every token: pin one by right-clicking it in the "
        "text, in Next token or in the lens, or by P. Where a line rises, something that was read "
        "there made the word likely. Ranks are drawn from 1 at the top. Click to go to a token."
    )
    formula = "softmax(logits behind token t)[word]; rank 1 + the number of likelier tokens"
    phase = (1, 5)
    goto = Signal(int)
    unpinned = Signal()

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.ranks = QCheckBox("ranks")
        self.ranks.setToolTip("Rank among all tokens instead of probability")
        self.clear = QPushButton("Unpin all")
        for control in (self.ranks, self.clear):
            control.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.figures = Readout("token 10000: “ something” 100.0 % (rank 10000)")
        self.plot = TokenPlot("probability", whole=True)
        self._hovered: int | None = None
        row = QHBoxLayout()
        row.setContentsMargins(6, 4, 6, 0)
        row.addWidget(self.ranks)
        row.addWidget(self.clear)
        row.addWidget(self.figures, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(row)
        layout.addWidget(self.plot, 1)
        self.ranks.toggled.connect(lambda _: self.refresh())
        self.clear.clicked.connect(self.unpinned)
        self.plot.goto.connect(self.goto)
        self.plot.moved.connect(self.refresh)
        self.plot.hovered.connect(self._hover)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.plot.set_theme(theme)
        self.refresh()

    def set_run(self, run: Viewed) -> None:
        """No word is pinned."""
        super().set_run(run)
        self.plot.clear()

    def colours(self, n: int) -> list[QColor]:
        """One a word, apart from each other on the theme's ground."""
        dark = QColor(self.theme.panel).lightness() < 128
        places = np.array((1.0, 0.55, 0.8, 0.4) if dark else (0.6, 0.05, 0.4, 0.25))
        rows = sequential("plasma")[(places * 255).astype(int)]
        return [QColor(*r) for r in rows.tolist()][:n]  # a word keeps its colour when others come

    def show_picture(self, picture: Picture) -> None:
        """Lines of the tokens in sight."""
        pins = picture.pins
        self.clear.setEnabled(bool(pins))
        pens = [QPen(c, 2) for c in self.colours(len(pins))]
        labels = [f"“{visible(p.label)}”" for p in pins]
        words = [([pen], label) for pen, label in zip(pens, labels, strict=True)]
        self.plot.set_pens(pens, words or [([QPen()], "no word is pinned: right-click one, or P")])
        if self.ranks.isChecked():
            self.plot.set_words("rank", _as_rank)
        else:
            self.plot.set_words("probability")
        start, stop = self.plot.tokens(picture.position, picture.recorded)
        first = pins[0].start if pins else 0
        start = max(start, first)
        if not pins or stop <= start:
            self.plot.clear()
        else:
            column = 1 if self.ranks.isChecked() else 0
            rows = np.stack([p.rows[start - first : stop - first, column] for p in pins], -1)
            if self.ranks.isChecked():
                rows = -np.log10(np.minimum(rows, _RANKS))
                finite = rows[np.isfinite(rows)]
                self.plot.set_range(min(float(finite.min()), -1.0) if len(finite) else -1.0, 0.0)
            else:
                self.plot.set_range(0.0, 1.0)
            self.plot.set_lines(start, rows)
        self._tell()

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Probabilities and ranks, a column a word."""
        pins = self.picture.pins if self.picture is not None else ()
        if not pins:
            return {}
        return {name: np.stack([p.rows[:, i] for p in pins], -1)
                for i, name in enumerate(("probability", "rank"))}  # fmt: skip

    def python(self) -> str | None:
        """The same figures."""
        pins = self.picture.pins if self.picture is not None else ()
        lines = (f"print(ga.pinned(session, {p.token}).probability)  # {p.label!r}\n" for p in pins)
        return "".join(lines) or None

    def _hover(self, index: int | None) -> None:
        self._hovered = index
        self._tell()

    def _tell(self) -> None:
        """The figures behind the token under the mouse, else behind the cursor's."""
        picture = self.picture
        pins = picture.pins if picture is not None else ()
        if picture is None or not pins:
            self.figures.setText("")
            return
        at = picture.position - 1 if self._hovered is None else self._hovered
        told = []
        for pinned in pins:
            row = at - pinned.start
            if 0 <= row < len(pinned.rows) and np.isfinite(pinned.rows[row, 0]):
                p, rank = pinned.rows[row].tolist()
                told.append(f"“{visible(pinned.label)}” {percent(p)} (rank {rank:.0f})")
        self.figures.setText(f"token {at + 1}: {', '.join(told)}" if told else "")


def _as_rank(height: float) -> str:
    """A rank at the height at which it is drawn."""
    whole = abs(height - round(height)) < 1e-6 and height <= 0
    return f"{10 ** -round(height):,}".replace(",", "\u2009") if whole else ""

"""The other run: its text, what it expects, and one head's memory less its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QMenu, QVBoxLayout

from goose_app.colour_scale import ColourScale
from goose_app.colouring import SURPRISAL
from goose_app.heatmap import Heatmap, to_indices
from goose_app.messages import Picture
from goose_app.panels.next_token import NextTokenPanel
from goose_app.panels.panel import Panel
from goose_app.panels.state import round_up
from goose_app.panels.token_view import TokenView
from goose_app.python_lines import beside
from goose_app.readout import Readout
from goose_app.run_view import RunView, Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme, gradient
from goose_viz.metrics import rms


class OtherTextPanel(Panel):
    """The other run's text."""

    title = "Other text"
    computes = True
    help = "The text of the run that this one is compared with; click a token to put both there."
    goto = Signal(int)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.what = Readout("", Qt.AlignmentFlag.AlignLeft)
        self.view = TokenView(selection)
        self.view.colouring = SURPRISAL
        self.scale = ColourScale(self.view)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.what)
        layout.addWidget(self.view, 1)
        layout.addWidget(self.scale)
        self.view.clicked.connect(self.goto)
        self.what.setText("no other run yet")

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.view.set_theme(theme)

    def set_run(self, run: Viewed) -> None:
        """Another run."""
        super().set_run(run)
        self.view.set_run(run)
        self.what.setText(run.model.name if run.model is not None else "no other run yet")

    def text_changed(self, start: int) -> None:
        """Other tokens from an index on."""
        self.view.text_changed(start)

    def show_picture(self, picture: Picture) -> None:
        """Move the cursor."""
        self.view.set_cursor(picture.position)

    def python(self) -> str | None:
        """The text."""
        return "print(session.text)\n" if self.run.model is not None else None


class OtherNextTokenPanel(NextTokenPanel):
    """What the other run expects."""

    title = "Other next token"
    computes = True
    help = (
        "What the other run expects next at the same place; the mark in a bar is this run's. "
        "Click a token to go on with it there."
    )

    def menu(self, token: int) -> QMenu:
        """What can be done with a token there."""
        menu = QMenu(self)
        menu.addAction("Go on with it", lambda: self.branch.emit(token))
        menu.addAction("Pin this word", lambda: self.pinned.emit(token))
        return menu

    def python(self) -> str | None:
        """What it expects."""
        return super().python() if self.run.model is not None else None


class DifferencePanel(Panel):
    """One head's memory here less the other run's."""

    title = "State difference"
    computes = True
    help = (
        "The selected head's memory here, less that of the other run at the same place. Nothing is "
        "dark; the scale is in the memory's own numbers."
    )
    formula = "S_a − S_b, [value, key]"
    phase = (2, 5)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.other: RunView | None = None
        self.figures = Readout("layer 10 head 10: distance 0.000 of 0.000")
        self.map = Heatmap("key channel", "value channel", self._describe, square=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 0, 0)
        layout.addWidget(self.figures)
        layout.addWidget(self.map, 1)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.map.set_theme(theme)
        self.refresh()

    def difference(self) -> NDArray[Any] | None:
        """(N, N); None where there is none."""
        s, mine, other = self.selection, self.picture, self.other
        if mine is None or other is None or mine.position != other.picture.position:
            return None
        if mine.wkv.shape != other.picture.wkv.shape or s.layer >= len(mine.wkv):
            return None
        return mine.wkv[s.layer, s.head] - other.picture.wkv[s.layer, s.head]

    def show_picture(self, picture: Picture) -> None:
        """The difference at the cursor."""
        S, s = self.difference(), self.selection
        if S is None:
            self.map.set_blank(
                "no other run at this token" if self.other is not None else "no other run yet"
            )
            self.figures.setText("")
            return
        top = float(np.abs(S).max())
        level = round_up(min(top, 4 * float(rms(S)))) if top > 0 else 1.0
        self.map.set_colours(gradient(self.theme.diverging), f"−{level:g}", f"+{level:g}")
        self.map.set_indices(to_indices(S, -level, level))
        self.map.set_caption("the same" if top == 0 else "")
        whole = float(np.linalg.norm(picture.wkv[s.layer, s.head]))
        self.figures.setText(
            f"layer {s.layer} head {s.head}: distance {np.linalg.norm(S):.3g} of {whole:.3g}"
        )

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The difference."""
        S = self.difference()
        return {} if S is None else {"difference": S}

    def python(self) -> str | None:
        """The difference."""
        s, mine = self.selection, self.run.model
        lines = [] if self.other is None or mine is None else beside(mine, self.other)
        if not lines:
            return None
        place = f"wkv[{s.layer}, {s.head}]"
        lines.append(f"print(session.state.{place} - other.state.{place})")
        return "\n".join(lines) + "\n"

    def _describe(self, row: int, column: int) -> str:
        S = self.difference()
        return "" if S is None else f"value {row} · key {column} · {S[row, column]:+.5f}"

"""Which earlier words a head still holds, and which it reads now: two colours of one text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QRadioButton, QVBoxLayout

from goose_app.colour_scale import ColourScale
from goose_app.colouring import COLOURINGS, HELD, READ
from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.panels.token_view import TokenView
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme
from goose_viz.analysis.memory import PAST


class RememberPanel(Panel):
    """The text up to the cursor, coloured by what the selected head has and reads of it."""

    title = "Remember"
    needs = frozenset((*PAST, "receptance", "bonus"))
    help = (
        "The text as the selected head has it: coloured by how much of each word's key is left in "
        "its memory, or by how strongly the last word reads each. They are different things."
    )
    asks = True
    phase = (2, 3)
    goto = Signal(int)
    menu_wanted = Signal(object, object)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.view = TokenView(selection)
        self.view.colouring = HELD
        self.held, self.read = QRadioButton("still held"), QRadioButton("read now")
        self.held.setToolTip("Retention: the length of what is left of a word's key")
        self.read.setToolTip("Effective attention: how strongly the last word's read meets it")
        for button in (self.held, self.read):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.held.setChecked(True)
        self.scale = ColourScale(self.view)
        self.place = Readout("layer 10 head 10")
        self.legend = Readout("strong: read most; blue: negative")
        row = QHBoxLayout()
        row.setContentsMargins(6, 2, 6, 0)
        row.addWidget(self.held)
        row.addWidget(self.read)
        row.addWidget(self.place, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row)
        colours = QHBoxLayout()
        colours.setContentsMargins(6, 0, 6, 2)
        colours.addWidget(self.scale)
        colours.addWidget(self.legend, 1)
        layout.addLayout(colours)
        layout.addWidget(self.view, 1)
        self.held.toggled.connect(self._recolour)
        self.view.clicked.connect(self.goto)
        self.view.menu_wanted.connect(self.menu_wanted)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.view.set_theme(theme)

    def set_run(self, run: Viewed) -> None:
        """Another text."""
        super().set_run(run)
        self.view.set_run(run)

    def text_changed(self, start: int) -> None:
        """Other tokens from an index on; those that came are laid out when they are explained."""
        self.view.text_changed(start, at_once=False)

    def show_picture(self, picture: Picture) -> None:
        """The colours of the newest explanation."""
        if not self.due(picture):
            return
        self.view.catch_up()
        self.view.set_cursor(picture.position)
        if picture.head is not None:
            self.place.setText(f"layer {picture.head.layer} head {picture.head.head}")
            self.legend.setText(COLOURINGS[self.view.colouring].legend)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Retention and attention of every token."""
        now, cells = self.picture.head if self.picture is not None else None, self.run.cells
        if now is None:
            return {}
        n = min(len(now.retention), len(cells))
        return {
            "text": np.array(cells.texts[:n], object), "retention": now.retention[:n],
            "attention": now.attention[:n],
        }  # fmt: skip

    def python(self) -> str | None:
        """Retention or attention of the head."""
        s = self.selection
        if self.held.isChecked():
            return f"print(ga.retention(session.frames(), {s.layer}, {s.head}))\n"
        return f"print(ga.attention(session.frames(), {s.layer}, {s.head}).weights)\n"

    def _recolour(self, held: bool) -> None:
        self.view.colouring = HELD if held else READ
        self.view.redraw()
        self.refresh()

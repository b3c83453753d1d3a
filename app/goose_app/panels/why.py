"""Why this word: which earlier words made the model expect it, and through which heads."""

from __future__ import annotations

import html

import numpy as np
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
)

from goose_app.bars import Bar, Bars
from goose_app.explain import Explanation
from goose_app.head_grid import HeadGrid
from goose_app.messages import Explain, Picture
from goose_app.panels.next_token import visible
from goose_app.panels.panel import Panel
from goose_app.selection import Selection
from goose_app.theme import Theme
from goose_viz import Model

_SHOWN = 9  # past words by name


class WhyPanel(Panel):
    """A sentence, the past words, all parts of the sum, and the heads."""

    title = "Why"
    help = (
        "Where the next word comes from, exactly: what each earlier word gives to its logit, or to "
        "its lead over another word, and through which layer and head. Hover a word to see its "
        "heads; right-click it to forget or replace it."
    )
    asked = Signal(object)  # Explain
    menu_wanted = Signal(object, object)  # index of a token, global position

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.on = False
        self.with_edit = False
        self._target: int | None = None
        self._against: int | None = None
        self._alone = False
        self._hovered: int | None = None
        self.target, self.against = QComboBox(), QComboBox()
        self.target.setToolTip("The word to explain")
        self.against.setToolTip("The word that it is compared with")
        for box in (self.target, self.against):
            box.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(14)
        self.sentence = QLabel()
        self.sentence.setWordWrap(True)
        self.sentence.setTextFormat(Qt.TextFormat.RichText)
        self.sentence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.sentence.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.sentence.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Minimum)
        self.words, self.parts, self.grid = Bars(92), Bars(150), HeadGrid()
        self.grid_title = QLabel()
        self.note = QLabel(
            "Exact: the parts add up. Norms are held at this token's; ffn and embedding are not "
            "traced further back."
        )
        self.note.setWordWrap(True)
        top = QHBoxLayout()
        top.addWidget(QLabel("why"))
        top.addWidget(self.target)
        top.addWidget(QLabel("and not"))
        top.addWidget(self.against)
        top.addStretch()
        grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.addWidget(QLabel("from past words"), 0, 0)
        grid.addWidget(QLabel("all that makes it"), 0, 1)
        grid.addWidget(self.grid_title, 0, 2)
        grid.addWidget(self.words, 1, 0, 2, 1, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.parts, 1, 1, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.note, 2, 1, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.grid, 1, 2, 2, 1)
        for column, stretch in ((0, 5), (1, 5), (2, 4)):
            grid.setColumnStretch(column, stretch)
        grid.setRowStretch(2, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.addLayout(top)
        layout.addWidget(self.sentence)
        layout.addLayout(grid, 1)
        self.words.hovered.connect(self._hover)
        self.words.menu_wanted.connect(self.menu_wanted)
        self.grid.cell_clicked.connect(selection.select)
        self.target.activated.connect(self._choose)
        self.against.activated.connect(self._choose)

    @property
    def explanation(self) -> Explanation | None:
        """The one on the screen."""
        return self.picture.why if self.picture is not None else None

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        for view in (self.words, self.parts, self.grid):
            view.set_theme(theme)
        quiet = f"color: {theme.dim}"
        self.note.setStyleSheet(quiet)
        self.refresh()

    def set_model(self, model: Model) -> None:
        """Nothing is known of another model's words."""
        super().set_model(model)
        self._target = self._against = None
        self._alone = False
        self._show(None)

    def showEvent(self, event: object) -> None:
        """Ask for explanations while somebody looks."""
        self.on = True
        self.ask()
        super().showEvent(event)

    def hideEvent(self, event: object) -> None:
        """Nobody looks."""
        self.on = False
        self.ask()

    def ask(self) -> None:
        """Tell the worker what is wanted."""
        s = self.selection
        self.asked.emit(
            Explain(
                self.on, self._target, self._against, self._alone, s.layer, s.head, self.with_edit
            )
        )

    def show_picture(self, picture: Picture) -> None:
        """The newest explanation."""
        self.sentence.setEnabled(not picture.stale)
        self._show(picture.why)

    def _show(self, why: Explanation | None) -> None:
        if why is None:
            self.sentence.setText("nothing fed yet" if not self.on else "")
            self.words.set_bars([])
            self.parts.set_bars([])
            self.grid.set_values(np.zeros((0, 0)))
            self.grid_title.setText("")
            return
        accent = self.theme.accent
        words = html.escape(why.sentence)
        names = {n for t, n, _ in why.candidates if t == why.target}
        names |= {why.labels[i] for i in range(len(why.labels)) if f"“{why.labels[i]}”" in words}
        for name in names:
            quoted = f"“{html.escape(name)}”"
            words = words.replace(quoted, f"<b style='color:{accent}'>{quoted}</b>")
        self.sentence.setText(f"<span style='font-size:large'>{words}</span>")
        given = why.by_token
        order = np.argsort(-np.abs(given), kind="stable")
        last = len(given) - 1
        bars = [
            Bar(
                visible(why.labels[i]),
                float(given[i]),
                f"−{last - i}" if i < last else "now",
                int(i),
            )
            for i in order[:_SHOWN]
        ]
        rest = order[_SHOWN:]
        if len(rest):
            bars.append(Bar(f"{len(rest)} others", float(given[rest].sum())))
        self.words.set_bars(bars)
        sum_of = "= the lead in logits" if why.against is not None else "= the logit"
        parts = [Bar(words, value) for words, value in why.parts]
        self.parts.set_bars([*parts, Bar(sum_of, why.total, total=True)])
        self._fill(self.target, why.candidates, why.target, None)
        self._fill(self.against, why.candidates, why.against, "nothing: the logit itself")
        self._show_heads(why)

    def _fill(
        self,
        box: QComboBox,
        candidates: list[tuple[int, str, float]],
        chosen: int | None,
        none: str | None,
    ) -> None:
        if box.view().isVisible():
            return  # somebody is choosing
        items = [
            (f"{visible(label)}   {p:.1%}".replace("%", " %"), t) for t, label, p in candidates
        ]
        if none is not None:
            items.append((none, -1))
        if [(box.itemText(i), box.itemData(i)) for i in range(box.count())] != items:
            box.clear()
            for words, token in items:
                box.addItem(words, token)
        box.setCurrentIndex(box.findData(-1 if chosen is None else chosen))

    def _choose(self) -> None:
        """A person chose words: they stay until the two likeliest are chosen again."""
        if self.explanation is None:
            return
        ids = [t for t, _, _ in self.explanation.candidates]
        target, against = self.target.currentData(), self.against.currentData()
        self._alone = against == -1
        self._target = None if target == ids[0] else target
        self._against = None if against in (-1, ids[1]) and self._target is None else against
        self.ask()

    def _hover(self, index: int | None) -> None:
        self._hovered = index
        if self.explanation is not None:
            self._show_heads(self.explanation)

    def _show_heads(self, why: Explanation) -> None:
        at = self._hovered
        if at is not None and at < len(why.labels):
            self.grid.set_values(why.tokens[:, :, at])
            self.grid_title.setText(f"“{why.labels[at]}”, through which heads")
        else:
            self.grid.set_values(why.tokens.sum(-1))
            self.grid_title.setText("layer × head, all past words")
        self.grid.mark(self.selection.layer, self.selection.head)

    def _selection_changed(self) -> None:
        self.grid.mark(self.selection.layer, self.selection.head)
        if self.on:
            self.ask()


def _ago(n_tokens: int) -> str:
    """How long ago a token was read."""
    return f"−{n_tokens}" if n_tokens else "now"

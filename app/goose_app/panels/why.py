"""Why this word: which earlier words made the model expect it, and through which heads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QComboBox, QGridLayout, QHBoxLayout, QVBoxLayout

from goose_app.bars import Bar, Bars
from goose_app.explain import Explain, Explanation
from goose_app.head_grid import HeadGrid
from goose_app.messages import Picture
from goose_app.panels.next_token import percent, visible
from goose_app.panels.panel import Panel
from goose_app.plain import Label
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.sentence import Sentence
from goose_app.theme import Theme

_NARROW = 690  # pixels in which three columns do not fit


class WordBox(QComboBox):
    """Words to choose from; while the model writes only the chosen one is kept up to date."""

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.setToolTip(tip)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(14)
        self._items: list[tuple[str, int]] = []

    def offer(
        self, words: list[tuple[int, str, float]], chosen: int, none: str | None, running: bool
    ) -> None:
        """Offer words (id, label, probability), and perhaps none (-1); one is chosen."""
        if self.view().isVisible():
            return  # somebody is choosing
        self._items = [(f"{visible(label)}   {percent(p)}", t) for t, label, p in words]
        if none is not None:
            self._items.append((none, -1))
        self._fill(self._items if not running else [i for i in self._items if i[1] == chosen])
        self.setCurrentIndex(self.findData(chosen))

    def showPopup(self) -> None:
        """All words."""
        chosen = self.currentData()
        self._fill(self._items)
        self.setCurrentIndex(self.findData(chosen))
        super().showPopup()

    def _fill(self, items: list[tuple[str, int]]) -> None:
        while self.count() > len(items):
            self.removeItem(self.count() - 1)
        for i, (words, token) in enumerate(items):
            if i == self.count():
                self.addItem(words, token)
            elif (self.itemText(i), self.itemData(i)) != (words, token):
                self.setItemText(i, words)
                self.setItemData(i, token)


class WhyPanel(Panel):
    """A sentence, the past words, all parts of the sum, and the heads."""

    title = "Why"
    computes = True
    help = (
        "Where the next word comes from, exactly: what each earlier word gives to its logit, or to "
        "its lead over another word, and through which layer and head. Hover a word to see its "
        "heads; right-click it to forget or replace it."
    )
    asks = True
    phase = (0, 3)
    menu_wanted = Signal(object, object)  # index of a token, global position

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self._target: int | None = None
        self._against: int | None = None
        self._alone = False
        self._asked_at: int | None = None  # where the word was asked about; None for everywhere
        self._reached = False  # whether the cursor was there
        self._hovered: int | None = None
        self.target = WordBox("The word to explain")
        self.against = WordBox("The word that it is compared with")
        self.sentence = Sentence()
        self.words, self.parts, self.grid = Bars(88, 40), Bars(150), HeadGrid()
        self.grid_title = Readout("“something long”, through which heads", _LEFT)
        self.note = Label(
            "Exact: the parts add up. Norms are held at this token's; ffn and embedding are not "
            "traced further back."
        )
        self.note.setWordWrap(True)
        top = QHBoxLayout()
        top.addWidget(Label("why"))
        top.addWidget(self.target)
        top.addWidget(Label("and not"))
        top.addWidget(self.against)
        top.addStretch()
        grid = self._grid = QGridLayout()
        grid.setHorizontalSpacing(16)
        grid.addWidget(Label("from past words"), 0, 0)
        grid.addWidget(Label("all that makes it"), 0, 1)
        grid.addWidget(self.words, 1, 0, 2, 1, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.parts, 1, 1, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self.note, 2, 1, Qt.AlignmentFlag.AlignTop)
        for column in (0, 1):
            grid.setColumnStretch(column, 5)
        self._narrow: bool | None = None
        self._place_heads(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 6)
        layout.addLayout(top)
        layout.addWidget(self.sentence)
        layout.addLayout(grid, 1)
        self.words.hovered.connect(self.hover)
        self.words.menu_wanted.connect(self.menu_wanted)
        self.grid.cell_clicked.connect(selection.select)
        self.target.activated.connect(self._choose)
        self.against.activated.connect(self._choose)

    def _place_heads(self, narrow: bool) -> None:
        """The heads beside the bars, or below them where there is no room beside."""
        if narrow == self._narrow:
            return
        self._narrow = narrow
        for widget in (self.grid_title, self.grid):
            self._grid.removeWidget(widget)
        if narrow:
            self._grid.addWidget(self.grid_title, 3, 0, 1, 2)
            self._grid.addWidget(self.grid, 4, 0, 1, 2)
        else:
            self._grid.addWidget(self.grid_title, 0, 2)
            self._grid.addWidget(self.grid, 1, 2, 2, 1)
        self._grid.setColumnStretch(2, 0 if narrow else 4)
        self._grid.setRowStretch(2, 0 if narrow else 1)
        self._grid.setRowStretch(4, 1 if narrow else 0)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Less room, or more."""
        parent = self.parentWidget()
        self._place_heads((self if parent is None else parent).width() < _NARROW)
        if event.size().width() != event.oldSize().width():
            self.updateGeometry()  # a wrapped note takes other lines

    def minimumSizeHint(self) -> QSize:
        """With all lines of what wraps: a place that scrolls asks for nothing else."""
        layout = self.layout()
        least = layout.totalMinimumSize()
        high = layout.totalMinimumHeightForWidth(max(self.width(), least.width()))
        return QSize(least.width(), max(least.height(), high))

    @property
    def explanation(self) -> Explanation | None:
        """The newest."""
        return self.picture.why if self.picture is not None else None

    def question(self, on: bool, edit: bool) -> Explain:
        """What to ask, of the words and the head that are chosen."""
        s = self.selection
        return Explain(on, self._target, self._against, self._alone, s.layer, s.head, edit)

    def about(self, token: int, position: int) -> None:
        """Ask about a word at a position, and only there."""
        self._target, self._asked_at, self._reached = token, position, False
        self._against, self._alone = None, False
        self.seen.emit()

    def numbers(self) -> dict[str, NDArray[Any]]:
        """What each past token gives, and through which heads."""
        why, cells = self.explanation, self.run.cells
        if why is None:
            return {}
        n = min(len(why.by_token), len(cells))
        out = {"text": np.array(cells.texts[:n], object), "gives": why.by_token[:n]}
        L, H = why.by_head.shape
        return out | {
            f"layer {i} head {h}": why.tokens[i, h, :n] for i in range(L) for h in range(H)
        }

    def python(self) -> str | None:
        """The attribution."""
        why = self.explanation
        if why is None:
            return None
        against = "" if why.against is None else f", {why.against}"
        return (
            f"found = ga.attribution(model, session.frames(), {why.target}{against or ', None'}, "
            "session.logits)\n"
            "print(found.sentence(model.tokenizer))\n"
            "print(found.total, found.by_token, found.by_head)\n"
        )

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        for view in (self.sentence, self.words, self.parts, self.grid):
            view.set_theme(theme)
        self.note.setStyleSheet(f"color: {theme.dim}")
        self.refresh()

    def set_run(self, run: Viewed) -> None:
        """Nothing is known of another model's words."""
        super().set_run(run)
        self._target = self._against = None
        self._alone = False
        self._show(None, False, False)

    def show_picture(self, picture: Picture) -> None:
        """The newest explanation."""
        if self._asked_at == picture.position:
            self._reached = True
        elif self._asked_at is not None and self._reached:  # the cursor went on
            self._target = self._asked_at = None
            self.seen.emit()
        if self.due(picture):
            self._show(picture.why, picture.stale, picture.rate > 0)
        elif (told := self._painted[0]) is not None:
            self.sentence.set_text(told.sentence, stale=True)

    def _show(self, why: Explanation | None, stale: bool, running: bool) -> None:
        if why is None:
            self.sentence.set_text("nothing fed yet" if self.isVisible() else "")
            self.words.set_bars([])
            self.parts.set_bars([])
            self.grid.set_values(np.zeros((0, 0)))
            self.grid_title.setText("")
            return
        self.sentence.set_text(why.sentence, stale)
        now = why.position - 1
        bars = [
            Bar(visible(label), value, f"−{now - i}" if i < now else "now", i)
            for i, label, value in why.words
        ]
        if why.others[0]:
            bars.append(Bar(f"{why.others[0]} others", why.others[1]))
        self.words.set_bars(bars)
        sum_of = "= the lead in logits" if why.against is not None else "= the logit"
        parts = [Bar(words, value) for words, value in why.parts]
        self.parts.set_bars([*parts, Bar(sum_of, why.total, total=True)])
        self.target.offer(why.candidates, why.target, None, running)
        against = -1 if why.against is None else why.against
        self.against.offer(why.candidates, against, "nothing: the logit itself", running)
        self._show_heads(why)

    def _choose(self) -> None:
        """A person chose words: they stay until the two likeliest are chosen again."""
        if self.explanation is None:
            return
        ids = [t for t, _, _ in self.explanation.candidates]
        target, against = self.target.currentData(), self.against.currentData()
        self._alone, self._asked_at = against == -1, None
        self._target = None if target == ids[0] else target
        self._against = None if against in (-1, ids[1]) and self._target is None else against
        self.seen.emit()

    def hover(self, index: int | None) -> None:
        """Show the heads through which a past token speaks; of all of them for None."""
        if index != self._hovered:
            self._hovered = index
            if self.explanation is not None and self.isVisible():
                self._show_heads(self.explanation)

    def _show_heads(self, why: Explanation) -> None:
        at = self._hovered
        if at is not None and at < why.position and self.run.model is not None:
            label = self.run.model.label(self.run.cells.tokens[at])
            self.grid.set_values(why.tokens[:, :, at])
            self.grid_title.setText(f"“{label}”, through which heads")
        else:
            self.grid.set_values(why.by_head)
            self.grid_title.setText("layer × head, all past words")
        self.grid.mark(self.selection.layer, self.selection.head)

    def _selection_changed(self) -> None:
        self.grid.mark(self.selection.layer, self.selection.head)


_LEFT = Qt.AlignmentFlag.AlignLeft

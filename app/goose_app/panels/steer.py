"""Steering: a direction, how much of it, and what is expected then, before anything is done."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QSlider,
    QVBoxLayout,
)

import goose_viz as gv
from goose_app import messages as m
from goose_app.bars import Bar, Bars
from goose_app.memory_box import MemoryBox
from goose_app.panels.next_token import visible
from goose_app.panels.panel import AskingPanel
from goose_app.plain import Label
from goose_app.ponder import Answer
from goose_app.python_lines import memory_code
from goose_app.questions import Direction, PushAsked, PushFound
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme

_STEPS = 100  # of the slider, a unit


class SteerPanel(AskingPanel):
    """Two memories, a slider between −2 and 2, and bars that move with it."""

    title = "Steer"
    computes = True
    help = (
        "Push the memory: what some prompts leave in it that others do not, times the factor on "
        "the slider, added ahead of the last token. The bars show how much each word gains or "
        "loses by it before anything is done; Push makes it an edit of the memory, once or behind "
        "every token that follows. Undo takes it back."
    )
    formula = "S ← S + factor · (mean of memories A − mean of memories B), in the chosen heads"

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.plus, self.minus = MemoryBox(None, prompts=True), MemoryBox("nothing", prompts=True)
        for box in (self.plus, self.minus):
            box.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            box.setSizeAdjustPolicy(
                QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
            )
            box.setMinimumContentsLength(12)
        self.factor = QSlider(Qt.Orientation.Horizontal)
        self.factor.setRange(-2 * _STEPS, 2 * _STEPS)
        self.factor.setTickPosition(QSlider.TickPosition.TicksBelow)
        self.factor.setTickInterval(_STEPS)
        self.where, self.when = QComboBox(), QComboBox()
        self.where.addItems(["everywhere", "this layer", "this head"])
        self.when.addItems(["once", "at every token"])
        self.push = QPushButton("Push")
        self.amount_words = Readout("+2.00 ·", Qt.AlignmentFlag.AlignLeft)
        self.bars = Bars(110, 66)
        self.note = Label("")
        self.note.setWordWrap(True)
        for control in (self.where, self.when, self.push, self.factor):
            control.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        grid = QGridLayout()
        for row, (words, box) in enumerate((("towards", self.plus), ("away from", self.minus))):
            grid.addWidget(Label(words), row, 0)
            grid.addWidget(box, row, 1)
            grid.addWidget(box.field, row, 2)
            box.changed.connect(self.ask_anew)
        grid.setColumnStretch(2, 1)
        slide = QHBoxLayout()
        slide.addWidget(self.factor, 1)
        slide.addWidget(self.amount_words)
        options = QHBoxLayout()
        for widget in (self.where, self.when, self.push):
            options.addWidget(widget)
        options.addStretch()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addLayout(grid)
        layout.addLayout(slide)
        layout.addLayout(options)
        layout.addWidget(self.note)
        layout.addWidget(self.bars)
        layout.addStretch()
        self.factor.valueChanged.connect(self._slid)
        self.where.currentIndexChanged.connect(lambda _: self.seen.emit())
        self.push.clicked.connect(self.do)
        self._slid()

    @property
    def amount(self) -> float:
        """The factor."""
        return self.factor.value() / _STEPS

    @property
    def direction(self) -> Direction | None:
        """What is pushed towards; None if it is not said."""
        plus = self.plus.source()
        return None if plus is None else Direction(plus, self.minus.source())

    def scope(self) -> tuple[int | None, int | None]:
        """(layer, head), None for all."""
        s, where = self.selection, self.where.currentIndex()
        return (None if where == 0 else s.layer), (s.head if where == 2 else None)

    def question(self) -> PushAsked | None:
        """What the bars show."""
        direction = self.direction
        return None if direction is None else PushAsked(direction, self.amount, *self.scope())

    def set_branches(self, rows: list[m.BranchRow]) -> None:
        """The branches whose memories one can take."""
        words = [row.name or row.words for row in rows]
        self.plus.offer(words)
        self.minus.offer(words)

    def set_run(self, run: Viewed) -> None:
        """Nothing is known."""
        super().set_run(run)
        self.bars.set_bars([])
        self.note.setText("Say what to push towards: prompts, a branch's end, a snapshot.")

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.bars.set_theme(theme)

    def show_answer(self, answer: Answer) -> None:
        """What each word gains or loses."""
        found: PushFound | None = answer.result
        if found is None:
            self.bars.set_bars([])
            self.note.setText(answer.failed)
            return
        labels = {t: label for t, label, _ in (*found.before, *found.after)}
        order = sorted(labels, key=lambda t: -max(found.were[t], found.are[t]))[:12]
        self.bars.set_bars([
            Bar(visible(labels[t]), 100 * (found.are[t] - found.were[t]),
                f"{100 * found.are[t]:.1f} %", t)
            for t in order
        ])  # fmt: skip
        self.note.setText(
            f"percentage points that each word gains; in all it moves {found.divergence:.3g} nats"
        )

    def do(self) -> None:
        """Make it an edit of the memory."""
        question = self.question()
        if question is None:
            self.note.setText("Say what to push towards: prompts, a branch's end, a snapshot.")
            return
        layer, head = question.layer, question.head
        every = self.when.currentIndex() == 1
        kind = gv.Steer if every else gv.Add
        edit = kind(None, question.factor, layer=layer, head=head)
        often = ", at every token" if every else ""
        words = f"pushed by {question.factor:+.2f} {edit.where()}{often}".replace("-", "−")
        self.wants.emit(m.Apply(edit, words, question.direction.plus, question.direction.minus))

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Probabilities without and with the push."""
        found: PushFound | None = self.answer.result if self.answer is not None else None
        if found is None:
            return {}
        ids = sorted(found.were)
        return {"ids": np.array(ids), "before": np.array([found.were[t] for t in ids]),
                "pushed": np.array([found.are[t] for t in ids])}  # fmt: skip

    def python(self) -> str | None:
        """The push, made."""
        question = self.question()
        if question is None:
            return None
        made = " - ".join(
            memory_code(memory)
            for memory in (question.direction.plus, question.direction.minus)
            if memory is not None
        )
        kind = "Steer" if self.when.currentIndex() == 1 else "Add"
        return (
            f"push = {made}\nsession.apply(gv.{kind}(push, {question.factor}, layer="
            f"{question.layer}, head={question.head}), again=1)\nprint(session.next_tokens(12))\n"
        )

    def _slid(self) -> None:
        self.amount_words.setText(f"{self.amount:+.2f}".replace("-", "−"))
        self.seen.emit()

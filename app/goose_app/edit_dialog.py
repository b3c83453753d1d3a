"""Edit the memory: what, where, how much, and what is expected then; a table of edits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QButtonGroup,
    QComboBox,
    QDialog,
    QDoubleSpinBox,
    QFormLayout,
    QHBoxLayout,
    QPushButton,
    QRadioButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

import goose_viz as gv
from goose_app import messages as m
from goose_app.memory_box import MemoryBox
from goose_app.panels.next_token import NextTokenPanel
from goose_app.plain import Label
from goose_app.selection import Selection
from goose_viz.edits import StateEdit


@dataclass(frozen=True)
class Kind:
    """An edit as the dialog offers it.

    Attributes
    ----------
    name, help : str
    fields : tuple of str
        The rows that it needs.
    make : callable (values, layer, head) -> StateEdit
    done : str
        What was done, in words; with the fields' values.
    """

    name: str
    help: str
    fields: tuple[str, ...]
    make: Callable[[dict[str, Any], int | None, int | None], StateEdit]
    done: str


KINDS = (
    Kind("Empty", "All numbers become 0: what the model says without this memory.", (),
         lambda v, la, h: gv.Zero(la, h), "emptied"),
    Kind("Scale", "All numbers times a factor: −1 turns the memory round, 0.5 halves it.",
         ("factor",), lambda v, la, h: gv.Scale(v["factor"], la, h), "scaled by {factor:g}"),
    Kind("Noise", "Normal noise of sigma times the root mean square of each head.",
         ("sigma", "seed"), lambda v, la, h: gv.Noise(v["sigma"], v["seed"], la, h),
         "noise of {sigma:g} × RMS"),
    Kind("Put", "Another memory in its place: of a branch's end, or of a snapshot.", ("source",),
         lambda v, la, h: gv.Put(None, la, h), "put the memory of {source}"),
    Kind("Add", "Another memory, or the difference of two, times a factor on top.",
         ("source", "minus", "factor"), lambda v, la, h: gv.Add(None, v["factor"], la, h),
         "added {factor:g} × the memory of {source}"),
    Kind("Mute", "Empty after every token: each word is read once and leaves nothing.",
         ("tokens",), lambda v, la, h: gv.Mute(v["until"], la, h), "muted"),
)  # fmt: skip


class EditDialog(QDialog):
    """Stays open beside the window: apply, look, undo, try another."""

    applied = Signal(object)  # Apply
    undone = Signal()

    def __init__(self, parent: QWidget, selection: Selection) -> None:
        super().__init__(parent)
        self.setWindowTitle("Edit the memory")
        self._selection = selection
        self.kind = QComboBox()
        self.kind.addItems([k.name for k in KINDS])
        self.what = Label()
        self.what.setWordWrap(True)
        self.where = QButtonGroup(self)
        places = QHBoxLayout()
        for i in range(3):
            button = QRadioButton()
            self.where.addButton(button, i)
            places.addWidget(button)
        places.addStretch()
        self.where.button(0).setChecked(True)
        self.factor, self.sigma = QDoubleSpinBox(), QDoubleSpinBox()
        self.factor.setRange(-10, 10)
        self.factor.setSingleStep(0.1)
        self.factor.setValue(0.5)
        self.sigma.setRange(0, 10)
        self.sigma.setSingleStep(0.1)
        self.sigma.setValue(0.5)
        self.seed, self.tokens = QSpinBox(), QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.tokens.setRange(0, 1_000_000)
        self.tokens.setSpecialValueText("for good")
        self.tokens.setSuffix(" tokens")
        self.source, self.minus = MemoryBox(None), MemoryBox("nothing")
        for box in (self.source, self.minus):
            box.opened.connect(self.source.add_file)
            box.opened.connect(self.minus.add_file)
        self._rows = QFormLayout()
        self._rows.addRow(Label("what"), self.kind)
        self._rows.addRow("", self.what)
        self._rows.addRow(Label("where"), places)
        self._fields: dict[str, tuple[str, QWidget]] = {
            "factor": ("times", self.factor), "sigma": ("sigma", self.sigma),
            "seed": ("seed", self.seed), "source": ("memory of", self.source),
            "minus": ("less that of", self.minus), "tokens": ("for", self.tokens),
        }  # fmt: skip
        for words, box in self._fields.values():
            self._rows.addRow(Label(words), box)
        self.bars = NextTokenPanel(selection)
        self.bars.setMinimumHeight(240)
        self.apply, self.undo = QPushButton("Apply"), QPushButton("Undo")
        self.apply.setDefault(True)
        self.apply.setToolTip("Edit the memory before the last token and read that again")
        close = QPushButton("Close")
        buttons = QHBoxLayout()
        buttons.addWidget(self.undo)
        buttons.addStretch()
        buttons.addWidget(close)
        buttons.addWidget(self.apply)
        layout = QVBoxLayout(self)
        layout.addLayout(self._rows)
        layout.addWidget(self.bars, 1)
        layout.addLayout(buttons)
        self.resize(560, 520)
        self.kind.currentIndexChanged.connect(self._show_fields)
        self.apply.clicked.connect(self._apply)
        self.undo.clicked.connect(self.undone)
        close.clicked.connect(self.close)
        selection.listen(self._name_places)
        self._name_places()
        self._show_fields(0)

    def set_branches(self, rows: list[m.BranchRow]) -> None:
        """The branches whose memories one can take."""
        words = [row.name or row.words for row in rows]
        self.source.offer(words)
        self.minus.offer(words)

    def set_picture(self, picture: m.Picture) -> None:
        """The moment that would be edited."""
        self.undo.setEnabled(picture.can_undo)
        self.apply.setEnabled(picture.position > 0)
        self.bars.set_picture(picture)

    def scope(self) -> tuple[int | None, int | None]:
        """(layer, head) that are chosen; None for all."""
        s = self._selection
        layer = None if self.where.checkedId() == 2 else s.layer
        return layer, s.head if self.where.checkedId() == 0 else None

    def _name_places(self) -> None:
        s = self._selection
        for i, words in enumerate(
            (f"layer {s.layer} head {s.head}", f"layer {s.layer}", "everywhere")
        ):
            self.where.button(i).setText(words)

    def _show_fields(self, index: int) -> None:
        self.what.setText(KINDS[index].help)
        for name, (_, box) in self._fields.items():
            self._rows.setRowVisible(box, name in KINDS[index].fields)

    def _apply(self) -> None:
        kind = KINDS[self.kind.currentIndex()]
        source = self.source.source() if "source" in kind.fields else None
        if "source" in kind.fields and source is None:
            self.what.setText("Choose whose memory: a branch's end, or a snapshot's file.")
            return
        minus = self.minus.source() if "minus" in kind.fields else None
        tokens = self.tokens.value()
        values = {
            "factor": self.factor.value(), "sigma": self.sigma.value(), "seed": self.seed.value(),
            "until": None, "source": self.source.currentText(),
        }  # fmt: skip
        layer, head = self.scope()
        edit = kind.make(values, layer, head)
        where = edit.where()
        done = kind.done.format(**values)
        words = f"{done}, {where if layer is None else 'in ' + where}"
        self.applied.emit(m.Apply(edit, words, source, minus, tokens))

    def keyPressEvent(self, event: Any) -> None:
        """Escape closes; Return applies, as dialogs do."""
        if event.key() == Qt.Key.Key_Escape:
            self.close()
        else:
            super().keyPressEvent(event)

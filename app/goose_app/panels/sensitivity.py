"""Which heads' memories matter for the next word: layers × heads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtWidgets import QComboBox, QDoubleSpinBox, QSizePolicy

from goose_app.head_grid import HeadGrid
from goose_app.panels.study import StudyPanel
from goose_app.ponder import Answer
from goose_app.questions import Question, SensitivityAsked
from goose_app.selection import Selection
from goose_app.theme import Theme

_KINDS = (("emptied", "zero"), ("exchanged", "exchange"), ("given noise", "noise"))


class SensitivityPanel(StudyPanel):
    """A cell a head: how far the next word moves if its memory is another."""

    title = "Sensitivity"
    computes = True
    help = (
        "Which heads' memories matter now: how far what is expected next moves, in nats, if one "
        "head's memory is emptied, changes places with another of its layer, or gets noise, and "
        "the last token is read again. Dark heads could forget everything and nobody would tell. "
        "Click a cell to select its head."
    )
    formula = "KL(p ‖ q) = Σ p ln(p / q), p as it is, q with the head's memory disturbed"
    kind = SensitivityAsked

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection, "Measure")
        self.how, self.by, self.sigma = QComboBox(), QComboBox(), QDoubleSpinBox()
        self.how.addItems([words for words, _ in _KINDS])
        self.by.addItems(["head by head", "layer by layer"])
        self.sigma.setRange(0.01, 10)
        self.sigma.setSingleStep(0.25)
        self.sigma.setValue(1.0)
        self.sigma.setPrefix("σ ")
        self.sigma.setToolTip("Noise: so many times the root mean square of the head's memory")
        self.sigma.hide()
        self.add_options(self.how, self.by, self.sigma)
        self.grid = HeadGrid("inferno")
        self.grid.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        self.column.addWidget(self.grid, 1)
        self.how.currentIndexChanged.connect(lambda i: self.sigma.setVisible(i == 2))
        self.grid.cell_clicked.connect(self._select)

    def question(self) -> Question | None:
        """As the options say."""
        kind = _KINDS[self.how.currentIndex()][1]
        by = ("head", "layer")[self.by.currentIndex()]
        return SensitivityAsked(kind, by, self.sigma.value() if kind == "noise" else None)

    def result_words(self, question: Question) -> str:
        """Kind and size."""
        assert isinstance(question, SensitivityAsked)
        words = next(w for w, kind in _KINDS if kind == question.kind)
        size = f" σ {question.sigma:g}" if question.sigma is not None else ""
        return f"{words}{size}, {question.by}s"

    def show_result(self, answer: Answer) -> None:
        """The map, and the largest in words."""
        found = np.asarray(answer.result)
        values = found if found.ndim == 2 else found[:, None]
        self.grid.set_values(values)
        whole = found.ndim == 1
        self.grid.mark(self.selection.layer, 0 if whole else self.selection.head)
        layer, head = np.unravel_index(int(values.argmax()), values.shape)
        where = f"layer {layer}" if whole else f"layer {layer} head {head}"
        rest = float(np.median(values))
        self.note.setText(f"most: {where}, {values.max():.3g} nats; the middle one {rest:.3g}")

    def blank(self) -> None:
        """Nothing was measured."""
        self.grid.set_values(np.zeros((0, 0)))
        self.note.setText("Go to a token and press Measure.")

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.grid.set_theme(theme)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The map."""
        return {} if self.answer is None else {"KL in nats": np.asarray(self.answer.result)}

    def python(self) -> str | None:
        """The same figures."""
        question = self.answer.question if self.answer is not None else self.question()
        assert isinstance(question, SensitivityAsked)
        more = f", sigma={question.sigma}" if question.sigma is not None else ""
        by = f", by={question.by!r}" if question.by != "head" else ""
        return f"print(ga.sensitivity(session, {question.kind!r}{more}{by}))\n"

    def _select(self, layer: int, head: int) -> None:
        whole = self.answer is not None and np.ndim(self.answer.result) == 1
        self.selection.select(layer, self.selection.head if whole else head)

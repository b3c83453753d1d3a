"""Causal trace: which layer at which token carries what the model needs for a word."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtWidgets import QSizePolicy, QSpinBox

from goose_app.heatmap import Heatmap, to_indices
from goose_app.panels.next_token import percent, visible
from goose_app.panels.study import StudyPanel
from goose_app.ponder import Answer
from goose_app.questions import Question, TraceAsked, TraceFound
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme, sequential

_LABEL = 7  # letters of a token beside the axis
_LONGEST = 200  # tokens that can be traced


class TracePanel(StudyPanel):
    """Layers downwards, tokens to the right; bright where putting right brings the word back."""

    title = "Causal trace"
    computes = True
    help = (
        "Where the model keeps what it needs for a word. Some words of the text are spoiled with "
        "noise, and the likeliest next word is lost; then one layer is put right at one token, as "
        "if nothing had been spoiled, and the picture shows how much of the word's probability "
        "comes back. Mark a word in the text (mouse, or comma and period): that is spoiled. "
        "From an empty memory on: edits are not in it."
    )
    formula = "p(word | spoiled, layer l put right at token t) − p(word | spoiled), mean of 8 draws"
    kind = TraceAsked

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection, "Trace")
        self.first, self.last = QSpinBox(), QSpinBox()
        for box, words in ((self.first, "spoil tokens "), (self.last, "to ")):
            box.setPrefix(words)
            box.setRange(0, _LONGEST)
        self.first.setToolTip("The first token that is spoiled, counted from 0")
        self.last.setToolTip("The last one")
        self.add_options(self.first, self.last)
        self.map = Heatmap("token that is put right", "layer", self._describe)
        self.map.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        self.column.addWidget(self.map, 1)
        self.map.cell_clicked.connect(lambda row, _: selection.select(row, selection.head))
        self.first.valueChanged.connect(lambda n: self.last.setValue(max(n, self.last.value())))
        self.last.valueChanged.connect(lambda n: self.first.setValue(min(n, self.first.value())))

    def spoil(self, tokens: range) -> None:
        """Take over the words that are marked in the text."""
        if tokens:
            self.last.setValue(tokens.stop - 1)
            self.first.setValue(tokens.start)
            self.last.setValue(tokens.stop - 1)

    def question(self) -> Question | None:
        """Of the likeliest next word at the cursor."""
        picture = self.picture
        if picture is None or picture.position < 2 or not picture.next_tokens:
            self.note.setText("there is no text yet to trace")
            return None
        n = picture.position
        if n > _LONGEST:
            self.note.setText(
                f"{n} tokens are too many to trace; go to a token up to {_LONGEST}, or begin with "
                "a shorter text"
            )
            return None
        if self.last.value() >= n:
            self.note.setText(f"token {self.last.value()} is not before the cursor, at {n}")
            return None
        spoiled = tuple(range(self.first.value(), self.last.value() + 1))
        return TraceAsked(n, spoiled, picture.next_tokens[0][0])

    def result_words(self, question: Question) -> str:
        """What was spoiled."""
        assert isinstance(question, TraceAsked)
        label = self.run.model.label(question.target) if self.run.model is not None else ""
        return f"“{visible(label)}”, spoiled {question.spoiled[0]}–{question.spoiled[-1]}"

    @property
    def found(self) -> TraceFound | None:
        """The result that is shown."""
        return self.answer.result if self.answer is not None else None

    def show_result(self, answer: Answer) -> None:
        """The map, with what was lost."""
        found: TraceFound = answer.result
        restored = found.trace.restored
        top = max(float(restored.max()), 1e-9)
        self.map.set_colours(sequential("inferno"), "0", f"{100 * top:.3g} %")
        self.map.set_indices(to_indices(restored, 0, top))
        n = len(found.labels)
        x = [(i + 0.5, visible(label)[:_LABEL]) for i, label in enumerate(found.labels)]
        y = [(i + 0.5, str(i)) for i in range(len(restored))]
        self.map.set_ticks(x if n <= 60 else x[:: n // 40], y)
        self.note.setText(
            f"“{visible(found.target)}”: {percent(found.trace.clean)} as it is, "
            f"{percent(found.trace.spoiled)} with the words spoiled"
        )

    def blank(self) -> None:
        """Nothing was traced."""
        self.map.set_blank("mark the words to spoil, then press Trace")
        self.note.setText("")

    def set_run(self, run: Viewed) -> None:
        """Another model."""
        super().set_run(run)
        self.first.setValue(0)
        self.last.setValue(0)

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.map.set_theme(theme)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """The map."""
        return {} if self.found is None else {"restored probability": self.found.trace.restored}

    def python(self) -> str | None:
        """The same figures."""
        question = self.answer.question if self.answer is not None else self.question()
        if not isinstance(question, TraceAsked):
            return None
        return (
            f"restored = ga.causal_trace(\n    model, session.tokens, "
            f"{list(question.spoiled)}, {question.target}\n)\nprint(restored)\n"
        )

    def _describe(self, row: int, column: int) -> str:
        found = self.found
        if found is None or column >= len(found.labels):
            return ""
        back = float(np.asarray(found.trace.restored)[row, column])
        return f"layer {row} put right at “{visible(found.labels[column])}”: {100 * back:+.2f} %"

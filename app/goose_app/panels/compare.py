"""Two runs beside each other: where they part, how far they are apart, and the other one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QPen
from PySide6.QtWidgets import QComboBox, QPushButton, QSizePolicy, QSplitter

from goose_app.head_grid import HeadGrid
from goose_app.messages import BranchRow, Picture
from goose_app.panels.next_token import visible
from goose_app.panels.study import StudyPanel
from goose_app.plain import Label
from goose_app.ponder import Answer
from goose_app.python_lines import beside
from goose_app.questions import CompareAsked, CompareFound, Fed, Question
from goose_app.run_view import RunView
from goose_app.selection import Selection
from goose_app.theme import Theme
from goose_app.token_plot import TokenPlot

_ALONE = "Choose a branch, or another run, to compare with."


class ComparePanel(StudyPanel):
    """Total variation over tokens, and the distance of all memories at the cursor."""

    title = "Compare"
    computes = True
    help = (
        "Two branches of this run, or this run and another (other prompt, seed, sampling, model of "
        "the same shape, snapshot), token by token. Lines: how far apart what the two expect is "
        "(total variation, 0 the same, 1 nothing in common), and how far the selected head's "
        "memories are. Map: every head's distance at the cursor, as a share of its size. The "
        "cursors move together."
    )
    formula = "½ Σ |p − q| · |S_a − S_b| / |S_a| per head, Frobenius norms"
    kind = CompareAsked
    goto = Signal(int)
    branch_chosen = Signal(int)
    other_wanted = Signal()

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection, "Compare again")
        self.other: RunView | None = None
        self.partner = QComboBox()
        self.partner.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.partner.setMinimumContentsLength(18)
        self.another = QPushButton("Another run…")
        self.add_options(Label("with"), self.partner, self.another)
        self.grid = HeadGrid("inferno")
        self.plot = TokenPlot("apart", whole=True)
        splitter = QSplitter(Qt.Orientation.Vertical)
        splitter.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)
        splitter.addWidget(self.plot)
        splitter.addWidget(self.grid)
        splitter.setSizes([200, 180])
        self.column.addWidget(splitter, 1)
        self.partner.activated.connect(self._choose_branch)
        self.another.clicked.connect(self.other_wanted)
        self.grid.cell_clicked.connect(selection.select)
        self.plot.goto.connect(self.goto)
        self.plot.moved.connect(self._draw)
        self.set_rows([])

    def set_rows(self, rows: list[BranchRow]) -> None:
        """The branches that one can compare with."""
        self.partner.clear()
        self.partner.addItem("a branch …" if len(rows) > 1 else "no other branch yet", None)
        for i, row in enumerate(rows):
            if not row.current:
                words = row.name or row.words + (f" ({row.edits})" if row.edits else "")
                self.partner.addItem(words, i)

    def _choose_branch(self, _index: int) -> None:
        row = self.partner.currentData()
        if row is not None:
            self.branch_chosen.emit(row)

    def question(self) -> Question | None:
        """The run and the other."""
        if self.other is None:
            self.note.setText(_ALONE)
            return None
        return CompareAsked(self.other.ident)

    def result_words(self, question: Question) -> str:
        """Until where."""
        return "compared"

    @property
    def found(self) -> CompareFound | None:
        """The comparison that is shown."""
        return self.answer.result if self.answer is not None else None

    def sentence(self) -> str:
        """Where they part, and what came first."""
        found = self.found
        if found is None:
            return _ALONE
        c = found.comparison
        if self._changed():
            return "This is of a text that one of the two has left: press Compare again."
        if c.parted is None:
            if c.moved is None:
                return "The same tokens, the same memories, as far as both go."
            begin = "The same tokens as far as both go"
        else:
            one, two = (f"“{visible(label)}”" for label in found.labels)
            begin = f"They part at token {c.parted + 1}: {one} here, {two} in the other"
        if c.moved is not None and (c.parted is None or c.moved < c.parted):
            begin += f"; the memories differ from token {c.moved + 1} on"
        most = int(c.tv.argmax())
        apart = c.relative_at(most)
        layer, head = np.unravel_index(int(apart.argmax()), apart.shape)
        return (
            f"{begin}. What they expect is furthest apart behind token {most + 1} "
            f"({c.tv[most]:.2f}); there layer {layer} head {head} differs most."
        )

    def fed(self) -> Fed | None:
        """The run up to its cursor, as the other up to its own."""
        return None

    def text_changed(self, start: int) -> None:
        """One of the two may say something else than when they were compared."""
        if self.found is not None:
            self.note.setText(self.sentence())

    def _changed(self) -> bool:
        """Whether one of the two says something else now."""
        found = self.found
        if found is None or self.other is None:
            return False
        return any(
            not np.array_equal(run.cells.tokens[: len(ids)], ids)
            for run, ids in zip((self.run, self.other), found.tokens, strict=True)
        )

    def show_result(self, answer: Answer) -> None:
        """The sentence, the lines, the map."""
        self.note.setText(self.sentence())
        self._draw()

    def blank(self) -> None:
        """Nothing to compare."""
        self.note.setText(_ALONE)
        self.plot.clear()
        self.grid.set_values(np.zeros((0, 0)))

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.grid.set_theme(theme)
        self.plot.set_theme(theme)
        self.refresh()

    def show_picture(self, picture: Picture) -> None:
        """The cursor is elsewhere."""
        self._draw()

    def _draw(self) -> None:
        found, picture = self.found, self.picture
        if found is None or picture is None:
            return
        c, s, t = found.comparison, self.selection, self.theme
        expected, memory = QPen(QColor(t.accent), 2), QPen(QColor(t.diverging[1]), 1)
        name = f"memory of layer {s.layer} head {s.head}"
        self.plot.set_pens([memory, expected], [([expected], "what is expected"), ([memory], name)])
        start, stop = self.plot.tokens(picture.position, picture.recorded)
        stop = min(stop, len(c.tv))
        if start < stop:
            part = c.relative_at((slice(start, stop), s.layer, s.head))
            rows = np.stack([part, c.tv[start:stop]], -1)
            self.plot.set_range(0.0, max(1.0, float(rows.max())))
            self.plot.set_lines(start, rows)
        else:
            self.plot.clear()
        at = picture.position - 1
        inside = 0 <= at < len(c.tv)
        self.grid.set_values(c.relative_at(at) if inside else np.zeros((0, 0)))
        self.grid.mark(s.layer, s.head)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """Over tokens, and of all heads at the cursor."""
        found = self.found
        if found is None:
            return {}
        c, s = found.comparison, self.selection
        mine = c.relative_at((slice(None), s.layer, s.head))
        return {"total variation": c.tv, f"layer {s.layer} head {s.head}": mine}

    def python(self) -> str | None:
        """The same up to the cursors, with the other run fed anew."""
        mine = self.run.model
        lines = [] if self.other is None or mine is None else beside(mine, self.other)
        if not lines:
            return None
        lines += ["comparison = ga.compare(session, other)",
                  "print(comparison.parted, comparison.tv)"]  # fmt: skip
        return "\n".join(lines) + "\n"

"""What a panel of a study has: a beginning, its progress, an end, and results that stay."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from goose_app import messages as m
from goose_app.panels.next_token import visible
from goose_app.panels.panel import Panel
from goose_app.plain import Label
from goose_app.ponder import Answer, Progress
from goose_app.questions import Fed, Question
from goose_app.run_view import Viewed
from goose_app.selection import Selection

_KEPT = 12  # results


class StudyPanel(Panel):
    """Options, a button, a bar; a list of results, one of which is shown.

    Attributes
    ----------
    kind : type
        The questions whose answers it shows.
    """

    kind: type[Question] = Question

    def __init__(self, selection: Selection, begin: str) -> None:
        super().__init__(selection)
        self._begin_words = begin
        self.begin = QPushButton(begin)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.bar.hide()
        self.results = QComboBox()
        self.results.setToolTip("Results stay with the run; go back to an earlier one here")
        self.results.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.results.setMinimumContentsLength(12)
        self.note = Label("")
        self.note.setWordWrap(True)
        for control in (self.begin, self.results):
            control.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.running: Question | None = None
        self.options = QHBoxLayout()
        top = QHBoxLayout()
        top.addLayout(self.options)
        top.addWidget(self.begin)
        top.addStretch()
        top.addWidget(self.results)
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(6, 4, 6, 4)
        self.column.setSpacing(4)
        self.column.addLayout(top)
        self.column.addWidget(self.bar)
        self.column.addWidget(self.note)
        self.begin.clicked.connect(self.begin_or_cancel)
        self.results.currentIndexChanged.connect(self._choose)
        self.results.hide()

    def question(self) -> Question | None:
        """What the options say is to be worked out; None, and a note why, if nothing can be."""
        raise NotImplementedError

    def show_result(self, answer: Answer) -> None:
        """Bring a result to the screen."""
        raise NotImplementedError

    def result_words(self, question: Question) -> str:
        """What a result is, for the list."""
        raise NotImplementedError

    def blank(self) -> None:
        """No result is there."""
        raise NotImplementedError

    @property
    def answer(self) -> Answer | None:
        """The result that is shown."""
        return self.results.currentData()

    def fed(self) -> Fed | None:
        """What the run had been fed when it was asked."""
        return self.answer.fed if self.answer is not None else None

    def add_options(self, *widgets: QWidget) -> None:
        """Controls ahead of the button."""
        for widget in widgets:
            widget.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            self.options.addWidget(widget)

    def begin_or_cancel(self) -> None:
        """Begin, or give up what is on its way."""
        if self.running is not None:
            self.wants.emit(m.Abandon(self.running))
            return
        question = self.question()
        if question is not None:
            self.note.setText("")
            self.wants.emit(m.Study(question))

    def set_run(self, run: Viewed) -> None:
        """Results of another run, or of another model, do not belong here."""
        super().set_run(run)
        self.results.clear()
        self.results.hide()
        self._show_running(None, 1.0)
        self.blank()

    def progressed(self, progress: Progress) -> None:
        """Show how far it is."""
        if isinstance(progress.question, self.kind):
            self._show_running(progress.question, progress.share)

    def answered(self, answer: Answer) -> None:
        """A result comes to the list, and to the screen."""
        if isinstance(answer.question, self.kind):
            if answer.failed:
                self.note.setText(answer.failed)
                return
            end = " ".join(visible(answer.text).replace("␣", " ").split())
            words = f"{self.result_words(answer.question)} · token {answer.position} “…{end}”"
            self.results.insertItem(0, words, answer)
            if self.results.count() > _KEPT:
                self.results.removeItem(_KEPT)
            self.results.setCurrentIndex(0)
            self.results.setVisible(self.results.count() > 1)

    def _show_running(self, question: Question | None, share: float) -> None:
        self.running = question if share < 1 else None
        self.begin.setText("Cancel" if self.running is not None else self._begin_words)
        self.bar.setVisible(self.running is not None)
        self.bar.setValue(round(100 * share))

    def _choose(self, index: int) -> None:
        if self.answer is not None:
            self.show_result(self.answer)

    def refresh(self) -> None:
        """It looks otherwise now."""
        super().refresh()
        if self.answer is not None:
            self.show_result(self.answer)

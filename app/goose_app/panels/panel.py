"""What a dock's content answers to."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QWidget

from goose_app.cover import Cover
from goose_app.explain import Explanation, HeadNow
from goose_app.messages import Picture
from goose_app.ponder import Answer, Progress
from goose_app.questions import Fed, Question
from goose_app.run_view import RunView, Viewed
from goose_app.selection import Selection
from goose_app.series import Series
from goose_app.theme import DARK, Theme

_FEW = 20  # tokens a second up to which everything is shown of each
_LAG = 40  # ms between two panels that show parts of an explanation, when the model stands


class Panel(QWidget):
    """A view of a run.

    Attributes
    ----------
    title : str
        The dock's title; also what its files are called.
    help : str
        What it is and how to read it, for who sees it for the first time.
    formula : str
        What is shown, as one would write it; empty where words say all.
    recorded : frozenset of str
        The observables of which it shows every token's.
    shown : frozenset of str
        Those of which it shows the cursor's, while somebody sees it.
    needs : frozenset of str
        Observables without which it has nothing to show of a recorded run.
    computes : bool
        Whether it asks the model itself, which a recorded run does not have.
    asks, asks_edit : bool
        Whether it shows why the next word, or what the last one did to the selected head.
    phase : (int, int)
        While the model writes fast, it shows the k-th of every n pictures: what is expensive to
        paint takes turns, and repaints come the more often for that.
    run : Viewed
        The run that it shows.
    """

    title = ""
    help = ""
    formula = ""
    recorded: frozenset[str] = frozenset()
    shown: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    computes = False
    asks = asks_edit = False
    phase = (0, 1)
    seen = Signal()  # somebody sees it now, or nobody any more; or it asks something else
    wants = Signal(object)  # a command to its run

    def __init__(self, selection: Selection) -> None:
        super().__init__()
        self.selection = selection
        self.theme: Theme = DARK
        self.run: Viewed = RunView()
        self.picture: Picture | None = None
        self._its_turn = False
        self._wait = QTimer(self)
        self._wait.setSingleShot(True)
        self._wait.timeout.connect(self._catch_up)
        self._painted: tuple[Explanation | None, HeadNow | None] = None, None
        self.cover = Cover(self)
        self.setObjectName(self.title)
        selection.listen(self._selection_changed)

    @property
    def series(self) -> Series | None:
        """The figures of all tokens."""
        return self.run.series

    def set_theme(self, theme: Theme) -> None:
        """Take over a theme."""
        self.theme = theme

    def set_run(self, run: Viewed) -> None:
        """Another run, or another model in it: what is known of the last no longer holds."""
        self.run, self.picture, self._painted = run, None, (None, None)
        self.cover.say(self.lacks())

    def lacks(self) -> str:
        """What of a recorded run it would need, in words; empty if it has that."""
        model = self.run.model
        if model is None or model.recorded is None:
            return ""
        if self.computes:
            return (
                f"This asks the model itself, and here is a recorded run of it only.\n"
                f"Open {model.name} to see it."
            )
        missing = sorted(self.needs - model.recorded)
        if not missing:
            return ""
        options = " ".join(f"--probe {name}" for name in missing)
        return f"Not in this recording: {', '.join(missing)}.\ngoose-viz record … {options}"

    def series_changed(self) -> None:
        """Another branch's figures are to be shown."""

    def text_changed(self, start: int) -> None:
        """The tokens from an index on are others."""

    def set_picture(self, picture: Picture) -> None:
        """The cursor moved; a panel that nobody sees waits until it is seen."""
        self.picture = picture
        place, n = self.phase
        if self.isVisible() and (picture.rate < _FEW or picture.number % n == place):
            self.show_picture(picture)

    def due(self, picture: Picture) -> bool:
        """Whether a new explanation is to be painted now."""
        new = picture.why is not self._painted[0] or picture.head is not self._painted[1]
        if picture.rate > 0:
            if not new:
                return False
        elif new and self.phase[0] and not self._its_turn:
            self._wait.start(_LAG * self.phase[0])
            return False
        self._its_turn, self._painted = False, (picture.why, picture.head)
        return True

    @property
    def waits(self) -> bool:
        """Whether it has yet to paint what it was given."""
        return self._wait.isActive()

    def _catch_up(self) -> None:
        self._its_turn = True
        self.refresh()

    def show_picture(self, picture: Picture) -> None:
        """Bring the picture to the screen."""

    def questions(self) -> tuple[Question, ...]:
        """What it asks of its run, at every place of the cursor, while somebody sees it."""
        return ()

    def answered(self, answer: Answer) -> None:
        """Something was worked out, here or for another panel."""

    def progressed(self, progress: Progress) -> None:
        """A study is so far."""

    def numbers(self) -> dict[str, NDArray[Any]]:
        """What it shows, as arrays by name; nothing where a picture says all."""
        return {}

    def fed(self) -> Fed | None:
        """What those lines have to feed, if not the run up to its cursor."""
        return None

    def python(self) -> str | None:
        """The lines that give what it shows, behind those that open the run; None for nothing."""
        return None

    def refresh(self) -> None:
        """Show the last picture again: it was hidden, or the selection changed."""
        if self.picture is not None and self.isVisible():
            self.show_picture(self.picture)

    def showEvent(self, event: object) -> None:
        """Catch up with what was missed while hidden."""
        self.seen.emit()
        self.refresh()

    def hideEvent(self, event: object) -> None:
        """Nobody looks."""
        self.seen.emit()

    def _selection_changed(self) -> None:
        self.refresh()


class AskingPanel(Panel):
    """A view of the answer to one question.

    Attributes
    ----------
    answer : Answer or None
        The newest; of another moment while a new one is on its way.
    """

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.answer: Answer | None = None
        self._shown: Answer | None = None

    def question(self) -> Question | None:
        """What it asks."""
        raise NotImplementedError

    def show_answer(self, answer: Answer) -> None:
        """Bring it to the screen; ``result`` is None where there is nothing."""
        raise NotImplementedError

    def questions(self) -> tuple[Question, ...]:
        """Its question."""
        question = self.question()
        return () if question is None else (question,)

    def set_run(self, run: Viewed) -> None:
        """Nothing is known of it."""
        super().set_run(run)
        self.answer = self._shown = None

    def answered(self, answer: Answer) -> None:
        """Show it, if it is to what is asked now."""
        if answer.question == self.question():
            self.answer = answer
            self._show_newest()

    def _show_newest(self) -> None:
        if self.answer is not None and self.answer is not self._shown and self.isVisible():
            self._shown = self.answer
            self.show_answer(self.answer)

    def refresh(self) -> None:
        """Show it again: it was hidden, or looks otherwise now."""
        self._shown = None
        super().refresh()
        self._show_newest()

    def ask_anew(self) -> None:
        """Something else is asked now."""
        self.answer = None
        self.seen.emit()
        self.refresh()

"""Working out what panels ask, in the moments when nobody waits for anything else; no Qt here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import goose_viz as gv
from goose_app.questions import Context, Fed, Question
from goose_viz.analysis.steps import Steps
from goose_viz.errors import Stopped
from goose_viz.faults import report_fault
from goose_viz.history import Segment

_TELL = 0.1  # seconds between two words on how far a study is
_WORDS = 4  # tokens of text that say what a study is of
_SHARE = 20  # times what a piece took until the next, while the model writes

Place = tuple[Segment | int, int]  # a branch, and the cursor on it


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found, or why nothing was.

    Attributes
    ----------
    question : Question
    position : int
        Of the cursor when it was asked.
    result : object
        None if there is nothing to say before the first token, or if it failed.
    failed : str
        Why, in words.
    study : bool
        Whether it took a while and stays.
    text : str
        The end of the text that it is of.
    fed : Fed or None
        What had been fed then, if it is a study.
    """

    question: Question
    position: int
    result: Any
    failed: str = ""
    study: bool = False
    text: str = ""
    fed: Fed | None = None


@dataclass(frozen=True)
class Progress:
    """How far a study is; 1 when it has ended, whether with an answer or not."""

    question: Question
    share: float


@dataclass(eq=False)
class _Task:
    """A question on its way."""

    question: Question
    place: Place
    steps: Steps[Any]
    study: bool = False
    text: str = ""
    fed: Fed | None = None
    told: float = 0.0


class Ponder:
    """Answers questions a piece at a time: panels' for every place of the cursor, studies once.

    Parameters
    ----------
    at : Context
    say : callable (Answer or Progress)
    """

    def __init__(self, at: Context, say: Callable[[Answer | Progress], None]) -> None:
        self._at, self._say = at, say
        self._asked: tuple[Question, ...] = ()
        self._answered: dict[Question, Place] = {}
        self._task: _Task | None = None
        self._studies: list[_Task] = []
        self._turn = False  # whether it is a study's, if there are others to be answered
        self._after = 0.0  # on the clock: the next piece while the model writes

    def ask(self, questions: tuple[Question, ...]) -> None:
        """These are asked from now on."""
        self._asked = questions
        self._answered = {q: p for q, p in self._answered.items() if q in questions}
        if self._task is not None and self._task.question not in questions:
            self._task = None

    def study(self, question: Question, place: Place) -> None:
        """Work something out for this place, however long it takes."""
        self.abandon(question)
        path, n = self._at.session.path, place[1]
        text = "".join(path.texts(max(0, n - _WORDS), n))
        fed = Fed(np.array(path.tokens(0, n), np.int64), path.generated(0, n), self._at.made())
        task = _Task(question, place, question.steps(self._at), True, text, fed)
        self._studies.append(task)
        self._say(Progress(question, 0.0))
        self._piece(task)  # it takes from the session what it needs

    def abandon(self, question: Question | None = None) -> None:
        """Give up a study; all of them when left out."""
        for task in [t for t in self._studies if question in (None, t.question)]:
            self._studies.remove(task)
            self._say(Progress(task.question, 1.0))

    def forget(self) -> None:
        """What was answered holds no more."""
        self._answered.clear()
        self._task = None

    def pending(self, place: Place) -> bool:
        """Whether there is something to work out."""
        return bool(self._studies) or any(self._answered.get(q) != place for q in self._asked)

    def go_on(self, place: Place, writing: bool) -> None:
        """A piece of something, if it is time for one."""
        now = time.perf_counter()
        if writing and now < self._after:
            return
        task = self._task
        if task is not None and task.place != place and not writing:
            task = self._task = None  # of another moment
        if task is None:
            due = [q for q in self._asked if self._answered.get(q) != place]
            if due and not (self._studies and self._turn):  # the one answered longest ago
                order = list(self._answered)
                question = min(due, key=lambda q: order.index(q) if q in order else -1)
                task = self._task = _Task(question, place, question.steps(self._at))
            elif self._studies:
                task = self._studies[0]
            self._turn = not self._turn  # writing, there is always something due
        if task is not None:
            self._piece(task)
            self._after = time.perf_counter() + _SHARE * (time.perf_counter() - now)

    def _piece(self, task: _Task) -> None:
        try:
            share = next(task.steps)
        except StopIteration as end:
            self._end(task, end.value, "")
        except Stopped:  # something else is to be done first: begin again later
            self._task = None
        except (gv.GooseError, OSError, ValueError) as error:
            self._end(task, None, str(error))
        except MemoryError:
            self._end(task, None, "there is not enough free memory for that")
        except Exception as error:  # a bug: say so rather than end the thread
            self._end(task, None, report_fault(error))
        else:
            now = time.perf_counter()
            if task.study and now - task.told > _TELL:
                task.told = now
                self._say(Progress(task.question, min(share, 0.999)))

    def _end(self, task: _Task, result: Any, failed: str) -> None:
        if task.study:
            self._studies.remove(task)
            self._say(Progress(task.question, 1.0))
        else:
            self._task = None
            self._answered.pop(task.question, None)
            self._answered[task.question] = task.place  # the newest stands last
        position = task.place[1]
        self._say(Answer(task.question, position, result, failed, task.study, task.text, task.fed))

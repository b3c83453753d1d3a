"""What a run is asked about: questions of panels, studies, pinned words, stops; no Qt here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

import goose_viz as gv
from goose_app import messages as m
from goose_app.pins import Pins
from goose_app.ponder import Answer, Place, Ponder, Progress
from goose_app.questions import Context, Question
from goose_app.stops import Stops
from goose_viz.analysis.readout import pin_all
from goose_viz.analysis.steering import mean_memory
from goose_viz.analysis.steps import Steps
from goose_viz.edits import memory_of

if TYPE_CHECKING:
    from goose_app.run import Host

_SEEN = 2048  # tokens of pinned words that are told of while the model writes


@dataclass(frozen=True)
class _Pinned(Question):
    """How likely the pinned words were where nobody looked."""

    tokens: tuple[int, ...]
    pins: Pins

    def steps(self, at: Context) -> Steps[None]:
        session = at.session
        path, stop = session.path, session.recorded
        gap = self.pins.missing(path, stop) if stop else None
        if gap is not None:
            for index, logits in session.expected(*gap, keep_going=at.keep_going):
                self.pins.put(path.at(index), index, logits)
                yield index / stop


@dataclass(frozen=True)
class _Stops(Question):
    """Where the condition held."""

    words: str
    stops: Stops

    def steps(self, at: Context) -> Steps[None]:
        yield from self.stops.search(at.session, at.keep_going)


class Inquiries:
    """The part of a `Run` that answers.

    Attributes
    ----------
    pins : Pins
    stops : Stops
    ponder : Ponder
    """

    model: gv.Model
    session: gv.Session | None
    running: bool
    _host: Host
    _wanted: Callable[[], bool]

    def _begin_inquiries(self) -> None:
        self.pins, self.stops = Pins(), Stops()
        self.ponder = Ponder(_Sight(self), self._tell)
        self._questions: tuple[Question, ...] = ()
        self._told_stops: tuple[str, list[int]] = ("", [])

    def take(self) -> None:
        """Make a picture of the moment."""
        raise NotImplementedError

    def _need_session(self) -> gv.Session:
        raise NotImplementedError

    def _replay(self, position: int) -> None:
        raise NotImplementedError

    def _new_probe(self) -> gv.Probe:
        raise NotImplementedError

    def set_running(self, running: bool) -> None:
        """Write on from here, or stop."""
        raise NotImplementedError

    def made(self, session: gv.Session) -> tuple[m.Made, ...]:
        """The edits up to the cursor."""
        raise NotImplementedError

    # -- working things out ------------------------------------------------------------------------

    @property
    def pondering(self) -> bool:
        """Whether something is to be worked out while nobody waits."""
        place = self._place()
        return place is not None and self.ponder.pending(place)

    def go_on(self) -> None:
        """A piece of that."""
        place = self._place()
        if place is not None and self.ponder.pending(place):
            self.ponder.go_on(place, self.running)

    def _place(self) -> Place | None:
        session = self.session
        return None if session is None else (session.segment, session.position)

    def _tell(self, what: Answer | Progress) -> None:
        if isinstance(what, Answer) and isinstance(what.question, _Pinned | _Stops):
            if what.failed:
                self._host.say(m.Failed(what.failed))
            self.take()
            self.tell_stops()
        else:
            self._host.say(what)

    @property
    def observed(self) -> frozenset[str]:
        """What questions and the condition want observed of every token."""
        return frozenset().union(self.stops.observables, *(q.needs for q in self._questions))

    # -- commands ----------------------------------------------------------------------------------

    def _ask(self, command: m.Ask) -> None:
        self._questions = command.questions
        self._put_questions()

    def _put_questions(self) -> None:
        own: list[Question] = []
        if self.pins.tokens:
            own.append(_Pinned(self.pins.tokens, self.pins))
        if self.stops.condition is not None:
            own.append(_Stops(self.stops.condition.words, self.stops))
        self.ponder.ask((*own, *self._questions))
        if self.session is not None:
            self.session.probe = self._new_probe()

    def _study(self, command: m.Study) -> None:
        self._need_session()
        place = self._place()
        assert place is not None
        self.ponder.study(command.question, place)

    def _abandon(self, command: m.Abandon) -> None:
        self.ponder.abandon(command.question)

    def _pin(self, command: m.Pin) -> None:
        if self.session is not None:
            self.session.check_tokens(command.tokens)
        self.pins.watch(command.tokens)
        self._put_questions()
        self.take()

    def _stop_at(self, command: m.StopAt) -> None:
        words, known = command.words.strip(), self.stops.condition
        if known is not None and known.words == words:
            return
        self.stops.watch(gv.Condition(words, self.model.config) if words else None)
        self._put_questions()
        self.tell_stops()
        self.take()

    def _to_stop(self, command: m.ToStop) -> None:
        self.set_running(False)
        session = self._need_session()
        at = session.position
        for _ in self.stops.search(session, self._host.wanted):
            pass
        self.tell_stops()
        there = [p for p in self.stops.positions(session.path) if (p - at) * command.by > 0]
        if there:
            self._replay(min(there) if command.by > 0 else max(there))
            self.take()
        elif self.stops.condition is None:
            self._host.say(m.Told("no stop is set: say where, below, in “stop at”"))
        else:
            way = "after" if command.by > 0 else "before"
            self._host.say(m.Told(f"{self.stops.condition.words}: nowhere {way} this token"))

    def tell_stops(self) -> None:
        """Tell the window where the condition holds, if that is news."""
        session, condition = self.session, self.stops.condition
        positions = self.stops.positions(session.path) if session is not None else []
        told = (condition.words if condition is not None else "", positions)
        if told != self._told_stops:
            self._told_stops = told
            self._host.say(m.Stops(*told))

    def _came(self, session: gv.Session) -> m.Came | None:
        """The token that follows the cursor, if one does: how it was expected."""
        at, logits = session.position, session.logits
        if at == session.recorded or logits is None:
            return None
        (token,) = session.path.tokens(at, at + 1)
        ((probability, rank),) = pin_all(logits, (token,))
        return m.Came(token, self.model.tokenizer.label(token), probability, rank)

    def _pins(self, session: gv.Session) -> tuple[m.PinnedWord, ...]:
        if not self.pins.tokens:
            return ()
        start = max(0, session.position - _SEEN) if self.running else 0
        rows = self.pins.of(session.path, start, session.recorded)
        label = self.model.tokenizer.label
        return tuple(
            m.PinnedWord(token, label(token), start, found)
            for token, found in zip(self.pins.tokens, rows, strict=True)
        )

    def _memory(self, source: m.Source | None) -> Any:
        """The memory of a snapshot's file, or of a branch's end."""
        session = self._need_session()
        if source is None:
            return None
        if isinstance(source, int):
            if source >= len(session.branches):
                raise gv.GooseError("that branch is closed; choose another memory")
            return session.state_at(session.branches[source].stop, branch=source)
        if isinstance(source, tuple):
            return mean_memory(self.model, source, lambda _share: self._wanted())
        return gv.load_snapshot(source)


class _Sight:
    """What answering a question may use of a run."""

    def __init__(self, run: Inquiries) -> None:
        self._run = run
        self.means: dict[tuple[str, ...], NDArray[Any]] = {}

    @property
    def session(self) -> gv.Session:
        return self._run._need_session()

    @property
    def n_layer(self) -> int:
        return self._run.model.config.n_layer

    def keep_going(self) -> bool:
        host = self._run._host
        return host.wanted() and not host.busy()

    def other(self, run: int) -> gv.Session:
        return self._run._host.run_of(run)._need_session()

    def made(self) -> tuple[m.Made, ...]:
        return self._run.made(self._run._need_session())

    def memory(self, source: Path | int) -> NDArray[Any]:
        return memory_of(self._run._memory(source))

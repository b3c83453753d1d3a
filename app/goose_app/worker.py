"""The thread that owns the model and the run; no Qt here.

Commands go in by a queue.  Out come events, each of them and in order, and pictures, of which only
the newest is kept: one is made when the window asks, so a slow window costs the engine nothing.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import goose_viz as gv
from goose_app import messages as m
from goose_app.branch_rows import branch_rows
from goose_app.explain import Explanation, explain
from goose_app.series import Series
from goose_viz.analysis.memory import NOW
from goose_viz.faults import report_fault
from goose_viz.history import Segment
from goose_viz.ranking import pairs, rank, softmax
from goose_viz.replay import Stopped
from goose_viz.session import PREPARING, prepare

_OBSERVED = ("decay", "iclr", "removed_norm", "written_norm")
_EXPLAINED = (*_OBSERVED, *NOW)  # what the next word is explained with, beside
_LOOK_BACK = 0.05  # seconds for reading again, while the model writes, what was not watched
_PAUSE = 20  # times the time that an explanation takes until the next, while the model writes
_LONG = (m.Load, m.Restart, m.Resume, m.Run)  # what a cancel that came later takes back
_NEXT = 12
_SLOW_TOKEN = 0.05  # seconds a token from which the window does not wait for its end
_LONGEST_PAINT = 0.25  # seconds after which the model goes on, painted or not


class _Cancelled(Exception):
    """The window asked to stop what takes long."""


class Worker:
    """Runs sessions outside the window's thread.

    Attributes
    ----------
    events : deque of Event
        Append-only here; the window pops from the left.
    delay : float
        Seconds to wait between tokens.
    """

    def __init__(self) -> None:
        self.events: deque[m.Event] = deque()
        self.delay = 0.0
        self._commands: queue.SimpleQueue[tuple[int, m.Command] | None] = queue.SimpleQueue()
        self._serial = 0  # of the last command that was sent
        self._cancelled = 0  # commands up to this one are not to take long
        self._current = 0  # the one that is obeyed
        self._picture: m.Picture | None = None
        self._free = threading.Event()  # not set while the window paints
        self._free.set()
        self.idle = False  # waiting between two tokens, as `hold` asked, with a fresh picture
        self._closing = False
        self._model: gv.Model | None = None
        self._session: gv.Session | None = None
        self._series: dict[Segment, Series] = {}
        self._explain = m.Explain(False)
        self._explained: Explanation | None = None
        self._explained_at: tuple[Segment, int] | None = None
        self._listed: list[tuple[Segment, str, bool, int]] = []
        self._explain_after = 0.0  # on the clock: an explanation must not hold up the writing
        self._edited: tuple[Segment, int, str, Any] | None = None  # place, words, logits before
        self._running = False
        self._loading = False  # a Loading event is out that wants its end
        self._until: int | None = None
        self._seconds = 0.0
        self._rate = 0.0
        self._thread = threading.Thread(target=self._work, name="goose-worker", daemon=True)

    # -- called by the window ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def send(self, command: m.Command) -> None:
        """Queue a command."""
        self._serial += 1
        self._commands.put((self._serial, command))

    def cancel(self) -> None:
        """Stop what takes long, begun or still queued: a load, a long prompt, a replay, a run."""
        self._cancelled = self._serial
        self.send(m.Pause())

    def take_picture(self) -> m.Picture | None:
        """The newest picture, once."""
        picture, self._picture = self._picture, None
        return picture

    def hold(self) -> None:
        """Begin no further token: the window is about to paint; `idle` says when.

        Painting calls into Python some hundred times, and each time would wait for the
        interpreter's lock and compete for the cores: beside a model that writes, a repaint takes
        three times as long, and the model suffers more than by waiting.
        """
        self._free.clear()

    def release(self) -> None:
        """Painting is done."""
        self._free.set()

    def close(self) -> None:
        """End the thread and wait for it."""
        self._closing = True
        self._commands.put(None)
        self._thread.join()

    # -- the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closing:
            command = self._next_command()
            if command is not None:
                self._obey(*command)
            elif self._running:
                self._guard(self._go_on)

    def _go_on(self) -> None:
        """One more token, after the window has painted if it wants to."""
        if not self._free.is_set():
            self._take()
            self.idle = True
            self._free.wait(_LONGEST_PAINT)
            self.idle = False
        self._advance()

    def _next_command(self) -> tuple[int, m.Command] | None:
        if not self._running:
            return self._commands.get()
        try:
            if self.delay:
                return self._commands.get(timeout=self.delay)
            return self._commands.get_nowait()
        except queue.Empty:
            return None

    def _obey(self, serial: int, command: m.Command) -> None:
        self._current = serial
        if serial <= self._cancelled and isinstance(command, _LONG):
            self.events.append(m.Told("cancelled"))
            return
        handler: Callable[[Any], None] = self._HANDLERS[type(command)].__get__(self)
        self._guard(lambda: handler(command))

    def _guard(self, work: Callable[[], None]) -> None:
        """Do it; what fails becomes words, and the run up to there stays."""
        try:
            work()
        except _Cancelled:
            self.events.append(m.Told("cancelled"))
        except (gv.GooseError, OSError) as error:
            self._set_running(False)
            self.events.append(m.Failed(str(error)))
        except MemoryError:
            self._set_running(False)
            self.events.append(m.Failed("there is not enough free memory for that"))
        except Exception as error:  # a bug: say so rather than freeze
            self._set_running(False)
            self.events.append(m.Failed(report_fault(error)))
        finally:
            if self._loading:
                self._loading = False
                self.events.append(m.Loading(1.0, ""))

    def _progress(self, fraction: float, words: str) -> None:
        if not self._wanted():
            raise _Cancelled
        self._report(fraction, words)

    def _wanted(self) -> bool:
        """Whether what is being done is still to be done."""
        return not self._closing and self._current > self._cancelled

    def _report(self, fraction: float, words: str) -> None:
        self._loading = True
        self.events.append(m.Loading(fraction, words))

    def _load(self, command: m.Load) -> None:
        self._set_running(False)
        self._progress(0.0, "opening the model")
        model = gv.load_model(
            command.source, device=command.device, dtype=command.dtype,
            tokenizer=command.tokenizer, progress=self._progress,
        )  # fmt: skip
        self._progress(1.0, PREPARING)
        prepare(model)
        self._model, self._session, self._picture = model, None, None
        self.events.append(m.Loaded(model))
        if model.notes:
            self.events.append(m.Told("; ".join(model.notes)))

    def _restart(self, command: m.Restart) -> None:
        if self._model is None:
            return
        tokens = self._model.tokenizer.encode(command.prompt)  # fails before anything is lost
        self._set_running(False)
        self._begin_anew(self._model, command.sampler)
        if tokens or self._model.tokenizer.start_token is not None:
            self._feed(tokens)
        self._take()

    def _begin_anew(self, model: gv.Model, sampler: gv.Sampler) -> None:
        """Another run of the model; the last one stays a branch, if it wrote anything."""
        session = self._session
        if session is None:
            self._begin(gv.Session(model, sampler, self._new_probe()))
            return
        path = session.path
        written = any(path.generated(0, path.stop)) or path.edits(path.stop)
        former = session.segment
        session.sampler = sampler
        session.begin()
        if not written and former in session.branches:
            session.close(session.branches.index(former))
        self._begin(session)

    def _new_probe(self) -> gv.Probe:
        return gv.Probe(_EXPLAINED if self._explain.on else _OBSERVED)

    def _begin(self, session: gv.Session) -> None:
        self._session, self._explained, self._edited = session, None, None
        self._forget_series(session)
        self._series[session.segment] = Series(session.model.config)
        self.events.append(m.Began(self._series[session.segment], session.sampler))

    def _feed(self, tokens: list[int]) -> None:
        session = self._need_session()
        total = max(len(tokens), 1)
        long = total > 512

        def keep_going(share: float) -> bool:
            if long:
                self._report(share, "reading the prompt")
            return self._wanted()

        self._enter(session.feed(tokens, keep_going) if tokens else [session.step()])
        if not self._wanted():
            self.events.append(m.Told(f"cancelled: the prompt is read up to {session.position}"))

    def _resume(self, command: m.Resume) -> None:
        if self._model is None:
            return
        snapshot = gv.load_snapshot(command.path)
        session = snapshot.resume(self._model, probe=self._new_probe())
        self._set_running(False)
        self._begin(session)
        self._show_branch(session)
        series = self._series[session.segment]
        series.first = series.n = session.position
        self._take()
        words = f"resumed {command.path.name} at token {session.position}"
        if differs := snapshot.differs(self._model):
            words += f"; it was made with {differs}, so going back reads the tokens anew"
        self.events.append(m.Told(words))

    def _run(self, command: m.Run) -> None:
        session = self._need_session()
        self._until = None if command.tokens is None else session.position + command.tokens
        self._set_running(True)
        self._seconds = time.perf_counter()
        if command.tokens == 0:
            self._pause(m.Pause())

    def _pause(self, _command: m.Pause) -> None:
        self._set_running(False)
        self._take()

    def _step(self, _command: m.Step) -> None:
        self._set_running(False)
        self._enter([self._need_session().step()])
        self._take()

    def _goto(self, command: m.Goto) -> None:
        self._set_running(False)
        session = self._need_session()
        self._replay(min(max(command.position, 0), session.recorded))
        self._take()

    def _replay(self, position: int) -> None:
        """Go to a position, unless somebody gives up on it: then the cursor stays where it was."""
        session = self._need_session()
        session.goto(position, self._wanted)
        if session.position != position:
            raise _Cancelled

    def _branch(self, command: m.Branch) -> None:
        self._set_running(False)
        session, at = self._need_session(), command.position
        session.check_tokens([command.token])  # fails before anything moves
        if session.path.tokens(at, at + 1) == [command.token]:  # that is what came anyway
            self._replay(at + 1)
        else:
            self._replay(at)
            known = self._series[session.segment]
            step = session.branch(at, command.token)
            self._chart(known.fork(at))
            self._enter([step])
        self._take()

    def _apply(self, command: m.Apply) -> None:
        self._set_running(False)
        session = self._need_session()
        known, before = self._series[session.segment], session.logits
        steps = session.apply(command.edit, again=min(1, session.position))
        self._chart(known.fork(session.position - len(steps)))
        self.events.append(m.Cells(session.position - len(steps), []))
        self._enter(steps)
        if before is not None and steps:
            self._edited = session.segment, session.position, command.words, before
        self._take()

    def _undo(self, _command: m.Undo) -> None:
        self._go_where(self._need_session().undo)

    def _redo(self, _command: m.Redo) -> None:
        self._go_where(self._need_session().redo)

    def _go_where(self, go: Callable[[Callable[[], bool]], None]) -> None:
        """Undo or redo, and show the branch where that leads."""
        self._set_running(False)
        session = self._need_session()
        place = session.segment, session.position
        go(self._wanted)
        if place == (session.segment, session.position):
            raise _Cancelled
        self._arrive(session)

    def _start_explaining(self, command: m.Explain) -> None:
        self._explain = command
        session = self._session
        if session is None:
            return
        wanted = self._new_probe()
        if session.probe is None or session.probe.observables != wanted.observables:
            session.probe = wanted
        if not self._running:
            self._take()

    def _switch(self, command: m.Switch) -> None:
        self._set_running(False)
        session = self._need_session()
        branches = session.branches
        if len(branches) == 1:
            self.events.append(m.Told("there is one branch only: click a next token for another"))
            return
        target = (branches.index(session.segment) + command.by) % len(branches)
        session.switch(target, self._wanted)
        if session.segment is not branches[target]:
            raise _Cancelled
        self._arrive(session)

    def _arrive(self, session: gv.Session) -> None:
        """Show the branch that one has come to."""
        self._chart(self._series[session.segment])
        self._show_branch(session)
        self._take()

    def _go_to_branch(self, command: m.GoToBranch) -> None:
        session = self._need_session()
        rows = session.branches
        if rows[command.row] is not session.segment:
            self._switch(m.Switch(command.row - rows.index(session.segment)))

    def _name_branch(self, command: m.NameBranch) -> None:
        self._need_session().branches[command.row].name = command.name.strip()
        self._take()

    def _close_branch(self, command: m.CloseBranch) -> None:
        session = self._need_session()
        session.close(command.row)
        self._forget_series(session)
        self._take()

    def _forget_series(self, session: gv.Session) -> None:
        """Keep the figures of branches that are there."""
        there = session.history.segments
        self._series = {s: v for s, v in self._series.items() if s in there}

    def _chart(self, series: Series) -> None:
        """The current branch's figures are these."""
        self._series[self._need_session().segment] = series
        self.events.append(m.Charted(series))

    def _show_branch(self, session: gv.Session) -> None:
        """Tell the window all tokens of the current branch."""
        path, label, n = session.path, session.model.tokenizer.label, session.recorded
        texts, probabilities = path.texts(0, n), path.probabilities(0, n)
        generated = path.generated(0, n)
        cells = [
            m.Cell(i, t, texts[i], label(t), probabilities[i], generated[i])
            for i, t in enumerate(path.tokens(0, n))
        ]
        self.events.append(m.Cells(0, cells))

    def _resample(self, command: m.Resample) -> None:
        if self._session is not None:
            self._session.sampler = command.sampler

    def _export(self, command: m.Export) -> None:
        session = self._need_session()
        try:
            gv.save_snapshot(command.path, session)
        except ValueError as error:  # a name that says no format
            raise gv.GooseError(str(error)) from None
        self.events.append(m.Told(f"saved token {session.position} to {command.path}"))

    _HANDLERS: ClassVar[dict[type, Callable[..., None]]] = {
        m.Load: _load, m.Restart: _restart, m.Run: _run, m.Pause: _pause, m.Step: _step,
        m.Goto: _goto, m.Branch: _branch,
        m.Switch: _switch, m.Resample: _resample, m.Export: _export,
        m.Resume: _resume, m.Apply: _apply, m.Undo: _undo, m.Redo: _redo,
        m.Explain: _start_explaining, m.GoToBranch: _go_to_branch, m.NameBranch: _name_branch,
        m.CloseBranch: _close_branch,
    }  # fmt: skip

    def _advance(self) -> None:
        session = self._need_session()
        step = session.step()
        self._enter([step])
        now = time.perf_counter()
        elapsed, self._seconds = max(now - self._seconds, 1e-9), now
        smoothing = min(1.0, 2 * elapsed)  # over half a second or so, whatever the speed
        self._rate += smoothing * (1 / elapsed - self._rate) if self._rate else 1 / elapsed
        if session.stopped() or (self._until is not None and session.position >= self._until):
            self._set_running(False)
            self._take()
        elif self._picture is None and elapsed > _SLOW_TOKEN:
            self._take()

    def _enter(self, steps: list[gv.Step]) -> None:
        """Tell the window of tokens that it does not know, and keep their figures."""
        session = self._need_session()
        series = self._series[session.segment]
        label = session.model.tokenizer.label
        cells = []
        for step in steps:
            index = step.position - 1
            if step.frame is not None:
                n = series.n
                series.put(index, step.frame)
                if session.recorded >= n > index:
                    series.n = n  # a replay: what follows is as it was
            cells.append(
                m.Cell(
                    index,
                    step.token,
                    step.text,
                    label(step.token),
                    step.probability,
                    step.generated,
                )
            )
        if session.probe is not None:
            session.probe.clear()
        if cells and session.position == session.recorded:
            self.events.append(m.Cells(cells[0].index, cells))

    def _take(self) -> None:
        """Make a picture of the moment."""
        session = self._session
        if session is None:
            return
        label, branches = session.model.tokenizer.label, session.branches
        picture = m.Picture(
            session.position, session.recorded, session.frame if session.position else None,
            session.state.wkv.copy(), [(t, label(t), p) for t, p in session.next_tokens(_NEXT)],
            self._rate if self._running else 0.0, branches.index(session.segment), len(branches),
            bool(session.edits), session.can_redo, self._comparison(session), self._explained,
            stale=self._explained_at != (session.segment, session.position),
        )  # fmt: skip
        self._picture = picture
        self._list_branches(session, branches)
        waits = self._running and time.perf_counter() < self._explain_after
        if self._explain.on and not waits:
            self._explain_now(session, picture)

    def _explain_now(self, session: gv.Session, picture: m.Picture) -> None:
        """Work out where the next word comes from, unless something else is to be done first."""
        began, e = time.perf_counter(), self._explain

        def keep_going() -> bool:
            patient = not self._running or time.perf_counter() < began + _LOOK_BACK
            return patient and self._wanted() and self._commands.empty()

        try:
            self._explained = explain(
                session, e.target, e.against, e.alone, e.layer, e.head, e.edit, keep_going
            )
            self._explained_at = session.segment, session.position
            self._picture = replace(picture, why=self._explained, stale=False)
        except Stopped:
            pass  # what was read again is kept for the next time
        now = time.perf_counter()
        self._explain_after = now + _PAUSE * (now - began)

    def _list_branches(self, session: gv.Session, branches: list[Segment]) -> None:
        """Tell the window of the branches, if there are others or they are called otherwise."""
        known = [
            (b, b.name, b is session.segment, 0 if self._running else b.stop) for b in branches
        ]
        if known != self._listed:
            self._listed = known
            self.events.append(m.Branches(branch_rows(session, branches)))

    def _comparison(self, session: gv.Session) -> m.Comparison | None:
        """What was expected before the edit, while the cursor stands behind it."""
        if self._edited is None or self._edited[:2] != (session.segment, session.position):
            return None
        _, _, words, logits = self._edited
        label = session.model.tokenizer.label
        before, now = pairs(rank(logits, _NEXT)[0]), session.next_tokens(_NEXT)
        ids = {t for t, _ in (*before, *now)}
        were, are = ({t: float(p[t]) for t in ids} for p in map(softmax, (logits, session.logits)))
        return m.Comparison(words, [(t, label(t), p) for t, p in before], were, are)

    def _set_running(self, running: bool) -> None:
        if running != self._running:
            self._running = running
            self._rate = 0.0
            self.events.append(m.Running(running))

    def _need_session(self) -> gv.Session:
        if self._session is None:
            raise gv.GooseError("no model is open yet; open one from the File menu")
        return self._session

"""A run as the worker has it: a session, its figures, how fast it goes, and what is told of it.

No Qt here, no thread either: `goose_app.worker` calls it from its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path as FilePath
from typing import Any, ClassVar, Protocol

import goose_viz as gv
from goose_app import messages as m
from goose_app.before_after import Edited, compare, filled
from goose_app.branch_rows import branch_rows
from goose_app.cells import Cells
from goose_app.explaining import PAUSE, Explaining
from goose_app.kept_runs import Keeper
from goose_app.recording import Recording
from goose_app.series import Series
from goose_viz.analysis.memory import NOW, PAST
from goose_viz.documents import content_of
from goose_viz.errors import Stopped
from goose_viz.history import Path, Segment
from goose_viz.templates import apply_template, next_turn

_NEXT = 12
_TAIL = 16  # tokens of which the end of a turn can be read
_SLOW_TOKEN = 0.05  # seconds a token from which the window does not wait for its end


class Cancelled(Exception):
    """The window asked to stop what takes long."""


class Host(Protocol):
    """What a run asks of the thread that it works on."""

    @property
    def serial(self) -> int:
        """The number of the command that is being obeyed, or was last."""

    @property
    def keep_in(self) -> FilePath | None:
        """The folder where runs are kept that nobody saved; None: nowhere."""

    def say(self, event: m.Event) -> None:
        """Tell the window."""

    def wanted(self) -> bool:
        """Whether what is being done is still to be done."""

    def busy(self) -> bool:
        """Whether something else waits to be done."""

    def next_move(self) -> m.Move | None:
        """Take the next thing to be done, if that is to move the cursor."""

    def run_of(self, run: int) -> Run:
        """Another run."""


class Run(Explaining):
    """A session and what the window is told of it.

    Parameters
    ----------
    model : Model
    asked, tokenizer : str or None
        What it was opened from, and which tokenizer was named.
    watch : Watch
        What is observed.
    host : Host

    Attributes
    ----------
    session : Session or None
        None until a text is begun.
    running : bool
        Whether it writes on by itself.
    picture : Picture or None
        The newest, until somebody takes it.
    """

    def __init__(
        self,
        model: gv.Model,
        asked: str | None,
        tokenizer: str | None,
        watch: m.Watch,
        host: Host,
    ) -> None:
        self.model, self.asked, self.tokenizer = model, asked, tokenizer
        self.session: gv.Session | None = None
        self._begun_with = ""  # what texts begin with, in words
        self.running = False
        self.picture: m.Picture | None = None
        self._watch, self._host = watch, host
        self._say, self._wanted = host.say, host.wanted
        self._series: dict[Segment, Series] = {}
        self._wrote: dict[Segment, list[tuple[int, gv.Sampler]]] = {}  # what chose, from where on
        self._begin_explaining()
        self._listed: list[tuple[Segment, str, bool, int]] = []
        self._edited: Edited | None = None
        self._sources: dict[Segment, tuple[m.Source | None, m.Source | None]] = {}
        self._numbers = count()
        self.recording = Recording(host.say)
        self._keeper: Keeper | None = None
        self.place: tuple[Segment, int] | None = None  # of which the last picture is
        self._until: int | None = None
        self._seconds = 0.0
        self._rate = 0.0
        self._begin_inquiries()

    def obey(self, command: m.Command) -> None:
        """Do what a person asked for."""
        handler: Callable[[Any], None] = self._HANDLERS[type(command)].__get__(self)
        handler(command)

    # -- beginning ---------------------------------------------------------------------------------

    def _restart(self, command: m.Restart) -> None:
        tokens = self.model.tokenizer.encode(command.prompt)  # fails before anything is lost
        self.set_running(False)
        self._begin_anew(command.sampler)
        empty = self._need_session().initial is None
        if tokens or (empty and self.model.tokenizer.start_token is not None):
            self._feed(tokens)
        self.take()

    def _begin_with(self, command: m.BeginWith) -> None:
        """Begin with a memory: of a file, behind a text, or an empty one; the run goes."""
        path, session = command.path, self.session
        if path is None and (session is None or session.initial is None):
            self._say(m.Told("texts begin with an empty memory already"))
            return

        def progress(share: float, words: str) -> None:
            if not self._wanted():
                raise Cancelled
            self._say(m.Loading(share, words))

        state, memory = None, ""
        if path is not None and command.text:
            state = gv.state_after(self.model, content_of(path), progress)
            memory = f"the memory behind {path.name}"
        elif path is not None:
            found = gv.load_state(path, self.model.config, command.layout, command.orientation)
            state, memory = found.state, f"{path.name} ({found})"
        self.set_running(False)
        sampler = session.sampler if session is not None else gv.Sampler()
        self._begin(gv.Session(self.model, sampler, self._new_probe(), initial=state), memory)
        self._say(m.Told(f"texts begin with {memory or 'an empty memory'}; give a prompt"))
        self.take()

    def _converse(self, command: m.Say) -> None:
        """Feed what a person says as the model was taught it, and write the answer."""
        tokenizer, session = self.model.tokenizer, self.session
        fresh = command.fresh or session is None or session.position == 0
        if fresh or session is None:
            words = apply_template(command.template, command.words, command.system)
        else:
            end = session.position
            before = "".join(session.path.texts(max(0, end - _TAIL), end))
            ended = session.tokens[-1] == tokenizer.end_token
            words = next_turn(command.template, command.words, before, ended)
        tokens = tokenizer.encode(words)  # fails before anything is lost
        self.set_running(False)
        if fresh or session is None:
            self._begin_anew(command.sampler)
        else:
            session.sampler = command.sampler
        self._feed(tokens)
        self.take()
        if self._wanted():
            self._run(m.Run())

    def _begin_anew(self, sampler: gv.Sampler) -> None:
        """Another text; the last one stays a branch, if it wrote anything."""
        session = self.session
        if session is None:
            self._begin(gv.Session(self.model, sampler, self._new_probe()))
            return
        path = session.path
        written = any(path.generated(0, path.stop)) or path.edits(path.stop)
        former = session.segment
        session.sampler = sampler
        session.begin()
        if not written and former in session.branches:
            session.close(session.branches.index(former))
        self._begin(session)

    def _begin(self, session: gv.Session, memory: str = "") -> None:
        if session is not self.session:
            self.recording.end()
            self.keep()
            self._keeper = Keeper(session, self._host.keep_in, self.tokenizer)
            self._begun_with = memory if session.initial is not None else ""
        self.session, self._explained, self._edited = session, (None, None), None
        self.ponder.forget()
        self._forget_series(session)
        series = self._series[session.segment] = Series(self.model.config, self._watch.recorded)
        self._say(m.Began(series, session.sampler, self._begun_with))

    def _feed(self, tokens: list[int]) -> None:
        session = self._need_session()
        long = len(tokens) > 512

        def keep_going(share: float) -> bool:
            if long:
                self._say(m.Loading(share, "reading the prompt"))
            return self._wanted()

        here, at = session.segment, session.position
        portions = session.feeding(tokens, keep_going) if tokens else iter([[session.step()]])
        for steps in portions:  # what is observed of a long text is not held all at once
            self._follow(here, at)
            here = session.segment
            self._enter(steps)
        if not self._wanted():
            self._say(m.Told(f"cancelled: the prompt is read up to {session.position}"))

    def _become(self, command: m.Twin) -> None:
        """Have the past of another run's branch, or of all that it read up to its cursor."""
        other = self._host.run_of(command.run)
        theirs = other._need_session()
        twin = theirs.twin(command.row)
        former = theirs.path if command.row is None else Path(theirs.branches[command.row])
        self.set_running(False)
        self._begin(twin, other._begun_with)
        session = self._need_session()
        for mine, segment in zip(session.path.segments, former.segments, strict=True):
            if segment in other._sources:
                self._sources[mine] = other._sources[segment]
        session.probe = self._new_probe()
        self._stand(session)

    def _resume(self, command: m.Resume) -> None:
        snapshot = gv.load_snapshot(command.path)
        session = snapshot.resume(self.model, probe=self._new_probe())
        self.set_running(False)
        self._begin(session, f"the memory with which {command.path.name} begins")
        self._stand(session)
        words = f"resumed {command.path.name} at token {session.position}"
        if differs := snapshot.differs(self.model):
            words += f"; it was made with {differs}: its past is read anew, with this model"
        self._say(m.Told(words))
        self._look_back(session)

    def reopen(self, path: FilePath, file: gv.SessionFile) -> None:
        """Go on with a session that was saved."""
        session = file.open(self.model, self._new_probe())
        self.set_running(False)
        self._begin(session, f"the memory with which {path.name} begins")
        self._say(m.Reopened(file.window, path))
        self._stand(session)
        words = f"opened {path.name} at token {session.position}"
        if differs := file.differs(self.model):
            words += f"; it was saved with {differs}: its past is read anew, with this model"
        self._say(m.Told(words))
        self._look_back(session)

    def adopt(self, session: gv.Session) -> None:
        """Show a session that somebody else has."""
        self.set_running(False)
        self._begin(session)
        session.probe = self._new_probe()
        self._stand(session)
        self._look_back(session)

    def _look(self, _command: m.Look) -> None:
        """Show what somebody else did with the session."""
        session = self._need_session()
        if self.running or self.place == (session.segment, session.position):
            return
        if session.probe is None or not session.probe.observables >= self._watch.recorded:
            session.probe = self._new_probe()
        self._arrive(session)
        series = self._series[session.segment]
        if self._read_again(session, series, session.position):
            self.take()

    def _stand(self, session: gv.Session) -> None:
        """Show a session that begins where it stands: of its past there are no figures yet."""
        self._show_branch(session)
        self._chart(self._known(session))
        self.take()

    def _known(self, session: gv.Session) -> Series:
        """The figures of a branch that nobody has looked at: none, up to the cursor."""
        series = Series(self.model.config, self._watch.recorded)
        series.first = series.n = session.position
        return series

    def _look_back(self, session: gv.Session) -> None:
        """Read the current branch again for its figures, up to where they are known."""
        later = self._series[session.segment]
        past = Series(self.model.config, self._watch.recorded)
        if self._read_again(session, past, later.first):
            past.extend(later)
            self._chart(past)
            self.take()

    def _read_again(self, session: gv.Session, series: Series, stop: int) -> bool:
        """Read tokens again that figures lack, up to one; whether there were any, and all are."""
        start = series.n
        if start >= stop or not self._watch.recorded:
            return False

        def keep_going() -> bool:
            done = (series.n - start) / (stop - start)
            self._say(m.Loading(done, "reading the past again for its lines"))
            return self._wanted()

        probe = gv.Probe(self._watch.recorded)
        try:
            for i, frame, _ in session.again(start, stop, probe, keep_going, expected=False):
                series.put(i, frame)
        except Stopped:
            self._say(m.Told(f"cancelled: the lines begin at token {stop}"))
            return False
        return True

    def _save_session(self, command: m.SaveSession) -> None:
        session = self._need_session()
        gv.save_session(command.path, session, command.window)
        if self._keeper is not None:
            self._keeper.saved(command.path)
        self._say(m.Told(f"saved the session to {command.path}"))

    @property
    def unkept(self) -> bool:
        """Whether it holds what neither a person nor `keep` has saved."""
        return self._keeper is not None and self._keeper.wanted

    def keep(self) -> None:
        """Keep what nobody saved yet."""
        if self._keeper is not None:
            try:
                self._keeper.keep()
            except OSError as error:
                if not self._keeper.failed:
                    self._say(m.Told(f"this run is not kept: {error}"))
                self._keeper.failed = True

    # -- going on, and back ------------------------------------------------------------------------

    def _run(self, command: m.Run) -> None:
        session = self._need_session()
        self._until = None if command.tokens is None else session.position + command.tokens
        self.set_running(True)
        self._seconds = time.perf_counter()
        self._explain_after = self._seconds + PAUSE * self._explaining  # this place is explained
        if command.tokens == 0:
            self._pause(m.Pause())

    def _pause(self, _command: m.Pause) -> None:
        self.set_running(False)
        self.take()

    def _run_or_pause(self, _command: m.RunOrPause) -> None:
        if self.running:
            self._pause(m.Pause())
        else:
            self._run(m.Run())

    def set_running(self, running: bool) -> None:
        """Write on from here, or stop."""
        if running != self.running:
            self.running = running
            self._rate = 0.0
            self._say(m.Running(running, self._host.serial))

    def advance(self) -> None:
        """One token on."""
        session = self._need_session()
        if self._explain.on:
            session.probe = self._new_probe()
            if self._explanation_due():
                self._remember_head(session)
        stop = self._write()
        now = time.perf_counter()
        elapsed, self._seconds = max(now - self._seconds, 1e-9), now
        smoothing = min(1.0, 2 * elapsed)  # over half a second or so, whatever the speed
        self._rate += smoothing * (1 / elapsed - self._rate) if self._rate else 1 / elapsed
        if stop or session.stopped() or self._reached(session.position):
            self.set_running(False)
            self.take()
        elif self.picture is None and elapsed > _SLOW_TOKEN:
            self.take()
        if self.running:
            self.go_on()

    def _reached(self, position: int) -> bool:
        return self._until is not None and position >= self._until

    def _move(self, command: m.Move) -> None:
        """Where this and all further moves that wait lead, up to a token that is to be written."""
        self.set_running(False)
        session = self._need_session()
        target, end = session.position, session.recorded
        move: m.Move | None = command
        while move is not None and not (isinstance(move, m.Step) and target == end):
            match move:
                case m.Step():
                    target += 1
                case m.Back():
                    target = max(target - 1, 0)
                case m.Goto(position):
                    target = min(max(position, 0), end)
            move = self._host.next_move()
        if target == session.position + 1:
            self._step()
        else:
            self._replay(target)
        if move is not None:
            self._step()
        self.take()

    def _step(self, anew: bool = False) -> None:
        session = self._need_session()
        if self._explain.on:
            self._remember_head(session)
        self._write(anew)

    def _write(self, anew: bool = False) -> bool:
        """The next token: the one that is recorded, if there is one and not another is wanted.

        Whether the condition for stopping holds of it.
        """
        session = self._need_session()
        here, at, before = session.segment, session.position, session.logits
        new = anew or at == session.recorded
        step = session.step(anew=anew)
        self._follow(here, at)
        self._enter([step])
        if new:
            wrote = self._wrote.setdefault(session.segment, [])
            if not wrote or wrote[-1][1] != session.sampler:
                wrote.append((step.position - 1, session.sampler))
        if session.logits is not None and self.pins.tokens:
            self.pins.put(session.path.at(at), at, session.logits)
        stop = self.stops.put(session, before)
        if stop and self.running and self.stops.condition is not None:
            self._say(m.Told(f"stopped at token {session.position}: {self.stops.condition.words}"))
        if stop:
            self.tell_stops()
        return stop

    def _diverge(self, _command: m.Diverge) -> None:
        session = self._need_session()
        self.set_running(False)
        if session.position < session.recorded:
            if self._would_repeat(session):
                session.sampler = replace(session.sampler, seed=_next_seed(session.sampler))
                self._say(m.Sampled(session.sampler))
                self._say(m.Told(f"seed {session.sampler.seed}: the last one wrote what was here"))
            self._step(anew=True)
        self._run(m.Run())

    def _replay(self, position: int) -> None:
        """Go to a position, unless somebody gives up on it: then the cursor stays where it was."""
        session = self._need_session()
        session.goto(position, self._wanted)
        if session.position != position:
            raise Cancelled

    def _resample(self, command: m.Resample) -> None:
        if self.session is not None:
            self.session.sampler = command.sampler

    def _export(self, command: m.Export) -> None:
        session = self._need_session()
        try:
            gv.save_snapshot(command.path, session)
        except ValueError as error:  # a name that says no format
            raise gv.GooseError(str(error)) from None
        self._say(m.Told(f"saved token {session.position} to {command.path}"))

    def _record(self, command: m.Record) -> None:
        self.recording.end()
        if command.path is not None:
            session = self._need_session()
            self.recording.begin(session, command, self._wanted)
            session.probe = self._new_probe()

    # -- branches ----------------------------------------------------------------------------------

    def _branch(self, command: m.Branch) -> None:
        self.set_running(False)
        session, at = self._need_session(), command.position
        session.check_tokens([command.token])  # fails before anything moves
        if session.path.tokens(at, at + 1) == [command.token]:  # that is what came anyway
            self._replay(at + 1)
        else:
            self._replay(at)
            here = session.segment
            step = session.branch(at, command.token)
            self._follow(here, at)
            self._enter([step])
        self.take()

    def _choose(self, command: m.Choose) -> None:
        """Of what is expected where the cursor is now: of keys in a row, each counts."""
        session = self._need_session()
        expected = session.next_tokens(command.rank + 1)
        if len(expected) > command.rank:
            self._branch(m.Branch(session.position, expected[command.rank][0]))

    def _would_repeat(self, session: gv.Session) -> bool:
        """Whether the sampling of now is what chose the token that follows the cursor."""
        wrote = self._wrote.get(session.path.at(session.position), [])
        ruled = [sampler for start, sampler in wrote if start <= session.position]
        if not ruled:
            return True  # of a snapshot: nobody knows
        now, then = (replace(s, stop=()) for s in (session.sampler, ruled[-1]))
        return now == then

    def _switch(self, command: m.Switch) -> None:
        session = self._need_session()
        branches = session.branches
        if len(branches) == 1:
            self._say(m.Told("there is one branch only: click a next token for another"))
            return
        here = branches.index(session.segment)
        self._go_to(session, branches, (here + command.by) % len(branches))

    def _go_to_branch(self, command: m.GoToBranch) -> None:
        session = self._need_session()
        branches = session.branches
        if branches[command.row] is not session.segment:
            self._go_to(session, branches, command.row)

    def _go_to(self, session: gv.Session, branches: list[Segment], row: int) -> None:
        self.set_running(False)
        session.switch(row, self._wanted)
        if session.segment is not branches[row]:
            raise Cancelled
        self._arrive(session)

    def _arrive(self, session: gv.Session) -> None:
        """Show the branch that one has come to."""
        self.recording.arrived(session, self._wanted)
        known = self._series.get(session.segment)
        self._chart(self._known(session) if known is None else known)
        self._show_branch(session)
        if known is None:
            self._look_back(session)
        self.take()

    def _name_branch(self, command: m.NameBranch) -> None:
        self._need_session().branches[command.row].name = command.name.strip()
        self.take()

    def _close_branch(self, command: m.CloseBranch) -> None:
        session = self._need_session()
        session.close(command.row)
        self._forget_series(session)
        self.take()

    def _forget_series(self, session: gv.Session) -> None:
        """Keep the figures of branches that are there."""
        there = session.history.segments
        self._series = {s: v for s, v in self._series.items() if s in there}
        self._wrote = {s: v for s, v in self._wrote.items() if s in there}
        self.pins.forget(there)
        self.stops.forget(there)

    def _chart(self, series: Series) -> None:
        """The current branch's figures are these."""
        self._series[self._need_session().segment] = series
        self._say(m.Charted(series))

    def _follow(self, here: Segment, at: int) -> None:
        """If it went on from the middle of a branch, its figures up to there go on as well."""
        if self._need_session().segment is not here:
            self._chart(self._series[here].fork(at))

    def _show_branch(self, session: gv.Session) -> None:
        """Tell the window all tokens of the current branch."""
        cells = Cells()
        for segment, part in session.path.pieces(0, session.recorded):
            cells.extend(
                segment.tokens[part], segment.texts[part], segment.probabilities[part],
                segment.generated[part],
            )  # fmt: skip
        self._say(cells)

    # -- edits of the memory -----------------------------------------------------------------------

    def _apply(self, command: m.Apply) -> None:
        self.set_running(False)
        session = self._need_session()
        known, before = self._series[session.segment], session.logits
        edit = command.edit
        if isinstance(edit, gv.Mute) and command.tokens:  # from where the cursor is by now
            edit = replace(edit, until=session.position + command.tokens)
        if command.source is not None:
            edit = filled(edit, self._memory(command.source), self._memory(command.minus))
        steps = session.apply(edit, again=min(1, session.position))
        self._sources[session.segment] = command.source, command.minus
        self._chart(known.fork(session.position - len(steps)))
        self._say(Cells(session.position - len(steps)))
        self._enter(steps)
        if before is not None and steps:
            place = session.segment, session.position
            self._edited = Edited(*place, command.words, edit, before)
        self.take()

    def _read_truly(self, _command: m.ReadTruly) -> None:
        """Read the text that a replacement stands for, to see what is expected then."""
        session, edited = self._need_session(), self._edited
        if edited is not None and edited.stands(session):
            self._edited = edited.read_truly(session, self._wanted)
            self.take()

    def _undo(self, _command: m.Undo) -> None:
        self._go_where(self._need_session().undo)

    def _redo(self, _command: m.Redo) -> None:
        self._go_where(self._need_session().redo)

    def _go_where(self, go: Callable[[Callable[[], bool]], None]) -> None:
        """Undo or redo, and show the branch where that leads."""
        self.set_running(False)
        session = self._need_session()
        place = session.segment, session.position
        go(self._wanted)
        if place == (session.segment, session.position):
            raise Cancelled
        self._arrive(session)

    # -- what is looked at -------------------------------------------------------------------------

    def _look_at(self, command: m.Watch) -> None:
        self._watch = command
        if self.session is not None:
            self.session.probe = self._new_probe()
            if not self.running:
                self.take()

    def _new_probe(self) -> gv.Probe:
        """What to observe of the next token.

        An explanation needs some of every token, and twice as much of the one that it is of.
        """
        names = self._watch.recorded | self._watch.shown | self.observed
        names |= self.recording.observed
        if self._explain.on:
            names |= frozenset(NOW if self._explanation_due() else PAST)
        return gv.Probe(names)

    def _enter(self, steps: Sequence[gv.Step]) -> None:
        """Tell the window of tokens that it does not know, and keep their figures."""
        session = self._need_session()
        series = self._series[session.segment]
        cells = Cells(steps[0].position - 1 if steps else 0)
        for step in steps:
            index = step.position - 1
            if step.frame is not None:
                n = series.n
                series.put(index, step.frame)
                if session.recorded >= n > index:
                    series.n = n  # a replay: what follows is as it was
            cells.append(step.token, step.text, step.probability, step.generated)
        if session.probe is not None:
            session.probe.clear()
        if cells and session.position == session.recorded:
            self._say(cells)

    def take(self) -> None:
        """Make a picture of the moment."""
        session = self.session
        if session is None:
            return
        label, branches = self.model.tokenizer.label, session.branches
        picture = m.Picture(
            session.position, session.recorded, self._frame(session),
            session.state.wkv.copy(), [(t, label(t), p) for t, p in session.next_tokens(_NEXT)],
            self._rate if self.running else 0.0, branches.index(session.segment), len(branches),
            bool(session.edits), session.can_redo, self._comparison(session), *self._explained,
            stale=self._explained_at != (session.segment, session.position),
            edits=self.made(session), number=next(self._numbers), serial=self._host.serial,
            came=self._came(session), pins=self._pins(session),
        )  # fmt: skip
        self.picture = picture
        self.place = session.segment, session.position
        self._list_branches(session, branches)
        if not self.running:
            self.tell_stops()
        frame = picture.frame
        ready = not self.running or (frame is not None and frame.arrays().keys() >= set(NOW))
        if self._explain.on and ready:
            self._explain_now(session, picture)

    def made(self, session: gv.Session) -> tuple[m.Made, ...]:
        """The edits up to the cursor; those of a snapshot have lost what they were made from."""
        reached = session.path.segments[: session.path.depth(session.position) + 1]
        return tuple(
            m.Made(s.edit.position, s.edit.what, *self._sources.get(s, (None, None)))
            for s in reached
            if s.edit is not None
        )

    def _frame(self, session: gv.Session) -> gv.Frame | None:
        """What views want to know of the last token."""
        frame, at = session.frame, session.position
        if at == 0:
            return None
        if not self.running and (frame is None or not self._watch.shown <= frame.arrays().keys()):
            names = self._watch.recorded | self._watch.shown
            return session.frames(at - 1, at, names, initial=False)[0]
        return frame

    def _list_branches(self, session: gv.Session, branches: list[Segment]) -> None:
        """Tell the window of the branches, if there are others or they are called otherwise."""
        known = [(b, b.name, b is session.segment, 0 if self.running else b.stop) for b in branches]
        if known != self._listed:
            self._listed = known
            self._say(m.Branches(branch_rows(session, branches)))

    def _comparison(self, session: gv.Session) -> m.Comparison | None:
        """What was expected before the edit, while the cursor stands behind it."""
        if self._edited is None or not self._edited.stands(session):
            return None
        return compare(self._edited, session, _NEXT)

    def _need_session(self) -> gv.Session:
        if self.session is None:
            raise gv.GooseError("there is no text yet; begin one with a prompt")
        return self.session

    _HANDLERS: ClassVar[dict[type, Callable[..., None]]] = {
        m.Restart: _restart, m.Say: _converse, m.Resume: _resume, m.Run: _run, m.Pause: _pause,
        m.RunOrPause: _run_or_pause, m.Step: _move, m.Back: _move, m.Goto: _move,
        m.Choose: _choose, m.Diverge: _diverge, m.Resample: _resample, m.Export: _export,
        m.Record: _record, m.Look: _look, m.SaveSession: _save_session, m.BeginWith: _begin_with,
        m.Branch: _branch,
        m.Switch: _switch, m.GoToBranch: _go_to_branch, m.NameBranch: _name_branch,
        m.CloseBranch: _close_branch, m.Apply: _apply, m.ReadTruly: _read_truly, m.Undo: _undo,
        m.Redo: _redo, m.Watch: _look_at, m.Twin: _become,
        m.Explain: Explaining._start_explaining, m.Ask: Explaining._ask,
        m.Study: Explaining._study, m.Abandon: Explaining._abandon, m.Pin: Explaining._pin,
        m.StopAt: Explaining._stop_at, m.ToStop: Explaining._to_stop,
    }  # fmt: skip


def _next_seed(sampler: gv.Sampler) -> int:
    return ((sampler.seed or 0) + 1) % 2**31

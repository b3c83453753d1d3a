"""The thread that owns models and runs; no Qt here.

Commands go in by a queue.  Out come events, each of them and in order, and pictures, of which only
the newest of a run is there: one is made when the window asks, so a slow window costs the engine
nothing.  All of them carry the number of the run that they are about.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import goose_viz as gv
from goose_app import messages as m
from goose_app.kept_runs import SECONDS
from goose_app.model_facts import ModelFacts
from goose_app.replayed import Replayed
from goose_app.run import Cancelled, Run
from goose_viz.errors import Stopped
from goose_viz.faults import report_fault
from goose_viz.session import PREPARING, prepare
from goose_viz.session_file import is_session
from goose_viz.trace import Trace, is_trace, open_trace

#: What a cancel that came later takes back.
_LONG = (
    m.Load, m.Restart, m.Say, m.Resume, m.Reopen, m.Run, m.Study, m.Record, m.BeginWith,
)  # fmt: skip
Queued = tuple[int, int, m.Command]  # its number, which run it is for, and what to do
_LONGEST_PAINT = 0.25  # seconds after which the model goes on, painted or not


class Worker:
    """Runs sessions outside the window's thread.

    Parameters
    ----------
    keep_in : Path, optional
        A folder to keep runs in that nobody saved.

    Attributes
    ----------
    said : deque of (int, Event)
        Append-only here; the window pops from the left.
    delay : float
        Seconds to wait between tokens.
    """

    def __init__(self, keep_in: Path | None = None) -> None:
        self.keep_in = keep_in
        self._look = 0.0  # when to look whether there is more to keep
        self.said: deque[m.Said] = deque()
        self.delay = 0.0
        self._commands: queue.SimpleQueue[Queued | None] = queue.SimpleQueue()
        self._ahead: deque[Queued | None] = deque()  # commands that were looked at already
        self._serial = 0  # of the last command that was sent
        self._cancelled = 0  # commands up to this one are not to take long
        self.current = 0  # the one that is obeyed
        self.obeyed = 0  # the last one that is done
        self._runs: dict[int, Run | Replayed] = {}
        self._watches: dict[int, m.Watch] = {}  # what runs that have no model yet are to observe
        self._explains: dict[int, m.Explain] = {}
        self._asks: dict[int, m.Ask] = {}
        self._unopened: set[int] = set()  # runs beside the first whose model did not come
        self._free = threading.Event()  # not set while the window paints
        self._free.set()
        self.idle = False  # waiting between two tokens, as `hold` asked, with fresh pictures
        self._closing = False
        self._loading: set[int] = set()  # runs whose Loading event wants its end
        self._thread = threading.Thread(target=self._work, name="goose-worker", daemon=True)

    # -- called by the window ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def send(self, command: m.Command, run: int = 0) -> int:
        """Queue a command for a run; its number."""
        self._serial += 1
        self._commands.put((self._serial, run, command))
        return self._serial

    def cancel(self) -> None:
        """Stop what takes long, begun or still queued: a load, a long prompt, a replay, a run."""
        self._cancelled = self._serial
        for ident in [*self._runs] or [0]:
            self.send(m.Pause(), ident)
            self.send(m.Abandon(), ident)

    def take_picture(self, run: int = 0) -> m.Picture | None:
        """The newest picture of a run, once."""
        owner = self._runs.get(run)
        if owner is None:
            return None
        picture, owner.picture = owner.picture, None
        return picture

    @property
    def answered(self) -> bool:
        """Whether all that was asked for is done."""
        return self.obeyed >= self._serial

    @property
    def at_rest(self) -> bool:
        """Whether all is done, said and shown, and nothing is being worked out."""
        if not self.answered:  # first: what it is still about may show in what is asked next
            return False
        runs = list(self._runs.values())
        busy = any(r.running or r.pondering or r.picture is not None for r in runs)
        return not self.said and not busy

    @property
    def recording_broken(self) -> bool:
        """Whether a recording cannot be written any more: the disk is full, or gone."""
        return any(r.recording.broken for r in list(self._runs.values()) if isinstance(r, Run))

    @property
    def writing(self) -> bool:
        """Whether a run writes, and `idle` will come."""
        return any(run.running for run in list(self._runs.values()))

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
                self.obeyed = self.current
                continue
            if time.monotonic() > self._look:
                self._keep()
            if not self._free.is_set():
                self._let_paint()
            for ident, run in self._runs.items():
                if run.running:
                    self._guard(ident, run.advance)
                elif run.pondering:
                    self._guard(ident, run.go_on, stops=False)
        self._end_recordings()
        self._keep()

    def _end_recordings(self) -> None:
        for run in self._runs.values():
            if isinstance(run, Run):
                run.recording.end()

    def _keep(self) -> None:
        """Keep what nobody saved."""
        for ident, run in self._runs.items():
            if isinstance(run, Run) and run.unkept:
                self._guard(ident, run.keep, stops=False)
        self._look = time.monotonic() + SECONDS

    def _let_paint(self) -> None:
        """Wait while the window paints what runs are at."""
        for ident, run in self._runs.items():
            if run.running:
                self._guard(ident, run.take)
        self.idle = True
        self._free.wait(_LONGEST_PAINT)
        self.idle = False

    def _next_command(self) -> Queued | None:
        if self._ahead:
            return self._ahead.popleft()
        writing = self.writing
        if not writing and not any(run.pondering for run in self._runs.values()):
            unkept = any(isinstance(r, Run) and r.unkept for r in self._runs.values())
            with contextlib.suppress(queue.Empty):
                rest = max(self._look - time.monotonic(), 0.0)
                return self._commands.get(timeout=rest if unkept else None)
            return None
        try:
            if self.delay and writing:
                return self._commands.get(timeout=self.delay)
            return self._commands.get_nowait()
        except queue.Empty:
            return None

    def next_move(self, ident: int) -> m.Move | None:
        """The next command, taken out of the queue, if it is to move the cursor of a run."""
        while not self._commands.empty():
            self._ahead.append(self._commands.get_nowait())
        if self._ahead and (queued := self._ahead[0]) is not None:
            serial, run, command = queued
            if run == ident and isinstance(command, m.Move):
                self._ahead.popleft()
                self.current = serial
                return command
        return None

    def _obey(self, serial: int, ident: int, command: m.Command) -> None:
        self.current = serial
        if serial <= self._cancelled and isinstance(command, _LONG):
            self.say(ident, m.Told("cancelled"))
            if isinstance(command, m.Record):
                self.say(ident, m.Recording(None))
            return
        run = self._runs.get(ident)
        opens = isinstance(command, m.Load | m.Share)
        if ident and opens:
            self._unopened.add(ident)  # until it is
        elif ident in self._unopened:
            return  # what was to be done with it
        match command:
            case m.Load():
                self._guard(ident, lambda: self._load(ident, command))
            case m.Reopen(path):
                self._guard(ident, lambda: self._reopen(ident, path))
            case m.Adopt(session):
                self._guard(ident, lambda: self._adopt(ident, session))
            case m.Share(other):
                self._guard(ident, lambda: self._share(ident, other))
            case m.Watch():
                self._watches[ident] = command
            case m.Explain():
                self._explains[ident] = command
            case m.Ask():
                self._asks[ident] = command
            case _ if run is None and not isinstance(command, m.Pause | m.Restart):
                self.say(ident, m.Failed("no model is open yet; open one from the File menu"))
        if run is not None and not opens and not isinstance(command, m.Reopen | m.Adopt):
            self._guard(ident, lambda: run.obey(command), stops=False)

    def _guard(self, ident: int, work: Callable[[], None], stops: bool = True) -> None:
        """Do it; what fails becomes words, and the run up to there stays.

        A run that cannot write on stops; one that cannot do something else writes on.
        """
        run = self._runs.get(ident)
        lock = run.model.lock if isinstance(run, Run) else contextlib.nullcontext()
        try:
            with lock:
                work()
        except (Cancelled, Stopped):
            self.say(ident, m.Told("cancelled"))
        except (gv.GooseError, OSError) as error:
            self._fail(ident, str(error), stops)
        except MemoryError:
            self._fail(ident, "there is not enough free memory for that", stops)
        except Exception as error:  # a bug: say so rather than freeze
            self._fail(ident, report_fault(error), stops)
        finally:
            if ident in self._loading:
                self._loading.remove(ident)
                self.say(ident, m.Loading(1.0, ""))

    def _fail(self, ident: int, words: str, stops: bool) -> None:
        if stops and ident in self._runs:
            self._runs[ident].set_running(False)
        self.say(ident, m.Failed(words))

    def say(self, ident: int, event: m.Event) -> None:
        """Tell the window something of a run."""
        if isinstance(event, m.Loading) and event.words:
            self._loading.add(ident)
        self.said.append((ident, event))

    def wanted(self) -> bool:
        """Whether what is being done is still to be done."""
        return not self._closing and self.current > self._cancelled

    def busy(self) -> bool:
        """Whether something else waits to be done."""
        return bool(self._ahead) or not self._commands.empty()

    def run_of(self, ident: int) -> Run:
        """A run."""
        run = self._runs.get(ident)
        if not isinstance(run, Run) or ident in self._unopened:
            raise gv.GooseError("that run could not be begun; begin another to compare with")
        return run

    # -- models ------------------------------------------------------------------------------------

    def _load(self, ident: int, command: m.Load, follows: bool = False) -> None:
        def progress(fraction: float, words: str) -> None:
            if not self.wanted():
                raise Cancelled
            self.say(ident, m.Loading(fraction, words))

        if ident in self._runs:
            self._runs[ident].set_running(False)
        if command.source is not None and is_trace(command.source):
            progress(0.0, "opening the recording")
            trace = open_trace(command.source)
            if not len(trace) or not trace.branches:
                raise gv.GooseError(f"{trace.path.name}: nothing has been written in it yet")
            self._play(ident, trace)
            return
        if command.source is not None and is_session(command.source):
            self._reopen(ident, Path(command.source))
            return
        progress(0.0, "opening the model")
        model = gv.load_model(
            command.source, device=command.device, dtype=command.dtype,
            tokenizer=command.tokenizer, progress=progress,
        )  # fmt: skip
        progress(1.0, PREPARING)
        prepare(model)
        self._open(ident, model, command.source, command.tokenizer, follows)
        if command.begin is not None:
            self.run_of(ident).obey(command.begin)
        if model.notes:
            self.say(ident, m.Told("; ".join(model.notes)))

    def _open(
        self,
        ident: int,
        model: gv.Model,
        asked: str | None,
        tokenizer: str | None,
        follows: bool = False,
    ) -> None:
        """A run of a model, in place of what the run was before."""
        run = Run(
            model, asked, tokenizer, self._watches.get(ident, m.Watch(frozenset(), frozenset())),
            _Seat(self, ident),
        )  # fmt: skip
        if ident in self._explains:
            run.obey(self._explains[ident])
        if ident in self._asks:
            run.obey(self._asks[ident])
        self._put(ident, run)
        self.say(ident, m.Loaded(ModelFacts.of(model, asked, tokenizer), follows))

    def _reopen(self, ident: int, path: Path) -> None:
        """A session that was saved, on the model that is open if that is the one."""
        file = gv.load_session(path)
        run = self._runs.get(ident)
        if not isinstance(run, Run) or not file.fits(run.model):
            named = file.window.get("tokenizer")
            tokenizer = named if isinstance(named, str) else None
            load = m.Load(file.source, dtype=file.dtype, tokenizer=tokenizer)
            self._load(ident, load, follows=True)
            run = self._runs[ident]
            assert isinstance(run, Run)
        run.reopen(path, file)

    def _adopt(self, ident: int, session: gv.Session) -> None:
        """Somebody else's session, on its own model."""
        model = session.model
        self._open(ident, model, str(model.source), None, follows=True)
        run = self._runs[ident]
        assert isinstance(run, Run)
        run.adopt(session)

    def place(self, ident: int = 0) -> object:
        """Where the session of a run stood when its newest picture was made."""
        run = self._runs.get(ident)
        return run.place if isinstance(run, Run) else None

    def _play(self, ident: int, trace: Trace) -> None:
        """A recorded run, in place of what the run was before."""
        watch = self._watches.get(ident, m.Watch(frozenset(), frozenset()))
        explain = self._explains.get(ident, m.Explain(False))
        run = Replayed(trace, watch, explain, _Seat(self, ident))
        if ident in self._asks:
            run.obey(self._asks[ident])
        self._put(ident, run)
        self.say(ident, m.Loaded(run.facts))
        run.begin()
        if run.facts.notes:
            self.say(ident, m.Told("; ".join(run.facts.notes)))

    def _put(self, ident: int, run: Run | Replayed) -> None:
        former = self._runs.get(ident)
        if isinstance(former, Run):
            former.recording.end()
            former.keep()
        self._runs[ident] = run
        self._unopened.discard(ident)

    def _share(self, ident: int, other: int) -> None:
        """Another run of the model that one has."""
        owner = self._runs.get(other)
        if owner is None:
            raise gv.GooseError("no model is open yet; open one from the File menu")
        if isinstance(owner, Replayed):
            raise gv.GooseError(f"{owner.facts.name} is not here, only a recorded run of it")
        self._open(ident, owner.model, owner.asked, owner.tokenizer)


class _Seat:
    """A run's place in the thread."""

    def __init__(self, worker: Worker, ident: int) -> None:
        self._worker, self._ident = worker, ident
        self.wanted, self.busy, self.run_of = worker.wanted, worker.busy, worker.run_of

    @property
    def serial(self) -> int:
        return self._worker.current

    @property
    def keep_in(self) -> Path | None:
        return self._worker.keep_in

    def say(self, event: m.Event) -> None:
        self._worker.say(self._ident, event)

    def next_move(self) -> m.Move | None:
        return self._worker.next_move(self._ident)

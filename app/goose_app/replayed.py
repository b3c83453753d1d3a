"""A recorded run as the worker has it: played, stepped through and asked, without a model.

No Qt here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import goose_viz as gv
from goose_app import messages as m
from goose_app.cells import Cells
from goose_app.explain import HeadNow, head_now
from goose_app.explaining import PAUSE
from goose_app.model_facts import ModelFacts
from goose_app.ponder import Answer, Place, Ponder, Progress
from goose_app.run import Cancelled, Host
from goose_app.series import Series
from goose_viz.analysis.memory import PAST
from goose_viz.trace import Trace
from goose_viz.trace.cursor import TraceCursor

_PACE = 1 / 30  # seconds a token while it plays, where nothing slower is asked for
_NEXT = 12
_HEAD = (*PAST, "receptance", "bonus")  # what tells how a head stands
_PIECE = 256  # tokens whose figures are read at a time
_BEFORE, _AFTER = 4, 10  # tokens around where a branch parts


class Replayed:
    """A trace with a cursor; see `goose_app.run.Run`, whose place it takes.

    Parameters
    ----------
    trace : Trace
    watch : Watch
        What is looked at.
    explain : Explain
        The head that is looked at, and whether.
    host : Host
    """

    model = None
    tokenizer = None

    def __init__(self, trace: Trace, watch: m.Watch, explain: m.Explain, host: Host) -> None:
        self.asked = str(trace.path)
        self.facts = ModelFacts.of_trace(trace)
        self.running = False
        self.picture: m.Picture | None = None
        self._trace, self._watch, self._host = trace, watch, host
        self._cursor = TraceCursor(trace)
        self._label = self.facts.label
        self._explain = explain
        self._ends = _ends(trace)
        self._numbers = count()
        self._until: int | None = None
        self._ponder = Ponder(_Sight(self), self._tell)
        self._played = 0.0
        self._head_then: HeadNow | None = None
        self._head_after = 0.0  # on the clock: while it plays, a head is looked at now and then

    def begin(self) -> None:
        """Tell the window all of it."""
        sampler = self._trace.attributes["sampler"]
        known = gv.Sampler(seed=0) if sampler is None else gv.Sampler(**sampler)
        self._host.say(m.Began(self._figures(), known))
        self._show_branch()
        self._say_branches()
        self.take()

    def obey(self, command: m.Command) -> None:
        """Do what a person asked for, if it needs no model."""
        match command:
            case m.Run(tokens):
                self._until = None if tokens is None else self._cursor.position + tokens
                self.set_running(True)
            case m.Pause():
                self.set_running(False)
                self.take()
            case m.RunOrPause():
                self.obey(m.Pause() if self.running else m.Run())
            case m.Step() | m.Back() | m.Goto():
                self._move(command)
            case m.Switch(by):
                rows = self._ends
                if len(rows) == 1:
                    self._host.say(m.Told("there is one branch only"))
                else:
                    at = rows.index(self._cursor.branch)
                    self._go_to(rows[(at + by) % len(rows)])
            case m.GoToBranch(row):
                self._go_to(self._ends[row])
            case m.Watch():
                before, self._watch = self._watch, command
                if before.recorded != command.recorded:
                    self._host.say(m.Charted(self._figures()))
                self.take()
            case m.Explain():
                self._explain = command
                self.take()
            case m.Ask(questions):
                self._ponder.ask(tuple(q for q in questions if not q.computes))
            case m.Abandon(question):
                self._ponder.abandon(question)
            case m.Resample() | m.StopAt("") | m.Pin(()):
                pass  # nothing is chosen here
            case _:
                raise gv.GooseError(
                    f"{self._trace.path.name} is a recorded run, without its model: open "
                    f"{self.facts.name} to write, branch or edit"
                )

    def _move(self, command: m.Move) -> None:
        self.set_running(False)
        move: m.Move | None = command
        at, end = self._cursor.position, self._cursor.recorded
        while move is not None:
            match move:
                case m.Step():
                    at = min(at + 1, end)
                case m.Back():
                    at = max(at - 1, 0)
                case m.Goto(position):
                    at = min(max(position, 0), end)
            move = self._host.next_move()
        self._cursor.position = at
        self.take()

    def _go_to(self, branch: int) -> None:
        if branch == self._cursor.branch:
            return
        self.set_running(False)
        self._cursor.switch(branch)
        self._ponder.forget()
        self._host.say(m.Charted(self._figures()))
        self._show_branch()
        self._say_branches()
        self.take()

    # -- playing -----------------------------------------------------------------------------------

    def set_running(self, running: bool) -> None:
        """Play on from here, or stop."""
        if running != self.running:
            self.running = running
            self._played = time.perf_counter()
            self._host.say(m.Running(running, self._host.serial))

    def advance(self) -> None:
        """One token on, not faster than one can see."""
        cursor = self._cursor
        ended = cursor.position >= cursor.recorded
        if not ended and cursor.position != self._until:
            time.sleep(max(0.0, self._played + _PACE - time.perf_counter()))
            self._played = time.perf_counter()
            cursor.position += 1
        if cursor.position in (cursor.recorded, self._until):
            self.set_running(False)
            self.take()

    @property
    def pondering(self) -> bool:
        """Whether something is to be worked out while nobody waits."""
        return self._ponder.pending(self._place)

    def go_on(self) -> None:
        """A piece of that."""
        if self.pondering:
            self._ponder.go_on(self._place, self.running)

    @property
    def _place(self) -> Place:
        return self._cursor.branch, self._cursor.position

    def _tell(self, what: Answer | Progress) -> None:
        self._host.say(what)

    # -- what is told ------------------------------------------------------------------------------

    def take(self) -> None:
        """Make a picture of the moment."""
        c = self._cursor
        likely = [(t, self._label(t), p) for t, p in c.next_tokens(_NEXT)]
        came = None
        if c.position < c.recorded:
            token = c.all_tokens[c.position]
            ranks = [t for t, _, _ in likely]
            if token in ranks:
                p = float(c.probabilities[c.position])
                came = m.Came(token, self._label(token), p, 1 + ranks.index(token))
        wkv = c.wkv_at(c.position, self._told)
        self.picture = m.Picture(
            c.position, c.recorded, self._frame(), self._nothing() if wkv is None else _all(
                wkv, self._trace), likely, 1 / _PACE if self.running else 0.0,
            self._ends.index(c.branch), len(self._ends), head=self._head(),
            number=next(self._numbers), serial=self._host.serial, came=came,
        )  # fmt: skip

    def _nothing(self) -> NDArray[Any]:
        c = self._trace.config
        return np.zeros((c.n_layer, c.n_head, c.head_size, c.head_size), np.float32)

    def _frame(self) -> gv.Frame | None:
        frame = self._cursor.frame
        if frame is None:
            return None
        whole = tuple(range(self._trace.config.n_layer))
        arrays = {n: _all(a, self._trace) for n, a in frame.arrays().items()}
        return gv.Frame(arrays, whole, frame.token, frame.n_head, frame.removal_scale)

    def _head(self) -> HeadNow | None:
        """How the selected head stands, if that was recorded."""
        c, e, layers = self._cursor, self._explain, self._trace.attributes["layers"]
        known = set(_HEAD) <= set(self._trace.observables)
        if not e.on or not known or c.position == 0 or e.layer not in layers:
            return None
        began = time.perf_counter()
        if self.running and began < self._head_after:
            return self._head_then  # playing goes before
        try:
            frames = c.frames(observables=_HEAD, layers=(e.layer,))
            before = c.wkv_at(c.position - 1, self._told) if e.edit else None
        except gv.GooseError:
            return None
        row = layers.index(e.layer)
        found = head_now(frames, e, None if before is None else before[row, e.head])
        now = time.perf_counter()
        self._head_then, self._head_after = found, now + PAUSE * (now - began)
        return found

    def _told(self, share: float) -> None:
        """The memory is being made again: how far, if somebody still wants it."""
        if not self._host.wanted():
            raise Cancelled
        self._host.say(m.Loading(share, "making the memory again"))

    def _figures(self) -> Series:
        """Those of all tokens of the branch, as far as there is room."""
        c, host = self._trace.config, self._host
        charted = self._watch.recorded
        names = [n for n in charted if n in self._trace.observables]
        series = Series(c, charted)
        n = self._cursor.recorded
        series.first = series.n = max(0, n - series.capacity)
        for begin in range(series.first, n if names else 0, _PIECE):
            if not host.wanted():
                raise Cancelled
            host.say(m.Loading(begin / n, "reading the recording"))
            rows = self._cursor.rows[begin : begin + _PIECE]
            found = {k: _all(self._trace.numbers(k, rows), self._trace, 1) for k in names}
            for i in range(len(rows)):
                arrays = {k: a[i] for k, a in found.items()}
                series.put(begin + i, gv.Frame(arrays, tuple(range(c.n_layer)), -1, c.n_head))
        return series

    def _show_branch(self) -> None:
        """Tell the window all tokens of the branch."""
        c, cells = self._cursor, Cells()
        texts = _with_what_lies_between(c)
        cells.extend(c.all_tokens, texts, c.probabilities.tolist(), c.generated.tolist())
        self._host.say(cells)

    def _say_branches(self) -> None:
        rows: list[m.BranchRow] = []
        for end in self._ends:
            words, about = self._trace.texts(end), self._trace.branches[end]
            fork = about["fork"]
            start = max(0, fork - _BEFORE)
            more = "…" if len(words) > fork + _AFTER else ""
            parent = about["parent"]
            edits = ", ".join(
                f"{e['kind'].lower()} behind token {e['position']}"
                for e in self._trace.attributes["edits"]
                if e["branch"] in self._trace.lineage(end)
            )
            row = next((i for i, e in enumerate(self._ends) if parent in self._trace.lineage(e)), 0)
            rows.append(m.BranchRow(
                ("…" if start else "") + " ".join("".join(words[start : fork + _AFTER]).split())
                + more, edits, "", fork, len(self._trace.way(end, thinned=True)),
                end == self._cursor.branch, None if parent is None or row >= len(rows) else row,
            ))  # fmt: skip
        self._host.say(m.Branches(rows))


def _ends(trace: Trace) -> list[int]:
    """The branches at whose end no other goes on."""
    there = trace.branches
    stops = [len(trace.way(i)) for i in range(len(there))]
    gone_on = {b["parent"] for b in there if b["parent"] is not None
               and b["fork"] == stops[b["parent"]]}  # fmt: skip
    return [i for i in range(len(there)) if i not in gone_on] or [0]


def _all(values: NDArray[Any], trace: Trace, axis: int = 0) -> NDArray[Any]:
    """Numbers of all layers; NaN of those that were not recorded."""
    layers, L = trace.attributes["layers"], trace.config.n_layer
    if layers == list(range(L)):
        return values
    whole = np.full((*values.shape[:axis], L, *values.shape[axis + 1 :]), np.nan, values.dtype)
    whole[(slice(None),) * axis + (layers,)] = values
    return whole


def _with_what_lies_between(cursor: TraceCursor) -> list[str]:
    """A text for each token that has numbers, of a thinned trace with those up to the next."""
    every = cursor.trace.attributes["every"]
    if every == 1:
        return cursor.texts
    words = cursor.trace.texts(cursor.branch)
    return ["".join(words[i * every : (i + 1) * every]) for i in range(cursor.recorded)]


class _Sight:
    """What answering a question may use of a recorded run."""

    means: dict[tuple[str, ...], NDArray[Any]] = {}  # noqa: RUF012  # nothing is ever put in

    def __init__(self, run: Replayed) -> None:
        self._run = run

    @property
    def session(self) -> Any:
        return self._run._cursor

    @property
    def n_layer(self) -> int:
        return self._run._trace.config.n_layer

    def keep_going(self) -> bool:
        host = self._run._host
        return host.wanted() and not host.busy()

    def other(self, run: int) -> gv.Session:
        raise gv.GooseError("a recorded run is compared with nothing")

    def made(self) -> Sequence[Any]:
        return ()

    def memory(self, source: Path | int) -> NDArray[Any]:
        raise gv.GooseError("a recorded run takes no memory of another")

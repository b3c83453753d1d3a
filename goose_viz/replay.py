"""States along a history: some are kept, the others are made again by repeating what made them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.errors import Stopped
from goose_viz.history import Checkpoint, Edit, Feed, History, Path, Segment, thin
from goose_viz.model import Model
from goose_viz.probe import Frame, Probe
from goose_viz.state import State

KeepGoing = Callable[[], bool]

_INTERVAL = 8  # tokens between kept states at first: replaying a few costs less than keeping all
_NEAR = 8  # states ahead of where a replay went: whoever went back once goes back again


@dataclass(frozen=True, eq=False)
class Start:
    """A state that is known, and where on a path."""

    depth: int
    position: int
    state: State
    logits: NDArray[Any] | None


@dataclass(frozen=True, eq=False)
class Reached:
    """What stands beside a state: what is expected next, what was expected before, the frame."""

    logits: NDArray[Any] | None = None
    before: NDArray[Any] | None = None
    frame: Frame | None = None


class Replay:
    """Brings states to any position of any path of a history.

    Parameters
    ----------
    model : Model
    history : History
    budget : int
        Bytes for the states that are kept.
    """

    def __init__(
        self, model: Model, history: History, budget: int, initial: State | None = None
    ) -> None:
        self.model, self.history, self.budget = model, history, budget
        self._initial = initial
        self._interval, self._taken = _INTERVAL, 0
        self._recent: OrderedDict[tuple[Segment, int], Checkpoint] = OrderedDict()

    def first(self) -> State:
        """A state as it is ahead of the first token."""
        state = self.model.new_state()
        if self._initial is not None:
            state.assign(self._initial)
        return state

    # -- what is kept ----------------------------------------------------------------------------

    def keep(self, segment: Segment, position: int, state: State, logits: NDArray[Any]) -> None:
        """Remember a state as that of a position, if none is kept close to it."""
        checkpoints, interval = segment.checkpoints, self._interval
        if not segment.is_end(position) or position < interval:
            return
        near = range(position - interval + 1, position + interval)
        if any(p in near for p in reversed(checkpoints)):  # the newest is the likely one
            return
        checkpoints[position] = found = Checkpoint(state.copy(), logits)
        self._taken += found.nbytes
        if self._taken > self._share(7):
            self._interval, self._taken = thin(self.history.segments, self._share(7), interval)

    def forget(self, segment: Segment, position: int) -> None:
        """The segment's tokens behind a position are no more."""
        for key in [k for k in self._recent if k[0] is segment and k[1] > position]:
            del self._recent[key]

    def _share(self, eighths: int) -> int:
        return self.budget * eighths // 8

    def _keep_recent(
        self, segment: Segment, position: int, state: State, logits: NDArray[Any]
    ) -> None:
        size = state.nbytes + logits.nbytes
        room = min(2 * _NEAR, self._share(1) // size)
        if room:
            self._recent[segment, position] = Checkpoint(state.copy(), logits)
            self._recent.move_to_end((segment, position))
        while len(self._recent) > room:
            self._recent.popitem(last=False)

    def _starts(self, path: Path, position: int, here: Start | None) -> list[Start]:
        """Known states on a path up to a position, the nearest first."""
        found = []
        for depth, segment in enumerate(path.segments[: path.depth(position) + 1]):
            last = depth + 1 == len(path.segments)
            end = position if last else min(position, path.segments[depth + 1].fork)
            found += [
                Start(depth, p, c.state, c.logits)
                for p, c in segment.checkpoints.items()
                if p <= end
            ]
            found += [
                Start(depth, p, c.state, c.logits)
                for (owner, p), c in self._recent.items()
                if owner is segment and p <= end
            ]
        if here is not None and here.position <= position:
            found.append(here)
        found.sort(key=lambda s: (s.position, s.depth, s is here), reverse=True)
        return found

    # -- going -----------------------------------------------------------------------------------

    def bring(
        self,
        state: State,
        path: Path,
        position: int,
        *,
        here: Start | None = None,
        probe: Probe | None = None,
        before: bool = False,
        keep_going: KeepGoing | None = None,
    ) -> Reached:
        """Make a state that of a position of a path, its edits included.

        Parameters
        ----------
        state : State
            Becomes it; of no use if this fails.
        path : Path
        position : int
        here : Start, optional
            A state on the path that is known without being kept; it may be ``state`` itself.
        probe : Probe, optional
            What the frame of the last token is to have.
        before : bool
            Whether what was expected ahead of the last token is wanted.
        keep_going : callable, optional
            Asked before every call, and once a layer within a long one; False raises `Stopped`.
        """
        found = path.at(position).checkpoints.get(position)
        if found is not None and (found.frame is not None or (probe is None and not before)):
            state.assign(found.state)
            return Reached(found.logits, None, found.frame)
        for start in self._starts(path, position, here):
            operations = path.operations(start.depth, start.position, position)
            reads = any(isinstance(o, Feed) for o in operations or ())
            if operations is not None and (reads or (probe is None and not before)):
                break
        else:
            start = Start(0, 0, self.first(), None)
            operations = path.operations(0, 0, position) or []
        if start.state is not state:
            state.assign(start.state)
        last = max((i for i, o in enumerate(operations) if isinstance(o, Feed)), default=-1)
        reached = Reached(start.logits)
        for i, operation in enumerate(operations):
            if isinstance(operation, Edit):
                self.edit(state, operation)
                continue
            twin = probe.twin() if i == last and probe is not None else None
            begin, end = operation.start, operation.stop
            # all logits of the last call: its last row must have the bits of the first time
            rows = self._feed(path, operation, state, i == last, twin, keep_going)
            previous = rows[-2] if i == last and end - begin > 1 else reached.logits
            logits = np.array(rows[-1]) if i == last else rows
            reached = Reached(logits, previous, twin.frames[-1] if twin is not None else None)
            # a long call's last logits have their bits only if it is the last
            if i == last or end - begin == 1:
                self.keep(path.at(end - 1), end, state, logits)
                if position - end <= _NEAR and path.at(end - 1).is_end(end):
                    self._keep_recent(path.at(end - 1), end, state, logits)
        return reached

    def edit(self, state: State, edit: Edit) -> None:
        """Repeat an edit."""
        edit.what.do(state.edit().wkv[edit.what.scope(self.model.config)], edit.numbers)

    def edit_behind(self, path: Path, index: int, state: State) -> None:
        """Behind the token of an index: repeat the edits that last."""
        for edit in path.lasting(index):
            self.edit(state, edit)

    def _feed(
        self,
        path: Path,
        call: Feed,
        state: State,
        all_logits: bool,
        probe: Probe | None,
        keep_going: KeepGoing | None,
    ) -> NDArray[Any]:
        def report(_share: float = 0.0) -> None:
            if keep_going is not None and not keep_going():
                raise Stopped

        report()
        tokens = path.tokens(call.start, call.stop)
        rows = self.model.forward(tokens, state, all_logits, probe, report)
        self.edit_behind(path, call.stop - 1, state)
        return rows

    # -- reading again -----------------------------------------------------------------------------

    def again(
        self,
        path: Path,
        start: int,
        stop: int,
        here: Start | None,
        *,
        probe: Probe | None = None,
        logits: bool = False,
        keep_going: KeepGoing | None = None,
    ) -> Iterator[tuple[int, Frame | None, NDArray[Any] | None]]:
        """(index, frame, logits) of the tokens [start, stop), by the calls that read them first."""
        state, begin = self.model.new_state(), path.at(start).call(start).start
        end = path.at(stop - 1).call(stop - 1).stop
        self.bring(state, path, begin, here=here, keep_going=keep_going)
        operations = path.operations(path.depth(begin), begin, end)
        for operation in operations or []:
            if isinstance(operation, Edit):
                self.edit(state, operation)
                continue
            twin = probe.twin() if probe is not None else None
            rows = self._feed(path, operation, state, logits, twin, keep_going)
            for i in range(max(start, operation.start), min(stop, operation.stop)):
                row = i - operation.start
                frame = twin.frames[row] if twin is not None else None
                yield i, frame, np.atleast_2d(rows)[row] if logits else None

    def moments(
        self,
        path: Path,
        start: int,
        stop: int,
        state: State | None = None,
        keep_going: KeepGoing | None = None,
    ) -> Iterator[tuple[int, State, NDArray[Any]]]:
        """(index, state, logits) behind each of the tokens [start, stop), read one by one.

        The state goes on in place; edits that were made behind the token are in it.  Tokens that
        were read many at once give these numbers up to rounding.
        """
        if state is None:
            state = self.model.new_state()
            self.bring(state, path, start, keep_going=keep_going)
        depth = path.depth(start)
        for i in range(start, stop):
            call = Feed(i, i + 1)
            logits = self._feed(path, call, state, False, None, keep_going)
            while depth < path.depth(i + 1):
                depth += 1
                edit = path.segments[depth].edit
                if edit is not None:
                    self.edit(state, edit)
            yield i, state, logits

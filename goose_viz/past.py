"""What a session tells of its past: tokens, states, frames, and where something was so."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from numpy.typing import NDArray

from goose_viz.alone import alone, alone_each
from goose_viz.conditions import Condition, Moment
from goose_viz.errors import GooseError
from goose_viz.frames import Frames
from goose_viz.history import TOP, Edit, History, Path, Segment
from goose_viz.model import Model
from goose_viz.past_frames import PastFrames
from goose_viz.probe import Frame, Probe
from goose_viz.ranking import Best, best_of
from goose_viz.replay import KeepGoing, Replay, Start
from goose_viz.state import State


class Past:
    """The part of a `Session` that changes nothing."""

    model: Model
    state: State
    initial: State | None
    logits: NDArray[Any] | None
    frame: Frame | None
    position: int
    history: History
    segment: Segment
    path: Path
    _replay: Replay
    _past: PastFrames
    _lost: bool  # the state is not that of the cursor: reading failed half-way

    @property
    def tokens(self) -> list[int]:
        """The tokens up to the cursor."""
        return self.path.tokens(0, self.position)

    @property
    def text(self) -> str:
        """Their text."""
        return self.model.tokenizer.decode(self.tokens)

    @property
    def recorded(self) -> int:
        """Tokens of the current branch, those behind the cursor included."""
        return self.path.stop

    @property
    def branches(self) -> list[Segment]:
        """The ends that one can return to, by `switch`, in the order in which they were begun."""
        return self.history.branches(self.segment)

    @property
    def edits(self) -> list[Edit]:
        """The edits of the memory up to the cursor, in order."""
        return self.path.edits(self.position)

    @alone
    def state_at(self, position: int, *, edited: bool = True, branch: int | None = None) -> State:
        """The state at a position of a branch; the cursor stays where it is.

        Parameters
        ----------
        position : int
        edited : bool
            Whether with the edits that were made there.
        branch : int, optional
            Which of the `branches`; the current one when left out.

        Raises
        ------
        GooseError
            If the branch has no such position.
        """
        path = self.path if branch is None else Path(self._branch(branch))
        self._check_position(position, path)
        if not edited and position > 0:
            path = Path(path.at(position - 1))
        state = self.model.new_state()
        self._replay.bring(state, path, position, here=self._here(path))
        return state

    @alone
    def frames(
        self,
        start: int = 0,
        stop: int | None = None,
        observables: Iterable[str] | None = None,
        layers: Sequence[int] | None = None,
        *,
        initial: bool = True,
        keep_going: KeepGoing | None = None,
    ) -> Frames:
        """Frames of the branch's tokens [start, stop): stored ones, or made again; exact.

        Parameters
        ----------
        start, stop : int
            Indices into the branch's tokens; up to the cursor when ``stop`` is left out.
        observables : iterable of str, optional
            What every frame is to have.  When left out, what `goose_viz.analysis` needs: of the
            last token more than of the others.
        layers : sequence of int, optional
            The layers to have; all when left out.
        initial : bool
            Whether with the memory ahead of the first token, which may have to be made again.
        keep_going : callable, optional
            Asked before every token that has to be made again; False gives up, and what was made
            up to there is kept.

        Raises
        ------
        GooseError
            If the branch has no such tokens.
        Stopped
            If ``keep_going`` ended it.
        """
        stop = self.position if stop is None else stop
        self._check_tokens_there(start, stop)
        path, memory = self.path, None
        if initial and (start > 0 or path.edits(0) or self.initial is not None):
            memory = self.state_at(start).wkv
        cursor = self.position - 1, self.frame, self._here(path)
        return self._past.read(path, start, stop, observables, layers, memory, cursor, keep_going)

    @alone_each
    def expected(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        keep_going: KeepGoing | None = None,
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """What was expected behind each of the branch's tokens [start, stop).

        The tokens are read again, in the calls of the first time, so that these are its bits.

        Parameters
        ----------
        start, stop : int
            Indices into the branch's tokens; up to the cursor when ``stop`` is left out.
        keep_going : callable, optional
            Asked before every call; False ends it with `Stopped`.

        Yields
        ------
        (int, ndarray (V,))
            Index and logits.
        """
        stop = self.position if stop is None else stop
        self._check_tokens_there(start, stop)
        for index, _, logits in self._replay.again(
            self.path, start, stop, self._here(self.path), logits=True, keep_going=keep_going
        ):
            assert logits is not None
            yield index, logits

    @alone_each
    def again(
        self,
        start: int,
        stop: int,
        probe: Probe,
        keep_going: KeepGoing | None = None,
        *,
        expected: bool = True,
    ) -> Iterator[tuple[int, Frame, Best | None]]:
        """The branch's tokens [start, stop), read again in the calls of the first time.

        Parameters
        ----------
        start, stop : int
            Indices into the branch's tokens.
        probe : Probe
            What is observed of each.
        keep_going : callable, optional
            Asked before every call; False ends it with `Stopped`.
        expected : bool
            Whether what was expected behind each is wanted.

        Yields
        ------
        (int, Frame, Best or None)
            Index, observables, and what was expected behind it.
        """
        self._check_tokens_there(start, stop)
        here = self._here(self.path)
        for index, frame, logits in self._replay.again(
            self.path, start, stop, here, probe=probe, logits=expected, keep_going=keep_going
        ):
            assert frame is not None
            yield index, frame, None if logits is None else best_of(logits, TOP)

    @alone_each
    def find(
        self,
        condition: Condition | str,
        start: int = 0,
        stop: int | None = None,
        *,
        keep_going: KeepGoing | None = None,
    ) -> Iterator[int]:
        """Where a condition holds among the branch's tokens [start, stop).

        The tokens are read again, unless the condition asks for nothing but text.

        Parameters
        ----------
        condition : Condition or str
        start, stop : int
            Indices into the branch's tokens; all when ``stop`` is left out.
        keep_going : callable, optional
            Asked before every call; False ends it with `Stopped`.

        Yields
        ------
        int
            The position behind such a token.

        Raises
        ------
        ConditionError
            If it cannot be read, or asks for what the model does not have.
        """
        condition = self._condition(condition)
        stop = self.recorded if stop is None else stop
        if start == stop:
            return
        self._check_tokens_there(start, stop)
        known: Iterable[tuple[int, Frame | None, NDArray[Any] | None]]
        if condition.observables or condition.wants_logits:
            begin = max(start - 1, 0) if condition.wants_logits else start
            known = self._replay.again(
                self.path, begin, stop, self._here(self.path),
                probe=Probe(condition.observables) if condition.observables else None,
                logits=condition.wants_logits, keep_going=keep_going,
            )  # fmt: skip
        else:
            known = ((i, None, None) for i in range(start, stop))
        before = None
        for index, frame, logits in known:
            if index >= start and condition.holds(
                self._moment(self.path, index, condition.reach, before, logits, frame)
            ):
                yield index + 1
            before = logits

    def _condition(self, condition: Condition | str) -> Condition:
        if isinstance(condition, str):
            return Condition(condition, self.model.config)
        return condition

    def _moment(
        self,
        path: Path,
        index: int,
        reach: int,
        before: NDArray[Any] | None,
        logits: NDArray[Any] | None,
        frame: Frame | None,
    ) -> Moment:
        """A token as conditions see it."""
        texts, (token,) = (
            path.texts(max(0, index - reach), index + 1),
            path.tokens(index, index + 1),
        )
        return Moment(
            index + 1, token, self.model.tokenizer.label(token), "".join(texts), len(texts[-1]),
            path.probabilities(index, index + 1)[0], before, logits, frame,
        )  # fmt: skip

    @alone_each
    def moments(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        state: State | None = None,
        path: Path | None = None,
        keep_going: KeepGoing | None = None,
    ) -> Iterator[tuple[int, State, NDArray[Any]]]:
        """The memory, and what was expected, behind each of the branch's tokens [start, stop).

        Inside a prompt, which was fed many tokens at once, these are the numbers of feeding token
        by token, as with `goto`.

        Parameters
        ----------
        start, stop : int
            Indices into the branch's tokens; all when ``stop`` is left out.
        state : State, optional
            That ahead of the first of them, if it is known; it goes on in place.
        path : Path, optional
            Another branch than the current one: ``session.path`` of an earlier moment.
        keep_going : callable, optional
            Asked before every token; False ends it with `Stopped`.

        Yields
        ------
        (int, State, ndarray (V,))
            Index; the state, the edits made there included, which goes on in place; the logits.
        """
        path = self.path if path is None else path
        stop = path.stop if stop is None else stop
        self._check_tokens_there(start, stop, path)
        return self._replay.moments(path, start, stop, state, keep_going)

    def _check_tokens_there(self, start: int, stop: int, path: Path | None = None) -> None:
        recorded = self.recorded if path is None else path.stop
        if not 0 <= start < stop <= recorded:
            raise GooseError(
                f"tokens {start} to {stop} are not on this branch; expected a start before a stop, "
                f"from 0 to {recorded}"
            )

    def _branch(self, index: int) -> Segment:
        branches = self.branches
        if not 0 <= index < len(branches):
            raise GooseError(f"there is no branch {index}; there are {len(branches)}")
        return branches[index]

    def _here(self, path: Path) -> Start | None:
        """The cursor as a place on a path, if it is on it."""
        depth, others = self.path.depth(self.position), path.segments
        on_it = depth < len(others) and others[depth] is self.path.segments[depth]
        if on_it and depth + 1 < len(others):  # the path leaves the segment before, or not
            on_it = self.position <= others[depth + 1].fork
        if self._lost or not on_it:
            return None
        return Start(depth, self.position, self.state, self.logits)

    def _check_position(self, position: int, path: Path | None = None) -> None:
        stop = self.recorded if path is None else path.stop
        if not 0 <= position <= stop:
            raise GooseError(f"position {position} is not on this branch; it has 0 to {stop}")

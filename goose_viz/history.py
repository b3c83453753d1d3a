"""What a session remembers: a tree of segments, each a list of operations.

A segment begins where another was left, maybe with an edit of the memory, and goes on with tokens.
It is exact: it keeps where every forward call of several tokens began and ended, because the same
tokens fed in other portions give the same numbers only up to rounding.  Repeating the operations
of a path gives the bits of the first time.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.edits import Lasting, StateEdit
from goose_viz.probe import Frame
from goose_viz.ranking import TopK
from goose_viz.state import State

TOP = 10  # of the likeliest tokens in a token's place are remembered
_TOPS = 16384  # tokens of a segment for which they are
NO_TOP = np.zeros(0, np.int32), np.zeros(0, np.float32)  # before the first token


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens [start, stop) of a path, read in one forward call."""

    start: int
    stop: int


@dataclass(frozen=True, eq=False, slots=True)
class Edit:
    """An edit of the memory, made behind so many tokens.

    Attributes
    ----------
    position : int
    what : StateEdit
        What was asked for.
    numbers : ndarray or None
        What repeating it needs and its parameters do not tell: what it adds or puts.
    """

    position: int
    what: StateEdit
    numbers: NDArray[Any] | None


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A state to return to, and the logits that belong to it.

    One that came from a file is kept whatever the budget, with the frame of the file: no replay
    could make it again.
    """

    state: State
    logits: NDArray[Any]
    frame: Frame | None = None

    @property
    def nbytes(self) -> int:
        """Bytes it takes."""
        return self.state.nbytes + self.logits.nbytes


class Tops:
    """The likeliest tokens in the place of the newest tokens of a segment."""

    def __init__(self) -> None:
        self._ids = np.zeros((16, TOP), np.int32)
        self._probabilities = np.zeros((16, TOP), np.float32)
        self._widths = np.zeros(16, np.int8)
        self._first = self._n = 0  # rows from the first to n are of the tokens of that number

    def append(self, top: TopK) -> None:
        """Enter the next token's."""
        row = self._n - self._first
        if row == len(self._widths):
            if row >= _TOPS:  # forget the older half
                self._first, row = self._first + row // 2, row - row // 2
                half = slice(len(self._widths) - row, None)
                for rows in (self._ids, self._probabilities, self._widths):
                    rows[:row] = rows[half]
            else:
                self._ids, self._probabilities, self._widths = (
                    np.concatenate([rows, np.zeros_like(rows)])
                    for rows in (self._ids, self._probabilities, self._widths)
                )
        width = self._widths[row] = len(top[0])
        self._ids[row, :width], self._probabilities[row, :width] = top
        self._n += 1

    def copy(self) -> Tops:
        """The same, independent."""
        twin = Tops()
        twin._ids, twin._probabilities = self._ids.copy(), self._probabilities.copy()
        twin._widths, twin._first, twin._n = self._widths.copy(), self._first, self._n
        return twin

    def forget(self) -> None:
        """Forget all that there are; those to come are remembered."""
        self._first = self._n

    def truncate(self, n: int) -> None:
        """Forget all from the n-th token on."""
        self._n = min(self._n, n)
        self._first = min(self._first, self._n)

    def get(self, i: int) -> TopK | None:
        """Those of a token; None if they are forgotten."""
        if not self._first <= i < self._n:
            return None
        row = i - self._first
        width = self._widths[row]
        return self._ids[row, :width].copy(), self._probabilities[row, :width].copy()


class Segment:
    """Tokens that follow each other without a branch between them.

    Attributes
    ----------
    parent : Segment or None
        None for a root.
    fork : int
        Tokens of the path ahead of it; an operation of the parent ends there.
    edit : Edit or None
        What it begins with.
    tokens, texts, generated, probabilities, tops
        Per token: id, the text it completed, whether the model chose it, the probability that the
        model gave it (NaN for the first), and the likeliest tokens in its place.
    checkpoints : dict of int to Checkpoint
        By position in the path; positions are ends of calls.  One at the fork is behind the edit.
    name : str
        What a person calls the branch that ends here.
    origin : (int, Segment) or None
        Where the cursor was when the edit was made.
    again : int
        Tokens at its begin that had been read before: behind an edit to see what it changes, or
        one by one where a call of several was cut.
    """

    def __init__(
        self, parent: Segment | None = None, fork: int = 0, edit: Edit | None = None
    ) -> None:
        self.parent, self.fork, self.edit = parent, fork, edit
        self.tokens = array("i")
        self.texts: list[str] = []
        self.generated = bytearray()
        self.probabilities = array("d")
        self.tops = Tops()
        self.checkpoints: dict[int, Checkpoint] = {}
        self.name = ""
        self.origin: tuple[int, Segment] | None = None
        self.again = 0
        self._wide: list[Feed] = []  # calls of more than one token; all others are of one

    def __repr__(self) -> str:
        """Where it lies."""
        return f"<Segment {self.fork} to {self.stop}>"

    @property
    def stop(self) -> int:
        """The position behind its last token."""
        return self.fork + len(self.tokens)

    def append(
        self, token: int, text: str, generated: bool, probability: float, top: TopK = NO_TOP
    ) -> None:
        """Add a token; `end_call` follows behind the last of a call."""
        self.tokens.append(token)
        self.texts.append(sys.intern(text))  # a million tokens have a few thousand texts
        self.generated.append(generated)
        self.probabilities.append(probability)
        self.tops.append(top)

    def copy(self, parent: Segment | None, stop: int) -> Segment:
        """The same up to a position, where a call ends."""
        twin = Segment(parent, self.fork, self.edit)
        twin.tokens, twin.texts = self.tokens[:], self.texts[:]
        twin.generated, twin.probabilities = self.generated[:], self.probabilities[:]
        twin.tops = self.tops.copy()
        twin.checkpoints = dict(self.checkpoints)
        twin.name, twin.again, twin._wide = self.name, self.again, list(self._wide)
        twin.truncate(stop)
        return twin

    def end_call(self, start: int) -> None:
        """The tokens from a position on were read in one call."""
        if self.stop - start > 1:
            self._wide.append(Feed(start, self.stop))

    @property
    def wide(self) -> list[tuple[int, int]]:
        """(start, stop) of the calls in which more than one token was read."""
        return [(feed.start, feed.stop) for feed in self._wide]

    def truncate(self, position: int) -> None:
        """Forget the tokens behind a position, where a call ends."""
        n = position - self.fork
        for items in (self.tokens, self.texts, self.generated, self.probabilities):
            del items[n:]
        self.tops.truncate(n)
        self.again = min(self.again, n)
        while self._wide and self._wide[-1].stop > position:
            self._wide.pop()
        for p in [p for p in self.checkpoints if p > position]:
            del self.checkpoints[p]

    def call(self, index: int) -> Feed:
        """The call in which the token of an index in the path was read."""
        i = bisect_right(self._wide, index, key=lambda feed: feed.start) - 1
        if i >= 0 and index < self._wide[i].stop:
            return self._wide[i]
        return Feed(index, index + 1)

    def is_end(self, position: int) -> bool:
        """Whether an operation ended at a position from the fork on."""
        return position in (self.fork, self.stop) or self.call(position).start == position


class Path:
    """The way from a root to the end of a segment.

    Attributes
    ----------
    segments : list of Segment
        Root first.
    """

    def __init__(self, segment: Segment) -> None:
        up: list[Segment] = []
        at: Segment | None = segment
        while at is not None:
            up.append(at)
            at = at.parent
        self.segments = up[::-1]
        self._forks = [s.fork for s in self.segments]

    @property
    def stop(self) -> int:
        """The position behind its last token."""
        return self.segments[-1].stop

    def depth(self, position: int) -> int:
        """Which of the segments a position, behind its edits, or the token of that index is in."""
        return bisect_right(self._forks, position) - 1

    def at(self, position: int) -> Segment:
        """The segment that a position, behind its edits, or the token of that index is in."""
        return self.segments[self.depth(position)]

    def pieces(self, start: int, stop: int) -> Iterator[tuple[Segment, slice]]:
        """The segments, and the part of each, that tokens [start, stop) are in."""
        ends = [*self._forks[1:], self.stop]
        for segment, end in zip(self.segments, ends, strict=True):
            a, b = max(start, segment.fork), min(stop, end)
            if a < b:
                yield segment, slice(a - segment.fork, b - segment.fork)

    def tokens(self, start: int, stop: int) -> list[int]:
        """Token ids of [start, stop)."""
        return [t for s, part in self.pieces(start, stop) for t in s.tokens[part]]

    def texts(self, start: int, stop: int) -> list[str]:
        """What each of the tokens [start, stop) completed."""
        return [t for s, part in self.pieces(start, stop) for t in s.texts[part]]

    def generated(self, start: int, stop: int) -> list[bool]:
        """Whether the model chose each of the tokens [start, stop)."""
        return [bool(g) for s, part in self.pieces(start, stop) for g in s.generated[part]]

    def probabilities(self, start: int, stop: int) -> list[float]:
        """What the model gave to each of the tokens [start, stop)."""
        return [p for s, part in self.pieces(start, stop) for p in s.probabilities[part]]

    def top(self, index: int) -> TopK | None:
        """The likeliest tokens in the place of one; None if they are not remembered."""
        segment = self.at(index)
        return segment.tops.get(index - segment.fork)

    def edits(self, stop: int) -> list[Edit]:
        """All edits up to a position, that position's included."""
        reached = self.segments[: self.depth(stop) + 1]
        return [s.edit for s in reached if s.edit is not None]

    def lasting(self, index: int) -> list[Edit]:
        """The edits that are repeated behind the token of an index."""
        return [
            edit
            for edit in self.edits(index)
            if isinstance(edit.what, Lasting) and edit.what.during(index, index + 1, edit)
        ]

    def operations(self, depth: int, start: int, stop: int) -> list[Edit | Feed] | None:
        """What leads from a position of a segment to another position, its edits included.

        Inside a recorded call one goes token by token, and cannot come out at its end: the state
        there is the recorded call's.  None if only that way is left.
        """
        out: list[Edit | Feed] = []
        at, border = start, self.segments[depth].is_end(start)
        while True:
            while depth + 1 < len(self.segments) and self._forks[depth + 1] == at:
                if not border:
                    return None
                depth += 1
                edit = self.segments[depth].edit
                if edit is not None:
                    out.append(edit)
            if at >= stop:
                return out
            call = self.segments[depth].call(at)
            if call.stop <= stop:
                if not border:
                    return None
                out.append(call)
                at = call.stop
            else:
                out.append(Feed(at, at + 1))
                at, border = at + 1, False


class History:
    """All segments of a session, in the order in which they were begun."""

    def __init__(self) -> None:
        self.segments = [Segment()]

    def begin(self) -> Segment:
        """Another root."""
        self.segments.append(Segment())
        return self.segments[-1]

    def fork(self, path: Path, position: int, edit: Edit | None = None) -> Segment:
        """A segment that begins at a position of a path, with an edit if one is given.

        Inside a call of several tokens, those of them that come before are taken over one by one:
        that is how a return to there reads them.
        """
        segment = path.at(position)
        if not segment.is_end(position):
            begin = segment.call(position).start
            twin = Segment(segment, begin)
            self.segments.append(twin)
            twin.again = position - begin
            for i in range(begin - segment.fork, position - segment.fork):
                top = segment.tops.get(i)
                twin.append(
                    segment.tokens[i], segment.texts[i], bool(segment.generated[i]),
                    segment.probabilities[i], NO_TOP if top is None else top,
                )  # fmt: skip
            if edit is None:
                return twin
            segment = twin
        self.segments.append(Segment(segment, position, edit))
        return self.segments[-1]

    def copy(self, path: Path) -> None:
        """Hold what another history's path holds, in segments of its own; it is empty before."""
        self.segments.clear()
        for depth, segment in enumerate(path.segments):
            last = depth + 1 == len(path.segments)
            stop = segment.stop if last else path.segments[depth + 1].fork
            self.segments.append(segment.copy(self.segments[-1] if depth else None, stop))

    def children(self, segment: Segment) -> list[Segment]:
        """The segments that begin in one."""
        return [s for s in self.segments if s.parent is segment]

    def branches(self, current: Segment) -> list[Segment]:
        """The segments at whose end nothing else begins, and the current one."""
        gone_on = {id(s.parent) for s in self.segments if s.parent and s.fork == s.parent.stop}
        return [s for s in self.segments if s is current or id(s) not in gone_on]

    def remove(self, segment: Segment, current: Segment) -> None:
        """Forget a branch: what no other branch shares with it, the current one above all."""
        while segment.parent is not None and not self.children(segment):
            self.segments.remove(segment)
            parent = segment.parent
            if segment.fork < parent.stop or parent is current:  # the parent has its own end
                return
            segment = parent
        others = self.children(segment)
        if not others:
            self.segments.remove(segment)
        else:
            segment.truncate(max(s.fork for s in others))


def thin(segments: Sequence[Segment], budget: int, interval: int) -> tuple[int, int]:
    """Drop checkpoints until those left fit the budget.

    Returns
    -------
    (int, int)
        The least distance now kept between them, and the bytes that they take.
    """
    while True:
        taken = sum(c.nbytes for s in segments for c in s.checkpoints.values() if c.frame is None)
        if taken <= budget or taken == 0:
            return interval, taken
        interval *= 2
        for segment in segments:
            last = segment.fork
            for position in sorted(segment.checkpoints):
                if segment.checkpoints[position].frame is None and position - last < interval:
                    del segment.checkpoints[position]
                else:
                    last = position

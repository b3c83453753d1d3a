"""What a session remembers: lines of tokens, how they were fed, and states to return to.

A line is exact: it keeps where every forward call began and ended, because the same tokens fed in
other portions give the same numbers only up to rounding.  Returning replays those very calls from
the nearest kept state, so that the bits are those of the first time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from goose_viz.probe import Frame
from goose_viz.ranking import TopK
from goose_viz.state import State


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


@dataclass
class Line:
    """One course of events.

    Attributes
    ----------
    tokens, texts, generated, probabilities, tops : list
        Per token: id, the text it completed, whether the model chose it, the probability that the
        model gave it (NaN for the first), and the likeliest tokens in its place.
    ends : list of int
        Where the forward calls ended; the last is len(tokens).
    checkpoints : dict of int to Checkpoint
        By position; positions are ends of calls.
    """

    tokens: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    generated: list[bool] = field(default_factory=list)
    probabilities: list[float] = field(default_factory=list)
    tops: list[TopK] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)

    def cut(self, position: int) -> Line:
        """A new line with the first tokens of this one, fed as a return to there feeds them."""
        ends = self.ends[: bisect_right(self.ends, position)]
        ends += range((ends[-1] if ends else 0) + 1, position + 1)  # inside a call: one by one
        return Line(
            self.tokens[:position],
            self.texts[:position],
            self.generated[:position],
            self.probabilities[:position],
            self.tops[:position],
            ends,
            {p: c for p, c in self.checkpoints.items() if p <= position},
        )

    def truncate(self, position: int) -> None:
        """Forget the tokens behind a position, where a call ends."""
        for items in (self.tokens, self.texts, self.generated, self.probabilities, self.tops):
            del items[position:]
        del self.ends[bisect_right(self.ends, position) :]
        for p in [p for p in self.checkpoints if p > position]:
            del self.checkpoints[p]

    def calls(self, start: int, stop: int) -> list[tuple[int, int]] | None:
        """The calls that lead from one position to another; None if none do.

        Inside a recorded call one goes token by token, and cannot come out at its end: the state
        there is the recorded call's.
        """
        calls = []
        at = start
        border = at == 0 or self.is_end(at)
        while at < stop:
            end = self.ends[bisect_right(self.ends, at)]
            if end <= stop:
                if not border:
                    return None
                calls.append((at, end))
                at = end
            else:
                calls.append((at, at + 1))
                at, border = at + 1, False
        return calls

    def is_end(self, position: int) -> bool:
        """Whether a forward call ended there."""
        i = bisect_left(self.ends, position)
        return i < len(self.ends) and self.ends[i] == position


def thin(lines: list[Line], budget: int, interval: int) -> tuple[int, int]:
    """Drop checkpoints until those left fit the budget.

    Returns
    -------
    (int, int)
        The least distance now kept between them, and the bytes that they take.
    """
    while True:
        every = (c for line in lines for c in line.checkpoints.values())
        kept = {id(c): c.nbytes for c in every if c.frame is None}
        if sum(kept.values()) <= budget or not kept:
            return interval, sum(kept.values())
        interval *= 2
        for line in lines:
            last = 0
            for position in sorted(line.checkpoints):
                if line.checkpoints[position].frame is None and position - last < interval:
                    del line.checkpoints[position]
                else:
                    last = position

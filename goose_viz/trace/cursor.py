"""A place in a recorded run: what a session tells of its past, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.memory import NOW, PAST
from goose_viz.errors import GooseError
from goose_viz.frames import Frames
from goose_viz.probe import Frame
from goose_viz.state import State
from goose_viz.trace.memory import Memories, apart, unknown
from goose_viz.trace.reading import Trace


class TraceCursor:
    """A cursor on a branch of a trace; `frames` and `state_at` as those of a `Session`.

    Of a thinned trace (``every`` above 1), positions count the tokens that have numbers.

    Attributes
    ----------
    trace : Trace
    branch : int
    position, recorded : int
        Tokens up to the cursor, and of the branch.
    tokens, all_tokens : list of int
        Those up to the cursor, and of the branch.
    """

    def __init__(self, trace: Trace, branch: int | None = None) -> None:
        self.trace = trace
        self.position = 0
        self.switch(len(trace.branches) - 1 if branch is None else branch)

    def switch(self, branch: int) -> None:
        """Go to another branch, at its end."""
        self.rows = self.trace.way(branch, thinned=True)
        self.branch = branch
        self._memories = Memories(self.trace, self.rows)
        column = self.trace.column
        self.all_tokens: list[int] = column("token_id")[self.rows].tolist()
        self.texts = [str(t) for t in column("text")[self.rows]]
        self.probabilities = column("probability")[self.rows]
        self.generated = column("generated")[self.rows]
        self._ranked = tuple(
            column(n)[self.rows] for n in ("token_top", "logits_top", "logits_sum")
        )
        self.position = self.recorded

    @property
    def recorded(self) -> int:
        """Tokens of the branch."""
        return len(self.rows)

    @property
    def tokens(self) -> list[int]:
        """The tokens up to the cursor."""
        return self.all_tokens[: self.position]

    def next_tokens(self, k: int) -> list[tuple[int, float]]:
        """What was expected behind the cursor: the likeliest that were recorded, at most k."""
        if self.position == 0:
            return []
        ids, logits, total = (a[self.position - 1] for a in self._ranked)
        chances = np.exp(np.float64(logits) - np.float64(total))
        return list(zip(ids[:k].tolist(), chances[:k].tolist(), strict=True))

    @property
    def frame(self) -> Frame | None:
        """What was observed of the last token."""
        if self.position == 0 or not self.trace.observables:
            return None
        return self.trace.frames(self.rows[self.position - 1 : self.position])[0]

    def frames(
        self,
        start: int = 0,
        stop: int | None = None,
        observables: Iterable[str] | None = None,
        layers: Sequence[int] | None = None,
        *,
        initial: bool = True,
        keep_going: Callable[[], bool] | None = None,
    ) -> Frames:
        """Frames of the tokens [start, stop), as `Session.frames` gives them.

        Raises
        ------
        GooseError
            If they are not there, or something was not recorded.
        """
        stop = self.position if stop is None else stop
        if not 0 <= start < stop <= self.recorded:
            raise GooseError(
                f"tokens {start} to {stop} were not recorded; there are {self.recorded}"
            )
        trace = self.trace
        if stop - start > 1 and (reason := apart(trace)):
            raise GooseError(f"{trace.path.name} {reason}; what goes from token to token is lost")
        found = trace.frames(self.rows[start:stop], tuple(observables or PAST), layers)
        last = None
        if observables is None and set(NOW) <= set(trace.observables):
            last = trace.frames(self.rows[stop - 1 : stop], NOW, layers)[0]
        memory = None
        if initial and start > 0:
            known = trace.attributes["layers"]
            memory = self._memories.at(start)[[known.index(i) for i in found.layers]]
        return Frames(
            found.arrays, found.layers, found.tokens, found.n_head, start=start, initial=memory,
            last=last, removal_scale=found.removal_scale,
        )  # fmt: skip

    def wkv_at(
        self, position: int, told: Callable[[float], None] | None = None
    ) -> NDArray[Any] | None:
        """The memory behind so many tokens; None if it cannot be known.

        ``told`` is told the share that is made again, while it is; it may raise to stop.
        """
        return None if unknown(self.trace) else self._memories.at(position, told)

    def state_at(self, position: int) -> State:
        """The memory behind so many tokens; the shifts are not recorded, and NaN.

        Raises
        ------
        GooseError
            If neither it nor what makes it was recorded.
        """
        wkv = self._memories.at(position)
        nothing = np.full((len(wkv), self.trace.config.n_embd), np.nan, wkv.dtype)
        return State(wkv, nothing, nothing.copy())

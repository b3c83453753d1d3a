"""Per-token figures of a run, for lines over tokens and for colouring text; no Qt here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz import Frame
from goose_viz.config import Config

_TOKENS = 1 << 16
BYTES = 64 << 20  #: that a branch's figures take at most, whatever the model

#: The columns of a line's summary over a layer's channels.
MEAN, LOW, MEDIAN, HIGH = range(4)
QUANTILES = (0.1, 0.5, 0.9)


def summary(values: NDArray[Any]) -> NDArray[np.float32]:
    """(L, D) -> (L, 4): mean and the 10, 50 and 90 % quantiles over the channels."""
    ordered = np.sort(values, axis=-1)
    ranks = [round(q * (values.shape[-1] - 1)) for q in QUANTILES]
    out = np.empty((len(values), 4), np.float32)
    out[:, MEAN] = ordered.mean(-1)
    out[:, LOW:] = ordered[:, ranks]
    return out


class Series:
    """The last tokens' figures, by token index; written by the worker, read by the window.

    They take what a run has needed so far, and never more than `BYTES`: then the oldest fall out.

    Attributes
    ----------
    lines : dict of str to ndarray
        ``"decay"`` and ``"iclr"``: (rows, L, 4), see `summary`.
    heads : dict of str to ndarray
        ``"removed_norm"`` and ``"written_norm"``: (rows, L, H).
    first, n : int
        Tokens from first to n are recorded; that of token i lies in row i modulo the rows.
    """

    def __init__(self, config: Config, rows: int = 1024) -> None:
        L, H = config.n_layer, config.n_head
        self._config = config
        self._capacity = min(_TOKENS, BYTES // (4 * 2 * L * (4 + H)))
        rows = min(rows, self._capacity)
        self.lines = {n: np.zeros((rows, L, 4), np.float32) for n in ("decay", "iclr")}
        self.heads = {
            n: np.zeros((rows, L, H), np.float32) for n in ("removed_norm", "written_norm")
        }
        self.first = 0
        self.n = 0

    @property
    def rows(self) -> int:
        """Tokens for which there is room."""
        return len(self.lines["decay"])

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return sum(a.nbytes for d in (self.lines, self.heads) for a in d.values())

    def fork(self, n: int) -> Series:
        """A copy that knows the first n tokens: another branch begins there."""
        twin = Series(self._config, self.rows)
        twin._copy(self, n)
        return twin

    def _copy(self, other: Series, n: int) -> None:
        """Take over what another knows of the tokens up to n."""
        tokens = np.arange(max(other.first, other.n - other.rows, n - self.rows, 0), n)
        for mine, theirs in ((self.lines, other.lines), (self.heads, other.heads)):
            for name, values in theirs.items():
                mine[name][tokens % self.rows] = values[tokens % other.rows]
        self.first, self.n = min(other.first, n), n

    def put(self, index: int, frame: Frame) -> None:
        """Enter token ``index``; those behind it are forgotten."""
        while index - self.first >= self.rows < self._capacity:
            larger = Series(self._config, 2 * self.rows)
            larger._copy(self, self.n)
            self.lines, self.heads = larger.lines, larger.heads
        for name, rows in self.lines.items():
            rows[index % len(rows)] = summary(getattr(frame, name))
        for name, rows in self.heads.items():
            rows[index % len(rows)] = getattr(frame, name)
        self.n = index + 1

    def window(self, name: str, start: int, stop: int) -> tuple[int, NDArray[np.float32]]:
        """(first index, rows) of the tokens from start to stop that are still there."""
        rows = self.lines.get(name, self.heads.get(name))
        if rows is None:
            raise KeyError(name)
        start = max(start, self.n - len(rows), self.first)
        stop = min(stop, self.n)
        return start, rows[np.arange(start, max(start, stop)) % len(rows)]

"""Per-token figures of a run, for lines over tokens and for colouring text; no Qt here."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz import Frame
from goose_viz.config import Config

_CAPACITY = 1 << 16  # tokens; older ones fall out, so that a long run takes no more memory

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
    """The last 65,536 tokens' figures, by token index; written by the worker, read by the window.

    Attributes
    ----------
    lines : dict of str to ndarray
        ``"decay"`` and ``"iclr"``: (capacity, L, 4), see `summary`.
    heads : dict of str to ndarray
        ``"removed_norm"`` and ``"written_norm"``: (capacity, L, H).
    first, n : int
        Tokens from first to n are recorded; rows of token i lie at i modulo the capacity.
    """

    def __init__(self, config: Config) -> None:
        L, H = config.n_layer, config.n_head
        self.lines = {n: np.zeros((_CAPACITY, L, 4), np.float32) for n in ("decay", "iclr")}
        self.heads = {
            n: np.zeros((_CAPACITY, L, H), np.float32) for n in ("removed_norm", "written_norm")
        }
        self.first = 0
        self.n = 0

    def fork(self, n: int) -> Series:
        """A copy that knows the first n tokens: another branch begins there."""
        twin = object.__new__(Series)
        rows = np.arange(max(self.first, n - _CAPACITY, 0), n) % _CAPACITY
        twin.lines, twin.heads = (
            {k: np.zeros_like(v) for k, v in d.items()} for d in (self.lines, self.heads)
        )
        for mine, theirs in ((self.lines, twin.lines), (self.heads, twin.heads)):
            for name, values in mine.items():
                theirs[name][rows] = values[rows]
        twin.first, twin.n = min(self.first, n), n
        return twin

    def put(self, index: int, frame: Frame) -> None:
        """Enter token ``index``; those behind it are forgotten."""
        row = index % _CAPACITY
        for name, rows in self.lines.items():
            rows[row] = summary(getattr(frame, name))
        for name, rows in self.heads.items():
            rows[row] = getattr(frame, name)
        self.n = index + 1

    def window(self, name: str, start: int, stop: int) -> tuple[int, NDArray[np.float32]]:
        """(first index, rows) of the tokens from start to stop that are still there."""
        start = max(start, self.n - _CAPACITY, self.first)
        stop = min(stop, self.n)
        rows = self.lines.get(name, self.heads.get(name))
        if rows is None:
            raise KeyError(name)
        return start, rows[np.arange(start, max(start, stop)) % _CAPACITY]

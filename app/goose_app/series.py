"""Per-token figures of a run, for lines over tokens and for colouring text; no Qt here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz import Frame
from goose_viz.config import Config
from goose_viz.observables import OBSERVABLES

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


#: Axes of an observable behind the layer -> how many figures a layer and token has.
_WIDTHS = {"D": lambda config: 4, "H": lambda config: config.n_head}


class Series:
    """The last tokens' figures, by token index; written by the worker, read by the window.

    They take what a run has needed so far, and never more than `BYTES`: then the oldest fall out.

    Parameters
    ----------
    config : Config
    names : iterable of str
        The observables: of channels, a `summary` is recorded; of heads, each.
    rows : int
        Tokens for which there is room at first.

    Attributes
    ----------
    columns : dict of str to ndarray (rows, L, 4 or H)
    first, n : int
        Tokens from first to n are recorded; that of token i lies in row i modulo the rows.
    """

    def __init__(self, config: Config, names: Iterable[str], rows: int = 1024) -> None:
        self._config, self._names = config, tuple(sorted(names))
        widths = {n: _WIDTHS[OBSERVABLES[n].axes](config) for n in self._names}
        each = 4 * config.n_layer * max(sum(widths.values()), 1)
        self._capacity = min(_TOKENS, BYTES // each)
        self.rows = min(rows, self._capacity)
        self.columns = {
            n: np.zeros((self.rows, config.n_layer, w), np.float32) for n, w in widths.items()
        }
        self.first = 0
        self.n = 0

    @property
    def capacity(self) -> int:
        """Tokens that there is room for at most."""
        return self._capacity

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        return sum(a.nbytes for a in self.columns.values())

    def fork(self, n: int) -> Series:
        """A copy that knows the first n tokens: another branch begins there."""
        twin = Series(self._config, self._names, self.rows)
        twin._copy(self, n)
        return twin

    def _copy(self, other: Series, n: int) -> None:
        """Take over what another knows of the tokens up to n."""
        tokens = np.arange(max(other.first, other.n - other.rows, n - self.rows, 0), n)
        for name, values in other.columns.items():
            self.columns[name][tokens % self.rows] = values[tokens % other.rows]
        self.first, self.n = min(other.first, n), n

    def extend(self, other: Series) -> None:
        """Take over what another knows of the tokens behind these."""
        for index in range(max(self.n, other.first, other.n - other.rows), other.n):
            self._make_room(index)
            for name, rows in self.columns.items():
                rows[index % self.rows] = other.columns[name][index % other.rows]
            self.n = index + 1

    def put(self, index: int, frame: Frame) -> None:
        """Enter token ``index``; those behind it are forgotten."""
        self._make_room(index)
        for name, rows in self.columns.items():
            values = getattr(frame, name, None)
            if values is None:
                rows[index % len(rows)] = np.nan  # nobody watched it
            else:
                rows[index % len(rows)] = summary(values) if _of_channels(name) else values
        self.n = index + 1

    def _make_room(self, index: int) -> None:
        while index - self.first >= self.rows < self._capacity:
            larger = Series(self._config, self._names, 2 * self.rows)
            larger._copy(self, self.n)
            self.columns, self.rows = larger.columns, larger.rows

    def window(self, name: str, start: int, stop: int) -> tuple[int, NDArray[np.float32]]:
        """(first index, rows) of the tokens from start to stop that are still there."""
        rows = self.columns[name]
        start = max(start, self.n - len(rows), self.first)
        stop = min(stop, self.n)
        return start, rows[np.arange(start, max(start, stop)) % len(rows)]


def _of_channels(name: str) -> bool:
    return OBSERVABLES[name].axes == "D"

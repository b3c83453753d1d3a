"""Rows that wait to be written: as many as make a chunk of each array of an axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.trace.growing import Variable

Rows = dict[str, NDArray[Any] | list[str]]


class Block:
    """The newest rows along one axis.

    Attributes
    ----------
    begin : int
        Rows of the blocks before.
    n : int
        Rows in this one.
    """

    def __init__(self, variables: Mapping[str, Variable], size: int) -> None:
        self._variables, self.size = variables, size
        self.begin = self.n = 0
        self._arrays = self._empty()
        self._words: dict[str, list[str]] = {
            k: [] for k, v in variables.items() if v.dtype == "str"
        }

    def _empty(self) -> dict[str, NDArray[Any]]:
        return {
            k: np.empty((self.size, *v.shape), v.dtype)
            for k, v in self._variables.items()
            if v.dtype != "str"
        }

    def put(self, values: Mapping[str, Any]) -> None:
        """Enter a row; numbers that it does not have are NaN."""
        for name, array in self._arrays.items():
            array[self.n] = values.get(name, np.nan)
        for name, words in self._words.items():
            words.append(values[name])
        self.n += 1

    @property
    def full(self) -> bool:
        """Whether the next row belongs to another block."""
        return self.n == self.size

    def take(self) -> Rows:
        """Its rows, for another thread; a full one makes room for the next."""
        if not self.full:
            return {k: a[: self.n].copy() for k, a in self._arrays.items()} | {
                k: list(w) for k, w in self._words.items()
            }
        rows: Rows = {**self._arrays, **self._words}
        self.begin, self.n, self._arrays = self.begin + self.n, 0, self._empty()
        self._words = {k: [] for k in self._words}
        return rows

"""Rows that wait to be written: as many as make a chunk of each array of an axis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.trace.growing import Variable


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
        self.size, self.begin, self.n = size, 0, 0
        self._arrays = {k: _empty(v, size) for k, v in variables.items()}

    def put(self, values: Mapping[str, Any]) -> None:
        """Enter a row; numbers that it does not have are NaN."""
        if self.n == self.size:
            self.begin, self.n = self.begin + self.n, 0
        for name, array in self._arrays.items():
            array[self.n] = values.get(name, np.nan)
        self.n += 1

    @property
    def full(self) -> bool:
        """Whether the next row belongs to another block."""
        return self.n == self.size

    @property
    def stop(self) -> int:
        """Rows up to here."""
        return self.begin + self.n

    def rows(self) -> dict[str, NDArray[Any]]:
        """A chunk of each array; behind `n`, nothing, which takes no room in a file."""
        for array in self._arrays.values():
            array[self.n :] = "" if array.dtype == object else 0
        return self._arrays


def _empty(variable: Variable, size: int) -> NDArray[Any]:
    """Rows of an array; what makes a chunk lies together in memory."""
    if variable.dtype == "str":
        return np.full((size, *variable.shape), "", object)
    own, shared = variable.shape[: variable.by], variable.shape[variable.by :]
    return np.moveaxis(np.zeros((*own, size, *shared), variable.dtype), variable.by, 0)

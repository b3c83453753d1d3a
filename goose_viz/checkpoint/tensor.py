"""A tensor as it lies in a file: the bits, and what they mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Storage of each float kind.  NumPy has no bfloat16, and numba compiles no float16, so both
#: travel as their bits.
STORAGE: dict[str, np.dtype[Any]] = {
    "fp64": np.dtype("<f8"),
    "fp32": np.dtype("<f4"),
    "fp16": np.dtype("<u2"),
    "bf16": np.dtype("<u2"),
}


class Tensor:
    """Bits of one kind.

    Parameters
    ----------
    bits : ndarray
        Any shape, dtype ``STORAGE[kind]``; often a view into a memory-mapped file, not contiguous.
    kind : str
        ``"fp64"``, ``"fp32"``, ``"fp16"`` or ``"bf16"``.
    """

    def __init__(self, bits: NDArray[np.generic], kind: str) -> None:
        self._bits = bits
        self.kind = kind

    @property
    def bits(self) -> NDArray[np.generic]:
        """The numbers as they are stored."""
        return self._bits

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths along each axis."""
        return self._bits.shape

    @property
    def whole(self) -> bool:
        """Whether rows can be had only by working all of them out."""
        return False

    @property
    def quantised(self) -> bool:
        """Whether the file keeps blocks that share a scale; ``kind`` is what they widen to then."""
        return False

    @property
    def fours(self) -> tuple[NDArray[np.int8], NDArray[np.float16]] | None:
        """Rows as whole numbers from -8 to 7 with a scale for 32, where the file has them so."""
        return None

    def rows(self, begin: int, end: int) -> Tensor:
        """Some of the rows."""
        return Tensor(self.bits[begin:end], self.kind)

    def transposed(self) -> Tensor:
        """The matrix with its axes exchanged (a view)."""
        return Tensor(self.bits.T, self.kind)

    def reshaped(self, shape: tuple[int, ...]) -> Tensor:
        """The same numbers in another shape."""
        return Tensor(self.bits.reshape(shape), self.kind)

    def float32(self) -> NDArray[np.float32]:
        """The numbers as contiguous float32; exact for every kind but fp64."""
        if self.kind == "bf16":
            return (self.bits.astype(np.uint32) << 16).view(np.float32)
        if self.kind == "fp16":
            return np.ascontiguousarray(self.bits).view(np.float16).astype(np.float32)
        return np.ascontiguousarray(self.bits, dtype=np.float32)

    def float64(self) -> NDArray[np.float64]:
        """The numbers as contiguous float64, exact for every kind."""
        if self.kind == "fp64":
            return np.ascontiguousarray(self.bits, dtype=np.float64)
        return self.float32().astype(np.float64)

    def all_finite(self) -> bool:
        """Whether no number is NaN or infinite, read off the exponent bits."""
        if self.kind == "bf16":
            return not bool(((self.bits.astype(np.uint16) & 0x7F80) == 0x7F80).any())
        if self.kind == "fp16":
            return not bool(((self.bits.astype(np.uint16) & 0x7C00) == 0x7C00).any())
        return bool(np.isfinite(self.bits).all())

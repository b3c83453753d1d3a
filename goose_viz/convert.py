"""A checkpoint's tensors in the type that an engine keeps its weights in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.checkpoint.tensor import Tensor

#: How each weight type lies in memory.  numba compiles no float16 arrays, so 16-bit types are bits,
#: and the sign of the integer tells them apart.  An int8 row has a float32 scale beside it.
MEMORY: dict[str, type[np.generic]] = {
    "fp32": np.float32, "bf16": np.uint16, "fp16": np.int16, "int8": np.int8,
}  # fmt: skip

Progress = Callable[[float, str], None]


def stored_by_columns(name: str) -> bool:
    """Whether engines keep the columns of a tensor as rows, each with a scale of its own in int8.

    The low-rank pairs, which files keep as (in, out); and two matrices that are read by inputs, so
    that one that is zero costs nothing.
    """
    return name.endswith(("att.output.weight", "ffn.value.weight", "1", "2"))


def convert(tensor: Tensor, dtype: str) -> NDArray[Any]:
    """A tensor's numbers in one of the float types, as the kernels want them."""
    if dtype == tensor.kind:
        bits = np.ascontiguousarray(tensor.bits)
        return bits.view(MEMORY[dtype])
    numbers = tensor.float32()
    if dtype == "fp32":
        return numbers
    if dtype == "fp16":
        limit = np.float32(65504)
        halves: NDArray[Any] = numbers.clip(-limit, limit).astype(np.float16)
        return halves.view(np.int16)
    bits = numbers.view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)  # to nearest, ties to even
    upper: NDArray[Any] = (rounded >> 16).astype(np.uint16)
    return upper


def as_kept(tensor: Tensor, name: str, dtype: str) -> NDArray[Any]:
    """A tensor's numbers as an engine computes with them: rounded to its type, and widened again.

    float64 for ``"fp64"``, float32 for the others; vectors and r_k are kept in float32.
    """
    if dtype == "fp64":
        return tensor.float64()
    matrix = len(tensor.shape) == 2 and not name.endswith("r_k")
    if not matrix or dtype in ("fp32", tensor.kind):
        return tensor.float32()
    if dtype != "int8":
        return Tensor(convert(tensor, dtype), dtype).float32()
    numbers = tensor.float32()
    turned = stored_by_columns(name)
    rows, scales = quantise(numbers.T if turned else numbers)
    widened = rows * scales[:, None]
    return widened.T if turned else widened


def quantise(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows as int8 and a scale each: symmetric, the largest magnitude of a row is 127 times it.

    Parameters
    ----------
    rows : ndarray (n, width)

    Returns
    -------
    (ndarray (n, width) int8, ndarray (n,) float32)
        A row is its int8 times its scale, to half a scale; a row of zeros has the scale 1.
    """
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1))
    scales = np.maximum(scales, np.finfo(np.float32).tiny)  # a denormal would divide to infinity
    numbers = np.rint(rows / scales[:, None])
    return numbers.astype(np.int8), scales.astype(np.float32)

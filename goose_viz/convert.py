"""A checkpoint's tensors in the type that an engine keeps its weights in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_gpu.formats import FORMATS, format_name
from goose_gpu.planes import RKV
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.four_bits import as_blocks, filled_up, quantise_groups, widened

Progress = Callable[[float, str], None]


def stored_by_columns(name: str) -> bool:
    """Whether engines keep the columns of a tensor as rows, with scales along them.

    The low-rank pairs, which files keep as (in, out); and two matrices that are read by inputs, so
    that one that is zero costs nothing.
    """
    return name.endswith(("att.output.weight", "ffn.value.weight", "1", "2"))


def matrix_of(name: str) -> str:
    """Which matrix of `goose_gpu.formats` a tensor is, or is part of, by BlinkDL's name."""
    place, _, word = name.removesuffix(".weight").rpartition(".")
    if place.endswith("ffn"):
        return f"ffn_{word}"
    if word in RKV:
        return "rkv"
    return {"1": "down", "2": "up"}.get(word[-1], word)


def convert(tensor: Tensor, dtype: str) -> NDArray[Any]:
    """A tensor's numbers in one of the float types, as the kernels want them."""
    if dtype == tensor.kind:
        bits = np.ascontiguousarray(tensor.bits)
        return bits.view(FORMATS[dtype].memory)
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
    kind = format_name(dtype, matrix_of(name))
    if not FORMATS[kind].whole:
        return Tensor(convert(tensor, dtype), dtype).float32()
    if stored_by_columns(name):
        return rounded(tensor.transposed(), kind).T
    return rounded(tensor, kind)


def four_bits_of(rows: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Rows as `quantise_groups` has them; those that a file stores so are taken as they are."""
    fours = rows.fours
    return quantise_groups(rows.float32()) if fours is None else filled_up(*fours)


def as_stored(rows: Tensor, kind: str) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Rows as a format of `goose_gpu.formats` stores them, and the scales that lie beside them."""
    if kind == "int4":
        return as_blocks(*four_bits_of(rows)), None
    if kind == "int8":
        return quantise(rows.float32())
    return convert(rows, kind), None


def rounded(rows: Tensor, kind: str) -> NDArray[np.float32]:
    """What is left of rows (n, width) that are stored as whole numbers: int8 or int4."""
    if kind == "int4":
        return widened(*four_bits_of(rows), rows.shape[1])
    numbers, scales = quantise(rows.float32())
    return numbers * scales[:, None]


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

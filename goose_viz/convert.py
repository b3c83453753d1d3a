"""A checkpoint's tensors in the type that an engine keeps its weights in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.checkpoint.tensor import Tensor

#: How each weight type lies in memory.  numba compiles no float16 arrays, so 16-bit types are bits,
#: and the sign of the integer tells them apart.
MEMORY: dict[str, type[np.generic]] = {"fp32": np.float32, "bf16": np.uint16, "fp16": np.int16}

Progress = Callable[[float, str], None]


def convert(tensor: Tensor, dtype: str) -> NDArray[Any]:
    """A tensor's numbers in one of the weight types, as the kernels want them."""
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

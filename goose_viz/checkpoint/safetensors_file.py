"""``.safetensors`` files: the library checks the file, the numbers are mapped, not read.

The library's NumPy side has no bfloat16, so the bits are taken from the file at the offsets of the
header that it has just validated.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from goose_viz.checkpoint.tensor import STORAGE, Tensor
from goose_viz.errors import CheckpointError

_KINDS = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}
_INTEGERS = {"I8", "U8", "I16", "U16", "I32", "U32", "I64", "U64", "BOOL"}


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read every float tensor of a safetensors file, and its metadata; the bytes stay mapped.

    Raises
    ------
    CheckpointError
        If the library finds the file damaged, or a tensor has a type that no RWKV-7 weight has.
    """
    try:
        with safe_open(path, framework="np"):
            pass  # opening validates the header against the file's length
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path.name}: not a complete safetensors file ({error}); download it again"
        ) from None
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", None) or {}  # null is valid
    raw = np.memmap(path, np.uint8, mode="r") if header else np.empty(0, np.uint8)
    tensors = {}
    for name, entry in header.items():
        kind = _KINDS.get(entry["dtype"])
        if kind is None:
            if entry["dtype"] in _INTEGERS:
                continue
            raise CheckpointError(
                f"{path.name}: {name} is stored as {entry['dtype']}; expected one of "
                f"{', '.join(_KINDS)}"
            )
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        flat: NDArray[np.generic] = raw[begin:end].view(STORAGE[kind])
        bits = flat.reshape(entry["shape"])
        tensors[name] = Tensor(bits, kind)
    return tensors, metadata

"""Safetensors written tensor by tensor: the library would hold a second copy of the whole model."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

from goose_viz.checkpoint.removal_scale import KEY
from goose_viz.checkpoint.tensor import STORAGE, Tensor
from goose_viz.config import Config
from goose_viz.convert import Progress, convert
from goose_viz.files import whole_file
from goose_viz.weights import Weights

_TYPES = {"fp64": "F64", "fp32": "F32", "fp16": "F16", "bf16": "BF16"}


def write_safetensors(weights: Weights, path: Path, dtype: str, progress: Progress) -> None:
    """A model under BlinkDL's names in one file."""
    said = metadata_of(weights.config)
    write_tensors(weights.tensors, weights.kind, path, dtype, progress, said)


def metadata_of(config: Config) -> dict[str, str]:
    """What a file says of its model beside the shapes."""
    return {} if config.removal_scale == 1 else {KEY: repr(config.removal_scale)}


def write_tensors(
    tensors: Mapping[str, Tensor],
    kind: str,
    path: Path,
    dtype: str,
    progress: Progress,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Named tensors in one file.

    Parameters
    ----------
    tensors : mapping of str to Tensor
    kind : str
        What quantised matrices become when ``dtype`` is ``"auto"``.
    path : Path
    dtype : str
        ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``.
    progress : callable (float, str)
    metadata : mapping of str to str, optional

    Raises
    ------
    OSError
        If the file cannot be written; an older one of the name is untouched then.
    """
    kinds = {name: kind_of(tensor, kind) if dtype == "auto" else dtype
             for name, tensor in tensors.items()}  # fmt: skip
    about = {"format": "pt", **(metadata or {})}  # the format as Transformers wants it
    header: dict[str, object] = {"__metadata__": about}
    at = 0
    for name, tensor in tensors.items():
        size = math.prod(tensor.shape) * STORAGE[kinds[name]].itemsize
        header[name] = {
            "dtype": _TYPES[kinds[name]], "shape": tensor.shape, "data_offsets": [at, at + size],
        }  # fmt: skip
        at += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with whole_file(path) as file:
        file.write(struct.pack("<Q", len(head)) + head)
        for i, (name, tensor) in enumerate(tensors.items()):
            progress(i / len(tensors), f"writing {name}")
            Weights.check_finite(name, tensor)
            file.write(as_kind(tensor, kinds[name]))


def kind_of(tensor: Tensor, quantised: str) -> str:
    """The float type that a tensor is stored in; another for one of quantised blocks."""
    return quantised if tensor.quantised else tensor.kind


def as_kind(tensor: Tensor, kind: str) -> bytes:
    """A tensor's numbers in a float type, as bytes."""
    if kind == "fp64":
        return tensor.float64().tobytes()
    return convert(tensor, kind).tobytes()

"""GGUF files of architecture ``rwkv7``: tensors mapped, blocks widened where they are asked for.

The header is read here, since the ``gguf`` package takes a second for a vocabulary of 65,536 and
never ends on a damaged one; what the block types mean is the package's knowledge.

Source: the GGUF specification in ggml's docs/gguf.md.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.checkpoint import names
from goose_viz.checkpoint.removal_scale import KEY, removal_scale
from goose_viz.checkpoint.tensor import STORAGE, Tensor
from goose_viz.errors import CheckpointError

#: GGUF's names of the types that are stored as they are.
PLAIN = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}
#: Of a value in the header: its struct format.
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_MOST_AXES = 4

#: Config attribute -> key behind ``rwkv7.``.
_CLAIMS = {
    "n_layer": "block_count",
    "n_embd": "embedding_length",
    "n_ffn": "feed_forward_length",
    "head_size": "wkv.head_size",
    "rank_decay": "attention.decay_lora_rank",
    "rank_iclr": "attention.iclr_lora_rank",
    "rank_value": "attention.value_residual_mix_lora_rank",
    "rank_gate": "attention.gate_lora_rank",
    "layer_norm_eps": "attention.layer_norm_epsilon",
    KEY: KEY,
}


@dataclass(frozen=True)
class Gguf:
    """What a file holds.

    Attributes
    ----------
    tensors : dict of str to Tensor
        Under BlinkDL's names.
    types : tuple of str
        GGUF's types of the big matrices, the most frequent first.
    claims : dict of str to float
        What the header says of the sizes.
    vocabulary : dict of str to value
        What stands under ``tokenizer.ggml.``.
    """

    tensors: dict[str, Tensor]
    types: tuple[str, ...]
    claims: dict[str, float]
    vocabulary: dict[str, Any]


class Blocks(Tensor):
    """A matrix of quantised blocks, worked out whenever it is asked for: (rows, width) float32."""

    def __init__(
        self, raw: NDArray[np.uint8], blocks: Any, shape: tuple[int, ...], turned: bool = False
    ) -> None:
        self._raw, self._blocks, self._shape, self._turned = raw, blocks, shape, turned
        self.kind = "fp32"

    @property
    def bits(self) -> NDArray[np.generic]:
        """All numbers."""
        from gguf.quants import dequantize

        numbers: NDArray[np.generic] = dequantize(self._raw, self._blocks).reshape(self._shape)
        return numbers.T if self._turned else numbers

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths along each axis."""
        return self._shape[::-1] if self._turned else self._shape

    @property
    def whole(self) -> bool:
        """Blocks lie along the rows; columns need them all."""
        return self._turned

    @property
    def quantised(self) -> bool:
        """Always."""
        return True

    @property
    def fours(self) -> tuple[NDArray[np.int8], NDArray[np.float16]] | None:
        """Those of Q4_0: a float16 scale, then 16 bytes of number i and number i + 16, plus 8."""
        if self._blocks.name != "Q4_0" or self._turned:
            return None
        rows, width = self._shape
        blocks = np.asarray(self._raw).reshape(rows, -1, 18)
        scales = np.ascontiguousarray(blocks[..., :2]).view("<f2")[..., 0].astype(np.float16)
        both = blocks[..., 2:]
        numbers = np.concatenate([both & 15, both >> 4], axis=2).astype(np.int8) - np.int8(8)
        return numbers.reshape(rows, width), scales

    def rows(self, begin: int, end: int) -> Tensor:
        """Some of the rows."""
        if self._turned:
            return Tensor(self.bits[begin:end], self.kind)
        shape = (end - begin, *self._shape[1:])
        return Blocks(self._raw[begin:end], self._blocks, shape)

    def transposed(self) -> Tensor:
        """The matrix with its axes exchanged."""
        return Blocks(self._raw, self._blocks, self._shape, not self._turned)

    def reshaped(self, shape: tuple[int, ...]) -> Tensor:
        """The same numbers in another shape."""
        return self if shape == self.shape else Tensor(self.bits.reshape(shape), self.kind)


def read(path: Path) -> Gguf:
    """Read a GGUF file; the numbers stay mapped.

    Raises
    ------
    CheckpointError
        If the file is damaged, of another architecture, or one part of several.
    """
    try:
        return _read(path)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from None
    except (struct.error, ValueError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise CheckpointError(
            f"{path.name}: its header does not fit the file ({error}); it may be truncated, "
            "download it again"
        ) from None


def _read(path: Path) -> Gguf:
    data = np.memmap(path, np.uint8, mode="r")
    values, entries, start = _Header(data).read()
    architecture = values.get("general.architecture")
    if architecture != "rwkv7":
        raise CheckpointError(
            f"a GGUF of architecture {architecture!r}; expected 'rwkv7', the only one that is read"
        )
    if int(values.get("split.count", 1)) > 1:
        raise CheckpointError(
            f"one of {values['split.count']} parts; join them with `llama-gguf-split --merge`"
        )
    claims = {}
    for attribute, key in _CLAIMS.items():
        value = values.get(f"rwkv7.{key}")
        if isinstance(value, int | float):
            claims[attribute] = removal_scale(value, "its header") if key == KEY else value
    eps = claims.get("layer_norm_eps", 1e-5)
    if not 0 < eps < 1:
        raise CheckpointError(f"its header says layer_norm_epsilon {eps}; expected some 1e-5")
    named, types = _tensors(data, entries, start)
    if not named:
        raise CheckpointError("holds no float tensors; expected RWKV-7 weights")
    tensors = names.from_gguf(named)
    found = [types[name] for name in named if len(named[name].shape) == 2]
    ordered = sorted(set(found), key=lambda t: -found.count(t))
    place = "tokenizer.ggml."
    vocabulary = {k.removeprefix(place): v for k, v in values.items() if k.startswith(place)}
    return Gguf(tensors, tuple(ordered), claims, vocabulary)


class _Header:
    """Reads values one after another, each within the file."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._data, self._at = data, 0

    def read(self) -> tuple[dict[str, Any], list[tuple[str, tuple[int, ...], int, int]], int]:
        """(values, (name, shape, type, offset) of each tensor, where the numbers begin)."""
        if self._bytes(4) != b"GGUF":
            raise CheckpointError("does not begin like a GGUF file")
        version = self._scalar("I")
        if version not in (2, 3):
            words = "a big-endian file" if version & 0xFFFF == 0 else f"version {version}"
            raise CheckpointError(f"{words} of GGUF; expected version 2 or 3, little-endian")
        n_tensors, n_values = self._scalar("Q"), self._scalar("Q")
        values = {}
        for _ in range(n_values):
            key = self._string().decode()
            values[key] = self._value(self._scalar("I"))
        entries = []
        for _ in range(n_tensors):
            name = self._string().decode()
            axes = self._scalar("I")
            if axes > _MOST_AXES:
                raise CheckpointError(f"{name} has {axes} axes; GGUF has {_MOST_AXES} at most")
            shape = tuple(self._scalar("Q") for _ in range(axes))[::-1]
            entries.append((name, shape, self._scalar("I"), self._scalar("Q")))
        alignment = int(values.get("general.alignment", 32))
        if alignment <= 0:
            raise CheckpointError(f"its tensors are aligned to {alignment} bytes")
        return values, entries, -(-self._at // alignment) * alignment

    def _bytes(self, n: int) -> bytes:
        if n > self._data.size - self._at:
            raise CheckpointError("the file ends within its header; download it again")
        content = self._data[self._at : self._at + n].tobytes()
        self._at += n
        return content

    def _scalar(self, kind: str) -> Any:
        return struct.unpack("<" + kind, self._bytes(struct.calcsize("<" + kind)))[0]

    def _string(self) -> bytes:
        return self._bytes(self._scalar("Q"))

    def _value(self, kind: int, inside: bool = False) -> Any:
        if kind == _STRING:
            return self._string().decode("utf-8", "surrogateescape")
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind != _ARRAY or inside:
            raise CheckpointError(f"its header has a value of the unknown type {kind}")
        kind, n = self._scalar("I"), self._scalar("Q")
        if kind in _SCALARS:
            dtype = np.dtype("<" + _SCALARS[kind])
            return np.frombuffer(self._bytes(n * dtype.itemsize), dtype)
        if 8 * n > self._data.size:
            raise CheckpointError(f"its header claims a list of {n} texts; the file is smaller")
        return [self._value(kind, inside=True) for _ in range(n)]


def _tensors(
    data: NDArray[np.uint8], entries: list[tuple[str, tuple[int, ...], int, int]], start: int
) -> tuple[dict[str, Tensor], dict[str, str]]:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    tensors: dict[str, Tensor] = {}
    types = {}
    for name, shape, number, offset in entries:
        if number not in set(GGMLQuantizationType):
            raise CheckpointError(f"{name} is stored as type {number}, which nobody here knows")
        kind = GGMLQuantizationType(number)
        types[name] = kind.name
        block, nbytes = GGML_QUANT_SIZES[kind]
        size, width = math.prod(shape), shape[-1] if shape else 1
        if width % block:
            raise CheckpointError(f"{name} has rows of {width}, which {kind.name} cannot store")
        begin, end = start + offset, start + offset + size // block * nbytes
        if end > data.size:
            raise CheckpointError(
                f"{name} should end at byte {end}, the file at {data.size}: it is truncated, "
                "download it again"
            )
        raw = data[begin:end]
        if kind.name in PLAIN:
            plain = PLAIN[kind.name]
            tensors[name] = Tensor(raw.view(STORAGE[plain]).reshape(shape), plain)
            continue
        if kind.name[0] == "I" and kind.name[1:].isdecimal():  # integers are no weights
            continue
        raw = raw.reshape(*shape[:-1], width // block * nbytes)
        try:
            dequantize(raw.reshape(-1)[:nbytes][None], kind)
        except NotImplementedError:
            raise CheckpointError(
                f"{name} is stored as {kind.name}, which the gguf package cannot widen; use a "
                "Q8_0, F16 or other common type of the same model"
            ) from None
        tensors[name] = Blocks(raw, kind, shape)
    return tensors, types

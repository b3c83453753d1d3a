"""How weights are stored: one table that every engine, the converter and the disk read.

A row of a matrix is stored in whole blocks.  numba compiles no float16 arrays, so 16-bit types
travel as their bits; the integer type of an array tells its format to the kernels that read it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

ROW = -1


class Format(NamedTuple):
    """One way to store the numbers of a row.

    Attributes
    ----------
    memory : dtype
        Of the array that holds them.
    block : int
        Numbers that are stored together; a row is filled up with zeros to whole blocks.
    items : int
        Items of the array that a block takes.
    group : int
        Numbers that share a scale: 0 where there is none, `ROW` for all of a row.
    scale : dtype or None
        Of a scale.  One of a row lies in an array beside the matrix; those of groups lie in front
        of their block's numbers.
    """

    memory: np.dtype[Any]
    block: int = 1
    items: int = 1
    group: int = 0
    scale: np.dtype[Any] | None = None

    def padded(self, width: int) -> int:
        """Numbers of a row with what fills it up."""
        return -(-width // self.block) * self.block

    def numbers(self, items: int) -> int:
        """Numbers that so many items hold."""
        return items // self.items * self.block

    def stride(self, width: int) -> int:
        """Items of a row."""
        return self.padded(width) // self.block * self.items

    @property
    def packet(self) -> int:
        """Numbers in 16 bytes without scales: a row on a card is read in whole ones."""
        return 16 * self.block // (self.items * self.memory.itemsize - self._scale_bytes)

    @property
    def _scale_bytes(self) -> int:
        """Bytes of the scales in a block."""
        if self.scale is None or self.group == ROW:
            return 0
        return self.block // self.group * self.scale.itemsize

    def row_bytes(self, width: int) -> int:
        """Bytes of a row, with its scales."""
        beside = self.scale.itemsize if self.scale is not None and self.group == ROW else 0
        return self.stride(width) * self.memory.itemsize + beside

    @property
    def whole(self) -> bool:
        """Whether the numbers are whole, and a scale says of what they are multiples."""
        return self.group != 0


#: int4: 256 numbers from -8 to 7 in 144 bytes: eight float16 scales, one for 32 numbers; then four
#: times 32 bytes, read as sixteen 16-bit words: bits 4 k of word j are number 16 k + j of the 64.
FORMATS = {
    "fp32": Format(np.dtype(np.float32)),
    "bf16": Format(np.dtype(np.uint16)),
    "fp16": Format(np.dtype(np.int16)),
    "int8": Format(np.dtype(np.int8), group=ROW, scale=np.dtype(np.float32)),
    "int4": Format(np.dtype(np.uint8), 256, 144, 32, np.dtype(np.float16)),
}

#: By the integer type of an array.
STORED_AS = {kind.memory: kind for kind in FORMATS.values()}

#: The matrices that a model of four bits keeps in eight.  A token is one row of the embedding, and
#: the head's error goes straight into the logits; the low-rank pairs are few; the two that are read
#: by inputs would cost more arithmetic than their bytes take, most of which relu's zeros save.
_EIGHT = ("emb", "head", "down", "up", "output", "ffn_value")


def format_name(dtype: str, matrix: str) -> str:
    """The name of the format of a matrix (emb, rkv, down, up, output, ffn_key …) of a model."""
    return "int8" if dtype == "int4" and matrix in _EIGHT else dtype


def format_of(dtype: str, matrix: str) -> Format:
    """The format of a matrix of a model."""
    return FORMATS[format_name(dtype, matrix)]

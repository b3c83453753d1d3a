"""Whether a chunk can be what its array says, before it is unpacked.

The unpackers trust what a chunk says of itself: one that is damaged can have them take any memory,
or read beyond it, which ends the process.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_BLOSC = 16  # bytes of a header, and their places in it: version 2, then as c-blosc has it
_ZSTD = b"\x28\xb5\x2f\xfd"
_WORDS = 4096  # bytes of a token's text, at most, on the average of a chunk


class DamagedChunk(Exception):
    """It is not what was written."""


def check(files: Iterable[Path], shape: Iterable[int], itemsize: int, codec: str) -> None:
    """Raise DamagedChunk if one of these cannot be a chunk; one that is not there is empty.

    Parameters
    ----------
    files : iterable of Path
    shape : iterable of int
        Of a chunk.
    itemsize : int
        Bytes of a number; 0 for texts.
    codec : str
        What packs it: only Blosc and Zstandard, as traces are written with, are looked into.
    """
    n = math.prod(shape)
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            if codec == "BloscCodec":
                _check_blosc(file, n * itemsize)
            elif codec == "ZstdCodec":
                _check_zstd(file, n * (itemsize or _WORDS), None if itemsize else n)


def codec_of(encoding: dict[str, Any]) -> str:
    """The name of what packs an array, by its encoding in xarray; empty for nothing or several."""
    names = [type(c).__name__ for c in encoding.get("compressors") or ()]
    return names[0] if len(names) == 1 else ""


def _check_blosc(file: Path, nbytes: int) -> None:
    with file.open("rb") as opened:
        head = opened.read(_BLOSC)
        there = os.fstat(opened.fileno()).st_size  # of this one: another may take its name
    if len(head) < _BLOSC or head[0] != 2:
        raise DamagedChunk(f"{file.name} has no header")
    unpacked, block, packed = (int.from_bytes(head[i : i + 4], "little") for i in (4, 8, 12))
    if unpacked != nbytes or packed != there or not 0 < block <= max(nbytes, 1) or not head[3]:
        raise DamagedChunk(
            f"a chunk of {there} bytes says that it is {packed} of {unpacked}; expected {nbytes}"
        )
    blocks = -(-nbytes // block)
    plain = bool(head[2] & 2)
    if plain and there != nbytes + _BLOSC:
        raise DamagedChunk("a chunk that is not packed has another size")
    if not plain and there < _BLOSC + 4 * blocks:
        raise DamagedChunk(f"a chunk of {there} bytes says that it has {blocks} blocks")


def _check_zstd(file: Path, most: int, texts: int | None) -> None:
    from numcodecs import Zstd

    content = file.read_bytes()
    if _unpacked_size(content) > most:
        raise DamagedChunk(f"a chunk says that it is more than {most} bytes")
    if texts is None:
        return
    try:
        plain = bytes(Zstd().decode(content))
    except Exception as error:  # any way
        raise DamagedChunk(str(error)) from None
    if int.from_bytes(plain[:4], "little") != texts:
        raise DamagedChunk(f"a chunk has other than {texts} texts")


def _unpacked_size(content: bytes) -> int:
    """What a Zstandard frame says that it unpacks to (RFC 8878, 3.1.1.1); must be told."""
    if content[:4] != _ZSTD or len(content) < 14:
        raise DamagedChunk("a chunk is no Zstandard frame")
    about = content[4]
    single, known = about >> 5 & 1, about >> 6
    size = (1 if single else 0, 2, 4, 8)[known]
    at = 5 + (1 - single) + (0, 1, 2, 4)[about & 3]
    if not size:
        raise DamagedChunk("a chunk does not say what it unpacks to")
    return int.from_bytes(content[at : at + size], "little") + (256 if size == 2 else 0)

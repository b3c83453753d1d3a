"""Numbers as multiples of a scale that a group of them shares: the least squared error, and bits.

A group's scale s and its whole numbers q from -8 to 7 are those of a few dozen candidates that
leave the least sum of (w - s q)^2.  For given q the best s is sum(w q) / sum(q q), and what it
leaves is sum(w w) - sum(w q)^2 / sum(q q).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_gpu.formats import FORMATS
from goose_viz.compiled import regrouped

_LOW, _HIGH = -8, 7
_STEPS = 14  # candidates of each sign
_FIRST, _STEP = np.float32(6.6), np.float32(0.2)  # by how much the largest number is divided
_ZERO = np.float32(0)

Array = NDArray[np.float32]


@regrouped
def _choose(numbers, scales):  # type: ignore[no-untyped-def]
    """Numbers (groups, G) float32 -> scales (groups,): the best of the candidates."""
    G = numbers.shape[1]
    low, high = np.float32(_LOW), np.float32(_HIGH)
    for g in range(numbers.shape[0]):
        row = numbers[g]
        largest = _ZERO
        for i in range(G):
            largest = max(largest, abs(row[i]))
        best, chosen = _ZERO, _ZERO
        if largest > _ZERO:
            for n in range(2 * _STEPS):
                by = (_FIRST + _STEP * np.float32(n // 2)) / largest
                if n % 2:
                    by = -by
                product, square = _ZERO, _ZERO
                for i in range(G):
                    q = min(max(np.rint(row[i] * by), low), high)
                    product += q * row[i]
                    square += q * q
                gain = product * product / square if square > _ZERO else _ZERO
                if gain > best:
                    best, chosen = gain, product / square
        scales[g] = chosen


@regrouped
def _round(numbers, scales, out):  # type: ignore[no-untyped-def]
    """Out (groups, G) int8 = the multiples of scales (groups,) nearest to numbers, in reach."""
    low, high = np.float32(_LOW), np.float32(_HIGH)
    for g in range(numbers.shape[0]):
        by = np.float32(1) / scales[g] if scales[g] != _ZERO else _ZERO
        for i in range(numbers.shape[1]):
            out[g, i] = np.int8(min(max(np.rint(numbers[g, i] * by), low), high))


def quantise_groups(rows: Array) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Rows as whole numbers from -8 to 7, and a scale for every 32 of them.

    Parameters
    ----------
    rows : ndarray (n, width)

    Returns
    -------
    (ndarray (n, padded) int8, ndarray (n, padded / 32) float16)
        Rows are filled up with zeros to whole blocks.
    """
    kind = FORMATS["int4"]
    n, width = rows.shape
    padded = kind.padded(width)
    if padded != width:
        filled = np.zeros((n, padded), np.float32)
        filled[:, :width] = rows
        rows = filled
    groups = np.ascontiguousarray(rows, np.float32).reshape(-1, kind.group)
    scales = np.empty(len(groups), np.float32)
    _choose(groups, scales)
    limit = np.finfo(np.float16).max
    kept = scales.clip(-limit, limit).astype(np.float16)
    numbers = np.empty(groups.shape, np.int8)
    _round(groups, kept.astype(np.float32), numbers)
    return numbers.reshape(n, padded), kept.reshape(n, -1)


def filled_up(
    numbers: NDArray[np.int8], scales: NDArray[np.float16]
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Whole numbers and their scales with rows of whole blocks."""
    kind = FORMATS["int4"]
    more = kind.padded(numbers.shape[1]) - numbers.shape[1]
    if not more:
        return numbers, scales
    return np.pad(numbers, ((0, 0), (0, more))), np.pad(scales, ((0, 0), (0, more // kind.group)))


def as_blocks(numbers: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.uint8]:
    """What `quantise_groups` gives, as it is stored: (n, stride) bytes; see `FORMATS`."""
    kind = FORMATS["int4"]
    n, padded = numbers.shape
    fours = (numbers.reshape(n, -1, 4, 4, 16) & 15).astype("<u2")
    shifts = np.arange(0, 16, 4, dtype=np.uint16)[:, None]
    words = (fours << shifts).sum(axis=3, dtype="<u2")
    blocks = np.empty((n, padded // kind.block, kind.items), np.uint8)
    per_block = 2 * kind.block // kind.group
    blocks[..., :per_block] = scales.astype("<f2").view(np.uint8).reshape(n, -1, per_block)
    blocks[..., per_block:] = words.reshape(n, -1, 64).view(np.uint8)
    return blocks.reshape(n, -1)


def from_blocks(blocks: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """The other way around."""
    kind = FORMATS["int4"]
    n = blocks.shape[0]
    blocks = np.ascontiguousarray(blocks).reshape(n, -1, kind.items)
    per_block = 2 * kind.block // kind.group
    scales = np.ascontiguousarray(blocks[..., :per_block]).view("<f2").reshape(n, -1)
    words = np.ascontiguousarray(blocks[..., per_block:]).view("<u2").reshape(n, -1, 4, 1, 16)
    shifts = np.arange(12, -1, -4, dtype=np.uint16)[:, None]
    numbers = ((words << shifts).view("<i2") >> 12).astype(np.int8)
    return numbers.reshape(n, -1), scales.astype(np.float16)


def widened(numbers: NDArray[np.int8], scales: NDArray[np.float16], width: int) -> Array:
    """The float32 numbers (n, width) that are meant."""
    groups = numbers.reshape(len(numbers), scales.shape[1], -1)
    wide = groups * scales.astype(np.float32)[..., None]
    return wide.reshape(len(numbers), -1)[:, :width]

"""The k largest of many numbers, and the greedy choice: sampling without a copy to the host.

Largest first, the smaller index first among equals.  Each block finds the k largest of a portion,
then one block those of all portions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, int32

from goose_gpu.lanes import SIMULATOR
from goose_gpu.launch import Queue, cover, kernel

RANK_THREADS = 8 if SIMULATOR else 256
ONE_WARP = 1 if SIMULATOR else 32
PORTION = 16 if SIMULATOR else 2048

_LOWEST = np.float32(-np.inf)
_NOBODY = np.int32(2**31 - 1)


@kernel(RANK_THREADS)
def _rank(values, ids, known, n, portion, k, out_values, out_ids):
    best = cuda.shared.array(RANK_THREADS, float32)
    names = cuda.shared.array(RANK_THREADS, int32)
    t = cuda.threadIdx.x
    begin = cuda.blockIdx.x * portion
    end = min(begin + portion, n)
    last, last_id = np.float32(np.inf), np.int32(-1)
    for place in range(k):
        top, top_id = _LOWEST, _NOBODY
        for i in range(begin + t, end, RANK_THREADS):
            value = values[i]
            name = ids[i] if known else np.int32(i)
            later = value < last or (value == last and name > last_id)
            if later and (value > top or (value == top and name < top_id)):
                top, top_id = value, name
        best[t], names[t] = top, top_id
        cuda.syncthreads()
        half = RANK_THREADS // 2
        while half > 0:
            if t < half:
                value, name = best[t + half], names[t + half]
                if value > best[t] or (value == best[t] and name < names[t]):
                    best[t], names[t] = value, name
            cuda.syncthreads()
            half //= 2
        last, last_id = best[0], names[0]
        if t == 0:
            out_values[cuda.blockIdx.x * k + place] = last
            out_ids[cuda.blockIdx.x * k + place] = last_id
        cuda.syncthreads()


def top_k(
    queue: Queue, values: Any, k: int, portion_values: Any, portion_ids: Any, out_values: Any,
    out_ids: Any,
) -> None:  # fmt: skip
    """The k largest of values (n,) f32: out_values (k,), out_ids (k,) int32.

    portion_values, portion_ids: room for k numbers of each of `portions` (n) portions.  Where there
    are fewer than k numbers, the rest is minus infinity and the id 2^31 - 1.
    """
    n = values.size
    blocks = portions(n)
    queue.launch(
        _rank, blocks, RANK_THREADS, values, portion_ids, 0, n, PORTION, k, portion_values,
        portion_ids,
    )  # fmt: skip
    queue.launch(
        _rank, 1, RANK_THREADS, portion_values, portion_ids, 1, blocks * k, blocks * k, k,
        out_values, out_ids,
    )  # fmt: skip


def portions(n: int) -> int:
    """How many blocks rank n numbers."""
    return cover(n, PORTION)


@kernel(ONE_WARP)
def _append(tokens, log, position):
    if cuda.threadIdx.x == 0:
        at = position[0]
        log[at % log.size] = tokens[0]
        position[0] = at + 1


def append(queue: Queue, tokens: Any, log: Any, position: Any) -> None:
    """log[position % size] = tokens[0]; position (1,) int64 goes on by one."""
    queue.launch(_append, 1, ONE_WARP, tokens, log, position)

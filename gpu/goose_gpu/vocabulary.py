"""The two ends of a token: its row of the embedding, and the logits.

x = LN0(emb[token])            logits = head LN_out(x)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32

from goose_gpu.lanes import packet_size, scale_of, widen
from goose_gpu.launch import THREADS, Queue, cover, kernel
from goose_gpu.matvec import dot_rows, load_first, room, row_width
from goose_gpu.norm import fill_normed


@kernel(THREADS, 2)
def _embed(tokens, emb, scales, weight, bias, eps, x):
    xs = cuda.shared.array(0, float32)
    scratch = cuda.shared.array(32, float32)
    t, D = cuda.blockIdx.x, x.shape[1]
    token = min(max(tokens[t], 0), emb.shape[0] - 1)  # no logits are NaN to a greedy choice
    for i in range(cuda.threadIdx.x, D, cuda.blockDim.x):
        x[t, i] = widen(emb[token, i]) * scale_of(scales, token, emb)
    cuda.syncthreads()
    fill_normed(x[t], weight, bias, eps, D, D, 4, xs, scratch)
    cuda.syncthreads()
    for i in range(cuda.threadIdx.x, D, cuda.blockDim.x):
        x[t, i] = xs[i]


def embed(
    queue: Queue, tokens: Any, emb: Any, scales: Any, norm: tuple[Any, Any], eps: np.float32,
    x: Any, T: int,
) -> None:  # fmt: skip
    """X (T, D) = layer norm 0 of the rows of emb (V, D) that tokens (T,) int32 name.

    Int8 rows have scales (V,).
    """
    queue.launch(_embed, T, THREADS, tokens, emb, scales, *norm, eps, x, shared=4 * x.shape[1])


@kernel(THREADS, 2)
def _head(x, row, weight, bias, eps, head, scales, D, width, space, V, tile, logits):
    xs = cuda.shared.array(0, float32)
    scratch = cuda.shared.array(32, float32)
    first = cuda.blockIdx.x * tile
    end = min(first + tile, V)
    packets = load_first(head, first, end, width)
    fill_normed(x[row], weight, bias, eps, D, space, packet_size(head), xs, scratch)
    cuda.syncthreads()
    dot_rows(head, packets, first, end, width, xs, space)
    cuda.syncthreads()
    i = cuda.threadIdx.x
    while i < end - first:
        logits[first + i] = xs[space + i] * scale_of(scales, first + i, head)
        i += cuda.blockDim.x


def head(
    queue: Queue, x: Any, row: int, norm: tuple[Any, Any], eps: np.float32, weights: Any,
    scales: Any, logits: Any,
) -> None:  # fmt: skip
    """Logits (V,) = head (V, width), int8 scales (V,), times layer norm out of x[row] (D,)."""
    V, D = logits.size, x.shape[1]
    width = row_width(weights, V)
    tile, space = queue.tile(V), room(width, weights)
    queue.launch(
        _head, cover(V, tile), THREADS, x, row, *norm, eps, weights, scales, D, width, space, V,
        tile, logits, shared=4 * (space + tile),
    )  # fmt: skip

"""The channel mix of one token.

    hidden = relu(W_key k_in)^2
    x = x + W_value hidden

relu leaves most of ``hidden`` zero in trained models, and a zero times a row of numbers is nothing:
the value matrix is laid out by input row, in slices of 64 bytes, (D / 32, F, 32) in 16 bits, and
the rows of zeros are not read.  A slice is split among blocks; the last of them to finish adds the
parts up, in a fixed order, so that the same input gives the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, int32

from goose_gpu.lanes import (
    LANES,
    SIMULATOR,
    STRIPE,
    ZERO,
    add_packet,
    column_sums,
    lane_scan,
    load_fresh,
    load_packet,
    no_sums,
    packet_size,
    scale_of,
    store_sums,
)
from goose_gpu.launch import THREADS, Queue, cover, kernel
from goose_gpu.matvec import room, row_width
from goose_gpu.norm import mixed_products

SLICE_THREADS = 8 if SIMULATOR else 256
PACKETS = 4  # of 16 bytes in a row of a slice


@kernel(THREADS, 2)
def _ffn_key(
    x, weight, bias, eps, shift, mix, key, scales, D, width, space, F, tile, hidden, fresh
):
    xs = cuda.shared.array(0, float32)
    scratch = cuda.shared.array(32, float32)
    first = cuda.blockIdx.x * tile
    end = min(first + tile, F)
    mixed_products(
        x, weight, bias, eps, shift, mix, fresh, D, key, first, end, width, space, xs, scratch
    )
    i = cuda.threadIdx.x
    while i < end - first:
        value = max(xs[space + i] * scale_of(scales, first + i, key), ZERO)
        hidden[first + i] = value * value
        i += cuda.blockDim.x


def ffn_key(
    queue: Queue, x: Any, norm: tuple[Any, Any], eps: np.float32, shift: Any, mix: Any, key: Any,
    scales: Any, hidden: Any, fresh: Any,
) -> None:  # fmt: skip
    """Layer norm, token shift, hidden (F,) = relu(key x_k)^2; xx is left in ``fresh``.

    x, shift, mix, fresh (D,); norm two of (D,); key flat, F rows, its int8 scales (F,).
    """
    D, F = x.size, hidden.size
    width = row_width(key, F)
    tile, space = queue.tile(F), room(width, key)
    queue.launch(
        _ffn_key, cover(F, tile), THREADS, x, *norm, eps, shift, mix, key, scales, D, width,
        space, F, tile, hidden, fresh, shared=4 * (space + tile),
    )  # fmt: skip


def _ffn_value(
    hidden, value, scales, F, per_split, splits, D, x, partial, tickets, fresh, shift, residual
):
    factors = cuda.shared.array(0, float32)  # the non-zero of this split, then sums
    rows = cuda.shared.array(0, int32)  # the same memory: row numbers behind the factors
    counts = cuda.shared.array(32, int32)
    last = cuda.shared.array(1, int32)
    threads = cuda.blockDim.x
    t = cuda.threadIdx.x
    piece = cuda.blockIdx.x
    size = packet_size(value)
    columns = PACKETS * size
    begin = cuda.blockIdx.y * per_split
    end = min(begin + per_split, F)

    # which rows count: a thread's own ones together, threads in order
    mine = np.int32(0)
    for f in range(begin + t, end, threads):
        if hidden[f] != ZERO:
            mine += np.int32(1)
    before = lane_scan(mine)
    if t % LANES == LANES - 1:
        counts[t // LANES] = before
    cuda.syncthreads()
    place = before - mine
    count = np.int32(0)
    for i in range(threads // LANES):
        if i < t // LANES:
            place += counts[i]
        count += counts[i]
    for f in range(begin + t, end, threads):
        factor = hidden[f]
        if factor != ZERO:
            factors[place] = factor * scale_of(scales, f, value)
            rows[per_split + place] = f
            place += np.int32(1)
    cuda.syncthreads()

    sums = no_sums(value)
    group = t // PACKETS
    groups = threads // PACKETS
    base = piece * F * columns + (t % PACKETS) * size
    for n in range(group, count, 4 * groups):
        n1, n2, n3 = n + groups, n + 2 * groups, n + 3 * groups
        r0 = rows[per_split + n]
        r1 = rows[per_split + min(n1, count - 1)]
        r2 = rows[per_split + min(n2, count - 1)]
        r3 = rows[per_split + min(n3, count - 1)]
        p0 = load_packet(value, base + r0 * columns, True)
        p1 = load_packet(value, base + r1 * columns, n1 < count)
        p2 = load_packet(value, base + r2 * columns, n2 < count)
        p3 = load_packet(value, base + r3 * columns, n3 < count)
        sums = add_packet(p0, factors[n], sums)
        sums = add_packet(p1, factors[min(n1, count - 1)], sums)
        sums = add_packet(p2, factors[min(n2, count - 1)], sums)
        sums = add_packet(p3, factors[min(n3, count - 1)], sums)

    sums = column_sums(sums)
    cuda.syncthreads()
    if t % STRIPE < PACKETS:
        store_sums(sums, factors, (t // STRIPE) * columns + (t % PACKETS) * size)
    cuda.syncthreads()
    stripes = threads // STRIPE
    if splits > 1:
        for e in range(t, columns, threads):
            total = ZERO
            for i in range(stripes):
                total += factors[i * columns + e]
            partial[(cuda.blockIdx.y * cuda.gridDim.x + piece) * columns + e] = total
        cuda.threadfence()
        cuda.syncthreads()
        if t == 0:
            ticket = cuda.atomic.add(tickets, piece, 1)
            last[0] = 1 if ticket == splits - 1 else 0
        cuda.syncthreads()
        if last[0] == 0:
            return
        cuda.threadfence()
        if t == 0:
            tickets[piece] = 0
    for e in range(t, columns, threads):
        c = piece * columns + e
        if c < D:
            total = ZERO
            if splits > 1:
                for i in range(splits):
                    total += load_fresh(partial, i * cuda.gridDim.x * columns + c)
            else:
                for i in range(stripes):
                    total += factors[i * columns + e]
            total += x[c]
            x[c] = total
            residual[c] = total
            shift[c] = fresh[c]


_few_sums = kernel(SLICE_THREADS, 4)(_ffn_value)
_many_sums = kernel(SLICE_THREADS, 3)(_ffn_value)  # twice the sums a thread, and registers for them


def slices(D: int, weights_itemsize: int) -> tuple[int, int]:
    """(number of slices, columns of each) of the value matrix."""
    columns = PACKETS * 16 // weights_itemsize
    return cover(D, columns), columns


def splits_of(F: int, pieces: int, multiprocessors: int) -> int:
    """Blocks that share a slice: some two a multiprocessor, and a list that fits 48 KB."""
    wanted = cover(2 * multiprocessors, pieces)
    return max(min(wanted, cover(F, SLICE_THREADS)), cover(F, 4096))


def ffn_value(
    queue: Queue, hidden: Any, value: Any, scales: Any, x: Any, partial: Any, tickets: Any,
    fresh: Any, shift: Any, residual: Any,
) -> None:  # fmt: skip
    """X (D,) += value hidden (F,); residual becomes x, and shift becomes ``fresh``.

    value flat (slices, F, columns), its int8 scales (F,); partial (splits, slices * columns) f32;
    tickets (slices,) int32, zero before and after.
    """
    F, D = hidden.size, x.size
    pieces, columns = slices(D, value.dtype.itemsize)
    splits = partial.shape[0]
    per_split = cover(F, splits)
    floats = max(2 * per_split, SLICE_THREADS // STRIPE * columns)
    chosen = _many_sums if value.dtype == np.int8 else _few_sums
    queue.launch(
        chosen, (pieces, splits), SLICE_THREADS, hidden, value, scales, F, per_split, splits,
        D, x, partial.ravel(), tickets, fresh, shift, residual, shared=4 * floats,
    )  # fmt: skip

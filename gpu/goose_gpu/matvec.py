"""Matrix times vector, the whole of decoding: y[i] = sum_k W[i, k] x[k].

A warp takes a row; its lanes read the row 16 bytes at a time, four packets ahead of their use.
The vector lies in shared memory as float32 in the order in which packets are eaten, so that the 32
lanes read it without bank conflicts.  Sums are float32 and their order is fixed: the same input
gives the same bits.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, float32

from goose_gpu.formats import STORED_AS
from goose_gpu.lanes import (
    LANES,
    ZERO,
    dot_packet,
    lane_sum,
    load_four,
    load_packet,
    packet_size,
    scale_of,
    store_four,
)
from goose_gpu.launch import THREADS, Queue, cover, kernel, padded

AHEAD = 4  # packets a lane reads before it uses the first
FEW_PACKETS = 32  # numbers in a packet of which a row may have fewer than so many a lane


@cuda.jit(device=True)
def slot(k, size):
    """Where number k of a vector lies in shared memory, for packets of ``size`` numbers.

    A packet of int4 has eight of each 16 of 64 numbers, the first or the last; one of the others
    has neighbours.
    """
    if size == 4:
        return k
    if size == 32:
        packet = (k >> 6 << 1) | (k >> 3 & 1)
        four = (k >> 3 & 6) | (k >> 2 & 1)
        lane = packet & (LANES - 1)
        return ((packet - lane) * 32) | (four * 4 * LANES) | (lane << 2) | (k & 3)
    if size == 16:
        group = k & (16 * LANES - 1)
        return (k & -(16 * LANES)) | ((k & 12) * LANES) | ((group >> 4) << 2) | (k & 3)
    return (k & -(8 * LANES)) | ((k & 4) * LANES) | (((k & (8 * LANES - 1)) >> 3) << 2) | (k & 3)


def room(width: int, weights: Any) -> int:
    """Floats of shared memory for a vector that meets rows of ``width`` (padded) numbers."""
    packet = STORED_AS[weights.dtype].packet
    return padded(width, LANES * packet * (1 if packet == FEW_PACKETS else AHEAD))


def row_width(weights: Any, rows: int) -> int:
    """Numbers of a row of flat weights, with what fills it up."""
    return STORED_AS[weights.dtype].numbers(weights.size // rows)


@cuda.jit(device=True)
def load_ahead(weights, row, end, k, width, span):
    """Four packets of a row, ``span`` apart, from number k on; zeros beyond its end."""
    at = row * width + k
    there = row < end
    return (
        load_packet(weights, at, there and k < width),
        load_packet(weights, at + span, there and k + span < width),
        load_packet(weights, at + 2 * span, there and k + 2 * span < width),
        load_packet(weights, at + 3 * span, there and k + 3 * span < width),
    )


@cuda.jit(device=True)
def load_first(weights, first, end, width):
    """What `dot_rows` begins with: asked for early, it travels while the vector is made."""
    size = packet_size(weights)
    lane = cuda.threadIdx.x % LANES
    row = first + cuda.threadIdx.x // LANES
    return load_ahead(weights, row, end, lane * size, width, LANES * size)


@cuda.jit(device=True)
def dot_rows(weights, packets, first, end, width, xs, totals):
    """xs[totals + i] = W[first + i] . xs for the rows from first to end, in every block alike.

    weights is flat with rows of ``width``; packets come from `load_first`; xs is filled to `room`.
    """
    size = packet_size(weights)
    span = LANES * size
    lane = cuda.threadIdx.x % LANES
    warps = cuda.blockDim.x // LANES
    row = first + cuda.threadIdx.x // LANES
    half = 4 * LANES
    start = 0
    p0, p1, p2, p3 = packets
    s0, s1, s2, s3 = ZERO, ZERO, ZERO, ZERO
    while row < end:
        next_row, next_start = row, start + 4 * span
        if next_start >= width:
            next_row, next_start = row + warps, 0
        ahead = load_ahead(weights, next_row, end, next_start + lane * size, width, span)
        at = start + lane * 4
        s0 = dot_packet(p0, xs, at, half, s0)
        if size < FEW_PACKETS or start + span < width:
            s1 = dot_packet(p1, xs, at + span, half, s1)
        if size < FEW_PACKETS or start + 2 * span < width:
            s2 = dot_packet(p2, xs, at + 2 * span, half, s2)
        if size < FEW_PACKETS or start + 3 * span < width:
            s3 = dot_packet(p3, xs, at + 3 * span, half, s3)
        if next_row != row:
            total = lane_sum((s0 + s1) + (s2 + s3))
            if lane == 0:
                xs[totals + row - first] = total
            s0, s1, s2, s3 = ZERO, ZERO, ZERO, ZERO
        p0, p1, p2, p3 = ahead
        row, start = next_row, next_start


@cuda.jit(device=True)
def four_of(array, k, n):
    """Four float32 of an array of n from k on, a multiple of four; zeros beyond its end."""
    if k + 4 <= n:
        return load_four(array, k)
    return (
        array[k] if k < n else ZERO,
        array[k + 1] if k + 1 < n else ZERO,
        array[k + 2] if k + 2 < n else ZERO,
        ZERO,
    )


@cuda.jit(device=True)
def scaled_four(source, scales, weights, k, n):
    """`four_of`, each number times the scale of that input."""
    a, b, c, d = four_of(source, k, n)
    last = n - 1
    return (
        a * scale_of(scales, min(k, last), weights),
        b * scale_of(scales, min(k + 1, last), weights),
        c * scale_of(scales, min(k + 2, last), weights),
        d * scale_of(scales, min(k + 3, last), weights),
    )


@cuda.jit(device=True)
def fill(source, scales, weights, n, space, xs):
    """A vector of n numbers, times the weights' scales by input, and zeros behind; no barrier."""
    size = packet_size(weights)
    step = 4 * cuda.blockDim.x
    k = 4 * cuda.threadIdx.x
    while k < space:
        a0, a1, a2, a3 = scaled_four(source, scales, weights, k, n)
        b0, b1, b2, b3 = scaled_four(source, scales, weights, k + step, n)
        store_four(xs, slot(k, size), a0, a1, a2, a3)
        if k + step < space:
            store_four(xs, slot(k + step, size), b0, b1, b2, b3)
        k += 2 * step


@kernel(THREADS, 2)
def _add_product(source, weights, scales, n, width, space, rows, tile, x):
    xs = cuda.shared.array(0, float32)
    first = cuda.blockIdx.x * tile
    end = min(first + tile, rows)
    packets = load_first(weights, first, end, width)
    fill(source, scales, weights, n, space, xs)
    cuda.syncthreads()
    dot_rows(weights, packets, first, end, width, xs, space)
    cuda.syncthreads()
    i = cuda.threadIdx.x
    while i < end - first:
        x[first + i] += xs[space + i]
        i += cuda.blockDim.x


def add_product(queue: Queue, source: Any, weights: Any, scales: Any, x: Any) -> None:
    """X (rows,) += W (rows, width) source (n,), width being n padded to whole packets.

    Int8 weights have a scale for every number of source.
    """
    rows, width = x.size, row_width(weights, x.size)
    tile, space = queue.tile(rows), room(width, weights)
    queue.launch(
        _add_product, cover(rows, tile), THREADS, source, weights, scales, source.size, width,
        space, rows, tile, x, shared=4 * (space + tile),
    )  # fmt: skip

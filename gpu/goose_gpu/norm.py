"""Layer norm and token shift.

    xx = (x - mean) / sqrt(variance + eps) * weight + bias
    x_c = xx + (shift - xx) * mix_c          shift = the xx of the token before

While decoding, every block that needs a normed vector makes it for itself: a launch of its own
would take longer.  A thread takes four numbers at a time, twice, and asks for all it needs of them
before it uses any: what this costs is round trips to memory.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from goose_gpu.lanes import LANES, ONE, ZERO, lane_sum, load_four, packet_size, store_four
from goose_gpu.matvec import dot_rows, four_of, load_first, slot


@cuda.jit(device=True)
def block_sum(value, scratch):
    """A float32's sum over the block, in every thread; scratch holds a number a warp."""
    total = lane_sum(value)
    cuda.syncthreads()  # scratch may still be read
    if cuda.threadIdx.x % LANES == 0:
        scratch[cuda.threadIdx.x // LANES] = total
    cuda.syncthreads()
    total = ZERO
    for i in range(cuda.blockDim.x // LANES):
        total += scratch[i]
    return total


@cuda.jit(device=True)
def fill_and_weigh(x, eps, n, space, size, xs, scratch):
    """Fill xs with x (n,) in packet order, zeros behind it; (mean, 1 / deviation).

    A thread fills the fours k = 4 (its index + a multiple of the block's size), here and below.
    """
    step = 4 * cuda.blockDim.x
    total = ZERO
    k = 4 * cuda.threadIdx.x
    while k < space:
        a0, a1, a2, a3 = four_of(x, k, n)
        b0, b1, b2, b3 = four_of(x, k + step, n)
        store_four(xs, slot(k, size), a0, a1, a2, a3)
        if k + step < space:
            store_four(xs, slot(k + step, size), b0, b1, b2, b3)
        total += ((a0 + a1) + (a2 + a3)) + ((b0 + b1) + (b2 + b3))
        k += 2 * step
    mean = block_sum(total, scratch) / np.float32(n)
    total = ZERO
    k = 4 * cuda.threadIdx.x
    while k < n:
        a0, a1, a2, a3 = load_four(xs, slot(k, size))
        a0, a1, a2, a3 = a0 - mean, a1 - mean, a2 - mean, a3 - mean
        total += (a0 * a0 + a1 * a1) + (a2 * a2 + a3 * a3)
        k += step
    variance = block_sum(total, scratch) / np.float32(n)
    return mean, ONE / np.float32(math.sqrt(variance + eps))


@cuda.jit(device=True)
def fill_normed(x, weight, bias, eps, n, space, size, xs, scratch):
    """Fill xs with the layer norm of x (n,) in packet order, zeros behind it.

    n is a multiple of four.  No barrier at the end: each thread has its own numbers.
    """
    mean, scale = fill_and_weigh(x, eps, n, space, size, xs, scratch)
    step = 4 * cuda.blockDim.x
    k = 4 * cuda.threadIdx.x
    while k < n:
        v0, v1, v2, v3 = four_of(weight, k, n)
        b0, b1, b2, b3 = four_of(bias, k, n)
        w0, w1, w2, w3 = four_of(weight, k + step, n)
        c0, c1, c2, c3 = four_of(bias, k + step, n)
        at = slot(k, size)
        x0, x1, x2, x3 = load_four(xs, at)
        store_four(
            xs, at, (x0 - mean) * scale * v0 + b0, (x1 - mean) * scale * v1 + b1,
            (x2 - mean) * scale * v2 + b2, (x3 - mean) * scale * v3 + b3,
        )  # fmt: skip
        if k + step < n:
            at = slot(k + step, size)
            x0, x1, x2, x3 = load_four(xs, at)
            store_four(
                xs, at, (x0 - mean) * scale * w0 + c0, (x1 - mean) * scale * w1 + c1,
                (x2 - mean) * scale * w2 + c2, (x3 - mean) * scale * w3 + c3,
            )  # fmt: skip
        k += 2 * step


@cuda.jit(device=True)
def mix_four(xs, at, k, mean, scale, w, b, s, m, keep, fresh):
    """Four numbers of `fill_mixed` from what is at hand: weight, bias, shift, mix."""
    x0, x1, x2, x3 = load_four(xs, at)
    x0, x1 = (x0 - mean) * scale * w[0] + b[0], (x1 - mean) * scale * w[1] + b[1]
    x2, x3 = (x2 - mean) * scale * w[2] + b[2], (x3 - mean) * scale * w[3] + b[3]
    if keep:
        store_four(fresh, k, x0, x1, x2, x3)
    store_four(
        xs, at, x0 + (s[0] - x0) * m[0], x1 + (s[1] - x1) * m[1], x2 + (s[2] - x2) * m[2],
        x3 + (s[3] - x3) * m[3],
    )  # fmt: skip


@cuda.jit(device=True)
def fill_mixed(x, weight, bias, eps, shift, mix, keep, fresh, n, space, size, xs, scratch):
    """Fill xs with xx + (shift - xx) * mix, xx being the layer norm of x.

    One block keeps xx in ``fresh``.  The shift itself stays: other blocks still read it.  The next
    kernel moves ``fresh`` there.
    """
    mean, scale = fill_and_weigh(x, eps, n, space, size, xs, scratch)
    step = 4 * cuda.blockDim.x
    k = 4 * cuda.threadIdx.x
    while k < n:
        w, b = four_of(weight, k, n), four_of(bias, k, n)
        s, m = four_of(shift, k, n), four_of(mix, k, n)
        w2, b2 = four_of(weight, k + step, n), four_of(bias, k + step, n)
        s2, m2 = four_of(shift, k + step, n), four_of(mix, k + step, n)
        mix_four(xs, slot(k, size), k, mean, scale, w, b, s, m, keep, fresh)
        if k + step < n:
            at = slot(k + step, size)
            mix_four(xs, at, k + step, mean, scale, w2, b2, s2, m2, keep, fresh)
        k += 2 * step


@cuda.jit(device=True)
def mixed_products(
    x, weight, bias, eps, shift, mix, fresh, D, weights, first, end, width, space, xs, scratch
):
    """xs[space + i] = W[first + i] . `fill_mixed`, for the rows from first to end; a barrier."""
    packets = load_first(weights, first, end, width)
    keep = cuda.blockIdx.x == 0
    size = packet_size(weights)
    fill_mixed(x, weight, bias, eps, shift, mix, keep, fresh, D, space, size, xs, scratch)
    cuda.syncthreads()
    dot_rows(weights, packets, first, end, width, xs, space)
    cuda.syncthreads()

"""Layer norm and token shift.

    xx = (x - mean) / sqrt(variance + eps) * weight + bias
    x_c = xx + (shift - xx) * mix_c          shift = the xx of the token before

While decoding, every block that needs a normed vector makes it for itself: a launch of its own
would take longer.  For many tokens there is a kernel a step.
"""

from __future__ import annotations

import math

import numpy as np
from numba import cuda

from goose_gpu.lanes import LANES, ONE, ZERO, lane_sum
from goose_gpu.matvec import slot


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
def fill_normed(x, weight, bias, eps, n, space, size, xs, scratch):
    """Xs = layer norm of x (n,) in packet order, zeros behind it.

    Every thread fills the numbers k = its index + a multiple of the block's size; no barrier.
    """
    total = ZERO
    k = cuda.threadIdx.x
    while k < space:  # a range with a step costs a division
        value = x[k] if k < n else ZERO
        xs[slot(k, size)] = value
        total += value
        k += cuda.blockDim.x
    mean = block_sum(total, scratch) / np.float32(n)
    total = ZERO
    k = cuda.threadIdx.x
    while k < n:
        value = xs[slot(k, size)] - mean
        total += value * value
        k += cuda.blockDim.x
    variance = block_sum(total, scratch) / np.float32(n)
    scale = ONE / np.float32(math.sqrt(variance + eps))
    k = cuda.threadIdx.x
    while k < n:
        xs[slot(k, size)] = (xs[slot(k, size)] - mean) * scale * weight[k] + bias[k]
        k += cuda.blockDim.x


@cuda.jit(device=True)
def shift_and_mix(shift, mix, keep, fresh, n, size, xs):
    """Xs = xx + (shift - xx) * mix of what `fill_normed` left; one block keeps xx in ``fresh``.

    The shift itself stays: other blocks still read it.  The next kernel moves ``fresh`` there.
    """
    k = cuda.threadIdx.x
    while k < n:
        at = slot(k, size)
        xx = xs[at]
        if keep:
            fresh[k] = xx
        xs[at] = xx + (shift[k] - xx) * mix[k]
        k += cuda.blockDim.x

"""What a prompt's tokens need besides matrix products: norms, mixing, splitting, activations.

xx[t] = layer norm(x[t]);   x_c[t] = xx[t] + (xx[t - 1] - xx[t]) * mix_c
x = scale (high + low)      in 16 bits each, scale a power of two of the row's own
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32

from goose_gpu.lanes import LANES, ZERO, lane_max, narrow, power_of_two, widen
from goose_gpu.launch import THREADS, Queue, kernel
from goose_gpu.norm import fill_normed
from goose_gpu.timemix import sigmoid

ROW_THREADS = min(THREADS, 256)
AS_IT_IS, LOW_RANK, RELU_SQUARED = 0, 1, 2  # what happens to a number on its way


@kernel(ROW_THREADS)
def _norm_rows(x, weight, bias, eps, normed):
    xs = cuda.shared.array(0, float32)
    scratch = cuda.shared.array(32, float32)
    t, D = cuda.blockIdx.x, x.shape[1]
    fill_normed(x[t], weight, bias, eps, D, D, 4, xs, scratch)
    cuda.syncthreads()
    for i in range(cuda.threadIdx.x, D, cuda.blockDim.x):
        normed[t, i] = xs[i]


def norm_rows(
    queue: Queue, x: Any, T: int, norm: tuple[Any, Any], eps: np.float32, normed: Any
) -> None:
    """Normed (T, D) = layer norm of the rows of x."""
    queue.launch(_norm_rows, T, ROW_THREADS, x, *norm, eps, normed, shared=4 * x.shape[1])


@kernel(ROW_THREADS)
def _mix_rows(normed, shift, mix, mixed):
    t, c = cuda.blockIdx.x, cuda.blockIdx.y
    for i in range(cuda.threadIdx.x, normed.shape[1], cuda.blockDim.x):
        xx = normed[t, i]
        before = normed[t - 1, i] if t > 0 else shift[i]
        mixed[c, t, i] = xx + (before - xx) * mix[c, i]


def mix_rows(queue: Queue, normed: Any, T: int, shift: Any, mix: Any, mixed: Any) -> None:
    """Mixed (C, T, D) = token shift of normed (T, D); the shift (D,) itself stays."""
    queue.launch(_mix_rows, (T, mix.shape[0]), ROW_THREADS, normed, shift, mix, mixed)


@kernel(ROW_THREADS)
def _keep_row(normed, t, shift):
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < shift.size:
        shift[i] = normed[t, i]


def keep_row(queue: Queue, normed: Any, t: int, shift: Any) -> None:
    """The token shift for the next token: shift (D,) = normed[t]."""
    blocks = -(-shift.size // ROW_THREADS)
    queue.launch(_keep_row, blocks, ROW_THREADS, normed, t, shift)


@cuda.jit(device=True)
def activated(value, how, column, end_w, end_v):
    """A number after the activation that its column has; see `activate`."""
    if how == LOW_RANK:
        if column < end_w:
            value = np.float32(math.tanh(value))
        elif column >= end_v:
            value = sigmoid(value)
    elif how == RELU_SQUARED:
        value = max(value, ZERO)
        value = value * value
    return value


@kernel(ROW_THREADS)
def _activate(x, how, end_w, end_v):
    p, t = cuda.blockIdx.y, cuda.blockIdx.x
    for i in range(cuda.threadIdx.x, x.shape[2], cuda.blockDim.x):
        x[p, t, i] = activated(x[p, t, i], how, i, end_w, end_v)


def activate(queue: Queue, x: Any, T: int, how: int, ends: tuple[int, int] = (0, 0)) -> None:
    """Apply an activation to x (planes, T, row) in place.

    LOW_RANK: tanh before column ends[0], sigmoid from ends[1] on.  RELU_SQUARED: max(x, 0)^2.
    """
    queue.launch(_activate, (T, x.shape[0]), ROW_THREADS, x, how, *ends)


@kernel(ROW_THREADS)
def _split(x, how, end_w, end_v, high, low, scales):
    scratch = cuda.shared.array(32, float32)
    p, t = cuda.blockIdx.y, cuda.blockIdx.x
    n = x.shape[2]
    largest = ZERO
    for i in range(cuda.threadIdx.x, n, cuda.blockDim.x):
        largest = max(largest, abs(activated(x[p, t, i], how, i, end_w, end_v)))
    largest = lane_max(largest)
    if cuda.threadIdx.x % LANES == 0:
        scratch[cuda.threadIdx.x // LANES] = largest
    cuda.syncthreads()
    largest = ZERO
    for i in range(cuda.blockDim.x // LANES):
        largest = max(largest, scratch[i])
    exponent = np.int32(0)
    if ZERO < largest < np.float32(3e38):
        exponent = np.int32(max(math.frexp(largest)[1], -100)) - np.int32(14)
    up = power_of_two(np.int32(-exponent))
    for i in range(cuda.threadIdx.x, n, cuda.blockDim.x):
        value = activated(x[p, t, i], how, i, end_w, end_v) * up
        upper = narrow(value, high)
        high[p, t, i] = upper
        low[p, t, i] = narrow(value - widen(upper), high)
    if cuda.threadIdx.x == 0:
        scales[p, t] = power_of_two(exponent)


def split(
    queue: Queue, x: Any, T: int, high: Any, low: Any, scales: Any, how: int = AS_IT_IS,
    ends: tuple[int, int] = (0, 0),
) -> None:  # fmt: skip
    """Scales (high + low) = x after `activate`: (planes, T, row), 16 bits each; (planes, T)."""
    queue.launch(_split, (T, x.shape[0]), ROW_THREADS, x, how, *ends, high, low, scales)


@kernel(ROW_THREADS)
def _copy_rows(source, first, target):
    t = cuda.blockIdx.x
    for i in range(cuda.threadIdx.x, source.shape[1], cuda.blockDim.x):
        target[0, t, i] = source[first + t, i]


def copy_rows(queue: Queue, source: Any, first: int, n: int, target: Any) -> None:
    """Target (1, n, row) = n rows of source (T, D) from the first on."""
    queue.launch(_copy_rows, n, ROW_THREADS, source, first, target)

"""The time mix's recurrence over the tokens of a prompt; formulas in timemix.

Three steps: what each head needs of each token, all at once; the state, token by token, a thread
group a row of the state, which stays in registers; group norm, bonus and gate, all at once.  Rows
of a state do not meet, so a head is shared among blocks.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import cuda, float32

from goose_gpu.lanes import LANES, ONE, PARTS, SIMULATOR, ZERO, lane_sum, load_four, part_sum
from goose_gpu.launch import Queue, cover, kernel
from goose_gpu.timemix import DECAY, FLOOR, sigmoid

HEADS = 2 if SIMULATOR else 4  # (token, head) pairs of a block: a warp each
ROWS = 16  # rows of a state in a block
STAGE = 2 if SIMULATOR else 8  # tokens fetched together


@kernel(HEADS * LANES)
def _prepare(layer, vec, T, H, att, v_first, removal, scalars):
    pair = cuda.blockIdx.x * HEADS + cuda.threadIdx.x // LANES
    lane = cuda.threadIdx.x % LANES
    if pair >= T * H:
        return
    t, h = pair // H, pair % H
    N = v_first.shape[1] // H
    length, bonus, written, rate, values = ZERO, ZERO, ZERO, ZERO, ZERO
    for c in range(h * N + lane, h * N + N, LANES):
        k, v, r = vec[3, t, c], vec[4, t, c], vec[5, t, c]
        a = sigmoid(att[1, c] + vec[1, t, c])
        kappa = k * att[3, c]
        k = k * (ONE + (a - ONE) * att[4, c])
        mixed = ZERO
        if layer == 0:
            v_first[t, c] = v
        else:
            mixed = sigmoid(att[2, c] + vec[7, t, c])
            v = v + (v_first[t, c] - v) * mixed
        vec[0, t, c] = np.float32(math.exp(-DECAY * sigmoid(att[0, c] + vec[0, t, c])))
        vec[1, t, c] = a
        vec[2, t, c] = kappa
        vec[3, t, c] = k
        vec[4, t, c] = v
        vec[7, t, c] = mixed
        length += kappa * kappa
        bonus += r * k * att[5, c]
        written += k * k
        rate += (removal * kappa * a) * (removal * kappa * a)
        values += v * v
    length, bonus, written = lane_sum(length), lane_sum(bonus), lane_sum(written)
    rate, values = lane_sum(rate), lane_sum(values)
    scale = ONE / max(np.float32(math.sqrt(length)), FLOOR)
    for c in range(h * N + lane, h * N + N, LANES):
        vec[2, t, c] *= scale
    if lane == 0:
        scalars[0, t, h] = bonus
        scalars[1, t, h] = rate * scale * scale  # |c kappa a|^2, until `finish` knows |S kappa|
        scalars[2, t, h] = math.sqrt(values * written)


def prepare(
    queue: Queue, layer: int, vec: Any, T: int, H: int, att: Any, v_first: Any,
    removal: np.float32, scalars: Any,
) -> None:  # fmt: skip
    """Observables of T tokens from their projections.

    vec (8, T, D), in place: sums of the low-rank products become decay, rate and value mix; key,
    value and removal key become themselves.  att (8, D); v_first (T, D); removal is c; scalars
    (3, T, H).
    """
    blocks = cover(T * H, HEADS)
    queue.launch(_prepare, blocks, HEADS * LANES, layer, vec, T, H, att, v_first, removal, scalars)


def rows_of(N: int) -> int:
    """Rows of a state that a block takes."""
    return ROWS if not SIMULATOR and N in (16, 32, 64, 128) else N


@functools.cache
def recur_kernel(N: int) -> Any:
    """The recurrence of heads of N channels."""
    C = N // PARTS
    rows = rows_of(N)
    threads = rows * PARTS
    stage = 6 * STAGE * N  # floats of a stage: decay, rate, removal key, key, value, receptance
    together = threads // N  # tokens fetched by one pass of the threads
    passes = STAGE // together
    coming_size = 6 * passes
    fits = C % 4 == 0
    fours = C // 4

    @kernel(threads, 2)
    def _recur(vec, plane, row, T, removal, wkv, read, taken_out, keep, states):
        tokens = cuda.shared.array(stage, float32)
        S = cuda.local.array(C, float32)
        coming = cuda.local.array(coming_size, float32)
        h = cuda.blockIdx.x
        i = cuda.blockIdx.y * rows + cuda.threadIdx.x // PARTS
        part = cuda.threadIdx.x % PARTS
        c = h * N + i
        fetched, column_fetched = cuda.threadIdx.x // N, cuda.threadIdx.x % N
        for j in range(C):
            column = (j // 4) * 4 * PARTS + part * 4 + j % 4 if fits else part * C + j
            S[j] = wkv[c * N + column]
        for start in range(-STAGE, T, STAGE):
            # the next tokens travel while these are worked on
            for q in range(passes):
                t = start + STAGE + q * together + fetched
                at = t * row + h * N + column_fetched
                for p in range(6):
                    coming[q * 6 + p] = vec[at + p * plane] if t < T else ZERO
            for s in range(min(STAGE, T - start) if start >= 0 else 0):
                t = start + s
                w, a, b = s * N, (STAGE + s) * N, (2 * STAGE + s) * N
                k, v, r = (3 * STAGE + s) * N, (4 * STAGE + s) * N, (5 * STAGE + s) * N
                taken = ZERO  # row i of S kappa
                if fits:
                    for m in range(fours):
                        four = load_four(tokens, b + m * 4 * PARTS + part * 4)
                        taken += S[4 * m] * four[0]
                        taken += S[4 * m + 1] * four[1]
                        taken += S[4 * m + 2] * four[2]
                        taken += S[4 * m + 3] * four[3]
                else:
                    for j in range(C):
                        taken += S[j] * tokens[b + part * C + j]
                taken = part_sum(taken)
                gone = removal * taken
                value = tokens[v + i]
                y = ZERO
                if fits:
                    for m in range(fours):
                        at = m * 4 * PARTS + part * 4
                        w4, b4 = load_four(tokens, w + at), load_four(tokens, b + at)
                        a4, k4 = load_four(tokens, a + at), load_four(tokens, k + at)
                        r4 = load_four(tokens, r + at)
                        e0 = S[4 * m] * w4[0] - gone * (b4[0] * a4[0]) + value * k4[0]
                        e1 = S[4 * m + 1] * w4[1] - gone * (b4[1] * a4[1]) + value * k4[1]
                        e2 = S[4 * m + 2] * w4[2] - gone * (b4[2] * a4[2]) + value * k4[2]
                        e3 = S[4 * m + 3] * w4[3] - gone * (b4[3] * a4[3]) + value * k4[3]
                        y += e0 * r4[0]
                        y += e1 * r4[1]
                        y += e2 * r4[2]
                        y += e3 * r4[3]
                        S[4 * m] = e0
                        S[4 * m + 1] = e1
                        S[4 * m + 2] = e2
                        S[4 * m + 3] = e3
                else:
                    for j in range(C):
                        at = part * C + j
                        rate = tokens[b + at] * tokens[a + at]
                        e0 = S[j] * tokens[w + at] - gone * rate + value * tokens[k + at]
                        y += e0 * tokens[r + at]
                        S[j] = e0
                y = part_sum(y)
                if part == 0:
                    read[t, c] = y
                    taken_out[t, c] = taken
                if keep > 0:
                    for j in range(C):
                        column = (j // 4) * 4 * PARTS + part * 4 + j % 4 if fits else part * C + j
                        states[t, c * N + column] = S[j]
            cuda.syncthreads()
            for q in range(passes):
                at = (q * together + fetched) * N + column_fetched
                for p in range(6):
                    tokens[p * STAGE * N + at] = coming[q * 6 + p]
            cuda.syncthreads()
        for j in range(C):
            column = (j // 4) * 4 * PARTS + part * 4 + j % 4 if fits else part * C + j
            wkv[c * N + column] = S[j]

    return _recur


def recur(
    queue: Queue, vec: Any, T: int, H: int, removal: np.float32, wkv: Any, read: Any, taken: Any,
    states: Any, keep: bool,
) -> None:  # fmt: skip
    """T tokens through the state wkv, flat (H, N, N), in place.

    vec (8, T, D) from `prepare`; removal is c; read, taken (T, D): S r and S kappa; states
    (T, H * N * N) gets the state after every token if ``keep``.
    """
    N = read.shape[1] // H
    rows = rows_of(N)
    queue.launch(
        recur_kernel(N), (H, N // rows), rows * PARTS, vec.ravel(), vec.shape[1] * vec.shape[2],
        vec.shape[2], T, removal, wkv, read, taken, int(keep), states,
    )  # fmt: skip


@kernel(HEADS * LANES)
def _finish(vec, T, H, att, read, taken, scalars, eps, out):
    pair = cuda.blockIdx.x * HEADS + cuda.threadIdx.x // LANES
    lane = cuda.threadIdx.x % LANES
    if pair >= T * H:
        return
    t, h = pair // H, pair % H
    N = read.shape[1] // H
    mean, removed = ZERO, ZERO
    for c in range(h * N + lane, h * N + N, LANES):
        mean += read[t, c]
        removed += taken[t, c] * taken[t, c]
    mean, removed = lane_sum(mean) / np.float32(N), lane_sum(removed)
    variance = ZERO
    for c in range(h * N + lane, h * N + N, LANES):
        variance += (read[t, c] - mean) * (read[t, c] - mean)
    variance = lane_sum(variance) / np.float32(N)
    scale = ONE / np.float32(math.sqrt(variance + eps))
    bonus = scalars[0, t, h]
    for c in range(h * N + lane, h * N + N, LANES):
        normed = (read[t, c] - mean) * scale * att[6, c] + att[7, c]
        out[0, t, c] = (normed + bonus * vec[4, t, c]) * vec[6, t, c]
    if lane == 0:
        scalars[1, t, h] = math.sqrt(removed * scalars[1, t, h])


def finish(
    queue: Queue, vec: Any, T: int, H: int, att: Any, read: Any, taken: Any, scalars: Any,
    eps: np.float32, out: Any,
) -> None:  # fmt: skip
    """Out (1, T, row) = (group norm(read) + bonus v) gate; scalars[1] becomes the removed norm."""
    blocks = cover(T * H, HEADS)
    queue.launch(_finish, blocks, HEADS * LANES, vec, T, H, att, read, taken, scalars, eps, out)

"""The time mix of one token: projections, then everything that a head does.

    r, k, v = W_r x_r, W_k x_k, W_v x_v;   low = tanh(x_w w1), x_a a1, x_v v1, sigmoid(x_g g1)
    w = exp(-e^(-1/2) sigmoid(w0 + low_w w2))         decay
    a = sigmoid(a0 + low_a a2)                        in-context learning rate
    v = v + (v_first - v) sigmoid(v0 + low_v v2)      layers > 0
    kappa = normalize(k k_k);  k~ = k (1 + (a - 1) k_a)
    S = S diag(w) - c (S kappa)(kappa a)^T + v k~^T;  y = S r
    out = (group norm(y) + sum(r k~ r_k) v) * (low_g g2)

The rows of ``rkv`` (3 D, D) are W_r, W_k, W_v, those of ``down`` (R, D) w1, a1, v1, g1; the
columns of ``up`` (D, R) are w2, a2, v2, g2.  Each rank is padded to whole packets, R is their sum.
Planes of ``vec`` (8, D): decay, iclr, removal key, replacement key, value, receptance, gate, value
mix.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numba import cuda, float32

from goose_gpu.lanes import (
    HALF,
    LANES,
    ONE,
    PARTS,
    ZERO,
    dot_packet,
    lane_sum,
    load_four,
    packet_size,
    part_sum,
    scale_of,
    store_four,
)
from goose_gpu.launch import THREADS, Queue, cover, kernel, padded
from goose_gpu.matvec import load_ahead, room, row_width
from goose_gpu.norm import mixed_products
from goose_gpu.planes import LOW_MIX, RKV_MIX, RKV_PLANE


def _digits(numbers: tuple[int, ...]) -> int:
    """Small numbers as one that a kernel takes apart in registers: `digit`."""
    return sum(n << 4 * i for i, n in enumerate(numbers))


RKV_MIXES, RKV_PLANES, LOW_MIXES = _digits(RKV_MIX), _digits(RKV_PLANE), _digits(LOW_MIX)
DECAY = np.float32(math.exp(-0.5))
FLOOR = np.float32(1e-12)  # of a removal key's norm


@cuda.jit(device=True)
def digit(digits, i):
    """Number i of `_digits`."""
    return digits >> 4 * i & 15


@cuda.jit(device=True)
def sigmoid(z):
    """1 / (1 + e^-z), in the form that never overflows."""
    return HALF + HALF * np.float32(math.tanh(HALF * z))


@kernel(THREADS, 2)
def _project(
    x, weight, bias, eps, shift, mix, rkv, scales, down, down_scales, D, width, space, down_width,
    down_space, rank_w, rank_a, rank_v, rank_g, tile, vec, low, fresh,
):  # fmt: skip
    xs = cuda.shared.array(0, float32)
    scratch = cuda.shared.array(32, float32)
    blocks = (D + tile - 1) // tile
    part = cuda.blockIdx.x // blocks  # which matrix this block works on, and which rows of it
    if part < 3:
        first = part * D + (cuda.blockIdx.x - part * blocks) * tile
        end = min(first + tile, part * D + D)
        mixed_products(
            x, weight, bias, eps, shift, mix[digit(RKV_MIXES, part)], fresh, D, rkv, first, end,
            width, space, xs, scratch,
        )  # fmt: skip
        plane = digit(RKV_PLANES, part)
        for i in range(cuda.threadIdx.x, end - first, cuda.blockDim.x):
            row = first + i
            vec[plane, row - part * D] = xs[space + i] * scale_of(scales, row, rkv)
        return

    block, n, begin, end = cuda.blockIdx.x - 3 * blocks, 0, 0, rank_w
    while block >= (end - begin + tile - 1) // tile:
        block -= (end - begin + tile - 1) // tile
        n += 1
        begin = end
        end += rank_a if n == 1 else rank_v if n == 2 else rank_g
    first = begin + block * tile
    end = min(first + tile, end)
    mixed_products(
        x, weight, bias, eps, shift, mix[digit(LOW_MIXES, n)], fresh, D, down, first, end,
        down_width, down_space, xs, scratch,
    )  # fmt: skip
    for i in range(cuda.threadIdx.x, end - first, cuda.blockDim.x):
        row = first + i
        value = xs[down_space + i] * scale_of(down_scales, row, down)
        if row < rank_w:
            value = np.float32(math.tanh(value))
        elif row >= rank_w + rank_a + rank_v:
            value = sigmoid(value)
        low[row] = value


def project(
    queue: Queue, x: Any, norm: tuple[Any, Any], eps: np.float32, shift: Any, mix: Any,
    rkv: Any, scales: Any, down: Any, down_scales: Any, ranks: tuple[int, int, int, int], vec: Any,
    low: Any, fresh: Any,
) -> None:  # fmt: skip
    """Layer norm, token shift, and the seven products with x; xx is left in ``fresh``.

    x, shift, fresh (D,); norm two of (D,); mix (6, D); rkv flat, 3 D rows, its int8 scales (3 D,);
    down flat, R rows, its int8 scales (R,); vec (8, D); low (R,).
    """
    D = x.size
    R = sum(ranks)
    width, down_width = row_width(rkv, 3 * D), row_width(down, R)
    space, down_space = room(width, rkv), room(down_width, down)
    tile = queue.tile(3 * D + R)
    blocks = 3 * cover(D, tile) + sum(cover(rank, tile) for rank in ranks)
    queue.launch(
        _project, blocks, THREADS, x, *norm, eps, shift, mix, rkv, scales, down, down_scales, D,
        width, space, down_width, down_space, *ranks, tile, vec, low, fresh,
        shared=4 * (max(space, down_space) + tile),
    )  # fmt: skip


@functools.cache
def advance_kernel(N: int) -> Any:
    """The kernel of a head of N channels: N is fixed so that its state stays in registers."""
    C = N // PARTS  # columns of a state row a thread holds: 4 * PARTS apart if fours fit
    fours = C // 4
    fits = C % 4 == 0

    @kernel(N * PARTS)
    def _advance(
        layer, low, up, scales, rank_w, rank_a, rank_v, rank_g, space, vec, att, wkv, v_first,
        fresh, shift, scalars, read, out, eps, removal,
    ):  # fmt: skip
        # lows: the low-rank activations; then six vectors of the head, read by all threads
        lows = cuda.shared.array(0, float32)
        scratch = cuda.shared.array((5, 32), float32)
        S = cuda.local.array(C, float32)
        h = cuda.blockIdx.x
        i = cuda.threadIdx.x // PARTS  # value row
        part = cuda.threadIdx.x % PARTS
        c = h * N + i
        at = c * N  # of the state's row

        if fits:
            for m in range(fours):
                a0, a1, a2, a3 = load_four(wkv, at + m * 4 * PARTS + part * 4)
                S[4 * m] = a0
                S[4 * m + 1] = a1
                S[4 * m + 2] = a2
                S[4 * m + 3] = a3
        else:
            for j in range(C):
                S[j] = wkv[at + part * C + j]

        R = rank_w + rank_a + rank_v + rank_g
        size = packet_size(up)
        step = PARTS * size
        start = 0
        p0, p1, p2, p3 = load_ahead(up, c, c + 1, part * size, R, step)
        j = cuda.threadIdx.x
        while j < space:
            lows[j] = low[j] if j < R else ZERO
            j += cuda.blockDim.x
        cuda.syncthreads()
        z_w, z_a, z_v, z_g = ZERO, ZERO, ZERO, ZERO
        end_w, end_a, end_v = rank_w, rank_w + rank_a, rank_w + rank_a + rank_v
        while start < R:
            ahead = load_ahead(up, c, c + 1, start + 4 * step + part * size, R, step)
            for n in range(4):
                j = start + n * step + part * size
                z = dot_packet(p0, lows, j, 4, ZERO)
                p0, p1, p2 = p1, p2, p3
                if j < end_w:
                    z_w += z
                elif j < end_a:
                    z_a += z
                elif j < end_v:
                    z_v += z
                else:
                    z_g += z
            p0, p1, p2, p3 = ahead
            start += 4 * step
        D = N * cuda.gridDim.x
        z_w = part_sum(z_w) * scale_of(scales, c, up)
        z_a = part_sum(z_a) * scale_of(scales, D + c, up)
        z_v = part_sum(z_v) * scale_of(scales, 2 * D + c, up)
        g = part_sum(z_g) * scale_of(scales, 3 * D + c, up)

        # every thread of a row knows its channel's numbers
        k, v, r = vec[3, c], vec[4, c], vec[5, c]
        w = np.float32(math.exp(-DECAY * sigmoid(att[0, c] + z_w)))
        a = sigmoid(att[1, c] + z_a)
        kappa = k * att[3, c]
        k = k * (ONE + (a - ONE) * att[4, c])
        mixed = ZERO
        if layer > 0:
            mixed = sigmoid(att[2, c] + z_v)
            v = v + (v_first[c] - v) * mixed
        erase = removal * a  # of kappa, still to come
        one = ONE if part == 0 else ZERO  # a row counts once
        sums = (
            one * kappa * kappa,
            one * r * k * att[5, c],
            one * k * k,
            one * (kappa * erase) * (kappa * erase),
            one * v * v,
        )
        lane = cuda.threadIdx.x % LANES
        warp = cuda.threadIdx.x // LANES
        s0, s1, s2 = lane_sum(sums[0]), lane_sum(sums[1]), lane_sum(sums[2])
        s3, s4 = lane_sum(sums[3]), lane_sum(sums[4])
        if lane == 0:
            scratch[0, warp] = s0
            scratch[1, warp] = s1
            scratch[2, warp] = s2
            scratch[3, warp] = s3
            scratch[4, warp] = s4
        cuda.syncthreads()
        s0, s1, s2, s3, s4 = ZERO, ZERO, ZERO, ZERO, ZERO
        for j in range(cuda.blockDim.x // LANES):
            s0 += scratch[0, j]
            s1 += scratch[1, j]
            s2 += scratch[2, j]
            s3 += scratch[3, j]
            s4 += scratch[4, j]
        length = ONE / max(np.float32(math.sqrt(s0)), FLOOR)
        kappa *= length
        bonus = s1
        # lows is free: all have passed the barrier behind its last use
        if part == 0:
            lows[i] = w
            lows[N + i] = kappa
            lows[2 * N + i] = kappa * erase
            lows[3 * N + i] = k
            lows[4 * N + i] = r
            vec[0, c] = w
            vec[1, c] = a
            vec[2, c] = kappa
            vec[3, c] = k
            vec[4, c] = v
            vec[6, c] = g
            vec[7, c] = mixed
            if layer == 0:
                v_first[c] = v
            shift[c] = fresh[c]
        cuda.syncthreads()

        taken = ZERO  # row i of S kappa
        if fits:
            for m in range(fours):
                j = m * 4 * PARTS + part * 4
                b0, b1, b2, b3 = load_four(lows, N + j)
                taken += S[4 * m] * b0
                taken += S[4 * m + 1] * b1
                taken += S[4 * m + 2] * b2
                taken += S[4 * m + 3] * b3
        else:
            for j in range(C):
                taken += S[j] * lows[N + part * C + j]
        taken = part_sum(taken)
        y = ZERO
        if fits:
            for m in range(fours):
                j = m * 4 * PARTS + part * 4
                w0, w1, w2, w3 = load_four(lows, j)
                b0, b1, b2, b3 = load_four(lows, 2 * N + j)
                k0, k1, k2, k3 = load_four(lows, 3 * N + j)
                r0, r1, r2, r3 = load_four(lows, 4 * N + j)
                e0 = S[4 * m] * w0 - taken * b0 + v * k0
                e1 = S[4 * m + 1] * w1 - taken * b1 + v * k1
                e2 = S[4 * m + 2] * w2 - taken * b2 + v * k2
                e3 = S[4 * m + 3] * w3 - taken * b3 + v * k3
                y += e0 * r0
                y += e1 * r1
                y += e2 * r2
                y += e3 * r3
                store_four(wkv, at + j, e0, e1, e2, e3)
        else:
            for n in range(C):
                j = part * C + n
                e0 = S[n] * lows[j] - taken * lows[2 * N + j] + v * lows[3 * N + j]
                y += e0 * lows[4 * N + j]
                wkv[at + j] = e0
        y = part_sum(y)

        s0, s1 = lane_sum(one * y), lane_sum(one * taken * taken)
        if lane == 0:
            scratch[0, warp] = s0
            scratch[1, warp] = s1
        cuda.syncthreads()
        s0, s1 = ZERO, ZERO
        for j in range(cuda.blockDim.x // LANES):
            s0 += scratch[0, j]
            s1 += scratch[1, j]
        centred = y - s0 / np.float32(N)
        variance = lane_sum(one * centred * centred)
        if lane == 0:
            scratch[2, warp] = variance
        cuda.syncthreads()
        variance = ZERO
        for j in range(cuda.blockDim.x // LANES):
            variance += scratch[2, j]
        scale = ONE / np.float32(math.sqrt(variance / np.float32(N) + eps))
        if part == 0:
            read[c] = y
            out[c] = (centred * scale * att[6, c] + att[7, c] + bonus * v) * g
        if cuda.threadIdx.x == 0:
            scalars[0, h] = bonus
            scalars[1, h] = math.sqrt(s1 * s3) * length  # rank one: the norms multiply
            scalars[2, h] = math.sqrt(s4 * s2)

    return _advance


def advance(
    queue: Queue, layer: int, low: Any, up: Any, scales: Any, ranks: tuple[int, int, int, int],
    vec: Any, att: Any, wkv: Any, v_first: Any, fresh: Any, shift: Any, scalars: Any, read: Any,
    out: Any, eps: np.float32, removal: np.float32,
) -> None:  # fmt: skip
    """A block a head: activations, the state's update and read, norm, bonus and gate.

    low (R,); up flat (D, R), its int8 scales flat (4, D); vec (8, D): projections in, observables
    out; att (8, D): w0 a0 v0 k_k k_a r_k and the group norm's weight and bias; wkv flat (H, N, N) =
    [value, key], in place; scalars (3, H): bonus, removed norm, written norm; read, out (D,); shift
    becomes ``fresh``; removal is c.
    """
    H = scalars.shape[1]
    N = out.size // H
    R = sum(ranks)
    space = padded(R, 4 * PARTS * (16 // up.dtype.itemsize))
    queue.launch(
        advance_kernel(N), H, N * PARTS, layer, low, up, scales, *ranks, space, vec, att, wkv,
        v_first, fresh, shift, scalars, read, out, eps, removal, shared=4 * max(space, 5 * N),
    )  # fmt: skip

"""Matrix times matrix, for the tokens of a prompt: out[t, n] = sum_k x[t, k] W[n, k].

Two kernels.  One runs on the tensor cores (16-bit weights, compute capability 8.0 and up); the
other is plain float32 arithmetic, for float32 weights, older cards and the simulator.

Activations stay float32-like on the tensor cores too: a row is scaled by a power of two and split
into two 16-bit numbers, x = scale (high + low), which leaves 2^-17 of it in bfloat16 and 2^-22 in
float16; each weight meets both.  Sums are float32, in an order that does not depend on how many
tokens there are.

One launch does several products, its jobs: rows of one weight array with planes of one activation
array.  A job is eight int32: plane of x, first row of W, rows, first k, number of k, plane of out,
first column of out, where the scales of int8 rows begin less the first row.  The ffn's value matrix
comes in slices (see channelmix).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import cuda, float32, uint32

from goose_gpu.lanes import SIMULATOR, ZERO, number_at, scale_of
from goose_gpu.launch import Queue, cover, kernel

SIDE = 2 if SIMULATOR else 16  # threads along each side of a block's square of outputs
SQUARE = 4 * SIDE
SQUARE_ROW = SQUARE + 1  # of shared memory: neighbours meet other banks
DEPTH = 16
STEP = 32  # numbers of k in a stage on the tensor cores: rows of 64 bytes


@kernel(SIDE * SIDE)
def _multiply(
    x, x_plane, x_row, weights, scales, by_input, w_row, columns, slice_size, jobs, T, out,
    out_plane, out_row, add,
):  # fmt: skip
    xs = cuda.shared.array((DEPTH, SQUARE_ROW), float32)
    ws = cuda.shared.array((DEPTH, SQUARE_ROW), float32)
    sums = cuda.local.array((4, 4), float32)
    job = cuda.blockIdx.z
    t0, n0 = cuda.blockIdx.x * SQUARE, cuda.blockIdx.y * SQUARE
    rows, K = jobs[job, 2], jobs[job, 4]
    if n0 >= rows:
        return
    x_base = jobs[job, 0] * x_plane + jobs[job, 3]
    n_base = jobs[job, 1]
    k_base = jobs[job, 3]
    thread = cuda.threadIdx.x
    i0, j0 = thread // SIDE, thread % SIDE
    for i in range(4):
        for j in range(4):
            sums[i, j] = ZERO
    for start in range(0, K, DEPTH):
        for e in range(thread, DEPTH * SQUARE, SIDE * SIDE):
            k, r = e % DEPTH, e // DEPTH
            value = ZERO
            if start + k < K and t0 + r < T:
                value = x[x_base + (t0 + r) * x_row + start + k]
            xs[k, r] = value
            value = ZERO
            if start + k < K and n0 + r < rows:
                n = n_base + n0 + r
                if columns > 0:  # in slices of so many columns
                    at = (n // columns) * slice_size + (start + k) * columns + n % columns
                    value = number_at(weights, at)
                else:
                    value = number_at(weights, n * w_row + k_base + start + k)
                scale = k_base + start + k if by_input else jobs[job, 7] + n
                value *= scale_of(scales, scale, weights)
            ws[k, r] = value
        cuda.syncthreads()
        for k in range(DEPTH):
            for i in range(4):
                for j in range(4):
                    sums[i, j] += xs[k, i * SIDE + i0] * ws[k, j * SIDE + j0]
        cuda.syncthreads()
    o_base = jobs[job, 5] * out_plane + jobs[job, 6]
    for i in range(4):
        for j in range(4):
            t, n = t0 + i * SIDE + i0, n0 + j * SIDE + j0
            if t < T and n < rows:
                at = o_base + t * out_row + n
                out[at] = out[at] + sums[i, j] if add else sums[i, j]


@functools.cache
def tensor_kernel(tokens: int, rows: int, sliced: bool) -> Any:
    """The tensor-core kernel of blocks of so many tokens by so many rows of W."""
    from goose_gpu.tensor_cores import (
        copy_packet,
        end_group,
        load_matrices,
        load_transposed,
        multiply_matrices,
        shared_address,
        wait_all,
        wait_but_two,
    )

    down, across = tokens // 32, rows // 32  # warps, of 32 by 32
    MT, NT = 2, 4  # products of 16 by 8 in a warp
    threads = 32 * down * across
    stages = 2 if rows == 128 else 4
    stage = 64 * (2 * tokens + rows)  # bytes
    packets = 4 * (2 * tokens + rows)
    each = packets // threads

    @kernel(threads)
    def _multiply_tensor(
        high, low, scales, x_plane, x_row, weights, w_row, slice_size, jobs, T, capacity, out,
        out_plane, out_row, add,
    ):  # fmt: skip
        memory = cuda.shared.array(0, float32)
        base = shared_address(memory)
        sums = cuda.local.array((MT, NT, 4), float32)
        b = cuda.local.array((NT, 2), uint32)
        job = cuda.blockIdx.z
        t0, n0 = cuda.blockIdx.x * tokens, cuda.blockIdx.y * rows
        n_rows, K = jobs[job, 2], jobs[job, 4]
        if n0 >= n_rows:
            return
        k_base = jobs[job, 3]
        x_base = jobs[job, 0] * x_plane + k_base
        n_base = jobs[job, 1]
        thread = cuda.threadIdx.x
        lane, warp = thread & 31, thread >> 5
        m_first, n_first = (warp // across) * 32, (warp % across) * 32
        for m in range(MT):
            for n in range(NT):
                for i in range(4):
                    sums[m, n, i] = ZERO
        steps = (K + STEP - 1) // STEP

        # 64 bytes a row, its four packets turned by the row: reading eight rows meets all banks
        for step in range(stages - 1 + steps):
            if step >= stages - 1:  # the stage to be worked on is there, the one before is free
                if stages == 2:
                    wait_all()
                else:
                    wait_but_two()
                cuda.syncthreads()
            if step < steps:
                k = step * STEP
                begin = base + (step % stages) * stage
                for i in range(each):
                    e = i * threads + thread
                    row, packet = e >> 2, e & 3
                    to = np.int32(begin + row * 64 + ((packet ^ ((row >> 1) & 3)) << 4))
                    if row < 2 * tokens:
                        r = row % tokens
                        at = x_base + (t0 + r) * x_row + k + packet * 8
                        there = t0 + r < T and k + packet * 8 < K
                        if row < tokens:
                            copy_packet(to, high, at, there)
                        else:
                            copy_packet(to, low, at, there)
                    else:
                        r = row - 2 * tokens
                        if sliced:  # the rows of a stage are k, slice by slice
                            piece = n0 // 32 + r // STEP
                            at = piece * slice_size + (k + r % STEP) * 32 + packet * 8
                            there = n0 + (r // STEP) * 32 < n_rows and k + r % STEP < K
                        else:
                            at = (n_base + n0 + r) * w_row + k_base + k + packet * 8
                            there = n0 + r < n_rows and k + packet * 8 < K
                        copy_packet(to, weights, at, there)
            end_group()
            if step < stages - 1:
                continue
            at = base + ((step - (stages - 1)) % stages) * stage
            for half in range(2):
                for n in range(NT // 2):
                    if sliced:
                        column = n_first + n * 16 + (lane >> 4) * 8
                        row = (column // 32) * STEP + half * 16 + (lane & 15)
                        packet = (column & 31) >> 3
                    else:
                        row = n_first + n * 16 + (lane & 7) + ((lane >> 4) << 3)
                        packet = half * 2 + ((lane >> 3) & 1)
                    row += 2 * tokens
                    where = np.int32(at + row * 64 + ((packet ^ ((row >> 1) & 3)) << 4))
                    four = load_transposed(where) if sliced else load_matrices(where)
                    b[2 * n, 0], b[2 * n, 1] = four[0], four[1]
                    b[2 * n + 1, 0], b[2 * n + 1, 1] = four[2], four[3]
                for m in range(MT):
                    row = m_first + m * 16 + (lane & 15)
                    packet = half * 2 + (lane >> 4)
                    turned = (packet ^ ((row >> 1) & 3)) << 4
                    a_high = load_matrices(np.int32(at + row * 64 + turned))
                    a_low = load_matrices(np.int32(at + (row + tokens) * 64 + turned))
                    for n in range(NT):
                        c = (sums[m, n, 0], sums[m, n, 1], sums[m, n, 2], sums[m, n, 3])
                        c = multiply_matrices(c, a_low, b[n, 0], b[n, 1], weights)
                        c = multiply_matrices(c, a_high, b[n, 0], b[n, 1], weights)
                        sums[m, n, 0], sums[m, n, 1] = c[0], c[1]
                        sums[m, n, 2], sums[m, n, 3] = c[2], c[3]

        o_base = jobs[job, 5] * out_plane + jobs[job, 6]
        for m in range(MT):
            for i in range(2):
                t = t0 + m_first + m * 16 + (lane >> 2) + i * 8
                if t < T:
                    scale = scales[jobs[job, 0] * capacity + t]
                    for n in range(NT):
                        for j in range(2):
                            column = n0 + n_first + n * 8 + (lane & 3) * 2 + j
                            if column < n_rows:
                                o = o_base + t * out_row + column
                                value = sums[m, n, 2 * i + j] * scale
                                out[o] = out[o] + value if add else value

    return _multiply_tensor


class Products:
    """One side of a launch: weights with the jobs that are done with them.

    Parameters
    ----------
    weights : device array
        Flat, rows of ``w_row`` numbers, or slices of ``columns`` columns.
    jobs : list of tuple of 7 or 8 int
        See the module's words; the scales begin with the rows when left out.
    upload : callable
        From a host array to a device array.
    scales : device array
        Of int8 weights: one per row of W, or with ``by_input`` one per k; any other weights never
        look at it.
    """

    def __init__(
        self, weights: Any, scales: Any, w_row: int, jobs: list[tuple[int, ...]], upload: Any,
        columns: int = 0, slice_size: int = 0, by_input: bool = False,
    ) -> None:  # fmt: skip
        self.weights, self.scales, self.by_input, self.w_row = weights, scales, by_input, w_row
        self.columns, self.slice_size = columns, slice_size
        self.n_jobs, self.most_rows = len(jobs), max(job[2] for job in jobs)
        self.jobs = upload(np.array([(*job, 0)[:8] for job in jobs], np.int32))


def multiply(queue: Queue, x: Any, T: int, products: Products, out: Any, add: bool = False) -> None:
    """out[p, t, c + n] (+)= sum_k x[q, t, k] W[n, k] for every job; x, out (planes, capacity, row).

    x is float32; for the tensor cores see `multiply_split`.
    """
    p = products
    queue.launch(
        _multiply, (cover(T, SQUARE), cover(p.most_rows, SQUARE), p.n_jobs), SIDE * SIDE,
        x.ravel(), x.shape[1] * x.shape[2], x.shape[2], p.weights, p.scales, int(p.by_input),
        p.w_row, p.columns, p.slice_size, p.jobs, T, out.ravel(), out.shape[1] * out.shape[2],
        out.shape[2], int(add),
    )  # fmt: skip


def multiply_split(
    queue: Queue, high: Any, low: Any, scales: Any, T: int, products: Products, out: Any,
    add: bool = False,
) -> None:  # fmt: skip
    """`multiply` on the tensor cores; high, low (planes, capacity, row), scales (planes, capacity).

    Blocks of 128 by 128 read least, blocks of 64 by 64 keep all of the card busy when there are
    few.
    """
    p = products
    wide = cover(T, 128) * cover(p.most_rows, 128) * p.n_jobs
    tile = 128 if wide >= queue.multiprocessors and T > 64 else 64
    stages, warps = (2, 16) if tile == 128 else (4, 4)
    queue.launch(
        tensor_kernel(tile, tile, p.columns > 0),
        (cover(T, tile), cover(p.most_rows, tile), p.n_jobs), 32 * warps,
        high.ravel(), low.ravel(), scales.ravel(), high.shape[1] * high.shape[2], high.shape[2],
        p.weights, p.w_row, p.slice_size, p.jobs, T, high.shape[1], out.ravel(),
        out.shape[1] * out.shape[2], out.shape[2], int(add), shared=64 * 3 * tile * stages,
    )  # fmt: skip

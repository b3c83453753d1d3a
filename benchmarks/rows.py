"""The CPU's inner loops by themselves: rows from the caches and from memory, heads, BLAS.

    python benchmarks/rows.py [--rounds 25] [--json FILE]

Rows of 768 numbers; everything in turns, medians over the rounds.  *Caches*: one core, 150 KB again
and again.  *Memory*: all cores, 100 MB five times a round, beside the reading of as many bytes with
as little done as can be.  *Value rows*: rows that are added up, all of them or a random half.
*Head*: a token's gates, state and norm of one head whose numbers are in the caches; *recurrence*:
the same inside a prompt of 512 tokens.  *BLAS*: NumPy's float32 product, 512 x 768 by 768 x 3072.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from numba import njit

from goose_gpu.formats import FORMATS
from goose_viz.cpu import arithmetic, prompt_kernels
from goose_viz.cpu.distances import measure
from goose_viz.cpu.lanes import borrowed, read_through
from goose_viz.cpu.layout import Met
from goose_viz.cpu.pack import allocate
from goose_viz.cpu.team import TEAM, cores
from goose_viz.cpu.tickets import COUNTERS, NEXT, draw, finish, wait_for_all

D, H, N, T = 768, 12, 64, 512
CACHED, FAR = 150_000, 100_000_000  # bytes
PIECES, TIMES = 200, 5
counters = np.zeros(COUNTERS, np.int64)

product, add_rows = arithmetic.product, arithmetic.add_rows
head_gates, head_rows = arithmetic.head_gates, arithmetic.head_rows
head_output = arithmetic.head_output


@njit(nogil=True)
def times(weights, scales, met, out, n):
    weights, scales, met, out = borrowed(weights), borrowed(scales), borrowed(met), borrowed(out)
    for _ in range(n):
        product(weights, scales, 0, weights.shape[0], 0, 0, met, 0, 1, out)


@njit(nogil=True)
def read(counters, limit, words, sums):
    words, sums = borrowed(words), borrowed(sums)
    size = words.size // PIECES
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        piece = ticket - (limit - PIECES)
        sums[piece] = read_through(words, piece * size, size, 0)
        finish(counters)
    wait_for_all(counters, limit)


@njit(nogil=True)
def add(counters, limit, weights, rows, factors, outs):
    weights, rows = borrowed(weights), borrowed(rows)
    factors, outs = borrowed(factors), borrowed(outs)
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        piece = ticket - (limit - PIECES)
        begin, end = rows.size * piece // PIECES, rows.size * (piece + 1) // PIECES
        n = end - begin
        mine, by = np.empty(n + 3, np.int64), np.empty(n + 3, np.float32)
        mine[:n], by[:n] = rows[begin:end], factors[begin:end]
        add_rows(weights, mine, by, n, outs.shape[1], outs, piece * outs.shape[1], 0, 0)
        finish(counters)
    wait_for_all(counters, limit)


@njit(nogil=True)
def heads(p, first, vec, scalars, S, read, out, erase, n):
    p, first, vec, scalars = borrowed(p), borrowed(first), borrowed(vec), borrowed(scalars)
    S, read, out, erase = borrowed(S), borrowed(read), borrowed(out), borrowed(erase)
    flat = vec.reshape(-1)
    for _ in range(n):
        head_gates(3, 1, p, first, vec, scalars, 0, np.float32(1), erase)
        taken = head_rows(S, 0, S.shape[0], flat, 3 * S.shape[0], vec.shape[2], erase, read)
        head_output(3, p, read, vec, scalars, taken, out, 0, np.float32(1e-5))


def met() -> Met:
    ahead = np.array(measure(), np.int64)
    whole = np.ones((1, D), np.int16)
    return Met(np.ones((1, D), np.float32), whole, np.ones(1, np.float32), ahead)


def job(kernel: Any, name: str, pieces: int, *arguments: Any) -> None:
    """Several times: a core that has slept comes late the first time."""
    for _ in range(TIMES):
        limit = int(counters[NEXT]) + pieces
        with TEAM.lock:
            TEAM.run(cores(), name, kernel, counters, limit, *arguments)


def works() -> dict[str, tuple[Callable[[], None], float]]:
    """Name -> (what to time, what to divide by its seconds)."""
    found: dict[str, tuple[Callable[[], None], float]] = {}
    vector, rng = met(), np.random.default_rng(0)
    for name, kind in FORMATS.items():
        near = np.zeros((CACHED // kind.row_bytes(D), kind.stride(D)), kind.memory)
        scales = np.ones(len(near) if name == "int8" else 0, np.float32)
        out, n = np.zeros(len(near), np.float32), 400
        found[f"{name} rows, caches, thousand million numbers/s a core"] = (
            lambda a=(near, scales, vector, out, n): times(*a), n * len(near) * D / 1e9,
        )  # fmt: skip
    for name in ("bf16", "int8", "int4"):
        kind = FORMATS[name]
        rows = FAR // kind.row_bytes(D) // PIECES * PIECES
        memory = allocate(rows * kind.stride(D) * kind.memory.itemsize)
        far = np.frombuffer(memory, kind.memory).reshape(rows, -1)
        far.view(np.uint8)[:] = 0
        scales = np.ones(rows if name == "int8" else 0, np.float32)
        out, sums = np.zeros(rows, np.float32), np.zeros(PIECES, np.int32)
        words = far.reshape(-1).view(np.int32)
        found[f"{name} memory read, GB/s"] = (
            lambda a=(words, sums): job(read, "read", PIECES, *a), TIMES * far.nbytes / 1e9,
        )  # fmt: skip
        found[f"{name} rows, memory, GB/s"] = (
            lambda k=name, a=(far, scales, vector, out): job(
                prompt_kernels.project, k, PIECES, PIECES, *a
            ), TIMES * far.nbytes / 1e9,
        )  # fmt: skip
        if kind.block > 1:
            continue
        outs, factors = np.zeros((PIECES, D), np.float32), np.zeros(rows, np.float32)
        half = np.sort(rng.permutation(rows)[: rows // 2])
        for words_, chosen in (("all", np.arange(rows)), ("half", half)):
            found[f"{name} value rows, {words_}, GB/s"] = (
                lambda k=name, a=(far, chosen, factors, outs): job(add, k, PIECES, *a),
                TIMES * len(chosen) * kind.row_bytes(D) / 1e9,
            )  # fmt: skip
    p, first = rng.standard_normal((8, D)).astype(np.float32), np.ones((T, D), np.float32)
    vec = rng.standard_normal((8, 1, D)).astype(np.float32) * 0.1
    scalars, S = np.zeros((3, 1, H), np.float32), np.zeros((N, N), np.float32)
    read_, out, erase = (
        np.zeros(N, np.float32),
        np.zeros((1, D), np.float32),
        np.zeros(N, np.float32),
    )
    n = 300
    found["head of a token, µs"] = (
        lambda: heads(p, first, vec, scalars, S, read_, out, erase, n),
        -1e6 / n,
    )
    many = rng.standard_normal((8, T, D)).astype(np.float32) * 0.1
    wkv, seen = np.zeros((H, N, N), np.float32), np.zeros((3, T, H), np.float32)
    reads, outs = np.zeros((T, H, N), np.float32), np.zeros((T, D), np.float32)
    none = np.empty((0, H, N, N), np.float32)
    arguments = (H, 1, p, wkv, first, many, seen, reads, outs, np.float32(1e-5), none)
    found["recurrence, µs a head and token of a core"] = (
        lambda: job(prompt_kernels.recur, "recur", H, *arguments),
        -1e6 / T / H * cores() / TIMES,
    )
    a = rng.standard_normal((T, D)).astype(np.float32)
    b = rng.standard_normal((3072, D)).astype(np.float32)
    found["BLAS, thousand million products/s"] = lambda: np.matmul(a, b.T), T * D * 3072 / 1e9
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    todo = works()
    taken: dict[str, list[float]] = {name: [] for name in todo}
    for n in range(-1, args.rounds):  # the first round compiles
        for name, (work, _) in todo.items():
            begin = time.perf_counter()
            work()
            if n >= 0:
                taken[name].append(time.perf_counter() - begin)
    results = {}
    for name, (_, amount) in todo.items():
        seconds = statistics.median(taken[name])
        results[name] = -amount * seconds if amount < 0 else amount / seconds
        print(f"{name:60} {results[name]:8.2f}")
    if args.json:
        facts = {"machine": describe("numba", "numpy"), "rounds": args.rounds, "results": results}
        args.json.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

"""What each phase of a token takes, beside what its bytes take at the rate that memory is read at.

    python benchmarks/phases.py [--shape 0.1B] [--rounds 15] [--json FILE]

The phases' ends are taken from the kernel itself, by the processor's clock; a phase lasts from the
end of the one before, so its preparation is the one's that it follows.  Medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("GOOSE_VIZ_CACHE", "off")

import numpy as np
from machine import describe
from random_files import safetensors_file

import goose_viz as gv
from goose_viz.cpu.reading import ReadRate

PHASES = ("inward", "heads", "channels")
TOKENS = 30


def sizes(engine: Any) -> dict[str, int]:
    """Bytes that each phase reads, with the state there and back and without skipped rows."""
    m, c = engine._m, engine.config
    live = int(engine._scratch.live.sum())
    return {
        "inward": m.rkv.nbytes + m.down.nbytes,
        "heads": m.up.nbytes + m.output.nbytes + 2 * 4 * c.n_layer * c.n_embd * c.head_size,
        "channels": m.ffn_key.nbytes + live * m.ffn_value.strides[1],
        "vocabulary": m.head.nbytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="0.1B")
    parser.add_argument("--dtypes", default="fp32,bf16,int8,int4")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rate = ReadRate()
    found = {}
    for dtype in args.dtypes.split(","):
        found[dtype] = profile(args.shape, dtype, args.rounds, rate)
        for name, row in found[dtype].items():
            print(f"{dtype} {name:10} {row['ms']:6.2f} ms, its bytes {row['bytes ms']:6.2f}")
    if args.json:
        facts = {"machine": describe("numba", "numpy"), "shape": args.shape, "phases": found}
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


def profile(shape: str, dtype: str, rounds: int, rate: ReadRate) -> dict[str, dict[str, float]]:
    """Phase -> ms it takes, ms its bytes take at the rate read around it."""
    model = gv.load_model(safetensors_file(shape, "fp32"), device="cpu", dtype=dtype)
    engine: Any = model._engine
    state = model.new_state()
    model.forward([1], state)
    read = sizes(engine)
    times: dict[str, list[float]] = {name: [] for name in (*PHASES, "vocabulary", "token")}
    rates = []
    for n in range(-1, rounds):
        rates.append(rate.measure())
        ticks = np.zeros(len(engine._scratch.ended) - 1)
        begin = time.perf_counter()
        for i in range(TOKENS):
            model.forward([i + 5], state)
            ticks += np.diff(engine._scratch.ended)
        seconds = time.perf_counter() - begin
        rates.append(rate.measure())
        if n < 0:
            continue
        share = ticks / ticks.sum()
        layers = share[:-1].reshape(-1, 3).sum(axis=0)
        for name, part in zip(times, (*layers, share[-1], 1), strict=True):
            times[name].append(part * seconds / TOKENS)
    a_byte = statistics.median(1 / r for r in rates)
    read["token"] = sum(read.values())
    return {
        name: {"ms": 1e3 * statistics.median(part), "bytes ms": 1e3 * read[name] * a_byte}
        for name, part in times.items()
    }


if __name__ == "__main__":
    main()

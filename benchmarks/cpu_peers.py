"""Decode speed on the CPU beside the official ``rwkv`` package: same weights, same run, in turns.

    pip install torch==2.13.0 rwkv==0.8.32        # in an environment of its own, with goose-viz
    python benchmarks/cpu_peers.py [--json benchmarks/results/cpu_peers.json]

Random weights of the 0.1B shape (L12 D768 V65536).  Each round times every engine once, one after
the other; the figures are medians over the rounds, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["RWKV_V7_ON"] = "1"
os.environ["RWKV_JIT_ON"] = "1"
os.environ["RWKV_CUDA_ON"] = "0"

import numpy as np
import torch
from machine import describe
from random_weights import cached
from rwkv.model import RWKV
from safetensors.torch import load_file

import goose_viz as gv

PEER = "rwkv fp32"


def ours(dtype: str) -> Callable[[int], np.ndarray]:
    model = gv.load_model(cached("0.1B", "fp32"), dtype=dtype)
    state = model.new_state()
    return lambda token: model.forward([token], state)


def theirs() -> Callable[[int], np.ndarray]:
    pth = Path("build/bench/0.1B-fp32.pth")
    if not pth.exists():
        torch.save(load_file(cached("0.1B", "fp32")), pth)
    model, state = RWKV(str(pth.with_suffix("")), "cpu fp32"), [None]

    def forward(token: int) -> np.ndarray:
        with torch.no_grad():
            logits, state[0] = model.forward([token], state[0])
        return logits.numpy()

    return forward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=40)
    args = parser.parse_args()
    engines = {PEER: theirs(), "goose-viz fp32": ours("fp32"), "goose-viz bf16": ours("bf16")}
    tokens = np.random.default_rng(0).integers(1, 60000, args.tokens).tolist()
    rows: dict[str, list[float]] = {name: [] for name in engines}
    last = {}
    for name, forward in engines.items():
        for token in tokens[:5]:
            last[name] = forward(token)
    error = np.abs(last["goose-viz fp32"] - last[PEER]).max() / np.abs(last[PEER]).max()
    print(f"goose-viz fp32 against {PEER}, logits after 5 tokens: {error:.1e} of the largest")
    for _ in range(args.rounds):
        for name, forward in engines.items():
            begin = time.perf_counter()
            for token in tokens:
                forward(token)
            rows[name].append(len(tokens) / (time.perf_counter() - begin))
    results = {}
    for name, rates in rows.items():
        ratios = [a / b for a, b in zip(rates, rows[PEER], strict=True)]
        results[name] = {
            "tokens/s": statistics.median(rates),
            "ratio to the peer": statistics.median(ratios),
        }
        rate, ratio = results[name].values()
        print(f"{name:16} {rate:6.1f} tokens/s   × {ratio:.2f}")
    if args.json:
        facts = {"machine": describe("numba", "numpy", "torch", "rwkv"), "rounds": args.rounds}
        facts |= {"logits error": float(error), "results": results}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()

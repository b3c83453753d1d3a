"""Speed on the CPU beside the official ``rwkv`` package and llama.cpp: same weights, in turns.

    pip install torch==2.13.0 rwkv==0.8.32 xllamacpp         # in an environment of its own
    pip install -e .                                         # with goose-viz
    python benchmarks/cpu_peers.py [--json benchmarks/results/cpu_peers.json]

Random weights of a World model's shape.  Every engine has a process of its own, for their threads
get into each other's way, and one works at a time.  Each round reads memory, lets every engine
write tokens (ours also sixteen sequences
side by side), and lets every engine read a prompt of 512; the figures are medians over the rounds,
ratios and shares are taken within a round.  llama.cpp's low-rank matrices are F16 beside Q8_0 too,
as its own quantiser leaves them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ["RWKV_V7_ON"] = "1"
os.environ["RWKV_JIT_ON"] = "1"
os.environ["RWKV_CUDA_ON"] = "0"
os.environ["GOOSE_VIZ_CACHE"] = "off"

import numpy as np
from machine import describe
from random_files import gguf_file, pth_file, safetensors_file

import goose_viz as gv
from goose_viz.cpu.reading import ReadRate
from goose_viz.cpu.team import cores

PROMPT = 512
CHECKED = 8  # tokens that all engines must choose alike, before anything is timed

#: What is held against what.
RATIOS = {
    "goose-viz fp32": "rwkv fp32",
    "goose-viz bf16": "llama.cpp F16",
    "goose-viz fp16": "llama.cpp F16",
    "goose-viz int8": "llama.cpp Q8_0",
    "goose-viz int4": "llama.cpp Q4_K_M",
}


class Engine(NamedTuple):
    """One engine: what it writes, and seconds a token of writing and of a prompt."""

    write: Callable[[list[int], int], list[int]]  # greedy tokens behind a prompt
    decode: Callable[[int], float]
    prefill: Callable[[list[int]], float]
    bytes_read: Callable[[], int] = lambda: 0
    many: Callable[[int], float] = lambda n: 0.0  # a token of one of many sequences


def ours(shape: str, dtype: str) -> Engine:
    model = gv.load_model(safetensors_file(shape, "fp32"), device="cpu", dtype=dtype)
    kept = model.new_state()

    def write(prompt: list[int], n: int) -> list[int]:
        state, found = model.new_state(), []
        logits = model.forward(prompt, state)
        for _ in range(n):
            found.append(int(logits.argmax()))
            logits = model.forward(found[-1:], state)
        return found

    def decode(n: int) -> float:
        token = 1
        begin = time.perf_counter()
        for _ in range(n):  # greedy, as llama.cpp does
            token = int(model.forward([token], kept).argmax())
        return (time.perf_counter() - begin) / n

    def prefill(prompt: list[int]) -> float:
        state = model.new_state()
        begin = time.perf_counter()
        model.forward(prompt, state)
        return (time.perf_counter() - begin) / len(prompt)

    kept_many = [model.new_state() for _ in range(_MANY)]

    def many(n: int) -> float:
        tokens = list(range(1, _MANY + 1))
        begin = time.perf_counter()
        for _ in range(n):
            tokens = model.forward_many(tokens, kept_many).argmax(1).tolist()
        return (time.perf_counter() - begin) / n / _MANY

    return Engine(write, decode, prefill, model.bytes_read, many)


def official(shape: str) -> Engine:
    import torch
    from rwkv.model import RWKV

    model = RWKV(str(pth_file(shape).with_suffix("")), "cpu fp32")
    kept: list[Any] = [None]

    def forward(tokens: list[int], state: Any) -> tuple[torch.Tensor, Any]:
        with torch.no_grad():
            return model.forward(tokens, state)  # type: ignore[no-any-return]

    def write(prompt: list[int], n: int) -> list[int]:
        logits, state = forward(prompt, None)
        found = []
        for _ in range(n):
            found.append(int(logits.argmax()))
            logits, state = forward(found[-1:], state)
        return found

    def decode(n: int) -> float:
        token = 1
        begin = time.perf_counter()
        for _ in range(n):
            logits, kept[0] = forward([token], kept[0])
            token = int(logits.argmax())
        return (time.perf_counter() - begin) / n

    def prefill(prompt: list[int]) -> float:
        begin = time.perf_counter()
        forward(prompt, None)
        return (time.perf_counter() - begin) / len(prompt)

    return Engine(write, decode, prefill)


def llama(shape: str, kind: str) -> Engine:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(gguf_file(shape, kind))
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = 2048, PROMPT, PROMPT, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = cores()
    params.warmup, params.verbosity = False, 0
    server = xllamacpp.Server(params)

    def complete(prompt: list[int], n: int, probabilities: int = 0) -> dict[str, Any]:
        request = {
            "prompt": prompt, "n_predict": n, "temperature": 0.0, "top_k": 1,
            "samplers": ["top_k"], "ignore_eos": True, "cache_prompt": False,
            "n_probs": probabilities,
        }  # fmt: skip
        return server.handle_completions(request)  # type: ignore[no-any-return]

    def write(prompt: list[int], n: int) -> list[int]:
        chosen = complete(prompt, n, 1)["choices"][0]["logprobs"]["content"]
        return [token["id"] for token in chosen]

    return Engine(
        write,
        lambda n: complete([1], n)["timings"]["predicted_per_token_ms"] / 1e3,
        lambda prompt: complete(prompt, 1)["timings"]["prompt_per_token_ms"] / 1e3,
    )


def build(name: str, shape: str) -> Engine:
    program, kind = name.split()
    if program == "rwkv":
        return official(shape)
    return llama(shape, kind) if program == "llama.cpp" else ours(shape, kind)


NAMES = ("rwkv fp32", "llama.cpp F16", "llama.cpp Q8_0", "llama.cpp Q4_K_M", *RATIOS)
_MANY = 16  # sequences side by side


def serve(name: str, shape: str) -> None:
    """Answer requests, a line of JSON each: [method, arguments …]."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the engines print goes to stderr
    engine = build(name, shape)
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        answers.write(json.dumps(getattr(engine, method)(*arguments)) + "\n")
        answers.flush()


class Remote:
    """An engine in a process of its own."""

    def __init__(self, name: str, shape: str) -> None:
        command = [sys.executable, __file__, "--serve", name, "--shape", shape]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )

    def ask(self, *request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--shape", default="0.1B")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.shape)
        return
    for kind in ("F16", "Q8_0", "Q4_K_M"):
        gguf_file(args.shape, kind)
    pth_file(args.shape)
    engines = {name: Remote(name, args.shape) for name in NAMES}
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, 65536, PROMPT).tolist()
    for name, engine in engines.items():
        print(f"{name:16} writes {engine.ask('write', prompt[:5], CHECKED)}", flush=True)
    rate = ReadRate()
    decode: dict[str, list[float]] = {name: [] for name in engines}
    prefill: dict[str, list[float]] = {name: [] for name in engines}
    shares: dict[str, list[float]] = {name: [] for name in engines}
    many: dict[str, list[float]] = {name: [] for name in RATIOS}
    for n in range(-1, args.rounds):  # the first round warms up
        for name, engine in engines.items():
            around = rate.measure()
            seconds = engine.ask("decode", args.tokens)
            around = (around + rate.measure()) / 2
            decode[name].append(1 / seconds)
            shares[name].append(engine.ask("bytes_read") / seconds / around)
            if name in RATIOS:
                many[name].append(1 / engine.ask("many", max(2, args.tokens // _MANY)))
        for name, engine in engines.items():
            prefill[name].append(1 / engine.ask("prefill", prompt))
        if n < 0:
            for rows in (decode, prefill, shares, many):
                for row in rows.values():
                    row.clear()
    results: dict[str, dict[str, Any]] = {}
    peers = [name for name in engines if name not in RATIOS]
    for name, engine in engines.items():
        results[name] = {
            "decode tokens/s": statistics.median(decode[name]),
            "prefill tokens/s": statistics.median(prefill[name]),
        }
        if name in RATIOS:
            peer = RATIOS[name]
            best = [max(of) for of in zip(*(prefill[p] for p in peers), strict=True)]
            results[name] |= {
                "held against": peer,
                "decode ratio": _ratio(decode[name], decode[peer]),
                "prefill ratio to the fastest peer": _ratio(prefill[name], best),
                "bytes read per token": engine.ask("bytes_read"),
                "share of the read rate": statistics.median(shares[name]),
                f"{_MANY} sequences tokens/s": statistics.median(many[name]),
                f"{_MANY} sequences ratio to one": _ratio(many[name], decode[name]),
            }
    for name, found in results.items():
        print(name, {k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()})
    if args.json:
        facts: dict[str, Any] = {
            "machine": describe("numba", "numpy", "torch", "rwkv", "xllamacpp"),
            "shape": args.shape, "rounds": args.rounds, "tokens": args.tokens, "prompt": PROMPT,
            "read rate GB/s": rate.median / 1e9, "results": results,
        }  # fmt: skip
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


def _ratio(a: list[float], b: list[float]) -> float:
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


if __name__ == "__main__":
    main()

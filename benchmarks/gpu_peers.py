"""Decode and prefill on an NVIDIA card, beside the ``rwkv`` package with its CUDA kernel.

    python benchmarks/gpu_peers.py --shapes 0.1B 2.9B [--json benchmarks/results/gpu_peers.json]
    python benchmarks/gpu_peers.py --static        # bytes and launches a token; needs no card

Random weights, made on the card.  The copy bandwidth is measured first, and every figure is given
as a share of it too.  Where PyTorch and the package are there, they are timed in the same run.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("RWKV_V7_ON", "1")
os.environ.setdefault("RWKV_JIT_ON", "1")
os.environ.setdefault("RWKV_CUDA_ON", "1")

import numpy as np

from goose_gpu.choice import simulated
from goose_viz.random_weights import SHAPES, RandomNumbers, config
from goose_viz.weights import expected_shapes

PROMPT = 1024


def sizes_of(shape: str) -> Any:
    from goose_gpu.weights import Sizes

    c = config(shape)
    ranks = (c.rank_decay, c.rank_iclr, c.rank_value, c.rank_gate)
    return Sizes(
        c.n_layer, c.n_embd, c.n_head, c.n_ffn, c.vocab_size, ranks, c.layer_norm_eps,
        c.group_norm_eps, c.removal_scale,
    )  # fmt: skip


def bytes_per_token(sizes: Any, dtype: str) -> int:
    """What a token must read and write: every weight but the embedding, the state both ways."""
    from goose_gpu.weights import matrix_bytes, weight_bytes

    embedding = matrix_bytes(sizes, dtype)["emb"]
    return int(weight_bytes(sizes, dtype) - embedding + 8 * sizes.state_words)


def static() -> None:
    print(
        "| shape | launches a token | 16-bit weights read | state read and written | at 4.3 TB/s |"
    )
    print("| --- | --- | --- | --- | --- |")
    for shape in SHAPES:
        s = sizes_of(shape)
        total = bytes_per_token(s, "bf16")
        state = 8 * s.state_words
        print(
            f"| {shape} | {5 * s.n_layer + 2} | {(total - state) / 1e9:.2f} GB | "
            f"{state / 1e6:.0f} MB | {total / 4.3e9:.2f} ms |"
        )


def median_seconds(work: Callable[[], Any], rounds: int) -> float:
    work()
    work()  # the first calls compile and record
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def copy_bandwidth(card: Any) -> float:
    """Bytes read and written a second by a copy of 1 GiB within the card."""
    n = 1 << 28
    with card.active():
        a, b = card.zeros(n, np.float32), card.zeros(n, np.float32)

        def work() -> None:
            for _ in range(10):
                card.copy(a, b)
            card.synchronize()

        return 10 * 8 * n / median_seconds(work, 5)


def fill(card: Any, weights: Any, seed: int = 1) -> None:
    """Random numbers into every matrix, on the card: uniform, of the size of trained ones."""
    from numba import cuda

    @cuda.jit
    def kernel(bits, scale, half, seed):  # type: ignore[no-untyped-def]
        i = cuda.grid(1)
        if i < bits.size:
            h = (np.uint64(i) + np.uint64(seed)) * np.uint64(0x9E3779B97F4A7C15)
            h = (h ^ (h >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            # a sign, an exponent around that of the scale, a mantissa
            if half == 1:  # bfloat16
                exponent = np.uint64(scale - (h >> np.uint64(62)))
                bits[i] = (
                    ((h & np.uint64(1)) << np.uint64(15))
                    | (exponent << np.uint64(7))
                    | ((h >> np.uint64(20)) & np.uint64(0x7F))
                )
            else:  # float16
                exponent = np.uint64(scale - 112 - (h >> np.uint64(62)))
                bits[i] = (
                    ((h & np.uint64(1)) << np.uint64(15))
                    | (exponent << np.uint64(10))
                    | ((h >> np.uint64(20)) & np.uint64(0x3FF))
                )

    half = 1 if weights.memory == np.uint16 else 2
    scale = 127 - int(np.log2(np.sqrt(weights.sizes.n_embd)))
    arrays = [weights.emb, weights.head.weights]
    for layer in weights.layers:
        products = layer.rkv, layer.low, layer.up, layer.output, layer.ffn_key, layer.ffn_value
        arrays += [p.weights for p in products]
    for n, array in enumerate(arrays):
        flat = array.reshape(array.size)
        kernel[-(-flat.size // 256), 256, card.queue.stream](flat, scale, half, seed + (n << 40))
    card.synchronize()


class Sink:
    """Receives observables, as a probe's recorder does."""

    def __init__(self, sizes: Any, names: tuple[str, ...], layers: tuple[int, ...]) -> None:
        D, H, N = sizes.n_embd, sizes.n_head, sizes.head_size
        shape = {"wkv": (H, N, N), "decay": (D,), "iclr": (D,)}
        self.layers = layers
        self.arrays = {n: np.empty((1, len(layers), *shape[n]), np.float32) for n in names}


def ours(card: Any, shape: str, dtype: str, bandwidth: float, rounds: int) -> dict[str, Any]:
    from goose_gpu.engine import Engine, Slot
    from goose_gpu.formats import FORMATS
    from goose_gpu.weights import Source

    s = sizes_of(shape)
    shapes = expected_shapes(config(shape))
    numbers = RandomNumbers()
    source = Source(
        lambda name: (np.zeros(shapes[name], FORMATS[dtype].memory), None),
        lambda name: numbers.of(name, shapes[name]).ravel(),
        lambda name: name in shapes,
    )
    engine = Engine(card, s, dtype, source, lambda share, words: None)
    with card.active():
        fill(card, engine.weights)
    slot = Slot(engine)
    n = 50
    every = tuple(range(s.n_layer))
    probes = {
        "no probe": None,
        "decay and iclr": Sink(s, ("decay", "iclr"), every),
        "state of one layer": Sink(s, ("wkv",), (s.n_layer // 2,)),
    }

    def decode(sink: Any) -> Callable[[], None]:
        def work() -> None:
            for token in range(n):
                engine.feed([token], slot, False, sink)

        return work

    total = bytes_per_token(s, dtype)
    device = median_seconds(lambda: engine.greedy(1, n, slot), rounds) / n
    host = {name: median_seconds(decode(sink), rounds) / n for name, sink in probes.items()}
    prompt = np.random.default_rng(1).integers(0, s.vocab_size, PROMPT).tolist()
    prefill = median_seconds(lambda: engine.feed(prompt, slot, False), max(3, rounds // 2))
    return {
        "dtype": dtype,
        "launches a token": 5 * s.n_layer + 4,
        "bytes a token": total,
        "greedy on the card, ms/token": 1e3 * device,
        "share of the copy bandwidth": total / device / bandwidth,
        "logits on the host, ms/token": {name: 1e3 * t for name, t in host.items()},
        "prefill of 1024, ms": 1e3 * prefill,
        "recording": card.recording_fault or "a CUDA graph",
    }


def theirs(shape: str, dtype: str, rounds: int) -> dict[str, Any] | None:
    """The rwkv package on the same card; None where it or PyTorch is missing."""
    try:
        import torch
        from rwkv.model import RWKV
    except ImportError as error:
        print(f"no peer: {error}")
        return None
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
    tensors = {}
    for name, dims in expected_shapes(config(shape)).items():
        fan = dims[0] if name[-1] in "12" else dims[-1]
        x = torch.randn(dims, device="cuda") * (0.5 / fan**0.5 if len(dims) == 2 else 0.1)
        if "ln" in name and name.endswith("weight"):
            x = x + 1
        tensors[name] = x.to(kind).cpu()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        torch.save(tensors, f"{path}.pth")
        model = RWKV(str(path), f"cuda {dtype}")
    state: list[Any] = [None]
    n, prompt = 50, list(range(PROMPT))

    def decode() -> None:
        for token in range(n):
            logits, state[0] = model.forward([token], state[0])
        logits.cpu()

    with torch.no_grad():
        prefill = median_seconds(lambda: model.forward(prompt, None)[0].cpu(), max(3, rounds // 2))
        return {
            "ms/token": 1e3 * median_seconds(decode, rounds) / n,
            "prefill of 1024, ms": 1e3 * prefill,
            "torch": torch.__version__,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["0.1B", "2.9B"])
    parser.add_argument("--dtype", choices=("bf16", "fp16"), default="fp16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--static", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.static:
        static()
        return
    if simulated():
        parser.error("a simulated card has no speed")
    from machine import describe

    from goose_gpu.card import Card

    card = Card()
    bandwidth = copy_bandwidth(card)
    print(f"{card.name}, {card.driver}: copies {bandwidth / 1e12:.2f} TB/s")
    results: dict[str, Any] = {}
    for shape in args.shapes:
        mine = ours(card, shape, args.dtype, bandwidth, args.rounds)
        gc.collect()
        card.release()
        peer = None if args.no_peer else theirs(shape, args.dtype, args.rounds)
        gc.collect()
        results[shape] = {"goose-viz": mine, "rwkv": peer}
        print(shape, json.dumps(results[shape], indent=2), flush=True)
        if args.json:
            facts = {"card": card.name, "driver": card.driver, "copy bytes/s": bandwidth}
            facts["machine"] = describe("numba", "numba-cuda", "numpy")
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(facts | {"results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()

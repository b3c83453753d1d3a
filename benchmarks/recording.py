"""What recording a run costs: a released shape with random weights, writing tokens.

    python benchmarks/recording.py [--shape 0.1B] [--rounds 5] [--tokens 400] [--json FILE]

Each round writes so many tokens alone, recorded with all vectors and norms, and recorded with the
whole state as well, in turn.  What is left to write behind the last token, down to the disk, has a
time of its own.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from machine import describe

import goose_viz as gv
from goose_viz.bench import random_model
from goose_viz.trace import TraceWriter
from goose_viz.trace.writing import wanted

WAYS = {"alone": None, "vectors and norms": None, "and the state": tuple(gv.OBSERVABLES)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="0.1B")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--folder", type=Path, help="on the disk to write to")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = random_model(args.shape, "cpu", args.dtype, lambda share, words: None)
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    closing: dict[str, list[float]] = {way: [0.0] * (way == "alone") for way in WAYS}
    sizes: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "a.zarr"
        for n in range(-1, args.rounds):
            ways = list(WAYS)
            for way in ways[n % 3 :] + ways[: n % 3]:
                session = gv.Session(model, gv.Sampler(seed=1), history_bytes=0, frames_bytes=0)
                session.feed([1, 2, 3])
                writer = None
                if way != "alone":
                    writer = TraceWriter(path, model, wanted(WAYS[way], None, model.config))
                    session.follower, session.probe = writer.read, writer.probe
                begin = time.perf_counter()
                for _ in range(args.tokens if n >= 0 else 16):
                    session.step()
                    if writer is not None:
                        writer.probe.clear()
                rate = args.tokens / (time.perf_counter() - begin)
                if n >= 0:
                    rates[way].append(rate)
                if writer is not None:
                    begin = time.perf_counter()
                    writer.close()
                    closing[way].append(time.perf_counter() - begin)
                    written = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
                    sizes[way] = written / session.position
                    shutil.rmtree(path)
    found = {
        way: {
            "tokens a second": round(statistics.median(r), 1),
            "of the speed alone": round(
                statistics.median(a / b for a, b in zip(r, rates["alone"], strict=True)), 3
            ),
            "seconds to close": round(statistics.median(closing[way]), 2),
            "MB a token": round(sizes.get(way, 0) / 1e6, 3),
        }
        for way, r in rates.items()
    }
    for way, figures in found.items():
        print(way, figures)
    if args.json:
        about = {"machine": describe("numpy", "zarr", "numcodecs"), "model": model.name}
        content = about | {"dtype": args.dtype, "tokens": args.tokens, "results": found}
        args.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()

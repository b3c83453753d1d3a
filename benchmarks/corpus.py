"""What recording a corpus costs beside its tokens: a document, a task, the store.

    python benchmarks/corpus.py [--shape 0.1B] [--documents 40] [--json FILE]

Documents of two lengths give the time of a token and of a document itself; tasks that do nothing,
on a dask cluster of two processes of this machine, the scheduler's share.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from distributed import LocalCluster
from machine import describe

import goose_viz as gv
from goose_viz.bench import random_model
from goose_viz.scheduling import each

LENGTHS = (64, 512)  # tokens
TASKS = 2000


def nothing(item: int) -> int:
    return item


def recorded(model: gv.Model, folder: Path, documents: int, length: int) -> float:
    """Seconds a document of so many tokens."""
    text = folder / f"{length}.jsonl"
    lines = []
    for n in range(documents):
        tokens = [(7 * i * i + 3 * i + n) % 997 + 5 for i in range(length)]
        lines.append(json.dumps({"text": " ".join(map(str, tokens))}))
    text.write_text("\n".join(lines))
    begin = time.perf_counter()
    gv.record_corpus(model, [text], folder / f"store-{length}")
    return (time.perf_counter() - begin) / documents


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="0.1B")
    parser.add_argument("--documents", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="on the disk to write to")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = random_model(args.shape, "cpu", "bf16", lambda share, words: None)
    seconds: dict[int, list[float]] = {n: [] for n in LENGTHS}
    for n in range(4):
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            for length in LENGTHS:
                took = recorded(model, Path(folder), args.documents, length)
                if n:  # the first compiles
                    seconds[length].append(took)
            files = [p for p in (Path(folder) / f"store-{LENGTHS[1]}").rglob("*") if p.is_file()]
            size = sum(p.stat().st_size for p in files) / args.documents
    short, long = (statistics.median(seconds[n]) for n in LENGTHS)
    token = (long - short) / (LENGTHS[1] - LENGTHS[0])
    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        list(each(nothing, range(100), cluster.scheduler_address))
        begin = time.perf_counter()
        list(each(nothing, range(TASKS), cluster.scheduler_address))
        task = (time.perf_counter() - begin) / TASKS
    found = {
        "tokens a second": round(1 / token, 1),
        "milliseconds a document besides": round(1000 * (short - LENGTHS[0] * token), 1),
        f"MB a document of {LENGTHS[1]} tokens": round(size / 1e6, 2),
        "files a document": len(files) // args.documents,
        "tasks a second of the scheduler": round(1 / task),
    }
    print(json.dumps(found, indent=2))
    if args.json:
        about = {"machine": describe("numpy", "zarr", "distributed"), "model": model.name}
        args.json.write_text(json.dumps(about | {"results": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Run many inputs of each reader, in processes of their own: one may crash."""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

from .harness import Fuzzer
from .readers import READERS

_MEMORY = 4 << 30  # bytes of address space beyond which an allocation fails
_KEPT = Path("build/fuzz")


def _some(name: str, seed: int, start: int, stop: int, out: multiprocessing.Queue) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        fuzzer = Fuzzer(READERS[name], Path(folder), seed)
        for k in range(start, stop):
            out.put(("at", k))
            fault = fuzzer.fault(k)
            if fault:
                out.put(("fault", (k, fault, fuzzer.input(k))))
        out.put(("done", None))


def run(name: str, seed: int, inputs: int) -> dict[str, list[int]]:
    """Fault -> the inputs that have it."""
    faults: dict[str, list[int]] = collections.defaultdict(list)

    def keep(k: int, fault: str, content: bytes) -> None:
        kind = re.sub(r"\d+", "#", fault.split("\n")[0])[:160]
        if not faults[kind]:
            _KEPT.mkdir(parents=True, exist_ok=True)
            stem = f"{name.replace('/', '-').replace(' ', '-')}-{seed}-{k}"
            (_KEPT / stem).write_bytes(content)
            (_KEPT / f"{stem}.txt").write_text(fault + "\n")
        faults[kind].append(k)

    context = multiprocessing.get_context("spawn")
    start = 0
    while start < inputs:
        out = context.Queue()
        process = context.Process(target=_some, args=(name, seed, start, inputs, out))
        process.start()
        at, done = start - 1, False
        while not done:
            try:
                kind, what = out.get(timeout=1)
            except Exception:
                if process.is_alive():
                    continue
                break
            match kind:
                case "at":
                    at = what
                case "fault":
                    keep(*what)
                case "done":
                    done = True
        process.join()
        if done:
            break
        if at < start:
            sys.exit(f"{name}: did not begin")
        keep(at, f"the process ended with {process.exitcode}", b"")
        start = at + 1
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", help=", ".join(READERS))
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    bad = 0
    for name in args.readers or READERS:
        began = time.monotonic()
        faults = run(name, args.seed, args.inputs)
        print(f"{name}: {args.inputs:,} inputs in {time.monotonic() - began:.0f} s, "
              f"{sum(map(len, faults.values()))} faults", flush=True)  # fmt: skip
        for fault, which in sorted(faults.items(), key=lambda f: -len(f[1])):
            print(f"    {len(which)} ×, first {which[0]}: {fault}", flush=True)
        bad += len(faults)
    sys.exit(bool(bad))

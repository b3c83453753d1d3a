"""Time from the start of a process to the first token that `goose-viz generate` writes.

    python benchmarks/start.py [--json benchmarks/results/start.json]

The first run fills numba's cache and is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import describe

PROMPT = "Once upon a time"
COMMAND = "from goose_app.__main__ import main; main()"


def seconds() -> float:
    command = [sys.executable, "-c", COMMAND, "generate", "--prompt", PROMPT, "--tokens", "1"]
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--device", "cpu"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    seen = b""
    while len(seen) <= len(PROMPT):  # the prompt, and a byte that the model wrote
        seen += process.stdout.read(1)
    took = time.perf_counter() - begin
    process.wait()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=11)
    args = parser.parse_args()
    seconds()
    times = [seconds() for _ in range(args.rounds)]
    facts = {"machine": describe("numba", "numpy"), "seconds": statistics.median(times)}
    facts |= {"least": min(times), "most": max(times), "rounds": args.rounds}
    print({k: v for k, v in facts.items() if k != "machine"})
    if args.json:
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()

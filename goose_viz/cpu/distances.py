"""How far ahead of its use memory is asked for: measured once on a machine, and written down.

Some processors ask by themselves for all that is read in a row, and asking again costs them; others
leave a third of the memory's rate unused unless they are asked far ahead.  Which is which, only a
measurement says.  It takes a third of a second.
"""

from __future__ import annotations

import contextlib
import functools
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np

from goose_viz.cpu.pack import allocate
from goose_viz.cpu.store import folder
from goose_viz.cpu.team import TEAM, cores
from goose_viz.cpu.tickets import COUNTERS, NEXT
from goose_viz.errors import GooseError
from goose_viz.files import json_object, write_whole

#: (into the first cache, into the second) in bytes; 0 asks for what is there already.
CANDIDATES = ((1024, 0), (2048, 16384), (1024, 8192), (4096, 0), (0, 16384))
USUAL = CANDIDATES[0]
_WIDTH, _ROWS = 1024, 96 << 10  # more bytes than most last caches have
_ROUNDS = 4
_PIECES = 256


@functools.cache
def distances() -> tuple[int, int]:
    """What suits this machine; the usual where nothing may be kept (``GOOSE_VIZ_CACHE=off``)."""
    place = folder()
    if place is None:
        return USUAL
    path, machine = place / "machine.json", f"{processor()}, {cores()} cores"
    known: dict[str, Any] = {}
    with contextlib.suppress(GooseError):
        known = json_object(path, GooseError)
    for candidate in CANDIDATES:
        if known.get(machine) == list(candidate):
            return candidate
    try:
        found = measure()
    except MemoryError:
        return USUAL
    with contextlib.suppress(OSError):  # a folder that many machines share keeps what each found
        place.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(known | {machine: found}).encode())
    return found


def measure() -> tuple[int, int]:
    """The best of the candidates, each read with several times, in turns."""
    from goose_viz.cpu.layout import Met
    from goose_viz.cpu.prompt_kernels import project

    rows = np.frombuffer(allocate(_WIDTH * _ROWS), np.int8).reshape(_ROWS, _WIDTH)
    scales, out = np.ones(_ROWS, np.float32), np.empty(_ROWS, np.float32)
    numbers, whole = np.ones((1, _WIDTH), np.float32), np.ones((1, _WIDTH), np.int16)
    ahead, counters = np.zeros(2, np.int64), np.zeros(COUNTERS, np.int64)
    met = Met(numbers, whole, np.ones(1, np.float32), ahead)
    rows.reshape(-1)[::4096] = 0  # untouched memory is all one page
    best = dict.fromkeys(CANDIDATES, float("inf"))
    for n in range(_ROUNDS + 1):
        for candidate in CANDIDATES:
            ahead[:] = candidate
            begin = time.perf_counter()
            limit = int(counters[NEXT]) + _PIECES
            with TEAM.lock:
                TEAM.run(
                    cores(), "distances", project, counters, limit, _PIECES, rows, scales, met, out
                )
            if n:  # the first round compiles, and wakes the team
                best[candidate] = min(best[candidate], time.perf_counter() - begin)
    return min(CANDIDATES, key=best.__getitem__)


def processor() -> str:
    """What the processor calls itself."""
    info = Path("/proc/cpuinfo")
    with contextlib.suppress(OSError):
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

"""How fast this machine's cores together read memory: what decoding is measured against."""

from __future__ import annotations

import statistics
import time

import numpy as np

from goose_viz.compiled import compiled
from goose_viz.cpu.building import FAR
from goose_viz.cpu.lanes import borrowed, read_through
from goose_viz.cpu.pack import allocate
from goose_viz.cpu.team import TEAM, cores
from goose_viz.cpu.tickets import COUNTERS, NEXT, draw, finish, wait_for_all

_BYTES = 512 << 20  # more than the caches of the machines that people have
_PIECES = 512


@compiled
def _read(counters, limit, words, ahead, sums):
    words, sums = borrowed(words), borrowed(sums)
    size = words.size // _PIECES
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        piece = ticket - (limit - _PIECES)
        sums[piece] = read_through(words, piece * size, size, ahead)
        finish(counters)
    wait_for_all(counters, limit)


class ReadRate:
    """Measures the rate again and again, for a machine's rate drifts with its neighbours."""

    def __init__(self) -> None:
        self._words = np.frombuffer(allocate(_BYTES), np.int32)
        self._words[:] = 1
        self._counters = np.zeros(COUNTERS, np.int64)
        self._sums = np.zeros(_PIECES, np.int32)
        self._rates: list[float] = []
        self.measure()
        self._rates.clear()  # the first call compiled

    def measure(self) -> float:
        """Read half a gigabyte, with and without asking ahead; bytes a second of the better."""
        rates = []
        for ahead in (0, FAR // 4):
            begin = time.perf_counter()
            limit = int(self._counters[NEXT]) + _PIECES
            with TEAM.lock:
                TEAM.run(
                    cores(), None, _read, self._counters, limit, self._words, ahead, self._sums
                )
            rates.append(_BYTES / (time.perf_counter() - begin))
        assert self._sums.sum() == self._words.size, "not all of it was read"
        self._rates.append(max(rates))
        return self._rates[-1]

    @property
    def median(self) -> float:
        """Bytes a second, over all measurements."""
        return statistics.median(self._rates)

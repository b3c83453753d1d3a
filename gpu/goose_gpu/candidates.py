"""What sampling needs of a row of logits: the tokens that may be drawn, and the sum over all.

A vocabulary of 65,536 takes the host longer to look through than a card takes for a small model's
token.  Two launches find the highest logit, the sum of e^(logit - highest) in float64, and every
token within a reach of the highest; the host looks at those alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32, float64

from goose_gpu.lanes import SIMULATOR
from goose_gpu.launch import Queue, cover, kernel

THREADS = 8 if SIMULATOR else 256
PORTION = 16 if SIMULATOR else 2048

ROOM = 2048  #: tokens that are listed at most
#: Below the highest logit.  The host's first cut is at 1e-4 of its probability, e^-9.2; penalties
#: may lower the highest by the rest.  Models have some hundred tokens within it, or some thousand.
REACH = np.float32(10.5)

_LOWEST = np.float32(-np.inf)


@kernel(THREADS)
def _sum_portions(logits, n, portion, highest, sums, count):
    best = cuda.shared.array(THREADS, float32)
    total = cuda.shared.array(THREADS, float64)
    t, block = cuda.threadIdx.x, cuda.blockIdx.x
    begin, end = block * portion, min((block + 1) * portion, n)
    top = _LOWEST
    for i in range(begin + t, end, THREADS):
        top = max(top, logits[i])
    best[t] = top
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            best[t] = max(best[t], best[t + half])
        cuda.syncthreads()
        half //= 2
    top = best[0]
    mine = 0.0
    for i in range(begin + t, end, THREADS):
        mine += math.exp(float64(logits[i]) - float64(top))
    total[t] = mine
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            total[t] += total[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        highest[block], sums[block] = top, total[0]
        if block == 0:
            count[0] = 0


@kernel(THREADS)
def _list(logits, n, portion, blocks, highest, sums, reach, count, listed, summary):
    t, block = cuda.threadIdx.x, cuda.blockIdx.x
    top = _LOWEST
    for b in range(blocks):
        top = max(top, highest[b])
    if t == 0 and block == 0:
        total = 0.0
        for b in range(blocks):
            total += sums[b] * math.exp(float64(highest[b]) - float64(top))
        summary[0], summary[1] = float64(top), total
    begin, end = block * portion, min((block + 1) * portion, n)
    for i in range(begin + t, end, THREADS):
        if logits[i] >= top - reach:
            at = cuda.atomic.add(count, 0, 1)
            if at < listed.size:
                listed[at] = i


class Candidates:
    """The buffers of a row's candidates, on the card and where they land on the host.

    Parameters
    ----------
    card : Card
    vocab_size : int
    room : int
        Tokens that are listed at most.
    """

    def __init__(self, card: Any, vocab_size: int, room: int = ROOM) -> None:
        self._card, self._n = card, vocab_size
        self._blocks = cover(vocab_size, PORTION)
        self._highest = card.zeros(self._blocks, np.float32)
        self._sums = card.zeros(self._blocks, np.float64)
        self._count, self._listed = card.zeros(1, np.int32), card.zeros(room, np.int32)
        self._summary = card.zeros(2, np.float64)
        self.count, self.listed = card.pinned(1, np.int32), card.pinned(room, np.int32)
        self.summary = card.pinned(2, np.float64)

    def launch(self, queue: Queue, logits: Any) -> None:
        """Find those of logits (V,) f32, and begin to copy them to the host.

        There, ``summary`` (2,) is the highest logit and the sum of e^(logit - highest), and of
        ``listed`` the first ``count`` are the tokens within reach, in no order; where more are
        counted than there is room for, it is of no use.
        """
        n = self._n
        queue.launch(
            _sum_portions, self._blocks, THREADS, logits, n, PORTION, self._highest, self._sums,
            self._count,
        )  # fmt: skip
        queue.launch(
            _list, self._blocks, THREADS, logits, n, PORTION, self._blocks, self._highest,
            self._sums, REACH, self._count, self._listed, self._summary,
        )  # fmt: skip
        for device, host in (
            (self._count, self.count), (self._listed, self.listed), (self._summary, self.summary)
        ):  # fmt: skip
            self._card.to_host(device, host)

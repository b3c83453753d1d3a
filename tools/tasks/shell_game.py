"""The shell game: five cups, one ball, swaps of two cups; the model says where the ball is.

    ball 3 swap 2 4 swap 1 3 1

A swap is one token, and behind every swap the word to come is the cup that the ball is under.  That
word may be said or left out.  The swaps of five cups generate the group S5, whose word problem is
complete for NC1: a fixed depth of attention, which stays within TC0, is believed not to solve it at
all lengths.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from tasks import Batch, Settings, Task

CUPS = 5
BEGIN, END = 4, 128  # swaps of a sequence in training, first and last
LEVELS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)  # swaps at which it is evaluated
ENOUGH = 0.97  # of the last answers are right: twice as many swaps from then on
SPOKEN = 0.1  # share of the sequences in which answers are said now and then
ELSE = 0.01

SETTINGS = Settings(
    layers=1, width=64, head_size=32, removal_scale=2.0, batch=64, learning_rate=3e-3, steps=4000,
    flat=0.6, axes=0.01, quiet=1e-3, late=0.4, shift=False,
)  # fmt: skip

PAIRS = list(itertools.permutations(range(CUPS), 2))
#: 0 begins a text, then "ball", the cups, the swaps.
VOCABULARY = [
    "", "ball", *(f" {i + 1}" for i in range(CUPS)), *(f" swap {i + 1} {j + 1}" for i, j in PAIRS)
]  # fmt: skip
BALL, CUP, SWAP = 1, 2, 2 + CUPS


def batch_of(rng: np.random.Generator, size: int, swaps: int, spoken: float = 0.0) -> Batch:
    """So many sequences of so many swaps; in a share of them the answers are said now and then."""
    pairs = np.array(PAIRS)
    length = 3 + swaps
    tokens = np.zeros((size, length), np.int64)
    targets, asked = np.zeros_like(tokens), np.zeros(tokens.shape, bool)
    for row in range(size):
        cup = int(rng.integers(CUPS))
        tokens[row, :3] = 0, BALL, CUP + cup
        targets[row, :2] = BALL, CUP + cup
        say = rng.random() < spoken
        drawn = rng.integers(len(PAIRS), size=length)
        for t in range(3, length):
            if say and asked[row, t - 1] and rng.random() < 0.25:
                tokens[row, t] = CUP + cup  # and what comes then is a swap
            else:
                tokens[row, t] = SWAP + drawn[t]
                i, j = pairs[drawn[t]]
                cup = int(j if cup == i else i if cup == j else cup)
                targets[row, t], asked[row, t] = CUP + cup, True
    behind = np.roll(tokens, -1, axis=1)
    known = asked.copy()
    known[:, 0] = True
    targets = np.where(known, targets, behind)
    weights = np.where(asked, 1, ELSE).astype(np.float32)
    weights[:, -1] *= asked[:, -1]  # nothing is known to come behind the last
    return Batch(tokens, targets, weights, asked)


class ShellGame(Task):
    """Sequences that grow when the last answers are right."""

    vocabulary = VOCABULARY

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.swaps, self._right = BEGIN, 0.0

    def batch(self, size: int) -> Batch:
        return batch_of(self._rng, size, self.swaps, SPOKEN)

    def heard(self, right: NDArray[np.bool_], asked: NDArray[np.bool_]) -> str:
        last = right[:, -1][asked[:, -1]].mean()
        self._right = 0.9 * self._right + 0.1 * last
        if self._right > ENOUGH and self.swaps < END:
            self.swaps, self._right = 2 * self.swaps, 0.0
        return f"{self.swaps} swaps, last {last:.3f}, whole {(right | ~asked).all(1).mean():.3f}"


make = ShellGame

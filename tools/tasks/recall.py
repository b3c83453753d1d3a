"""Multi-query associative recall: pairs of an animal or thing and a colour, then questions.

    fox red owl blue bell grey ? owl blue ? fox red

Every key stands in one pair; the answer to each question stands once, somewhere before, and is
"nothing" for a key that does not.  The task is that of Arora et al. (2023), "Zoology", in words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks import Batch, Settings, Task

KEYS = (
    "ant", "ape", "bat", "bear", "bee", "bird", "boar", "bull", "calf", "cat", "clam", "cod",
    "cow", "crab", "crow", "deer", "dog", "dove", "duck", "eel", "elk", "emu", "fish", "fly",
    "fox", "frog", "goat", "gull", "hare", "hawk", "hen", "horse", "ibex", "jay", "kite", "lark",
    "lion", "lynx", "mole", "moth", "mouse", "newt", "owl", "ox", "pig", "puma", "ram", "rat",
    "rook", "seal", "shark", "sheep", "slug", "snail", "snake", "swan", "toad", "trout", "vole",
    "wasp", "whale", "wolf", "wren", "yak",
)  # fmt: skip
VALUES = (
    "red", "blue", "green", "grey", "black", "white", "pink", "brown", "gold", "silver", "orange",
    "purple", "yellow", "teal", "beige", "lilac",
)  # fmt: skip
LEAST, MOST = 4, 32  # pairs in training, at last
ENOUGH = 0.97  # of the answers are right: half as many pairs again from then on
LEVELS = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64)  # pairs at which it is evaluated
QUERIES = 16  # questions behind them
STRANGE = 0.1  # share of the questions that ask for a key of no pair
ELSE = 0.03

SETTINGS = Settings(layers=1, width=64, head_size=32, batch=32, learning_rate=4e-3, steps=8000)

VOCABULARY = ["", " ?", *(f" {k}" for k in KEYS), *(f" {v}" for v in VALUES), " nothing", *KEYS]
ASK, KEY, VALUE = 1, 2, 2 + len(KEYS)
NOTHING = VALUE + len(VALUES)
FIRST = NOTHING + 1


def batch_of(rng: np.random.Generator, size: int, pairs: int, queries: int = QUERIES) -> Batch:
    """So many sequences of so many pairs and questions."""
    queries = min(queries, pairs)
    length = 1 + 2 * pairs + 3 * queries
    tokens = np.zeros((size, length), np.int64)
    for row in range(size):
        order = rng.permutation(len(KEYS))
        keys, strange = order[:pairs], order[pairs:]
        values = rng.integers(len(VALUES), size=pairs)
        tokens[row, 1 : 1 + 2 * pairs : 2] = KEY + keys
        tokens[row, 2 : 2 + 2 * pairs : 2] = VALUE + values
        tokens[row, 1] = FIRST + keys[0]
        which = rng.permutation(pairs)[:queries]
        tokens[row, 1 + 2 * pairs :: 3] = ASK
        asked, answers = KEY + keys[which], VALUE + values[which]
        if len(strange):
            other = rng.random(queries) < STRANGE
            asked = np.where(other, KEY + rng.choice(strange, queries), asked)
            answers = np.where(other, NOTHING, answers)
        tokens[row, 2 + 2 * pairs :: 3] = asked
        tokens[row, 3 + 2 * pairs :: 3] = answers
    answer = np.zeros(length, bool)
    answer[3 + 2 * pairs :: 3] = True
    return Batch.of(tokens, answer, ELSE)


class Recall(Task):
    """Sequences of a number of pairs that is drawn anew for each batch, of more and more."""

    vocabulary = VOCABULARY

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.most, self._right = LEAST, 0.0

    def batch(self, size: int) -> Batch:
        return batch_of(self._rng, size, int(self._rng.integers(LEAST, self.most + 1)))

    def heard(self, right: NDArray[np.bool_], asked: NDArray[np.bool_]) -> str:
        share = right[asked].mean()
        self._right = 0.95 * self._right + 0.05 * share
        if self._right > ENOUGH and self.most < MOST:
            self.most, self._right = min(self.most * 3 // 2, MOST), 0.0
        return f"up to {self.most} pairs, right {share:.3f}"


make = Recall

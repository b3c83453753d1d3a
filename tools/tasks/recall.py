"""Multi-query associative recall: pairs of an animal or thing and a colour, then questions.

    fox red owl blue bell grey ? owl blue ? fox red

Every key stands in one pair; the answer to each question stands once, somewhere before.  The task
is that of Arora et al. (2023), "Zoology", in words.
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
LEAST, MOST = 4, 32  # pairs in training
LEVELS = (4, 8, 12, 16, 20, 24, 32, 40, 48, 64)  # pairs at which it is evaluated
QUERIES = 16  # questions behind them
ELSE = 0.03

SETTINGS = Settings(layers=1, width=64, head_size=32, batch=32, learning_rate=4e-3, steps=4000)

VOCABULARY = ["", " ?", *(f" {k}" for k in KEYS), *(f" {v}" for v in VALUES), *KEYS]
ASK, KEY, VALUE = 1, 2, 2 + len(KEYS)
FIRST = VALUE + len(VALUES)


def batch_of(rng: np.random.Generator, size: int, pairs: int, queries: int = QUERIES) -> Batch:
    """So many sequences of so many pairs and questions."""
    queries = min(queries, pairs)
    length = 1 + 2 * pairs + 3 * queries
    tokens = np.zeros((size, length), np.int64)
    for row in range(size):
        keys = rng.permutation(len(KEYS))[:pairs]
        values = rng.integers(len(VALUES), size=pairs)
        tokens[row, 1 : 1 + 2 * pairs : 2] = KEY + keys
        tokens[row, 2 : 2 + 2 * pairs : 2] = VALUE + values
        tokens[row, 1] = FIRST + keys[0]
        which = rng.permutation(pairs)[:queries]
        tokens[row, 1 + 2 * pairs :: 3] = ASK
        tokens[row, 2 + 2 * pairs :: 3] = KEY + keys[which]
        tokens[row, 3 + 2 * pairs :: 3] = VALUE + values[which]
    answer = np.zeros(length, bool)
    answer[3 + 2 * pairs :: 3] = True
    asked = np.broadcast_to(answer[1:], (size, length - 1))
    weights = np.where(asked, 1, ELSE).astype(np.float32)
    return Batch(tokens[:, :-1], tokens[:, 1:], weights, asked)


class Recall(Task):
    """Sequences of a number of pairs that is drawn anew for each batch."""

    vocabulary = VOCABULARY

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def batch(self, size: int) -> Batch:
        return batch_of(self._rng, size, int(self._rng.integers(LEAST, MOST + 1)))

    def heard(self, right: NDArray[np.bool_], asked: NDArray[np.bool_]) -> str:
        return f"right {right[asked].mean():.3f}"


make = Recall

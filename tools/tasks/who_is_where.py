"""Who is where: people move between rooms, a later move overwrites, questions in between.

    Ann kitchen Bob garden Ann hall ? Ann hall

A move is a person and a room; a question is a ``?``, a person, and the room; "nowhere" where that
person never moved.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks import Batch, Settings, Task

PEOPLE = ("Ann", "Bob", "Cara", "Dan", "Eve", "Finn")
ROOMS = ("attic", "cellar", "garden", "hall", "kitchen", "study")
LENGTH = 48  # tokens of a sequence in training
LEVELS = (48, 96, 192, 384, 768)  # at which it is evaluated
QUESTIONS = 0.3  # share of questions among moves and questions
ANYBODY = 0.2  # share of the questions that ask for anybody, moved or not
ELSE = 0.03  # what a token that is no answer counts: the model is to write such texts too

SETTINGS = Settings(
    layers=2, width=64, head_size=32, batch=64, learning_rate=4e-3, steps=1500, axes=0.01
)

#: 0 begins a text; a person's name comes with a space before it, but at the very beginning.
VOCABULARY = [
    "", " ?", *(f" {p}" for p in PEOPLE), *(f" {r}" for r in ROOMS), " nowhere", *PEOPLE
]  # fmt: skip
ASK, PERSON, ROOM = 1, 2, 2 + len(PEOPLE)
NOWHERE = ROOM + len(ROOMS)
FIRST = NOWHERE + 1  # the first word of a text


def sequence(rng: np.random.Generator, length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(tokens (length + 1,) from token 0 on, whether each is an answer)."""
    tokens, answer = [0], [False]
    place: dict[int, int] = {}
    while len(tokens) <= length:
        if place and rng.random() < QUESTIONS:
            asked = range(len(PEOPLE)) if rng.random() < ANYBODY else list(place)
            person = int(rng.choice(asked))
            room = ROOM + place[person] if person in place else NOWHERE
            tokens += [ASK, PERSON + person, room]
            answer += [False, False, True]
            continue
        person, to = int(rng.integers(len(PEOPLE))), int(rng.integers(len(ROOMS)))
        tokens += [(PERSON if place else FIRST) + person, ROOM + to]
        answer += [False, False]
        place[person] = to
    return np.array(tokens[: length + 1]), np.array(answer[: length + 1])


def batch_of(rng: np.random.Generator, size: int, length: int) -> Batch:
    """So many sequences of so many tokens to read."""
    drawn = [sequence(rng, length) for _ in range(size)]
    tokens, answer = (np.stack([d[i] for d in drawn]) for i in (0, 1))
    return Batch.of(tokens, answer, ELSE)


class WhoIsWhere(Task):
    """Sequences without end, all of one length."""

    vocabulary = VOCABULARY

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def batch(self, size: int) -> Batch:
        return batch_of(self._rng, size, LENGTH)

    def heard(self, right: NDArray[np.bool_], asked: NDArray[np.bool_]) -> str:
        return f"whole {(right | ~asked).all(1).mean():.3f}"


make = WhoIsWhere

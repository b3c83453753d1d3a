"""Choosing the next token, in the order of the ``rwkv`` package.

Bans and penalties on the logits, softmax, top_p cut, top_k cut, temperature as p^(1/T), one draw.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray



def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Probabilities of logits along the last axis, summed in float64."""
    z = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    return z / z.sum(-1, keepdims=True)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Sampler:
    """How the next token is chosen.

    Parameters
    ----------
    temperature : float
        0 takes the likeliest token; 1 leaves the probabilities as they are.
    top_p : float
        Keep the likeliest tokens until their probabilities reach this sum.
    top_k : int
        Keep at most this many of them; 0 for no bound.
    presence, frequency : float
        Taken off a logit once if its token was generated, and again per time it was.
    penalty_decay : float
        What a token's count is multiplied with at every further token.
    banned : sequence of int
        Tokens that are never chosen.
    stop : sequence of int or str
        A token, or a text at the end, at which a run ends.
    seed : int, optional
        The draw depends on (seed, position) alone; left out, one is picked and kept.

    Raises
    ------
    ValueError
        If a number lies outside its range.
    """

    temperature: float = 1.0
    top_p: float = 0.85
    top_k: int = 0
    presence: float = 0.2
    frequency: float = 0.2
    penalty_decay: float = 0.996
    banned: Sequence[int] = ()
    stop: Sequence[int | str] = ()
    seed: int | None = field(default=None)

    def __post_init__(self) -> None:
        bounds = {
            "temperature": (0.0, np.inf),
            "top_p": (0.0, 1.0),
            "top_k": (0, np.inf),
            "penalty_decay": (0.0, 1.0),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}; expected a number from {low} to {high}")
        if self.seed is None:
            object.__setattr__(self, "seed", secrets.randbits(32))
        elif self.seed < 0:
            raise ValueError(f"seed is {self.seed}; expected 0 or more")

    def penalised(
        self, logits: NDArray[np.floating], counts: dict[int, float]
    ) -> NDArray[np.float64]:
        """Logits behind bans and penalties; counts are those of `count`."""
        out = logits.astype(np.float64)
        for token, count in counts.items():
            out[token] -= self.presence + count * self.frequency
        out[[t for t in self.banned if t < out.size]] = -np.inf
        return out

    def distribution(
        self, logits: NDArray[np.floating], counts: dict[int, float]
    ) -> NDArray[np.float64]:
        """The probabilities that the draw is made from: (V,), summing to 1."""
        p = softmax(self.penalised(logits, counts))
        if self.temperature == 0:
            best = np.zeros_like(p)
            best[np.argmax(p)] = 1
            return best
        if self.top_p < 1:
            ordered = np.sort(p)[::-1]
            reached = np.cumsum(ordered) >= self.top_p
            if reached[-1]:  # rounding can keep the sum below top_p: then nothing is cut
                p[p < ordered[np.argmax(reached)]] = 0
        if 0 < self.top_k < p.size:
            p[np.argsort(p, kind="stable")[: -self.top_k]] = 0
        if self.temperature != 1:
            # relative to the largest, so that a low temperature does not underflow
            p = (p / p.max()) ** (1 / self.temperature)
        return p / p.sum()  # type: ignore[no-any-return]

    def choose(
        self, logits: NDArray[np.floating], counts: dict[int, float], position: int
    ) -> int:
        """The token that follows at a position; the same for the same seed and position."""
        p = self.distribution(logits, counts)
        if self.temperature == 0:
            return int(np.argmax(p))
        draw = np.random.Generator(np.random.Philox(key=self.seed, counter=position)).random()
        cumulative = np.cumsum(p)
        chosen = int(np.searchsorted(cumulative, draw * cumulative[-1], side="right"))
        return min(chosen, int(np.flatnonzero(p)[-1]))

    def count(self, counts: dict[int, float], token: int, text: str) -> None:
        """Enter a generated token into the counts: all others fade; blanks and digits weigh 0."""
        for key in list(counts):
            counts[key] *= self.penalty_decay
        counts[token] = counts.get(token, 0.0) + (0.0 if text in " \t0123456789" else 1.0)

    def counts_of(
        self, tokens: Iterable[int], label: Callable[[int], str]
    ) -> dict[int, float]:
        """The counts behind generated tokens, oldest first."""
        counts: dict[int, float] = {}
        for token in tokens:
            self.count(counts, token, label(token))
        return counts

    def stops(self, token: int, text: str) -> bool:
        """Whether a run ends behind this token, given the text so far."""
        return any(token == s if isinstance(s, int) else text.endswith(s) for s in self.stop)

"""Choosing the next token, in the order of the ``rwkv`` package.

Bans and penalties on the logits, softmax, top_p cut, top_k cut, temperature as p^(1/T), one draw.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from goose_viz.compiled import compiled, regrouped
from goose_viz.errors import GooseError
from goose_viz.exponential import exp_negative
from goose_viz.ranking import Candidates

Counts = NDArray[np.float64]
Few = tuple[NDArray[np.int64], NDArray[np.float64]]  # tokens in order, and their probabilities

_LEAST = (1e-4, 1e-9, 1e-305)  # of the likeliest token's probability; the last is all but 0


class _Beyond(Exception):
    """A token may matter that no device has listed."""


@compiled
def _penalise(logits, counts, presence, frequency, out):  # type: ignore[no-untyped-def]
    """The logits (V,), less the penalties where a token was generated, as float64."""
    for i in range(counts.size):
        penalty = presence + counts[i] * frequency
        out[i] = np.float64(logits[i]) - (penalty if counts[i] >= 0 else 0.0)


@compiled
def _enter(counts, token, weight, decay):  # type: ignore[no-untyped-def]
    for i in range(counts.size):
        if counts[i] > 0:
            counts[i] *= decay
    counts[token] = max(counts[token], 0.0) + weight


@regrouped
def _weigh(z, highest):  # type: ignore[no-untyped-def]
    """Logits (V,) become e^(z - highest), in place; their sum."""
    total = 0.0
    for i in range(z.size):
        weight = exp_negative(z[i] - highest)
        z[i] = weight
        total += weight
    return total


@compiled
def _at_least(weights, least):  # type: ignore[no-untyped-def]
    """The tokens whose weight is at least so much, in order."""
    n = 0
    for i in range(weights.size):
        n += weights[i] >= least
    ids = np.empty(n, np.int64)
    n = 0
    for i in range(weights.size):
        if weights[i] >= least:
            ids[n] = i
            n += 1
    return ids


def _nucleus(p: NDArray[np.float64], top_p: float) -> float:
    """The probability of the last token that is kept when the likeliest add up to top_p.

    NaN if that cuts nothing off: all is wanted, or these do not add up to as much.
    """
    if top_p == 1:
        return math.nan
    ordered = np.sort(p)[::-1]
    reached = np.cumsum(ordered) >= top_p
    return float(ordered[np.argmax(reached)]) if reached[-1] else math.nan


@compiled
def _pick(p, draw):  # type: ignore[no-untyped-def]
    """The token in whose share of the sum a draw from [0, 1) falls."""
    total, last = 0.0, 0
    for i in range(p.size):
        if p[i] > 0:
            total += p[i]
            last = i
            if draw < total:
                return i
    return last


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
        for name in ("temperature", "top_p", "presence", "frequency", "penalty_decay"):
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("top_k", "seed"):
            value = getattr(self, name)
            if value is not None and (not math.isfinite(value) or value != int(value)):
                raise ValueError(f"{name} is {value}; expected a whole number")
        object.__setattr__(self, "top_k", int(self.top_k))
        for name in ("presence", "frequency"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; expected a finite number")
        object.__setattr__(self, "banned", tuple(int(t) for t in self.banned))
        stop = tuple(s if isinstance(s, str) else int(s) for s in self.stop)
        object.__setattr__(self, "stop", stop)
        if "" in self.stop:
            raise ValueError("an empty stop text would stop at once; leave it out")
        if self.seed is None:
            object.__setattr__(self, "seed", secrets.randbits(31))
        elif not 0 <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}; expected 0 to 2^64 - 1")
        else:
            object.__setattr__(self, "seed", int(self.seed))

    def distribution(self, logits: NDArray[np.floating], counts: Counts) -> NDArray[np.float64]:
        """The probabilities that the draw is made from: (V,), summing to 1.

        Parameters
        ----------
        logits : ndarray (V,)
        counts : ndarray (V,)
            From `new_counts`, kept up by `count`.
        """
        ids, p = self._candidates(logits, counts)
        out = np.zeros(logits.size)
        out[ids] = p
        return out

    def _candidates(
        self,
        logits: NDArray[np.floating],
        counts: Counts,
        candidates: Candidates | None = None,
    ) -> Few:
        """The tokens that may be drawn, in the order of their ids, and their probabilities."""
        found = None
        if candidates is not None and candidates.ids is not None:
            found = self._of_few(logits, counts, candidates, candidates.ids)
        ids, p = self._of_all(logits, counts) if found is None else found
        if self.temperature == 0:
            return ids, p
        if self.temperature != 1:  # relative to the largest: a low temperature must not underflow
            p = (p / p.max()) ** (1 / self.temperature)
        return ids, p / p.sum()

    def _of_all(self, logits: NDArray[np.floating], counts: Counts) -> Few:
        """What is left by bans and cuts, looking at all logits."""
        z = np.empty(logits.size)
        _penalise(logits, counts, self.presence, self.frequency, z)
        if self.banned:
            z[[token for token in self.banned if token < z.size]] = -np.inf
        highest = float(z.max())
        if not math.isfinite(highest):
            raise GooseError(
                "no token can be chosen: all are banned, or the model's logits are not numbers"
            )
        if self.temperature == 0:
            return np.array([np.argmax(z)]), np.ones(1)
        total = _weigh(z, highest)

        def likely(least: float) -> Few:
            ids = _at_least(z, least)
            return ids, z[ids] / total

        return self._cut(likely)

    def _of_few(
        self,
        logits: NDArray[np.floating],
        counts: Counts,
        candidates: Candidates,
        ids: NDArray[np.int32],
    ) -> Few | None:
        """The same, looking at those that a device found; None if more of them matter.

        What penalties and bans take off the sum of all is the generated tokens' and the banned'.
        """
        if self.presence < 0 or self.frequency < 0:
            return None  # what is not listed could come up from below
        lowered = np.flatnonzero(counts >= 0)
        was = logits[lowered].astype(np.float64)
        penalty = self.presence + counts[lowered] * self.frequency
        z = logits[ids].astype(np.float64)
        mine = counts[ids]
        z -= np.where(mine >= 0, self.presence + mine * self.frequency, 0.0)
        lost = -np.expm1(-penalty)
        if self.banned:
            banned = np.unique([token for token in self.banned if token < logits.size])
            z[np.isin(ids, banned)] = -np.inf
            lost[np.isin(lowered, banned)] = 1.0
            others = np.setdiff1d(banned, lowered)
            was = np.concatenate([was, logits[others].astype(np.float64)])
            lost = np.concatenate([lost, np.ones(len(others))])
        highest = float(z.max())
        rest = candidates.total - float((lost * np.exp(was - candidates.highest)).sum())
        if not highest > candidates.lowest or rest < 0.01 * candidates.total:
            return None
        if self.temperature == 0:
            return ids[np.argmax(z)][None].astype(np.int64), np.ones(1)
        p = np.exp(z - candidates.highest) / rest
        reach = math.exp(candidates.lowest - highest)

        def likely(least: float) -> Few:
            if least < reach:
                raise _Beyond
            chosen = z >= highest + math.log(least)
            return ids[chosen].astype(np.int64), p[chosen]

        try:
            return self._cut(likely)
        except _Beyond:
            return None

    def _cut(self, likely: Callable[[float], Few]) -> Few:
        """What top_p and top_k leave, in the order of the ids, with the probabilities before.

        ``likely`` gives the tokens of at least a share of the likeliest's probability.
        """
        for least in _LEAST:  # what is unlikely rarely matters: look at it if it does
            ids, p = likely(least)
            cutoff = _nucleus(p, self.top_p)
            if not math.isnan(cutoff) or (self.top_p == 1 and 0 < self.top_k <= len(p)):
                break
        if not math.isnan(cutoff):
            chosen = p >= cutoff
            ids, p = ids[chosen], p[chosen]
        if 0 < self.top_k < len(p):
            best = np.sort(np.argsort(-p, kind="stable")[: self.top_k])
            ids, p = ids[best], p[best]
        return ids, p

    def choose(
        self,
        logits: NDArray[np.floating],
        counts: Counts,
        position: int,
        candidates: Candidates | None = None,
    ) -> int:
        """The token that follows at a position; the same for the same seed and position.

        ``candidates`` are what a device found in these logits; they save time and change nothing.
        """
        ids, p = self._candidates(logits, counts, candidates)
        if len(ids) == 1:
            return int(ids[0])
        draw = np.random.Generator(np.random.Philox(key=self.seed, counter=position)).random()
        return int(ids[_pick(p, draw)])

    def new_counts(self, vocab_size: int) -> Counts:
        """Counts before anything was generated: (V,) float64, -1 for a token that never was."""
        return np.full(vocab_size, -1.0)

    def count(self, counts: Counts, token: int, text: str) -> None:
        """Enter a generated token into the counts: all others fade; blanks and digits weigh 0."""
        _enter(counts, token, 0.0 if text in " \t0123456789" else 1.0, float(self.penalty_decay))

    def stops(self, token: int, text: str, new: int) -> bool:
        """Whether a run ends behind a token that added the last ``new`` characters of a text."""
        return any(
            token == s
            if isinstance(s, int)
            else text.find(s, max(0, len(text) - new - len(s) + 1)) >= 0
            for s in self.stop
        )

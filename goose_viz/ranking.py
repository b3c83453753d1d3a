"""The likeliest tokens of a row of logits, without sorting a vocabulary of 65,536."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.compiled import regrouped
from goose_viz.exponential import exp_negative

TopK = tuple[NDArray[np.int32], NDArray[np.float32]]


@regrouped
def _rank(logits, ids, values):  # type: ignore[no-untyped-def]
    """Fill ids and values (k,) with the highest logits."""
    k = ids.size
    values[:] = -np.inf
    for i in range(logits.size):
        z = logits[i]
        if z > values[k - 1]:
            j = k - 1
            while j > 0 and values[j - 1] < z:
                values[j], ids[j] = values[j - 1], ids[j - 1]
                j -= 1
            values[j], ids[j] = z, i


@regrouped
def _sum(logits, highest):  # type: ignore[no-untyped-def]
    """The sum of all e^(logit - highest)."""
    total = 0.0
    for i in range(logits.size):
        total += exp_negative(np.float64(logits[i]) - highest)
    return total


def weigh(logits: NDArray[np.floating]) -> tuple[float, float]:
    """The highest of a row of logits and the sum of all e^(logit - highest).

    Both NaN where they are not finite, as behind a memory that broke.
    """
    highest = float(logits.max())
    if not math.isfinite(highest):
        return math.nan, math.nan
    return highest, float(_sum(logits, highest))


class Candidates:
    """What a device found in a row of logits, so that the host need not look through all.

    Attributes
    ----------
    ids : ndarray (n,) of int32, or None
        Every token whose logit is at least ``lowest``, in order; None while nothing was found.
    highest : float
        The highest logit.
    total : float
        The sum of e^(logit - highest) over the whole row.
    lowest : float
        The least of the logits of ``ids``, or below.
    """

    def __init__(self) -> None:
        self.ids: NDArray[np.int32] | None = None
        self.highest = self.total = self.lowest = math.nan

    def fill(self, ids: NDArray[np.int32], highest: float, total: float, lowest: float) -> None:
        """Take over what was found; nothing where the logits are no numbers."""
        if math.isfinite(highest) and math.isfinite(total) and len(ids):
            self.ids, self.highest, self.total, self.lowest = ids, highest, total, lowest


@dataclass(frozen=True, eq=False)
class Best:
    """The highest of a row of logits, and what makes probabilities of them.

    Attributes
    ----------
    ids : ndarray (k,) of int32
        Likeliest first; ties in the order of the ids.
    logits : ndarray (k,) of float64
        Theirs.  NaN, and the first ids, where the row is not finite.
    highest, total : float
        The highest logit, and the sum of e^(logit - highest) over the whole row.
    """

    ids: NDArray[np.int32]
    logits: NDArray[np.float64]
    highest: float
    total: float

    @property
    def top(self) -> TopK:
        """Ids and probabilities, float32 (k,)."""
        weights = np.exp(self.logits - self.highest)
        return self.ids, (weights / self.total).astype(np.float32)

    def probability(self, logit: float) -> float:
        """Of a token that has such a logit in the row."""
        return math.exp(logit - self.highest) / self.total


def best_of(logits: NDArray[np.floating], k: int, candidates: Candidates | None = None) -> Best:
    """The k highest of a row of logits (V,).

    Parameters
    ----------
    logits : ndarray (V,)
    k : int
    candidates : Candidates, optional
        What a device found in these logits.
    """
    k = min(k, logits.size)
    if candidates is not None and candidates.ids is not None and len(candidates.ids) >= k:
        found = logits[candidates.ids]
        order = np.argsort(-found, kind="stable")[:k]
        values = found[order].astype(np.float64)
        return Best(candidates.ids[order], values, candidates.highest, candidates.total)
    ids, values = np.zeros(k, np.int32), np.empty(k)
    highest, total = weigh(logits)
    if math.isnan(total):  # nothing is known of any token
        return Best(np.arange(k, dtype=np.int32), np.full(k, np.nan), math.nan, math.nan)
    _rank(logits, ids, values)
    return Best(ids, values, highest, total)


def rank(
    logits: NDArray[np.floating], k: int, token: int = 0, candidates: Candidates | None = None
) -> tuple[TopK, float]:
    """The k likeliest tokens with their probabilities, and one token's."""
    best = best_of(logits, k, candidates)
    return best.top, best.probability(float(logits[token]))


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """(…, V) logits as probabilities, in float64."""
    weights = np.exp(np.asarray(logits, np.float64) - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)  # type: ignore[no-any-return]


def pairs(top: TopK) -> list[tuple[int, float]]:
    """[(token, probability)], likeliest first."""
    return list(zip(top[0].tolist(), top[1].tolist(), strict=True))

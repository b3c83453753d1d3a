"""The likeliest tokens of a row of logits, without sorting a vocabulary of 65,536."""

from __future__ import annotations

import math
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


def rank(
    logits: NDArray[np.floating], k: int, token: int = 0, candidates: Candidates | None = None
) -> tuple[TopK, float]:
    """The k likeliest tokens and one token's probability.

    Parameters
    ----------
    logits : ndarray (V,)
    k : int
    token : int
        The one whose probability is asked for as well.
    candidates : Candidates, optional
        What a device found in these logits.

    Returns
    -------
    ((ids, probabilities), float)
        int32 (k,), float32 (k,), likeliest first; ties in the order of the ids.  NaN, and the
        first ids, where the logits are not finite.
    """
    k = min(k, logits.size)
    if candidates is not None and candidates.ids is not None and len(candidates.ids) >= k:
        highest, total = candidates.highest, candidates.total
        found = logits[candidates.ids]
        best = np.argsort(-found, kind="stable")[:k]
        ids, values = candidates.ids[best], found[best].astype(np.float64)
    else:
        ids, values = np.zeros(k, np.int32), np.empty(k)
        highest, total = weigh(logits)
        if math.isnan(total):  # nothing is known of any token
            nothing = np.full(k, np.nan, np.float32)
            return (np.arange(k, dtype=np.int32), nothing), math.nan
        _rank(logits, ids, values)
    probabilities = (np.exp(values - highest) / total).astype(np.float32)
    return (ids, probabilities), math.exp(float(logits[token]) - highest) / total


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """(…, V) logits as probabilities, in float64."""
    weights = np.exp(np.asarray(logits, np.float64) - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)  # type: ignore[no-any-return]


def pairs(top: TopK) -> list[tuple[int, float]]:
    """[(token, probability)], likeliest first."""
    return list(zip(top[0].tolist(), top[1].tolist(), strict=True))

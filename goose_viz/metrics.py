"""Readings of observables, for people: half-life, size and rank of a state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def half_life(decay: NDArray[Any]) -> NDArray[np.float64]:
    """Tokens until a channel has faded to half: ln 0.5 / ln w; infinite where w is 1.

    Parameters
    ----------
    decay : ndarray
        w in (0, 1], any shape.
    """
    with np.errstate(divide="ignore"):
        return np.log(0.5) / np.minimum(np.log(np.asarray(decay, np.float64)), -0.0)  # type: ignore[no-any-return]


def rms(wkv: NDArray[Any]) -> NDArray[Any]:
    """Root mean square of each head's matrix: (…, N, N) -> (…)."""
    return np.sqrt(np.einsum("...ij,...ij->...", wkv, wkv) / (wkv.shape[-1] * wkv.shape[-2]))  # type: ignore[no-any-return]


def stable_rank(wkv: NDArray[Any]) -> NDArray[np.float64]:
    """‖S‖_F² / ‖S‖_2² of each head's matrix, between 1 and N; 0 for zeros, NaN for NaN."""
    return ranks(wkv)[0]


def effective_rank(wkv: NDArray[Any]) -> NDArray[np.float64]:
    """Exp of the entropy of the singular values' shares, between 1 and N; 0 for zeros.

    Roy and Vetterli, "The effective rank" (2007).  NaN where a number of the matrix is none.
    """
    return ranks(wkv)[1]


def ranks(wkv: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stable and effective rank of each head's matrix, from one decomposition."""
    finite = np.isfinite(wkv).all((-2, -1))
    safe = np.where(finite[..., None, None], wkv, 0).astype(np.float64)
    singular = np.linalg.svd(safe, compute_uv=False)
    top, whole = singular[..., 0] ** 2, (singular**2).sum(-1)
    stable = np.divide(whole, top, out=np.zeros_like(whole), where=top > 0)
    total = singular.sum(-1, keepdims=True)
    share = np.divide(singular, total, out=np.zeros_like(singular), where=total > 0)
    entropy = -(share * np.log(np.maximum(share, 1e-300))).sum(-1)
    effective = np.where(total[..., 0] > 0, np.exp(entropy), 0.0)
    return tuple(np.where(finite, found, np.nan) for found in (stable, effective))  # type: ignore[return-value]

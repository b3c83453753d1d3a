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
    if not np.isfinite(wkv).all():
        return np.full(wkv.shape[:-2], np.nan)
    singular = np.linalg.svd(np.asarray(wkv, np.float64), compute_uv=False)
    top = singular[..., 0] ** 2
    whole = (singular**2).sum(-1)
    return np.divide(whole, top, out=np.zeros_like(whole), where=top > 0)  # type: ignore[no-any-return]


def effective_rank(wkv: NDArray[Any]) -> NDArray[np.float64]:
    """Exp of the entropy of the singular values' shares, between 1 and N; 0 for zeros.

    Roy and Vetterli, "The effective rank" (2007).  NaN where a number of the matrix is none.
    """
    if not np.isfinite(wkv).all():
        return np.full(wkv.shape[:-2], np.nan)
    singular = np.linalg.svd(np.asarray(wkv, np.float64), compute_uv=False)
    total = singular.sum(-1, keepdims=True)
    share = np.divide(singular, total, out=np.zeros_like(singular), where=total > 0)
    entropy = -(share * np.log(np.maximum(share, 1e-300))).sum(-1)
    return np.where(total[..., 0] > 0, np.exp(entropy), 0.0)

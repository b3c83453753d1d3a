"""What a head does to its memory at one token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from goose_viz.probe import Frame

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Edit:
    """What one token did to a head's memory: decayed - removed + written = result.

    Attributes
    ----------
    decayed, removed, written, result : ndarray (N, N)
        [value, key]: S diag(w), c (S kappa)(kappa a)^T, v k~^T, and the memory behind the token.
    removed_factors, written_factors : (ndarray (N,), ndarray (N,))
        The two that are of rank one, as (value, key): S kappa and c kappa a; v and k~.
    """

    decayed: Array
    removed: Array
    written: Array
    result: Array
    removed_factors: tuple[Array, Array]
    written_factors: tuple[Array, Array]

    @property
    def decayed_norm(self) -> float:
        """Frobenius norm of what the decay left."""
        return float(np.linalg.norm(self.decayed))

    @property
    def removed_norm(self) -> float:
        """Frobenius norm of what was removed."""
        return float(np.linalg.norm(self.removed))

    @property
    def written_norm(self) -> float:
        """Frobenius norm of what was written."""
        return float(np.linalg.norm(self.written))

    @property
    def result_norm(self) -> float:
        """Frobenius norm of the memory behind the token."""
        return float(np.linalg.norm(self.result))


def _vectors(frame: Frame, layer: int, head: int, *names: str) -> list[Array]:
    """Observables of one head, (N,) each."""
    if layer not in frame.layers:
        raise ValueError(f"layer {layer} was not probed; the frame has {frame.layers}")
    if not 0 <= head < frame.n_head:
        raise ValueError(f"head {head} is not there; there are 0 to {frame.n_head - 1}")
    row = frame.layers.index(layer)
    return [
        getattr(frame, name)[row].reshape(frame.n_head, -1)[head].astype(np.float64)
        for name in names
    ]


def edit(before: NDArray[Any], frame: Frame, layer: int, head: int) -> Edit:
    """A token's edit of a head's memory, in its parts.

    Parameters
    ----------
    before : ndarray (N, N)
        The head's memory ahead of the token.
    frame : Frame
        Of the token, with decay, iclr, removal_key, replacement_key and value.
    layer, head : int
    """
    w, a, kappa, key, value = _vectors(
        frame, layer, head, "decay", "iclr", "removal_key", "replacement_key", "value"
    )
    S = np.asarray(before, np.float64)
    if S.shape != (w.size, w.size):
        raise ValueError(f"the memory has the shape {S.shape}; expected ({w.size}, {w.size})")
    taken, given = (S @ kappa, frame.removal_scale * kappa * a), (value, key)
    decayed, removed, written = S * w, np.outer(*taken), np.outer(*given)
    return Edit(decayed, removed, written, decayed - removed + written, taken, given)


def spectrum(frame: Frame, layer: int, head: int) -> Array:
    """(N,) eigenvalues of a token's transition diag(w) - c kappa (kappa a)^T, ascending.

    It is similar to the symmetric diag(w) - b b^T with b = kappa sqrt(c a): they are real.
    """
    w, a, kappa = _vectors(frame, layer, head, "decay", "iclr", "removal_key")
    b = kappa * np.sqrt(frame.removal_scale * a)
    return np.asarray(np.linalg.eigvalsh(np.diag(w) - np.outer(b, b)), np.float64)

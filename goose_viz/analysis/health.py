"""How a head's memory fares over the tokens: its size, its rank, what it is surprised by.

Surprise is |v_t - S_{t-1} kappa_t|: how far what the memory held under the token's key was from
what is written there now.  The least eigenvalue is that of G_t = diag(w) - c kappa (kappa a)^T,
which is similar to the symmetric diag(w) - b b^T with b = kappa sqrt(c a): negative where a token
turns something in the memory round, and not only fades it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis import kernels
from goose_viz.frames import Frames
from goose_viz.metrics import ranks
from goose_viz.probe import Frame

Array = NDArray[np.float64]

#: Half precision ends at 65,504; beyond this much a memory is on its way there.
LARGE = 1e4


@dataclass(frozen=True, eq=False)
class Health:
    """Of tokens in a row, per layer and head.

    Attributes
    ----------
    start : int
        Where the first of them stands in the session.
    rms : ndarray (T, L, H)
        Root mean square of the memory behind each token.
    surprise, value : ndarray (T, L, H)
        |v - S kappa|, and |v| to hold it against.
    least : ndarray (T, L, H)
        The least eigenvalue of the token's transition.
    at : ndarray (n,) of int
        The tokens behind which ranks were taken.
    stable_rank, effective_rank, largest : ndarray (n, L, H)
        Directions that the memory uses, two ways (`goose_viz.metrics`); its largest number,
        whatever the sign.
    layers : tuple of int
        What the axis of layers stands for.
    """

    start: int
    rms: Array
    surprise: Array
    value: Array
    least: Array
    at: NDArray[np.int64]
    stable_rank: Array
    effective_rank: Array
    largest: Array
    layers: tuple[int, ...]

    @property
    def relative_surprise(self) -> Array:
        """Surprise over |v|: 0 where the memory knew, 1 where it was empty, more where wrong."""
        out = np.zeros_like(self.surprise)
        return np.divide(self.surprise, self.value, out=out, where=self.value > 0)

    def warnings(self) -> list[str]:
        """What is wrong, a sentence each: numbers that are none, memories that saturate."""
        out = []
        broken = np.argwhere(~np.isfinite(self.rms))
        if len(broken):
            t, layer, head = broken[0].tolist()
            heads = len(np.unique(broken[:, 1:], axis=0))
            more = f" and {heads - 1} more heads" if heads > 1 else ""
            out.append(
                f"The memory of layer {self.layers[layer]} head {head}{more} holds NaN or infinite "
                f"numbers from token {self.start + t} on."
            )
        with np.errstate(invalid="ignore"):
            large = np.argwhere(self.largest > LARGE)
        if len(large):
            i, layer, head = large[np.argmax(self.largest[tuple(large.T)])].tolist()
            place = f"layer {self.layers[layer]} head {head}"
            out.append(
                f"The memory of {place} saturates: its largest number is "
                f"{self.largest[i, layer, head]:.3g} behind token {self.start + int(self.at[i])}."
            )
        return out


def health(
    frames: Sequence[Frame],
    layer: int | None = None,
    head: int | None = None,
    *,
    ranks_at: Sequence[int] | None = None,
    initial: NDArray[Any] | None = None,
) -> Health:
    """How the memory fares, by writing the frames' tokens into it once more, in float64.

    Parameters
    ----------
    frames : sequence of Frame
        Of T tokens in a row, with decay, iclr, removal_key, replacement_key and value; from the
        first of all on, or from ``initial`` on.
    layer, head : int, optional
        The only one to look at; all when left out.  The others' figures are zero.
    ranks_at : sequence of int, optional
        Indices of the frames behind which ranks are taken, which costs more than all the rest; the
        last when left out.
    initial : ndarray (L, H, N, N), optional
        The memory ahead of the first frame; that of the frames, or zeros, when left out.
    """
    frames = Frames.of(frames)
    key, written, value = map(frames.heads, ("removal_key", "replacement_key", "value"))
    arrays = [frames.heads("decay"), frames.rates(), key, written, value]
    T, L, H, N = arrays[0].shape
    if head is not None and not 0 <= head < H:
        raise ValueError(f"head {head} is not there; there are 0 to {H - 1}")
    rows = (0, L) if layer is None else (frames.row(layer), frames.row(layer) + 1)
    part = (*rows, *((0, H) if head is None else (head, head + 1)))
    at = np.unique(np.array([T - 1] if ranks_at is None else ranks_at, np.int64))
    if len(at) and not (at[0] >= 0 and at[-1] < T):
        raise ValueError(f"there are no frames {at[0]} to {at[-1]}; there are {T}")
    start = frames.initial if initial is None else initial
    memory = np.zeros((L, H, N, N)) if start is None else np.array(start, np.float64, order="C")
    factors = np.zeros((0, 0, 0)) if frames.factors is None else frames.factors.copy()
    squares, missed, least = (np.zeros((T, L, H)) for _ in range(3))
    stable, effective, largest = (np.zeros((len(at), L, H)) for _ in range(3))
    mine = slice(*part[:2]), slice(*part[2:])
    done = 0
    for stop in sorted({*(at + 1).tolist(), *(a.index for a in frames.added), T}):
        bounds = np.array((*part, done, stop))
        kernels.remember(*arrays, factors, bounds, memory, squares, missed, least)
        place = np.searchsorted(at, stop - 1)
        if place < len(at) and at[place] == stop - 1:
            stable[place][mine], effective[place][mine] = ranks(memory[mine])
            largest[place][mine] = np.abs(memory[mine]).max((-2, -1))
        done = stop
        put = [a.change for a in frames.added if a.index == stop]
        if put:  # edits scale first, then add
            memory *= factors[stop][..., None, None]
            factors[stop] = 1
            memory += sum(put)
    size = np.linalg.norm(value.astype(np.float64), axis=-1)
    return Health(
        frames.start, np.sqrt(squares) / N, missed, size, least, at, stable, effective, largest,
        frames.layers,
    )  # fmt: skip

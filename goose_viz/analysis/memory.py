"""What the memory still holds of earlier tokens, and what is read of it: exactly.

Per layer and head, S is [value, key]:

    G_t = diag(w_t) - c kappa_t (kappa_t a_t)^T
    S_t = S_{t-1} G_t + v_t k~_t^T,   y_T = S_T r_T

so that the read splits over the tokens, y_T = sum_t v_t (k~_t . q_t) + S_0 q_0 with q_T = r_T and
q_{t-1} = G_t q_t.  `attention` gives the weights k~_t . q_t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis import kernels
from goose_viz.analysis.steps import Steps, finish
from goose_viz.frames import Frames
from goose_viz.probe import Frame

Array = NDArray[np.float64]

#: What `attribution` and its like need of every token of the past, and of the last one beside.
PAST = ("decay", "iclr", "removal_key", "replacement_key", "value")
NOW = (*PAST, "receptance", "gate", "read", "bonus", "residual")
#: What carries a change of the memory from token to token, and what a token writes.
CARRYING = ("decay", "iclr", "removal_key")
WRITTEN = ("value", "replacement_key")


@dataclass(frozen=True, eq=False)
class Attention:
    """What one head reads at the last of T tokens, split over where it comes from.

    Attributes
    ----------
    weights : ndarray (T,)
        How strongly each token's value is read; times the values, they and ``initial`` add up to
        ``read``.
    initial : ndarray (N,)
        What is read of the memory ahead of the first token, and of what edits added.
    read : ndarray (N,)
        The sum: y, before the group norm.
    bonus : float
        How strongly the last token's value passes by the memory, on top.
    """

    weights: Array
    initial: Array
    read: Array
    bonus: float


def _transitions(frames: Frames) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """w, c a and kappa of every token: (T, L, H, N) each."""
    return frames.heads("decay"), frames.rates(), frames.heads("removal_key")


def _factors(frames: Frames) -> NDArray[Any]:
    return np.zeros((0, 0, 0)) if frames.factors is None else frames.factors


def _one_head(frames: Frames, layer: int, head: int) -> tuple[int, int]:
    """Row of the layer, and the head if there is such a one."""
    if not 0 <= head < frames.n_head:
        raise ValueError(f"head {head} is not there; there are 0 to {frames.n_head - 1}")
    return frames.row(layer), head


@dataclass(frozen=True, eq=False)
class Walk:
    """How the last token's reads reach back, for all heads that were asked for.

    Attributes
    ----------
    weights : ndarray (L, H, T)
    initial : ndarray (L, H, N)
        What is read of the memory ahead of the first token.
    added : list of ndarray (L, H, N)
        What is read of each edit in ``frames.added``.
    """

    weights: Array
    initial: Array
    added: list[Array]


def walk(frames: Frames, initial: NDArray[Any] | None, part: tuple[int, int, int, int]) -> Walk:
    """Split the last token's reads over the past, for layers and heads within bounds."""
    written = frames.heads("replacement_key")
    T, L, H, N = written.shape
    read = np.ascontiguousarray(frames[-1].receptance).reshape(L, H, N)
    marks = np.full(T, -1)
    row_of = {index: row for row, index in enumerate({a.index for a in frames.added})}
    for index, row in row_of.items():
        marks[index] = row
    weights, first = np.zeros((L, H, T)), np.zeros((L, H, N))
    reached = np.zeros((len(row_of), L, H, N))
    kernels.walk(
        *_transitions(frames), written, read, _factors(frames), marks, np.array(part), weights,
        reached, first,
    )  # fmt: skip
    start = frames.initial if initial is None else initial
    nothing = np.zeros((L, H, N))
    return Walk(
        weights,
        nothing if start is None else np.einsum("lhvk,lhk->lhv", start, first),
        [np.einsum("lhvk,lhk->lhv", a.change, reached[row_of[a.index]]) for a in frames.added],
    )


def attention(
    frames: Sequence[Frame], layer: int, head: int, initial: NDArray[Any] | None = None
) -> Attention:
    """What a head reads at the last token, and how much of it each token gives.

    Parameters
    ----------
    frames : sequence of Frame
        Of T tokens in a row, from the first of all on, or from ``initial`` on.
    layer, head : int
    initial : ndarray (N, N), optional
        The head's memory ahead of the first frame; that of the frames, or zeros, when left out.
    """
    frames = Frames.of(frames)
    row, head = _one_head(frames, layer, head)
    start = None
    if initial is not None:
        size = frames.heads("decay").shape
        start = np.zeros((size[1], size[2], size[3], size[3]))
        start[row, head] = initial
    found = walk(frames, start, (row, row + 1, head, head + 1))
    values = frames.heads("value")[:, row, head].astype(np.float64)
    weights = found.weights[row, head]
    elsewhere = found.initial[row, head] + sum(a[row, head] for a in found.added)
    bonus = float(frames[-1].bonus[row, head])
    return Attention(weights, elsewhere, weights @ values + elsewhere, bonus)


def attention_map(frames: Sequence[Frame], layer: int, head: int) -> Array:
    """(T, T): row T holds the weights with which token T reads the tokens up to it, 0 behind."""
    frames = Frames.of(frames)
    row, head = _one_head(frames, layer, head)
    written, receptance = frames.heads("replacement_key"), frames.heads("receptance")
    out = np.zeros((len(frames), len(frames)))
    kernels.walk_from_each(
        *_transitions(frames), written, receptance, _factors(frames), row, head, out
    )
    return out


def attention_mean(frames: Sequence[Frame], layer: int | None = None) -> Array:
    """(T, T): how the heads of a layer, or of all, read the tokens on the average.

    Weights have signs, and a head's scale is its own: of each head's map the magnitudes are taken,
    each row as shares of its sum, and of these the mean over the heads.
    """
    return finish(averaging(frames, layer))


def averaging(frames: Sequence[Frame], layer: int | None = None) -> Steps[Array]:
    """`attention_mean`, a head at a time."""
    frames = Frames.of(frames)
    layers = frames.layers if layer is None else (layer,)
    out, T = np.zeros((len(frames), len(frames))), len(frames)
    places = [(i, head) for i in layers for head in range(frames.n_head)]
    for done, (i, head) in enumerate(places, 1):
        found = np.abs(attention_map(frames, i, head))
        total = found.sum(-1, keepdims=True)
        out += np.divide(found, total, out=np.zeros((T, T)), where=total > 0)
        yield done / len(places)
    return out / len(places)


def _keys_now(frames: Frames, row: int, head: int) -> Array:
    """(T, N): each token's key as a head has it behind the last."""
    written = frames.heads("replacement_key")
    out = np.zeros((len(frames), written.shape[-1]))
    kernels.fade(*_transitions(frames), written, _factors(frames), row, head, out)
    return out


def retention(frames: Sequence[Frame], layer: int, head: int) -> Array:
    """(T,): how much of each token's write a head still has behind the last, |p_t| / |k~_t|."""
    frames = Frames.of(frames)
    row, head = _one_head(frames, layer, head)
    now = np.linalg.norm(_keys_now(frames, row, head), axis=-1)
    written = np.linalg.norm(frames.heads("replacement_key")[:, row, head], axis=-1)
    return np.divide(now, written, out=np.zeros_like(now), where=written > 0)  # type: ignore[no-any-return]


def remains(frames: Sequence[Frame], layer: int, head: int, token: int) -> Array:
    """(N, N): v p^T, what a head still has of a token's write; what forgetting it subtracts.

    ``token`` is an index into the frames.
    """
    frames = Frames.of(frames)
    row, head = _one_head(frames, layer, head)
    return np.outer(frames.heads("value")[token, row, head], _keys_now(frames, row, head)[token])


def transport(frames: Sequence[Frame], change: NDArray[Any], at: int) -> NDArray[Any]:
    """What a change of the memory made behind one token is behind the last.

    Parameters
    ----------
    frames : sequence of Frame
        Of T tokens in a row.
    change : ndarray (L, H, R, N)
        Made behind ``frames[at]``; N rows for a memory's change.
    at : int
        Index of a frame; -1 for ahead of the first.

    Returns
    -------
    ndarray
        Like ``change``.
    """
    frames = Frames.of(frames)
    if not -1 <= at < len(frames):
        raise ValueError(f"there is no frame {at}; there are {len(frames)}")
    transitions = _transitions(frames)
    _, L, H, N = transitions[0].shape
    change = np.asarray(change)
    if change.ndim != 4 or (*change.shape[:2], change.shape[3]) != (L, H, N):
        raise ValueError(f"the change has the shape {change.shape}; expected ({L}, {H}, {N}, {N})")
    rows = np.array(change, np.float64, order="C")
    kernels.carry(*transitions, _factors(frames), at + 1, rows)
    return rows.astype(change.dtype) if change.dtype.kind == "f" else rows

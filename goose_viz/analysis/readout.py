"""What a layer, or a head, would say: its part of the residual stream through the last norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.steps import Progress, Steps, finish
from goose_viz.ranking import softmax, weigh
from goose_viz.reference import layer_norm

if TYPE_CHECKING:
    from goose_viz.model import Model
    from goose_viz.probe import Frame
    from goose_viz.session import Session

Array = NDArray[np.float64]

_ROWS = 8192  # of the head's matrix that are widened at once


@dataclass(frozen=True, eq=False)
class Pinned:
    """One token, wherever it is looked for.

    Attributes
    ----------
    token : int
    probability : ndarray (n,)
    rank : ndarray (n,) of int
        1 is the likeliest.
    """

    token: int
    probability: Array
    rank: NDArray[np.int64]


def _through_the_head(model: Model, x: Array) -> Steps[Array]:
    """(n, D) of the last norm -> (n, V)."""
    V = model.config.vocab_size
    out = np.empty((len(x), V))
    for i in range(0, V, _ROWS):
        out[:, i : i + _ROWS] = x @ model.numbers("head.weight", slice(i, i + _ROWS)).T
        yield min(i + _ROWS, V) / V
    return out


def layer_logits(model: Model, frame: Frame) -> Array:
    """(L, V): each layer's residual through the last norm and the head, the logit lens.

    Parameters
    ----------
    model : Model
    frame : Frame
        With ``residual``; its layers are the first axis.
    """
    return finish(reading_layers(model, frame))


def reading_layers(model: Model, frame: Frame) -> Steps[Array]:
    """`layer_logits`, a part of the vocabulary at a time."""
    weight, bias = model.numbers("ln_out.weight"), model.numbers("ln_out.bias")
    eps = model.config.layer_norm_eps
    x = layer_norm(frame.residual.astype(np.float64), weight, bias, eps)
    return (yield from _through_the_head(model, x))


def lens(model: Model, frame: Frame, k: int = 5) -> list[list[tuple[int, float]]]:
    """What each layer would say, were it the last: nostalgebraist's logit lens (2020).

    Returns
    -------
    list of list of (int, float)
        Per layer of the frame the k likeliest tokens with their probabilities.
    """
    return likeliest(layer_logits(model, frame), k)


def likeliest(logits: Array, k: int) -> list[list[tuple[int, float]]]:
    """The k likeliest tokens of each row (n, V), with their probabilities."""
    out = softmax(logits)
    best = np.argsort(-logits, axis=-1, kind="stable")[:, :k]
    return [[(int(t), float(row[t])) for t in ids] for ids, row in zip(best, out, strict=True)]


def decided(model: Model, frame: Frame, token: int) -> Pinned:
    """When the model decided on a token: its probability and rank in each layer's lens, (L,)."""
    _check_token(model, token)
    return pin(layer_logits(model, frame), token)


def pin(logits: NDArray[Any], token: int) -> Pinned:
    """A token's probability and rank in each row of logits (n, V)."""
    found = [pin_all(row, (token,))[0] for row in logits]
    return Pinned(token, np.array([p for p, _ in found]), np.array([r for _, r in found], np.int64))


def pin_all(logits: NDArray[Any], tokens: Sequence[int]) -> list[tuple[float, int]]:
    """Probability and rank of each of some tokens in a row of logits (V,)."""
    highest, total = weigh(logits)
    out = []
    for token in tokens:
        mine = logits[token]
        above = int(np.count_nonzero(logits > mine)) + int(np.count_nonzero(logits[:token] == mine))
        out.append((float(np.exp(np.float64(mine) - highest)) / total, above + 1))
    return out


def promoted(
    model: Model, frame: Frame, layer: int, head: int, k: int = 5
) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """What one head's own part of the residual stream does to the logits, the norms held.

    The head's read, normed, and its bonus go through the gate and its columns of the output
    matrix, then through the last norm with the statistics of this token.  What it gives is told
    against the mean over the vocabulary: a logit that all tokens gain changes nothing.

    Parameters
    ----------
    model : Model
    frame : Frame
        Of all layers, with read, value, bonus, gate and residual.
    layer, head : int
    k : int

    Returns
    -------
    (list of (int, float), list of (int, float))
        The k tokens that gain most, and the k that lose most, with their logits.
    """
    return finish(promoting(model, frame, layer, head, k))


Pairs = list[tuple[int, float]]


def promoting(
    model: Model, frame: Frame, layer: int, head: int, k: int = 5
) -> Steps[tuple[Pairs, Pairs]]:
    """`promoted`, a part of the vocabulary at a time."""
    given = _given_by(model, frame, layer, head)
    gain = (yield from _through_the_head(model, given[None]))[0]
    gain -= gain.mean()
    order = np.argsort(-gain, kind="stable")
    pairs = [(int(t), float(gain[t])) for t in order]
    return pairs[:k], pairs[: -k - 1 : -1]


def _given_by(model: Model, frame: Frame, layer: int, head: int) -> Array:
    """(D,): a head's part of the residual stream, through the last norm as it is held."""
    c = model.config
    if frame.layers != tuple(range(c.n_layer)):
        raise ValueError(f"the frame has layers {frame.layers}; expected all {c.n_layer}")
    if not (0 <= layer < c.n_layer and 0 <= head < c.n_head):
        raise ValueError(
            f"layer {layer} head {head} is not there; there are {c.n_layer} layers of {c.n_head}"
        )
    N = c.head_size
    part = slice(head * N, head * N + N)
    block = f"blocks.{layer}.att."
    read = frame.read[layer, head].astype(np.float64)
    weight, bias = (model.numbers(f"{block}ln_x.{n}")[part] for n in ("weight", "bias"))
    normed = layer_norm(read, weight, bias, c.group_norm_eps)
    out = normed + float(frame.bonus[layer, head]) * frame.value[layer, part].astype(np.float64)
    gated = out * frame.gate[layer, part].astype(np.float64)
    given = model.numbers(f"{block}output.weight")[:, part] @ gated
    x = frame.residual[-1].astype(np.float64)
    held = np.sqrt(x.var() + c.layer_norm_eps)
    return (given - given.mean()) / held * model.numbers("ln_out.weight")  # type: ignore[no-any-return]


def pinned(session: Session, token: int, progress: Progress | None = None) -> Pinned:
    """A token's probability and rank behind each token up to the cursor, (T,).

    Entry t is what was expected behind ``session.tokens[t]``.  The tokens are read again, in the
    calls of the first time.

    Parameters
    ----------
    session : Session
    token : int
    progress : callable, optional
        Told the share done; False ends it with `Stopped`.
    """
    return finish(pinning(session, token), progress)


def pinning(session: Session, token: int) -> Steps[Pinned]:
    """`pinned`, a little at a time."""
    _check_token(session.model, token)
    T = session.position
    if T == 0:
        return Pinned(token, np.zeros(0), np.zeros(0, np.int64))
    probability, rank = np.zeros(T), np.zeros(T, np.int64)
    for index, logits in session.expected():
        found = pin(logits[None], token)
        probability[index], rank[index] = found.probability[0], found.rank[0]
        yield (index + 1) / T
    return Pinned(token, probability, rank)


def _check_token(model: Model, token: int) -> None:
    V = model.config.vocab_size
    if not 0 <= token < V:
        raise ValueError(f"token {token} is outside the vocabulary of {V}")

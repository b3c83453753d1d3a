"""Causal trace: which layer at which token carries what the model needs for a word.

After Meng et al., "Locating and Editing Factual Associations in GPT" (2022), for a recurrent model:
the embeddings of chosen tokens are spoiled with noise, one layer's memory, shifts and residual are
put right at one token, and what is read behind the last token tells how much of the target's
probability comes back.

Layer 0's value, which all layers mix into theirs, stays at that token what it was.

All restorations of a layer run side by side, as rows of one batch; layers below the restored one
are the spoiled run's and are computed once.  In float32, as the runs that are explained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.batch import Batch, Layers
from goose_viz.analysis.steps import Progress, Steps, finish

if TYPE_CHECKING:
    from goose_viz.model import Model

Array = NDArray[np.float64]
_BYTES = 384 << 20  # that the rows' memories may take at a time
_ROWS = 512  # at most in a batch: whoever drives this may have other things to do


@dataclass(frozen=True, eq=False)
class CausalTrace:
    """What restoring gives.

    Attributes
    ----------
    restored : ndarray (L, T)
        The target's probability with a layer put right at a token, less that without: the mean
        over the draws.
    clean, spoiled : float
        Its probability with nothing spoiled, and with nothing put right.
    """

    restored: Array
    clean: float
    spoiled: float


def causal_trace(
    model: Model,
    tokens: Sequence[int],
    spoiled: Sequence[int],
    target: int,
    *,
    noise: float = 3.0,
    draws: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> Array:
    """How much of a token's probability comes back when a layer is put right at a token.

    Parameters
    ----------
    model : Model
        On any device; this computes on the CPU, in float32, with the model's own numbers.
    tokens : sequence of int
        T of them, from an empty memory on.
    spoiled : sequence of int
        Indices of those whose embeddings, ahead of the first norm, get noise.
    target : int
        The token whose probability behind the last is watched.
    noise : float
        Times the standard deviation of all embeddings.
    draws, seed : int
        ``numpy.random.default_rng(seed).standard_normal((draws, len(spoiled), D))``, in the order
        of the indices.
    progress : callable, optional
        Told the share done; False ends it with `Stopped`.

    Returns
    -------
    ndarray (L, T)
        See `CausalTrace.restored`.  At the last layer and token it is all that was lost.
    """
    steps = tracing(model, tokens, spoiled, target, noise=noise, draws=draws, seed=seed)
    return finish(steps, progress).restored


def tracing(
    model: Model,
    tokens: Sequence[int],
    spoiled: Sequence[int],
    target: int,
    *,
    noise: float = 3.0,
    draws: int = 8,
    seed: int = 0,
) -> Steps[CausalTrace]:
    """`causal_trace`, a little at a time, with the probabilities beside it."""
    V, T = model.config.vocab_size, len(tokens)
    for token in (*tokens, target):
        if not 0 <= token < V:
            raise ValueError(f"token {token} is outside the vocabulary of {V}")
    where = sorted(set(spoiled))
    if not where or not 0 <= where[0] <= where[-1] < T:
        raise ValueError(f"spoiled is {list(spoiled)}; expected indices from 0 to {T - 1}")
    if draws < 1 or not noise >= 0:
        raise ValueError(f"draws is {draws}, noise {noise}; expected 1 or more, and 0 or more")
    return _trace(model, list(tokens), where, target, noise, draws, seed)


def _trace(
    model: Model,
    tokens: list[int],
    where: list[int],
    target: int,
    noise: float,
    draws: int,
    seed: int,
) -> Steps[CausalTrace]:
    layers, c, T = Layers(model), model.config, len(tokens)
    drawn = np.random.default_rng(seed).standard_normal((draws, len(where), c.n_embd))
    drawn *= noise * layers.embedding_deviation()
    plain = np.stack([model.numbers("emb.weight", t) for t in tokens])
    spoiled = np.repeat(plain[:, None], draws, 1)
    spoiled[where] += drawn.swapaxes(0, 1)

    clean = yield from _Course.of(layers, layers.embed(plain[:, None]))
    clean_chance = layers.chance(clean.residuals[-1][-1], target)
    bad = yield from _Course.of(layers, layers.embed(spoiled))
    bad_chance = layers.chance(bad.residuals[-1][-1], target)

    each = draws * 4 * c.n_head * c.head_size**2  # bytes a token and layer
    out = np.zeros((c.n_layer, T))
    work = sum(c.n_layer - layer for layer in range(c.n_layer)) * T
    done = 0.0
    for layer in range(c.n_layer):
        size = min(T, _BYTES // (each * (c.n_layer - layer)) - 1, _ROWS // draws - 1)
        size = max(1, size)
        for begin in range(0, T, size):
            block = range(begin, min(begin + size, T))
            last = clean.embedded[0]
            for last in _restore(layers, clean, bad, layer, block, T, draws):  # noqa: B007
                done += len(block) / T
                yield min(done / work, 1.0)
            chances = layers.chance(last, target).reshape(-1, draws)
            out[layer, block.start : block.stop] = (chances - bad_chance).mean(-1)
    return CausalTrace(out, float(clean_chance[0]), float(bad_chance.mean()))


class _Course:
    """A run of R rows from an empty memory on, all of its layers and tokens remembered.

    Attributes
    ----------
    embedded : ndarray (T, R, D)
        Behind the first norm.
    residuals : list of list of ndarray (R, D)
        Per layer and token.
    first : list of ndarray (R, D)
        Layer 0's value at each token.
    """

    def __init__(self, embedded: NDArray[np.float32]) -> None:
        self.embedded = embedded
        self.residuals: list[list[NDArray[np.float32]]] = []
        self.first: list[NDArray[np.float32]] = []

    @classmethod
    def of(cls, layers: Layers, embedded: NDArray[np.float32]) -> Steps[_Course]:
        """Run it, token by token of each layer."""
        course, x = cls(embedded), list(embedded)
        for layer in range(layers.config.n_layer):
            batch, rows = Batch(layers.config, len(embedded[0])), []
            for t, row in enumerate(x):
                out, first = layers.step(layer, row, course.first[t] if layer else None, batch)
                if not layer:
                    course.first.append(first)
                rows.append(out)
                yield 0.0
            course.residuals.append(rows)
            x = rows
        return course

    def ahead(self, layer: int, t: int) -> NDArray[np.float32]:
        """What a layer is given at a token."""
        return self.residuals[layer - 1][t] if layer else self.embedded[t]


def _restore(
    layers: Layers,
    clean: _Course,
    bad: _Course,
    layer: int,
    block: range,
    T: int,
    draws: int,
) -> Iterator[NDArray[np.float32]]:
    """Put a layer right at each token of a block, a run for each; yields for every layer and token.

    The last that is yielded is the residual (len(block) draws, D) behind the last token.  The first
    rows of every batch are the spoiled run's, from which the others part.
    """
    c = layers.config
    rows = (len(block) + 1) * draws
    right = Batch(c, 1)  # the restored layer's memory in the clean run
    batches = [Batch(c, rows) for _ in range(layer, c.n_layer)]
    for t in range(T):
        layers.step(layer, clean.ahead(layer, t), clean.first[t] if layer else None, right)
        joined = min(max(t - block.start, 0), len(block))
        n = (joined + 1) * draws
        first = np.tile(bad.first[t], (joined + 1, 1)) if layer else None
        x = np.tile(bad.ahead(layer, t), (joined + 1, 1))
        x, found = layers.step(layer, x, first, batches[0].rows(0, n))
        first = found if layer == 0 else first
        if t in block:
            batches[0].rows(n, n + draws).assign(right)
            for other in batches[1:]:
                other.rows(n, n + draws).assign(other.rows(0, draws))
            x = np.concatenate([x, np.repeat(clean.residuals[layer][t], draws, 0)])
            assert first is not None
            first, n = np.concatenate([first, first[:draws]]), n + draws
        yield x[draws:]
        for i, other in enumerate(batches[1:], layer + 1):
            x, _ = layers.step(i, x, first, other.rows(0, n))
            yield x[draws:]

"""Directions to steer by: what the memories of some prompts have that others have not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.steps import Progress, Steps, finish
from goose_viz.errors import GooseError
from goose_viz.model import PORTION

if TYPE_CHECKING:
    from goose_viz.model import Model


def mean_memory(
    model: Model, prompts: Sequence[str | Sequence[int]], progress: Progress | None = None
) -> NDArray[Any]:
    """(L, H, N, N): the mean of the memories behind several prompts, each read from the start.

    The difference of two such means is what `goose_viz.Add` and `goose_viz.Steer` take.

    Raises
    ------
    GooseError
        If there is no prompt, or one has no token.
    """
    return finish(averaging_memories(model, prompts), progress)


def averaging_memories(model: Model, prompts: Sequence[str | Sequence[int]]) -> Steps[NDArray[Any]]:
    """`mean_memory`, a portion of a prompt at a time."""
    read = [model.tokenizer.encode(p) if isinstance(p, str) else [int(t) for t in p]
            for p in prompts]  # fmt: skip
    if not read or not all(read):
        raise GooseError("a mean memory needs one prompt or more, each of one token or more")
    return _average(model, read)


def _average(model: Model, prompts: list[list[int]]) -> Steps[NDArray[Any]]:
    start = model.tokenizer.start_token
    total = np.zeros(model.new_state().wkv.shape)
    done, n = 0, sum(map(len, prompts))
    for tokens in prompts:
        state = model.new_state()
        if start is not None and tokens[0] != start:
            model.forward([start], state)
        for i in range(0, len(tokens), PORTION):
            portion = tokens[i : i + PORTION]
            model.forward(portion, state)
            done += len(portion)
            yield done / n
        total += state.wkv
    return (total / len(prompts)).astype(state.wkv.dtype)

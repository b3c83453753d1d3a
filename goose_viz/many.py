"""Several sequences side by side, for engines that know only one at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.state import State


def one_by_one(
    forward: Callable[..., NDArray[Any]], tokens: Sequence[int], states: Sequence[State]
) -> NDArray[Any]:
    """A token to each of several states, each by a call of its own; logits (B, V)."""
    logits = [
        forward([token], state, False, None, lambda share: None)
        for token, state in zip(tokens, states, strict=True)
    ]
    return np.stack(logits)

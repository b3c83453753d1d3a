"""Where a run stopped being numbers: the token, the layer, the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from goose_viz.state import State

if TYPE_CHECKING:
    from goose_viz.session import Session


def no_number(session: Session) -> str:
    """Say which token made the memory or what is expected NaN or infinite; the run stays.

    What is no number any more stays none, so the first such position is between two that halve
    what lies between them.
    """
    low, high = 0, session.position  # behind `high` it is so
    state: State = session.state
    if first := _where(session.state_at(0)):
        return f"the memory that it began with holds NaN or infinite numbers ({first}); begin anew"
    while high - low > 1:
        middle = (low + high) // 2
        there = session.state_at(middle)
        if _where(there):
            high, state = middle, there
        else:
            low = middle
    place = _where(state) or "what it expects next"
    text, number = session.path.texts(high - 1, high)[0], high - 1
    return (
        f"token {number} ({text!r}) made {place} NaN or infinite, so no token can be chosen behind "
        f"it; go back to position {number}, or undo what was edited there"
    )


def _where(state: State) -> str:
    """The first layer and head that hold something else than numbers; empty if none does."""
    heads = ~np.isfinite(state.wkv).all((-1, -2))
    shifts = ~np.isfinite(state.att_shift).all(-1) | ~np.isfinite(state.ffn_shift).all(-1)
    layers = np.flatnonzero(heads.any(-1) | shifts)
    if not len(layers):
        return ""
    layer = int(layers[0])
    if heads[layer].any():
        return f"the memory of layer {layer}, head {int(np.argmax(heads[layer]))}"
    return f"the token shift of layer {layer}"

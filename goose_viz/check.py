"""The built-in oracle: what the engine computes on this machine, held against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.model import Model
from goose_viz.observables import OBSERVABLES
from goose_viz.probe import Probe
from goose_viz.state import State

#: Largest error allowed, relative to the largest magnitude: float32 rounding through all layers
#: stays well under it, a wrong formula does not.
ALLOWED = 1e-4


@dataclass(frozen=True)
class Finding:
    """One compared quantity.

    Attributes
    ----------
    name : str
    way : str
        How the tokens were fed: ``"one by one"`` or ``"all at once"``.
    error : float
        Largest absolute difference over the reference's largest magnitude.
    """

    name: str
    way: str
    error: float

    @property
    def passed(self) -> bool:
        """Whether the error is allowed (a NaN is not)."""
        return self.error <= ALLOWED


def compare(model: Model, reference: Model, tokens: list[int]) -> Iterator[Finding]:
    """Feed the same tokens to both, one by one and all at once, and compare all there is to see.

    Parameters
    ----------
    model, reference : Model
        The same weights on two devices.
    tokens : list of int
        At least four, so that feeding all at once takes the path of a prompt.
    """
    expected = _everything(reference, tokens, all_at_once=False)
    for all_at_once, way in ((False, "one by one"), (True, "all at once")):
        found = _everything(model, tokens, all_at_once)
        for name, value in expected.items():
            scale = max(float(np.abs(value).max()), 1e-30)
            error = float(np.abs(found[name] - value).max()) / scale
            yield Finding(name, way, error)


def _everything(model: Model, tokens: list[int], all_at_once: bool) -> dict[str, NDArray[Any]]:
    state: State = model.new_state()
    probe = Probe(OBSERVABLES)
    if all_at_once:
        logits = model.forward(tokens, state, all_logits=True, probe=probe)
    else:
        logits = np.stack([model.forward([t], state, probe=probe) for t in tokens])
    out: dict[str, NDArray[Any]] = {"logits": logits, "att_shift": state.att_shift}
    out["ffn_shift"] = state.ffn_shift
    for name in OBSERVABLES:
        out[name] = np.stack([getattr(frame, name) for frame in probe.frames])
    return out

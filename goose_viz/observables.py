"""What can be watched inside the model: every observable has one name, given here.

L layers, D = n_embd, H heads, N head size.  Engines fill them, probes pick among them.
"""

from __future__ import annotations

from dataclasses import dataclass

from goose_gpu.planes import SCALARS, VECTORS
from goose_viz.config import Config

__all__ = ["OBSERVABLES", "SCALARS", "VECTORS", "Observable", "shape_of"]


@dataclass(frozen=True)
class Observable:
    """One watched quantity.

    Attributes
    ----------
    axes : str
        Its axes behind the layer: ``"D"``, ``"HN"``, ``"H"`` or ``"HNN"``.
    meaning : str
        What it is, in words and in the checkpoint's letters.
    """

    axes: str
    meaning: str


OBSERVABLES: dict[str, Observable] = {
    "decay": Observable("D", "w: what each key channel keeps of the state, in [0.545, 1]"),
    "iclr": Observable("D", "a: the in-context learning rate, in (0, 1)"),
    "removal_key": Observable("D", "kappa: the direction that is erased, unit length per head"),
    "replacement_key": Observable("D", "k~: the direction under which the value is written"),
    "value": Observable("D", "v: what is written, after the mix with layer 0's"),
    "receptance": Observable("D", "r: what the state is read with"),
    "gate": Observable("D", "g: what the read is multiplied with"),
    "value_mix": Observable("D", "how much of layer 0's value replaces this one's; 0 in layer 0"),
    "wkv": Observable("HNN", "the state after the token, [value, key]"),
    "read": Observable("HN", "y: the state times the receptance, before the group norm"),
    "bonus": Observable("H", "sum(r k~ r_k): how much of the value passes by the state"),
    "removed_norm": Observable("H", "Frobenius norm of what the removal took from the state"),
    "written_norm": Observable("H", "Frobenius norm of what was written to the state"),
    "residual": Observable("D", "x: the residual stream after the layer"),
}


def shape_of(name: str, config: Config) -> tuple[int, ...]:
    """The shape of an observable in one layer."""
    lengths = {"D": config.n_embd, "H": config.n_head, "N": config.head_size}
    return tuple(lengths[axis] for axis in OBSERVABLES[name].axes)

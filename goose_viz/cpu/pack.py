"""From named tensors to the arrays that the CPU kernels read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.convert import MEMORY, Progress, convert
from goose_viz.cpu.kernels import Packed
from goose_viz.weights import Weights


def pack(weights: Weights, dtype: str, progress: Progress) -> Packed:
    """Stack the layers; vectors become float32, matrices the weight type."""
    L, D = weights.config.n_layer, weights.config.n_embd
    memory = MEMORY[dtype]

    def vectors(layer: int, *names: str) -> NDArray[np.float32]:
        rows = [
            weights[name].float32().ravel() if name in weights.tensors else np.zeros(D, np.float32)
            for name in (f"blocks.{layer}.{n}" for n in names)
        ]
        return np.stack(rows)

    def every_layer(*names: str) -> NDArray[np.float32]:
        return np.stack([vectors(i, *names) for i in range(L)])

    def norm(name: str) -> NDArray[np.float32]:
        return np.stack([weights[f"{name}.{part}"].float32() for part in ("weight", "bias")])

    ranks = {c: getattr(weights.config, f"rank_{n}") for c, n in _RANKS.items()}
    shapes = {
        "rkv": (L, 3 * D, D),
        "down": (L, sum(ranks.values()), D),
        "output": (L, D, D),
        "ffn_key": (L, weights.config.n_ffn, D),
        "ffn_value": (L, D, weights.config.n_ffn),
    } | {f"{c}2": (L, D, rank) for c, rank in ranks.items()}
    stacked: dict[str, NDArray[Any]] = {n: np.zeros(s, memory) for n, s in shapes.items()}
    for i in range(L):
        progress(i / (L + 1), f"reading layer {i + 1} of {L}")
        att, ffn = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        for part, name in enumerate(("receptance", "key", "value")):
            matrix = convert(weights[f"{att}{name}.weight"], dtype)
            stacked["rkv"][i, part * D : (part + 1) * D] = matrix
        stacked["output"][i] = convert(weights[f"{att}output.weight"], dtype)
        stacked["ffn_key"][i] = convert(weights[f"{ffn}key.weight"], dtype)
        stacked["ffn_value"][i] = convert(weights[f"{ffn}value.weight"], dtype)
        row = 0
        for c, rank in ranks.items():
            if f"{att}{c}1" in weights.tensors:  # layer 0 has no v1, v2
                stacked["down"][i, row : row + rank] = convert(weights[f"{att}{c}1"], dtype).T
                stacked[f"{c}2"][i] = convert(weights[f"{att}{c}2"], dtype).T
            row += rank
    progress(L / (L + 1), "reading the vocabulary's rows")
    return Packed(
        emb=convert(weights["emb.weight"], dtype),
        head=convert(weights["head.weight"], dtype),
        ln0=norm("blocks.0.ln0"),
        ln_out=norm("ln_out"),
        ln=every_layer("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias"),
        mix=every_layer(*(f"att.x_{c}" for c in "rwkvag")),
        att=every_layer(*(f"att.{n}" for n in _ATT)),
        ffn_mix=every_layer("ffn.x_k")[:, 0],
        **stacked,
    )


_RANKS = {"w": "decay", "a": "iclr", "v": "value", "g": "gate"}  # in the order of Packed.down
_ATT = ("w0", "a0", "v0", "k_k", "k_a", "r_k", "ln_x.weight", "ln_x.bias")

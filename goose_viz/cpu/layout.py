"""How a model lies in memory for the kernels: which arrays, in which shapes, behind each other.

L layers, D = n_embd, F = n_ffn, V rows of the vocabulary, ranks w, a, v, g and their sum R.  The
matrices are in the weight type; int8 comes with one float32 scale per row.  ``output`` and
``ffn_value`` are transposed, so that an input that is zero costs no reading at all.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from goose_viz.config import Config
from goose_viz.convert import MEMORY

Array = NDArray[np.float32]


class Scales(NamedTuple):
    """Float32, one per row of the matrix of that name; empty but for int8."""

    emb: Array  # (V,)
    rkv: Array  # (L, 3 D)
    down: Array  # (L, R)
    w2: Array  # (L, D)
    a2: Array
    v2: Array
    g2: Array
    output: Array  # (L, D)
    ffn_key: Array  # (L, F)
    ffn_value: Array  # (L, F)
    head: Array  # (V,)


class Packed(NamedTuple):
    """What the kernels read of a model: matrices in the weight type, vectors in float32."""

    emb: NDArray[Any]  # (V, D)
    rkv: NDArray[Any]  # (L, 3 D, D): receptance, key, value
    down: NDArray[Any]  # (L, R, D): w1, a1, v1, g1, transposed and stacked
    w2: NDArray[Any]  # (L, D, rank): transposed
    a2: NDArray[Any]
    v2: NDArray[Any]
    g2: NDArray[Any]
    output: NDArray[Any]  # (L, D, D): transposed, a row per input
    ffn_key: NDArray[Any]  # (L, F, D)
    ffn_value: NDArray[Any]  # (L, F, D): transposed, a row per input
    head: NDArray[Any]  # (V, D)
    ln0: Array  # (2, D): weight, bias
    ln: Array  # (L, 4, D): ln1 weight, bias, ln2 weight, bias
    mix: Array  # (L, 6, D): x_r x_w x_k x_v x_a x_g
    att: Array  # (L, 8, D): w0 a0 v0 k_k k_a r_k ln_x.weight ln_x.bias
    ffn_mix: Array  # (L, 1, D)
    ln_out: Array  # (2, D)
    scale: Scales


#: Names of the matrices in the weight type, and of the float32 vectors.
MATRICES = Scales._fields
VECTORS = tuple(name for name in Packed._fields if name not in (*MATRICES, "scale"))

_LINE = 64  # every array begins on a cache line


class Place(NamedTuple):
    """Where an array lies in the model's memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int  # bytes


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every array but the scales."""
    c = config
    L, D, F, V = c.n_layer, c.n_embd, c.n_ffn, c.vocab_size
    ranks = {"w2": c.rank_decay, "a2": c.rank_iclr, "v2": c.rank_value, "g2": c.rank_gate}
    return {
        "emb": (V, D),
        "rkv": (L, 3 * D, D),
        "down": (L, sum(ranks.values()), D),
        **{name: (L, D, rank) for name, rank in ranks.items()},
        "output": (L, D, D),
        "ffn_key": (L, F, D),
        "ffn_value": (L, F, D),
        "head": (V, D),
        "ln0": (2, D),
        "ln": (L, 4, D),
        "mix": (L, 6, D),
        "att": (L, 8, D),
        "ffn_mix": (L, 1, D),
        "ln_out": (2, D),
    }


def places(config: Config, dtype: str) -> tuple[dict[str, Place], int]:
    """(name -> place, bytes in all); the scales of a matrix are named ``scale.`` and its name."""
    found, offset = {}, 0
    kind = np.dtype(MEMORY[dtype])
    for name, shape in shapes(config).items():
        parts = [(name, shape, kind if name in MATRICES else np.dtype(np.float32))]
        if name in MATRICES:
            rows = shape[:-1] if dtype == "int8" else (*shape[:-2], 0)
            parts.append((f"scale.{name}", rows, np.dtype(np.float32)))
        for part, shape_, dtype_ in parts:
            found[part] = Place(shape_, dtype_, offset)
            offset += -(-math.prod(shape_) * dtype_.itemsize // _LINE) * _LINE
    return found, offset


def arrays(memory: Any, found: dict[str, Place]) -> Packed:
    """Views of a model's memory (uint8, from `places`' number of bytes on)."""

    def view(name: str) -> Any:
        place = found[name]
        count = math.prod(place.shape)
        return np.frombuffer(memory, place.dtype, count, place.offset).reshape(place.shape)

    scale = Scales(*(view(f"scale.{name}") for name in MATRICES))
    return Packed(**{name: view(name) for name in (*MATRICES, *VECTORS)}, scale=scale)

"""How a model lies in memory for the kernels: which arrays, in which shapes, behind each other.

L layers, D = n_embd = H heads of N, F = n_ffn, V rows of the vocabulary, R the sum of the ranks of
w, a, v, g.  The matrices are in the weight type; int8 comes with one float32 scale per row.
``output`` and ``ffn_value`` are transposed, so that an input that is zero costs no reading at all;
so is ``up``, a head's part of which lies in one piece.
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
    up: Array  # (L, 4, D): per output of w2, a2, v2, g2
    output: Array  # (L, D)
    ffn_key: Array  # (L, F)
    ffn_value: Array  # (L, F)
    head: Array  # (V,)


class Packed(NamedTuple):
    """What the kernels read of a model: matrices in the weight type, vectors in float32."""

    emb: NDArray[Any]  # (V, D)
    rkv: NDArray[Any]  # (L, 3 D, D): receptance, key, value
    down: NDArray[Any]  # (L, R, D): w1, a1, v1, g1, transposed and stacked
    up: NDArray[Any]  # (L, H, R, N): w2, a2, v2, g2, a head's columns of them stacked
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


def ranks(config: Config) -> tuple[int, int, int, int]:
    """Of the low-rank pairs, in the order in which they are stacked: w, a, v, g."""
    return config.rank_decay, config.rank_iclr, config.rank_value, config.rank_gate


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every array but the scales."""
    c = config
    L, D, F, V = c.n_layer, c.n_embd, c.n_ffn, c.vocab_size
    R = sum(ranks(c))
    return {
        "emb": (V, D),
        "rkv": (L, 3 * D, D),
        "down": (L, R, D),
        "up": (L, c.n_head, R, c.head_size),
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
            scaled = (config.n_layer, 4, config.n_embd) if name == "up" else shape[:-1]
            rows = scaled if dtype == "int8" else (*scaled[:-1], 0)
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

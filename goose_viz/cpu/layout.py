"""How a model lies in memory for the kernels, and what they share: which arrays, in which shapes.

L layers, D = n_embd = H heads of N, F = n_ffn, V rows of the vocabulary, R the sum of the ranks of
w, a, v, g.  Matrices are in the formats of `goose_gpu.formats`: a row of width numbers takes
``stride(width)`` items.  ``output`` and ``ffn_value`` are transposed, so that an input that is zero
costs no reading at all; so is ``up``, a head's part of which lies in one piece.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from goose_gpu.formats import FORMATS, ROW, format_of
from goose_gpu.planes import ATT, MIXES, SCALARS, VECTORS
from goose_viz.config import Config
from goose_viz.cpu.blocks import Places, Sort, cutter, lay_out, names

Array = NDArray[np.float32]
_FLOAT: np.dtype[Any] = np.dtype(np.float32)
_INT64: np.dtype[Any] = np.dtype(np.int64)
_INT16: np.dtype[Any] = np.dtype(np.int16)

#: A phase's shares: large ones first, small ones last, so that threads end together.
SHARES = (4,) * 4 + (2,) * 4 + (1,) * 8


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
    """What the kernels read of a model: matrices in their formats, vectors in float32."""

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

    @staticmethod
    def nested() -> dict[str, Any]:
        """The fields that are tuples of arrays."""
        return {"scale": Scales}


#: Names of the matrices.
MATRICES = Scales._fields


class Met(NamedTuple):
    """Vectors that rows of weights are multiplied with, also as whole numbers."""

    numbers: Array  # (n, D)
    whole: NDArray[np.int16]  # (n, D filled up to blocks)
    unit: Array  # (n,): what whole numbers are multiples of; 1 where nobody asks for them
    ahead: NDArray[np.int64]  # (2,): bytes ahead of a row's that are asked for, see `distances`


class Scratch(NamedTuple):
    """What the threads share within a token."""

    x: Array  # (D,) the residual stream
    xx: Array  # (D,) its norm
    mixed: (
        Met  # six, mixed with the token before, for r w k v a g; the first for what else there is
    )
    low: Array  # (R,) between the halves of the low-rank pairs
    v_first: Array  # (1, D) layer 0's value
    out: Array  # (1, D) gated reads
    parts: Array  # (most of heads and channel tasks, D)
    ones: Array  # (D,)
    vec: Array  # (L, 8, 1, D)
    scalars: Array  # (L, 3, 1, H)
    read: Array  # (L, 1, H, N)
    residual: Array  # (L, D)
    ranks: NDArray[np.int64]  # (5,) where those of w, a, v, g begin, and where they end
    live: NDArray[np.int64]  # (L, channel tasks) channels that were not zero
    ended: NDArray[np.int64]  # (3 L + 2,) what the `clock` showed when each phase was done

    @staticmethod
    def nested() -> dict[str, Any]:
        """The fields that are tuples of arrays."""
        return {"mixed": Met}


def ranks(config: Config) -> tuple[int, int, int, int]:
    """Of the low-rank pairs, in the order in which they are stacked: w, a, v, g."""
    return config.rank_decay, config.rank_iclr, config.rank_value, config.rank_gate


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Name -> shape in numbers of every array of a model but the scales."""
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
        "mix": (L, len(MIXES), D),
        "att": (L, len(ATT), D),
        "ffn_mix": (L, 1, D),
        "ln_out": (2, D),
    }


def places(config: Config, dtype: str) -> tuple[Places, int]:
    """(name -> place, bytes in all) of a model; a matrix's scales are ``scale.`` and its name."""
    arrays: dict[str, Any] = {}
    for name, shape in shapes(config).items():
        if name not in MATRICES:
            arrays[name] = shape, _FLOAT
            continue
        kind = format_of(dtype, name)
        arrays[name] = (*shape[:-1], kind.stride(shape[-1])), kind.memory
        rows = (config.n_layer, 4, config.n_embd) if name == "up" else shape[:-1]
        beside = rows if kind.group == ROW else (*rows[:-1], 0)
        arrays[f"scale.{name}"] = beside, _FLOAT
    return lay_out({name: arrays[name] for name in names(Packed)})


def scratch_places(config: Config, count: int = 1) -> tuple[Places, int]:
    """The same of `Scratch` for so many sequences."""
    c, B = config, count
    L, D, H, N, R = c.n_layer, c.n_embd, c.n_head, c.head_size, sum(ranks(c))
    met, filled = len(MIXES) * B, FORMATS["int4"].padded(D)
    floats = {
        "x": (B, D), "xx": (B, D), "mixed.numbers": (met, D), "mixed.unit": (met,), "low": (B, R),
        "v_first": (B, D), "out": (B, D), "parts": (max(H, len(SHARES)), B, D), "ones": (D,),
        "vec": (L, len(VECTORS), B, D), "scalars": (L, len(SCALARS), B, H), "read": (L, B, H, N),
        "residual": (L, B, D),
    }  # fmt: skip
    integers = {
        "mixed.ahead": (2,), "ranks": (5,), "live": (L, len(SHARES)), "ended": (3 * L + 2,),
    }  # fmt: skip
    arrays: dict[str, Any] = {name: (shape, _FLOAT) for name, shape in floats.items()}
    arrays |= {name: (shape, _INT64) for name, shape in integers.items()}
    arrays["mixed.whole"] = (met, filled), _INT16
    return lay_out({name: arrays[name] for name in names(Scratch)})


_ANY = Config(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, "")
_DTYPES = {kind.memory: name for name, kind in FORMATS.items()}


def _sorts(found: Places) -> dict[str, Sort]:
    return {name: Sort(place.dtype, len(place.shape)) for name, place in found.items()}


#: (memory, table) -> Packed; the type of the memory's items is that of the layers' matrices.
model_of = cutter(Packed, lambda memory: _sorts(places(_ANY, _DTYPES[memory])[0]))
#: (memory, table) -> Scratch; the memory is uint8.
scratch_of = cutter(Scratch, lambda memory: _sorts(scratch_places(_ANY)[0]))

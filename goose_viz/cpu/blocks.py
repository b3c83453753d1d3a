"""Many arrays as cuts of a few blocks, made anew by the kernel for every token.

Python pays for each array that a call brings: what it knows of it has been displaced from the
caches by the weights of the last token, some two microseconds apiece.  Cutting costs nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from goose_viz.compiled import compiled
from goose_viz.config import Config
from goose_viz.cpu.layout import MATRICES, VECTORS, Packed, Place, Scales, ranks

Array = NDArray[np.float32]

#: A phase's shares: large ones first, small ones last, so that threads end together.
SHARES = (4,) * 4 + (2,) * 4 + (1,) * 8
_SHARES = len(SHARES)


class Scratch(NamedTuple):
    """What the threads share within a token."""

    x: Array  # (D,) the residual stream
    xx: Array  # (D,) its norm
    mixed: Array  # (6, D) mixed with the token before, for r w k v a g
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


def sizes(config: Config) -> NDArray[np.int64]:
    """L, D, H, N, F, V, R."""
    c = config
    return np.array(
        [c.n_layer, c.n_embd, c.n_head, c.head_size, c.n_ffn, c.vocab_size, sum(ranks(c))], np.int64
    )


def ends(found: dict[str, Place]) -> NDArray[np.int64]:
    """(arrays, 2) where those of `Packed` begin and end in a model's memory, in their numbers."""
    names = [*MATRICES, *(f"scale.{name}" for name in MATRICES), *VECTORS]
    rows = []
    for place in (found[name] for name in names):
        begin = place.offset // place.dtype.itemsize
        rows.append((begin, begin + int(np.prod(place.shape))))
    return np.array(rows, np.int64)


def room(config: Config) -> tuple[Array, NDArray[np.int64]]:
    """The blocks that `scratch_of` cuts up."""
    L, D, H, N, _, _, R = (int(n) for n in sizes(config))
    floats = 12 * D + R + max(H, _SHARES) * D + L * (8 * D + 3 * H + H * N + D)
    integers = 5 + L * _SHARES + 3 * L + 2
    block = np.zeros(floats, np.float32), np.zeros(integers, np.int64)
    s = scratch_of.py_func(sizes(config), *block)
    s.ones[:] = 1
    s.ranks[:] = np.cumsum((0, *ranks(config)))
    return block


@compiled
def scratch_of(sizes, floats, integers):
    """Scratch, cut out of its two blocks."""
    L, D, H, N, R = sizes[0], sizes[1], sizes[2], sizes[3], sizes[6]
    parts = max(H, _SHARES)
    a = 2 * D
    b = a + 6 * D
    c = b + R
    d = c + 3 * D
    e = d + parts * D
    f = e + L * 8 * D
    g = f + L * 3 * H
    h = g + L * H * N
    live = 5 + L * _SHARES
    return Scratch(
        floats[:D], floats[D:a], floats[a:b].reshape(6, D), floats[b:c],
        floats[c : c + D].reshape(1, D), floats[c + D : c + 2 * D].reshape(1, D),
        floats[d:e].reshape(parts, D), floats[c + 2 * D : d], floats[e:f].reshape(L, 8, 1, D),
        floats[f:g].reshape(L, 3, 1, H), floats[g:h].reshape(L, 1, H, N),
        floats[h : h + L * D].reshape(L, D),
        integers[:5], integers[5:live].reshape(L, _SHARES), integers[live : live + 3 * L + 2],
    )  # fmt: skip


@compiled
def _cut(block, ends, i):
    return block[ends[i, 0] : ends[i, 1]]


@compiled
def model_of(sizes, ends, matrices, vectors):
    """Packed, cut out of its memory as the weight type and as float32, in the order of `ends`.

    Scales are flat.
    """
    L, D, H, N, F, V, R = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6]
    w, f = matrices, vectors
    scale = Scales(
        _cut(f, ends, 8), _cut(f, ends, 9), _cut(f, ends, 10), _cut(f, ends, 11),
        _cut(f, ends, 12), _cut(f, ends, 13), _cut(f, ends, 14), _cut(f, ends, 15),
    )  # fmt: skip
    return Packed(
        _cut(w, ends, 0).reshape(V, D), _cut(w, ends, 1).reshape(L, 3 * D, D),
        _cut(w, ends, 2).reshape(L, R, D), _cut(w, ends, 3).reshape(L, H, R, N),
        _cut(w, ends, 4).reshape(L, D, D), _cut(w, ends, 5).reshape(L, F, D),
        _cut(w, ends, 6).reshape(L, F, D), _cut(w, ends, 7).reshape(V, D),
        _cut(f, ends, 16).reshape(2, D), _cut(f, ends, 17).reshape(L, 4, D),
        _cut(f, ends, 18).reshape(L, 6, D), _cut(f, ends, 19).reshape(L, 8, D),
        _cut(f, ends, 20).reshape(L, 1, D), _cut(f, ends, 21).reshape(2, D), scale,
    )  # fmt: skip

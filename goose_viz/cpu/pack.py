"""From named tensors to the arrays that the kernels read: in parallel, piece by piece."""

from __future__ import annotations

import contextlib
import math
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from goose_gpu.formats import format_name
from goose_gpu.planes import ATT, LOW, MIXES, RKV
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.convert import Progress, as_stored, matrix_of, stored_by_columns
from goose_viz.cpu.layout import Packed, ranks
from goose_viz.weights import Weights

_PIECE = 4 << 20  # numbers that one thread converts at a time: what is in flight stays small


def allocate(nbytes: int) -> mmap.mmap:
    """Memory for a model, zero, in large pages where the system has them."""
    private = {}
    if hasattr(mmap, "MAP_PRIVATE"):  # shared memory, which is the default, has no large pages
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS}
    try:
        memory = mmap.mmap(-1, nbytes, **private)
    except OSError:
        raise MemoryError from None
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class _Piece(NamedTuple):
    """Rows of one matrix."""

    name: str
    source: Tensor  # (rows, width) of the whole matrix, mapped
    begin: int
    target: NDArray[Any]  # (n, stride)
    scales: NDArray[np.float32]  # (n,), or empty

    @property
    def size(self) -> int:
        """How many numbers there are."""
        return len(self.target) * self.source.shape[1]

    def write(self, dtype: str, weights: Weights) -> int:
        """Convert; how many numbers there were."""
        rows = self.source.rows(self.begin, self.begin + len(self.target))
        weights.check_finite(self.name, rows)
        kind = format_name(dtype, matrix_of(self.name))
        self.target[...], scales = as_stored(rows, kind)
        if scales is not None:
            self.scales[...] = scales
        return self.size


def pack(weights: Weights, dtype: str, m: Packed, threads: int, progress: Progress) -> None:
    """Fill the arrays of ``m``, which are zero; vectors are float32, matrices the weight type.

    Raises
    ------
    CheckpointError
        If a tensor holds NaN or infinity.
    """
    _vectors(weights, m)
    pieces = [piece for matrix in _matrices(weights, m) for piece in _cut(*matrix)]
    total = sum(piece.size for piece in pieces)
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(piece.write, dtype, weights) for piece in pieces]
        try:
            for future in as_completed(futures):
                done += future.result()
                progress(done / total, f"converting to {dtype}: {done / 1e6:.0f} of "
                         f"{total / 1e6:.0f} million numbers")  # fmt: skip
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _cut(name: str, source: Tensor, target: Any, scales: Any) -> Iterator[_Piece]:
    rows, width = source.shape
    step = rows if source.whole else max(1, _PIECE // width)
    for a in range(0, rows, step):
        b = min(a + step, rows)
        yield _Piece(name, source, a, target[a:b], scales[a:b])


def _matrices(weights: Weights, m: Packed) -> Iterator[tuple[str, Tensor, Any, Any]]:
    """(name, tensor by stored rows, where its numbers go, where its scales go)."""

    def tensor(name: str) -> Tensor:
        found = weights.tensors[name]
        return found.transposed() if stored_by_columns(name) else found

    D, H, N = weights.config.n_embd, weights.config.n_head, weights.config.head_size
    for name in ("emb", "head"):
        yield f"{name}.weight", tensor(f"{name}.weight"), getattr(m, name), getattr(m.scale, name)
    for i in range(weights.config.n_layer):
        att, ffn = f"blocks.{i}.att.", f"blocks.{i}.ffn."
        for part, word in enumerate(RKV):
            rows = slice(part * D, (part + 1) * D)
            name = f"{att}{word}.weight"
            yield name, tensor(name), m.rkv[i, rows], m.scale.rkv[i, rows]
        for name, array in (("key", "ffn_key"), ("value", "ffn_value")):
            name = f"{ffn}{name}.weight"
            yield name, tensor(name), getattr(m, array)[i], getattr(m.scale, array)[i]
        yield f"{att}output.weight", tensor(f"{att}output.weight"), m.output[i], m.scale.output[i]
        begin = 0
        for part, (c, rank) in enumerate(zip(LOW, ranks(weights.config), strict=True)):
            rows = slice(begin, begin := begin + rank)
            if f"{att}{c}1" in weights.tensors:  # layer 0 has no v1, v2
                name = f"{att}{c}1"
                yield name, tensor(name), m.down[i, rows], m.scale.down[i, rows]
                name = f"{att}{c}2"
                outputs = tensor(name)
                for h in range(H):
                    mine = slice(h * N, (h + 1) * N)
                    source = outputs.rows(mine.start, mine.stop)
                    yield name, source, m.up[i, h, rows].T, m.scale.up[i, part, mine]


def _vectors(weights: Weights, m: Packed) -> None:
    def put(target: NDArray[np.float32], names: list[str]) -> None:
        for row, name in zip(target, names, strict=True):
            if name in weights.tensors:  # layer 0 has no v0
                row[...] = weights[name].float32().ravel()

    put(m.ln0, ["blocks.0.ln0.weight", "blocks.0.ln0.bias"])
    put(m.ln_out, ["ln_out.weight", "ln_out.bias"])
    for i in range(weights.config.n_layer):
        block = f"blocks.{i}."
        put(m.ln[i], [f"{block}{n}" for n in ("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias")])
        put(m.mix[i], [f"{block}att.x_{c}" for c in MIXES])
        put(m.att[i], [f"{block}att.{name}" for name in ATT])
        put(m.ffn_mix[i], [f"{block}ffn.x_k"])


def nbytes(m: Packed) -> int:
    """Memory of the arrays, without the gaps between them."""
    every = [*(a for a in m if isinstance(a, np.ndarray)), *m.scale]
    return sum(math.prod(a.shape) * a.itemsize for a in every)

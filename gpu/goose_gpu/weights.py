"""A model's weights on a card, in the layout that the kernels read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from goose_gpu.channelmix import slices
from goose_gpu.formats import ROW, format_of
from goose_gpu.launch import padded
from goose_gpu.matmul import Products
from goose_gpu.planes import ATT, LOW, LOW_MIX, LOW_PLANE, MIXES, RKV, RKV_MIX, RKV_PLANE


@dataclass(frozen=True)
class Sizes:
    """What the engine must know of a model; ranks are those of decay, rate, value, gate."""

    n_layer: int
    n_embd: int
    n_head: int
    n_ffn: int
    vocab_size: int
    ranks: tuple[int, int, int, int]
    layer_norm_eps: float
    group_norm_eps: float
    removal_scale: float

    @property
    def head_size(self) -> int:
        """N."""
        return self.n_embd // self.n_head

    @property
    def state_words(self) -> int:
        """Float32 numbers of a state: wkv (L, H, N, N), then both shifts (L, D)."""
        return self.n_layer * self.n_embd * (self.head_size + 2)


class Source(NamedTuple):
    """Where tensors come from, by their x070 names."""

    # (rows, columns) in the memory of its format, int4 in whole blocks; int8 comes with scales,
    # others with None: one a row, but one a column of the low-rank matrices (in, out) and of
    # att.output and ffn.value
    matrix: Callable[[str], tuple[NDArray[Any], NDArray[np.float32] | None]]
    vector: Callable[[str], NDArray[np.float32]]  # (n,)
    has: Callable[[str], bool]


class Layer(NamedTuple):
    """One layer on the card; f32 vectors, matrices flat in the weight type, rows padded."""

    ln1: tuple[Any, Any]  # (D,) weight, bias
    ln2: tuple[Any, Any]
    mix: Any  # (6, D): r w k v a g
    att: Any  # (8, D): w0 a0 v0 k_k k_a r_k, group norm's weight, bias
    rkv: Products  # the three projections
    low: Products  # w1, a1, v1, g1
    up: Products  # w2, a2, v2, g2 side by side
    output: Products
    ffn_mix: Any  # (1, D)
    ffn_key: Products
    ffn_value: Products  # in slices


class Weights:
    """The model on a card.

    Parameters
    ----------
    card : Card
    sizes : Sizes
    dtype : str
        ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"int8"`` or ``"int4"``.
    source : Source
        Asked for one tensor at a time.
    progress : callable (float, str)
    """

    def __init__(
        self, card: Any, sizes: Sizes, dtype: str, source: Source,
        progress: Callable[[float, str], None],
    ) -> None:  # fmt: skip
        self.sizes, self.dtype = sizes, dtype
        self.memory = format_of(dtype, "output").memory
        self.ranks, self.width, self.ffn = padded_sizes(sizes, dtype)
        self.slices = slices(sizes.n_embd, format_of(dtype, "ffn_value").memory.itemsize)
        self.nbytes = 0
        self._card = card
        L = sizes.n_layer
        self.layers = []
        for i in range(L):
            progress(i / (L + 1), f"sending layer {i + 1} of {L} to the card")
            self.layers.append(self._layer(i, source))
        progress(L / (L + 1), "sending the vocabulary's rows to the card")
        emb, scales = source.matrix("emb.weight")
        self.emb, self.emb_scales = self._send(emb), self._send_scales(scales)
        self.ln0 = self._norm(source, "blocks.0.ln0")
        self.ln_out = self._norm(source, "ln_out")
        head, scales = source.matrix("head.weight")
        V = sizes.vocab_size
        self.head = Products(
            self._send(self._rows("head", head)), self._send_scales(scales), self.width,
            [(0, 0, V, 0, self.width, 0, 0)], self._send,
        )  # fmt: skip

    def _send(self, array: NDArray[Any]) -> Any:
        self.nbytes += array.nbytes
        return self._card.upload(np.ascontiguousarray(array))

    def _send_scales(self, scales: NDArray[np.float32] | None) -> Any:
        """Scales on the card; one number that nobody looks at where there are none."""
        return self._send(np.ones(1, np.float32) if scales is None else scales.ravel())

    def _rows(self, name: str, matrix: NDArray[Any], rows: int = 0) -> NDArray[Any]:
        """A matrix, flat, with its rows padded to whole packets and to so many, with zeros."""
        kind = format_of(self.dtype, name)
        out = np.zeros((max(rows, matrix.shape[0]), kind.stride(self.width)), kind.memory)
        out[: matrix.shape[0], : matrix.shape[1]] = matrix
        return out.ravel()

    def _norm(self, source: Source, name: str) -> tuple[Any, Any]:
        return (
            self._send(source.vector(name + ".weight")),
            self._send(source.vector(name + ".bias")),
        )

    def _layer(self, i: int, source: Source) -> Layer:
        D, F, width = self.sizes.n_embd, self.ffn, self.width
        p, ranks = f"blocks.{i}.", self.ranks
        R = sum(ranks)
        ends = np.cumsum([0, *ranks]).tolist()

        def vectors(names: list[str]) -> NDArray[np.float32]:
            zeros = np.zeros(D, np.float32)
            return np.stack([source.vector(n) if source.has(n) else zeros for n in names])

        three = [source.matrix(f"{p}att.{name}.weight") for name in RKV]
        rkv_scales = [scales for _, scales in three if scales is not None]
        down, up = np.zeros((R, width), self.memory), np.zeros((D, R), self.memory)
        down_scales, up_scales = np.ones(R, np.float32), np.ones((4, D), np.float32)
        for n, name in enumerate(LOW):
            if source.has(f"{p}att.{name}1"):  # layer 0 has no v1, v2
                first, first_scales = source.matrix(f"{p}att.{name}1")
                second, second_scales = source.matrix(f"{p}att.{name}2")
                rank = first.shape[1]
                rows = slice(ends[n], ends[n] + rank)
                down[rows, :D] = first.T
                up[:, ends[n] : ends[n] + rank] = second.T
                if first_scales is not None and second_scales is not None:
                    down_scales[rows], up_scales[n] = first_scales, second_scales
        pieces, columns = self.slices
        value = np.zeros((pieces * columns, F), self.memory)
        matrix, value_scales = source.matrix(f"{p}ffn.value.weight")
        value[:D, : matrix.shape[1]] = matrix
        value = value.reshape(pieces, columns, F).transpose(0, 2, 1)

        key, key_scales = source.matrix(f"{p}ffn.key.weight")
        output, output_scales = source.matrix(f"{p}att.output.weight")

        send, send_scales = self._send, self._send_scales
        return Layer(
            ln1=self._norm(source, p + "ln1"),
            ln2=self._norm(source, p + "ln2"),
            mix=send(vectors([f"{p}att.x_{c}" for c in MIXES])),
            att=send(vectors([f"{p}att.{name}" for name in ATT])),
            rkv=Products(
                send(np.concatenate([self._rows("rkv", matrix) for matrix, _ in three])),
                send_scales(np.concatenate(rkv_scales) if rkv_scales else None),
                format_of(self.dtype, "rkv").padded(width),
                [(mix, n * D, D, 0, width, plane, 0)
                 for n, (mix, plane) in enumerate(zip(RKV_MIX, RKV_PLANE, strict=True))], send,
            ),
            low=Products(
                send(down.ravel()), send(down_scales), width,
                [(plane, ends[n], ranks[n], 0, width, 0, ends[n])
                 for n, plane in enumerate(LOW_MIX)], send,
            ),
            up=Products(
                send(up.ravel()), send(up_scales.ravel()), R,
                [
                    (0, 0, D, ends[n], ranks[n], plane, 0, n * D)
                    for n, plane in enumerate(LOW_PLANE)
                ],
                send,
            ),
            output=Products(
                send(self._rows("output", output)),
                send_scales(_padded_scales(output_scales, width)), width,
                [(0, 0, D, 0, width, 0, 0)], send, by_input=True,
            ),
            ffn_mix=send(vectors([f"{p}ffn.x_k"])),
            ffn_key=Products(
                send(self._rows("ffn_key", key, F)), send_scales(_padded_scales(key_scales, F)),
                format_of(self.dtype, "ffn_key").padded(width),
                [(0, 0, F, 0, width, 0, 0)], send,
            ),
            ffn_value=Products(
                send(value.ravel()), send_scales(_padded_scales(value_scales, F)), 0,
                [(0, 0, D, 0, F, 0, 0)], send, columns, F * columns, by_input=True,
            ),
        )  # fmt: skip


def _padded_scales(scales: NDArray[np.float32] | None, n: int) -> NDArray[np.float32] | None:
    """Scales for padding as well: what they scale is zero, but they must be numbers."""
    if scales is None:
        return None
    return np.concatenate([scales, np.ones(n - scales.size, np.float32)])


def padded_sizes(sizes: Sizes, dtype: str) -> tuple[tuple[int, int, int, int], int, int]:
    """(ranks, width of vectors, ffn) in whole packets of 16 bytes of the low-rank matrices."""
    packet = format_of(dtype, "down").packet
    w, a, v, g = (padded(rank, packet) for rank in sizes.ranks)
    return (w, a, v, g), padded(sizes.n_embd, packet), padded(sizes.n_ffn, packet)


def matrix_bytes(sizes: Sizes, dtype: str) -> dict[str, int]:
    """Bytes of each matrix of a layer, and of the embedding and the head, without scales beside."""
    ranks, width, F = padded_sizes(sizes, dtype)
    D, V, R = sizes.n_embd, sizes.vocab_size, sum(ranks)
    pieces, columns = slices(D, format_of(dtype, "ffn_value").memory.itemsize)
    shapes = {
        "rkv": (3 * D, width), "down": (R, width), "up": (D, R), "output": (D, width),
        "ffn_key": (F, width), "ffn_value": (pieces * columns, F), "emb": (V, D),
        "head": (V, width),
    }  # fmt: skip
    kinds = {name: format_of(dtype, name) for name in shapes}
    return {
        name: rows * kinds[name].stride(n) * kinds[name].memory.itemsize
        for name, (rows, n) in shapes.items()
    }


def weight_bytes(sizes: Sizes, dtype: str) -> int:
    """Memory that the weights will take."""
    ranks, width, F = padded_sizes(sizes, dtype)
    D, V, R = sizes.n_embd, sizes.vocab_size, sum(ranks)
    matrices = matrix_bytes(sizes, dtype)
    ends = matrices.pop("emb") + matrices.pop("head")
    beside = {"rkv": 3 * D, "output": width, "ffn_key": F, "ffn_value": F, "emb": V, "head": V}
    scales = {
        name: n if format_of(dtype, name).group == ROW else 1 for name, n in beside.items()
    }  # those of the low-rank matrices are always there
    layer = sum(scales[name] for name in ("rkv", "output", "ffn_key", "ffn_value")) + R + 4 * D
    vectors = 6 + 8 + 4 + 1
    return (
        sizes.n_layer * (sum(matrices.values()) + (vectors * D + layer) * 4)
        + ends + (4 * D + scales["emb"] + scales["head"]) * 4
    )  # fmt: skip

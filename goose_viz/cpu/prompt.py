"""Many tokens at once: float matrix products by NumPy's BLAS, everything else by our own kernels.

Where weights are whole numbers, vectors are rounded to int16 once, as for a single token, and
`products` does what BLAS does for floats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from goose_gpu.formats import FORMATS
from goose_gpu.planes import LOW, LOW_MIX, LOW_PLANE, RKV_MIX, RKV_PLANE
from goose_viz.config import Config
from goose_viz.cpu import products
from goose_viz.cpu import prompt_kernels as kernels
from goose_viz.cpu.arithmetic import meet
from goose_viz.cpu.layout import Met, Packed, ranks
from goose_viz.cpu.team import TEAM
from goose_viz.cpu.tickets import COUNTERS, NEXT
from goose_viz.observables import SCALARS, VECTORS
from goose_viz.probe import Recorder
from goose_viz.state import State

#: Tokens at a time: memory stays bounded at any length, and weights are prepared once for so many.
CHUNK = 512
_WIDE = 2 << 20  # float32 numbers that a matrix is widened into at a time
_PIECES = 8  # tasks per thread of the kernels that run over tokens or rows

Array = NDArray[np.float32]


class Vectors(NamedTuple):
    """T vectors of n numbers, some times: as floats or, for whole weights, rounded; see `meet`."""

    numbers: Array  # (C, T, n), or T = 0
    whole: NDArray[np.int16]  # (C, T, n filled up to blocks), or none
    unit: Array  # (C, T)


class Prompt:
    """Feeds chunks of tokens to a model.

    Parameters
    ----------
    config : Config
    dtype : str
    m : Packed
    threads : int
    ahead : (int, int)
        See `distances`.
    """

    def __init__(
        self, config: Config, dtype: str, m: Packed, threads: int, ahead: tuple[int, int]
    ) -> None:
        self.config, self._dtype = config, dtype
        self._m, self._threads = m, threads
        self._whole = FORMATS[dtype].whole
        self._counters = np.zeros(COUNTERS, np.int64)
        self._ones = np.ones(config.n_embd, np.float32)
        self._eps = np.float32(config.layer_norm_eps), np.float32(config.group_norm_eps)
        self._removal = np.float32(config.removal_scale)
        self._wide = np.empty(0, np.float32)
        filled = FORMATS["int4"].padded(config.n_embd)
        self._last = Met(
            np.zeros((1, config.n_embd), np.float32), np.zeros((1, filled), np.int16),
            np.ones(1, np.float32), np.array(ahead, np.int64),
        )  # fmt: skip

    def feed(
        self,
        start: int,
        tokens: Sequence[int],
        state: State,
        logits: Array,
        recorder: Recorder | None,
        report: Callable[[float], None],
    ) -> None:
        """A chunk of T tokens; the state advances in place.

        Parameters
        ----------
        start : int
            Where the recorder keeps the first of them.
        logits : ndarray (n, V)
            Written: those behind the last n tokens; n is T, 1 or 0.
        report : callable (float)
            Told the share done between layers; it may raise, and the state is half-way then.
        """
        c, m, T = self.config, self._m, len(tokens)
        D, H, N = c.n_embd, c.n_head, c.head_size
        ln_eps, gn_eps = self._eps
        x, out, v_first = (np.empty((T, D), np.float32) for _ in range(3))
        mixed, vec = self._vectors(6, T, D), np.empty((8, T, D), np.float32)
        scalars, read = np.empty((3, T, H), np.float32), np.empty((T, H, N), np.float32)
        ends = np.cumsum((0, *ranks(c))).tolist()
        low = np.empty((T, ends[-1]), np.float32)
        # once for all layers: the system hands out memory a page at a time, at a price
        read_in = self._vectors(1, T, max(D, c.n_ffn) if self._whole else 0)
        hidden = np.empty((T, c.n_ffn if self._whole else 0), np.float32)
        kernels.norm(self._embedding(tokens), m.ln0[0], m.ln0[1], ln_eps, self._ones, x)
        for i in range(c.n_layer):
            report(i / c.n_layer)
            self._mix(x, m.ln[i, :2], state.att_shift[i], m.mix[i], mixed)
            for part, (source, target) in enumerate(zip(RKV_MIX, RKV_PLANE, strict=True)):
                self._product("rkv", i, part * D, D, mixed, source, vec[target])
            for part, source in enumerate(LOW_MIX):
                first, rank = ends[part], ends[part + 1] - ends[part]
                self._product("down", i, first, rank, mixed, source, low, first)
            self._activate(low, ends[LOW.index("w") + 1], ends[LOW.index("g")])
            up = self._up(i)
            for part, target in enumerate(LOW_PLANE):
                source_ = low[:, ends[part] : ends[part + 1]]
                np.matmul(source_, up[ends[part] : ends[part + 1]], out=vec[target])
                if m.scale.up.size:
                    vec[target] *= m.scale.up[i, part]
            wanted = recorder.wants("wkv", i) if recorder is not None else None
            states = np.empty((0 if wanted is None else T, H, N, N), np.float32)
            self._run(
                kernels.recur, H, i, m.att[i], state.wkv[i], v_first, vec, scalars, read, out,
                gn_eps, self._removal, states,
            )  # fmt: skip
            self._add_product("output", i, out, x, read_in)
            self._mix(x, m.ln[i, 2:], state.ffn_shift[i], m.ffn_mix[i], mixed)
            self._channels(i, mixed, x, hidden, read_in)
            if recorder is not None:
                values = {"wkv": states, "read": read, "residual": x}
                values |= dict(zip(VECTORS, vec, strict=True))
                values |= dict(zip(SCALARS, scalars, strict=True))
                for name, value in values.items():
                    wanted = recorder.wants(name, i)
                    if wanted is not None:
                        wanted[start : start + T] = value
        if len(logits) == 0:
            return
        last = x[T - len(logits) :]
        if len(last) == 1:
            met, pieces = self._last, _PIECES * self._threads
            kernels.norm(last, m.ln_out[0], m.ln_out[1], ln_eps, self._ones, met.numbers)
            meet(met, 0, m.head)
            self._run(kernels.project, pieces, m.head, m.scale.head, met, logits[0])
            return
        normed = np.empty_like(last)
        kernels.norm(last, m.ln_out[0], m.ln_out[1], ln_eps, self._ones, normed)
        vectors = self._vectors(1, T, D if self._whole else 0)._replace(numbers=normed[None])
        self._shorten(normed, self._ones, 0, False, vectors)
        self._product("head", 0, 0, c.vocab_size, vectors, 0, logits)

    def _embedding(self, tokens: Sequence[int]) -> Array:
        """The tokens' rows (T, D)."""
        out = np.empty((len(tokens), self.config.n_embd), np.float32)
        kernels.look_up(self._m.emb, self._m.scale.emb, np.array(tokens), out)
        return out

    def _activate(self, x: Array, tanh: int = 0, sigmoid: int = 0, squared: bool = False) -> None:
        pieces = min(len(x), _PIECES * self._threads)
        self._run(kernels.activate, pieces, x, tanh, sigmoid, squared)

    def _mix(self, x: Array, norms: Array, shift: Array, weights: Array, mixed: Vectors) -> None:
        last = np.empty_like(shift)
        pieces = min(len(x), _PIECES * self._threads)
        self._run(
            kernels.norm_and_mix, pieces, x, norms, self._eps[0], self._ones, shift, weights,
            *mixed, last,
        )  # fmt: skip
        shift[...] = last

    def _channels(
        self, layer: int, mixed: Vectors, x: Array, hidden: Array, read_in: Vectors
    ) -> None:
        """The channel mix of layer i, floats some channels at a time: x (T, D) in place."""
        F = self.config.n_ffn
        if self._whole:
            self._product("ffn_key", layer, 0, F, mixed, 0, hidden)
            self._add_product("ffn_value", layer, hidden, x, read_in, squared=True)
            return
        for a, b, W in self._rows("ffn_key", layer, 0, F):
            hidden = mixed.numbers[0] @ W.T
            self._activate(hidden, squared=True)
            for c, d, V in self._rows("ffn_value", layer, a, b):
                x += hidden[:, c : c + d] @ V

    def _vectors(self, count: int, T: int, n: int) -> Vectors:
        """Room for T vectors of n numbers, so many times, in the form that weights meet."""
        if not self._whole:
            none = np.empty((count, T, 0), np.int16), np.empty((count, 0), np.float32)
            return Vectors(np.empty((count, T, n), np.float32), *none)
        filled = FORMATS["int4"].padded(n)
        whole, unit = np.zeros((count, T, filled), np.int16), np.empty((count, T), np.float32)
        return Vectors(np.empty((count, 0, n), np.float32), whole, unit)

    def _shorten(self, x: Array, scales: Array, first: int, squared: bool, out: Vectors) -> None:
        """X (T, n) rounded into the first of ``out``, where weights are whole.

        x goes times its scales, and through relu^2 before that if ``squared``, in place.
        """
        if self._whole:
            pieces = min(len(x), _PIECES * self._threads)
            self._run(
                products.shorten, pieces, x, scales, first, squared, out.whole[0], out.unit[0]
            )

    def _product(
        self, name: str, layer: int, first: int, rows: int, x: Vectors, c: int, out: Array,
        column: int = 0,
    ) -> None:  # fmt: skip
        """Out (T, …) from a column on = rows of a layer's matrix times vectors c of x."""
        if not self._whole:
            for a, b, W in self._rows(name, layer, first, rows):
                np.matmul(x.numbers[c], W.T, out=out[:, column + a : column + a + b])
            return
        weights, scales = getattr(self._m, name), getattr(self._m.scale, name)
        n = self.config.n_embd
        at = layer * weights.shape[-2] + first
        self._run(
            products.rows_times, _PIECES * self._threads, weights, scales, at, rows, n,
            x.whole[c], x.unit[c], out.reshape(-1), column, out.shape[1],
        )  # fmt: skip

    def _add_product(
        self, name: str, layer: int, inputs: Array, x: Array, room: Vectors, squared: bool = False
    ) -> None:
        """X (T, D) += inputs (T, n) times a layer's matrix that is stored by inputs."""
        if not self._whole:
            for a, b, W in self._rows(name, layer, 0, inputs.shape[1]):
                x += inputs[:, a : a + b] @ W
            return
        weights, scales = getattr(self._m, name), getattr(self._m.scale, name)
        n, first = inputs.shape[1], layer * weights.shape[-2]
        self._shorten(inputs, scales.reshape(-1), first, squared, room)
        self._run(
            products.columns_times, _PIECES * self._threads, weights, first, n, x.shape[1],
            room.whole[0], room.unit[0], x,
        )  # fmt: skip

    def _up(self, layer: int) -> Array:
        """Second halves of a layer's low-rank pairs, stacked (R, D), without their scales."""
        up = self._m.up[layer]
        H, R, N = up.shape
        if up.dtype != np.float32:
            wide = np.empty((H * R, N), np.float32)
            pieces = _PIECES * self._threads
            unscaled = np.ones(H * R, np.float32)
            self._run(kernels.widen_rows, pieces, up.reshape(-1, N), unscaled, 0, wide)
            up = wide.reshape(H, R, N)
        stacked: Array = up.transpose(1, 0, 2).reshape(R, H * N)
        return stacked

    def _rows(self, name: str, layer: int, first: int, count: int) -> Any:
        """(where they begin, how many, float32 (rows, D)) of a float matrix's rows, in pieces.

        Pieces of a matrix that is not float32 are good until the next one is asked for.
        """
        weights, scales = getattr(self._m, name), getattr(self._m.scale, name)
        rows, D = weights.shape[-2], self.config.n_embd
        if weights.dtype == np.float32:
            yield 0, count, weights.reshape(-1, D)[layer * rows + first :][:count]
            return
        step = max(1, min(count, _WIDE // D))
        for begin in range(0, count, step):
            size = min(step, count - begin)
            wide = self._room(name == "ffn_value", size * D).reshape(size, D)
            at = layer * rows + first + begin
            pieces = min(size, _PIECES * self._threads)
            self._run(kernels.widen_rows, pieces, weights, scales, at, wide)
            yield begin, size, wide

    def _room(self, second: bool, size: int) -> Array:
        """Float32 numbers to widen into; the channel mix needs two matrices at once."""
        if not self._wide.size:
            self._wide = np.empty((2, _WIDE), np.float32)
        return self._wide[int(second), :size]

    def _run(self, kernel: Callable[..., None], pieces: int, *arguments: Any) -> None:
        limit = int(self._counters[NEXT]) + pieces
        kind = tuple((getattr(a, "dtype", type(a)), getattr(a, "ndim", 0)) for a in arguments)
        TEAM.run(self._threads, kind, kernel, self._counters, limit, pieces, *arguments)

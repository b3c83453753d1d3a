"""The CPU engine: one compiled call per token, matrix products for many."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from goose_viz.convert import Progress
from goose_viz.cpu import kernels
from goose_viz.cpu.pack import pack
from goose_viz.observables import SCALARS, VECTORS
from goose_viz.probe import Recorder
from goose_viz.state import State
from goose_viz.weights import Weights

_CHUNK = 128  # tokens of a prompt at a time: memory stays bounded at any length
_FEW = 4  # fewer tokens than this go one by one: the matrix product would not pay

# A model this small (bytes) runs on one core: it is fast enough there, it leaves the others to the
# window, and threads that wait for each other 30 times in half a millisecond suffer from any load.
_ONE_THREAD = 48 << 20

# One parallel region at a time: numba's workqueue layer ends the process when two threads enter.
_POOL = threading.Lock()

Array = NDArray[np.float32]


class CpuEngine:
    """RWKV-7 with float32 arithmetic over fp32, bf16 or fp16 weights."""

    state_dtype = np.dtype(np.float32)

    def __init__(self, weights: Weights, dtype: str, progress: Progress) -> None:
        self.config = c = weights.config
        self.dtype = dtype
        self._m = pack(weights, dtype, progress)
        self.n_parameters = weights.n_parameters
        self.nbytes = sum(a.nbytes for a in self._m)
        L, D, H, N = c.n_layer, c.n_embd, c.n_head, c.head_size
        self._vec = np.empty((L, len(VECTORS), 1, D), np.float32)
        self._scalars = np.empty((L, len(SCALARS), 1, H), np.float32)
        self._read = np.empty((L, 1, H, N), np.float32)
        self._every_layer = tuple(range(L))
        self._residual = np.empty((L, D), np.float32)
        self._observed = {"residual": self._residual, "read": self._read[:, 0]}
        self._observed |= {name: self._vec[:, i, 0] for i, name in enumerate(VECTORS)}
        self._observed |= {name: self._scalars[:, i, 0] for i, name in enumerate(SCALARS)}
        self._eps = np.float32(c.layer_norm_eps), np.float32(c.group_norm_eps)
        # the launch's number: get_num_threads() would be what an engine before this one has set
        cores = min(int(getattr(numba.config, "NUMBA_NUM_THREADS")), _cores())  # noqa: B009
        self._threads = 1 if self.nbytes < _ONE_THREAD else cores

    def new_state(self) -> State:
        """The state before the first token."""
        return State.zeros(self.config)

    def forward(
        self, tokens: Sequence[int], state: State, all_logits: bool, recorder: Recorder | None
    ) -> Array:
        """Feed tokens; logits (V,) of the last or (T, V) of all; the state advances in place."""
        T, V = len(tokens), self.config.vocab_size
        logits = np.empty((T if all_logits else 1, V), np.float32)
        with _POOL:
            numba.set_num_threads(self._threads)
            for start in range(0, T, _CHUNK):
                chunk = tokens[start : start + _CHUNK]
                rows = logits[start : start + _CHUNK] if all_logits else logits
                if len(chunk) < _FEW:
                    for i, token in enumerate(chunk):
                        self._step(token, state, rows[i if all_logits else 0])
                        if recorder is not None:
                            self._record_step(start + i, recorder, state)
                else:
                    self._prefill(start, chunk, state, rows, recorder)
        return logits if all_logits else logits[0]

    def _step(self, token: int, state: State, logits: Array) -> None:
        kernels.step(
            token, self._m, state.att_shift, state.ffn_shift, state.wkv, self._vec, self._scalars,
            self._read, self._residual, logits, *self._eps,
        )  # fmt: skip

    def _record_step(self, t: int, recorder: Recorder, state: State) -> None:
        layers = recorder.layers
        every = layers == self._every_layer
        for name, target in recorder.arrays.items():
            source = state.wkv if name == "wkv" else self._observed[name]
            target[t] = source if every else source[list(layers)]

    def _prefill(
        self, start: int, tokens: Sequence[int], state: State, logits: Array,
        recorder: Recorder | None,
    ) -> None:  # fmt: skip
        """Many tokens as matrix products; only the state's recurrence goes token by token."""
        c, m, T = self.config, self._m, len(tokens)
        D, H, N = c.n_embd, c.n_head, c.head_size
        ln_eps, gn_eps = self._eps
        x, out, v_first = (np.empty((T, D), np.float32) for _ in range(3))
        mixed, vec = np.empty((6, T, D), np.float32), np.empty((8, T, D), np.float32)
        scalars, read = np.empty((3, T, H), np.float32), np.empty((T, H, N), np.float32)
        ends = np.cumsum([c.rank_decay, c.rank_iclr, c.rank_value])
        kernels.embed(np.asarray(tokens, np.int64), m.emb, m.ln0, ln_eps, x)
        for i in range(c.n_layer):
            ln = m.ln[i]
            kernels.norm_and_mix(x, ln[0], ln[1], ln_eps, state.att_shift[i], m.mix[i], mixed)
            x_r, x_w, x_k, x_v, x_a, x_g = mixed
            W_r, W_k, W_v = np.split(_wide(m.rkv[i]), 3)
            vec[5], vec[3], vec[4] = x_r @ W_r.T, x_k @ W_k.T, x_v @ W_v.T
            w1, a1, v1, g1 = np.split(_wide(m.down[i]), ends)
            vec[0] = np.tanh(x_w @ w1.T) @ _wide(m.w2[i]).T
            vec[1] = (x_a @ a1.T) @ _wide(m.a2[i]).T
            vec[7] = (x_v @ v1.T) @ _wide(m.v2[i]).T
            vec[6] = (_HALF + _HALF * np.tanh(_HALF * (x_g @ g1.T))) @ _wide(m.g2[i]).T
            kept = recorder.wants("wkv", i) if recorder is not None else None
            states = np.empty((0 if kept is None else T, H, N, N), np.float32)
            kernels.recur(
                i, m.att[i], state.wkv[i], v_first, vec, scalars, read, out, gn_eps, states
            )
            x += out @ _wide(m.output[i]).T
            kernels.norm_and_mix(
                x, ln[2], ln[3], ln_eps, state.ffn_shift[i], m.ffn_mix[i : i + 1], mixed[:1]
            )
            hidden = mixed[0] @ _wide(m.ffn_key[i]).T
            kernels.relu_squared(hidden)
            x += hidden @ _wide(m.ffn_value[i]).T
            if recorder is not None:
                values = {"wkv": states, "read": read, "residual": x}
                values |= dict(zip(VECTORS, vec, strict=True))
                values |= dict(zip(SCALARS, scalars, strict=True))
                for name, value in values.items():
                    target = recorder.wants(name, i)
                    if target is not None:
                        target[start : start + T] = value
        last = x if len(logits) == T else x[-1:]
        normed = np.empty_like(last)
        kernels.norm(last, m.ln_out[0], m.ln_out[1], ln_eps, normed)
        logits[:] = normed @ _wide(m.head).T


_HALF = np.float32(0.5)


def _wide(bits: NDArray[Any]) -> Array:
    """A stored matrix as float32; float32 itself is not copied."""
    if bits.dtype == np.float32:
        return bits
    out = np.empty(bits.shape, np.float32)
    kernels.widen_matrix(bits, out)
    return out


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

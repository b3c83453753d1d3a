"""The CPU engine: where weights, kernels and threads come together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_gpu.formats import format_of
from goose_viz.config import Config
from goose_viz.convert import Progress
from goose_viz.cpu import decode
from goose_viz.cpu.blocks import table, views
from goose_viz.cpu.distances import USUAL, distances
from goose_viz.cpu.layout import Packed, Scratch, places, ranks, scratch_places
from goose_viz.cpu.pack import allocate, nbytes, pack
from goose_viz.cpu.prompt import CHUNK, Prompt
from goose_viz.cpu.store import Stored
from goose_viz.cpu.team import TEAM, cores
from goose_viz.cpu.tickets import COUNTERS, NEXT, OPEN
from goose_viz.observables import SCALARS, VECTORS
from goose_viz.probe import Recorder
from goose_viz.ranking import Candidates
from goose_viz.state import State
from goose_viz.weights import Weights

_FEW = 4  # fewer tokens than this go one by one: the matrix product would not pay

# A model this small (bytes) runs on one core: it is fast enough there, it leaves the others to the
# window, and threads that wait for each other 20 times in half a millisecond suffer from any load.
_ONE_THREAD = 48 << 20

Array = NDArray[np.float32]


class CpuEngine:
    """RWKV-7 with float32 arithmetic over fp32, bf16, fp16, int8 or int4 weights."""

    state_dtype = np.dtype(np.float32)

    def __init__(self, weights: Weights, dtype: str, progress: Progress) -> None:
        self.config = c = weights.config
        self.dtype = dtype
        self.n_parameters = weights.n_parameters
        found, size = places(c, dtype)
        memory = allocate(size)
        self._m = m = views(Packed, memory, found)
        stored = Stored(weights.source, dtype, size)
        if not stored.read(memory, cores(), progress):
            pack(weights, dtype, m, cores(), progress)
            stored.write(memory, progress)
        self.nbytes = nbytes(m)
        small = self.nbytes < _ONE_THREAD
        self._threads = 1 if small else cores()
        ahead = USUAL if small else distances()
        self._prompt = Prompt(c, dtype, m, self._threads, ahead)
        self._memory = np.frombuffer(memory, m.rkv.dtype), table(found)
        self._ahead = ahead
        self._single = one = Room(c, dtype, 1, ahead)
        self._many: Room | None = None
        s = self._scratch = one.scratch
        self._counters = np.zeros(COUNTERS, np.int64)
        self._counters[OPEN] = 1  # a token's first task needs to wait for nothing
        constants = c.layer_norm_eps, c.group_norm_eps, c.removal_scale
        self._constants = tuple(map(np.float32, constants))
        self._observed = {"residual": s.residual[:, 0], "read": s.read[:, 0]}
        self._observed |= {name: s.vec[:, i, 0] for i, name in enumerate(VECTORS)}
        self._observed |= {name: s.scalars[:, i, 0] for i, name in enumerate(SCALARS)}
        self._every_layer = tuple(range(c.n_layer))
        self._no_states = np.empty((0, c.n_head, c.head_size, c.head_size), np.float32)
        self._no_rows = np.full(c.n_layer, -1)

    @property
    def bytes_read(self) -> int:
        """What the last single token took from memory: weights, and the state there and back."""
        c = self.config
        zero = c.n_layer * c.n_ffn - int(self._scratch.live.sum())
        unread = (c.vocab_size - 1) * format_of(self.dtype, "emb").row_bytes(c.n_embd)
        unread += zero * format_of(self.dtype, "ffn_value").row_bytes(c.n_embd)
        return self.nbytes - unread + 2 * 4 * c.n_layer * c.n_embd * c.head_size

    def new_state(self) -> State:
        """The state before the first token."""
        return State.zeros(self.config)

    def forward(
        self,
        tokens: Sequence[int],
        state: State,
        all_logits: bool,
        recorder: Recorder | None,
        report: Callable[[float], None],
        candidates: Candidates | None = None,
    ) -> Array:
        """Feed tokens; logits (V,) of the last or (T, V) of all; the state advances in place."""
        T, V = len(tokens), self.config.vocab_size
        logits = np.empty((T if all_logits else 1, V), np.float32)
        for start in range(0, T, CHUNK):
            chunk = tokens[start : start + CHUNK]
            rows = logits[start : start + CHUNK] if all_logits else logits[: start + CHUNK >= T]
            if len(chunk) < _FEW:
                for i, token in enumerate(chunk):
                    with TEAM.lock:
                        self._step(start + i, token, state, rows[i if all_logits else 0], recorder)
                continue

            def share(done: float, begin: int = start, size: int = len(chunk)) -> None:
                report((begin + done * size) / T)

            with TEAM.lock:
                self._prompt.feed(start, chunk, state, rows, recorder, share)
        return logits if all_logits else logits[0]

    def _step(
        self, t: int, token: int, state: State, logits: Array, recorder: Recorder | None
    ) -> None:
        states, rows = self._no_states, self._no_rows
        if recorder is not None and "wkv" in recorder.arrays:
            states = recorder.arrays["wkv"][t]
            rows = np.full(self.config.n_layer, -1)
            rows[list(recorder.layers)] = range(len(recorder.layers))
        self._run(self._single, [token], [state], logits[None], states, rows)
        if recorder is not None:
            every = recorder.layers == self._every_layer
            for name, target in recorder.arrays.items():
                if name != "wkv":
                    source = self._observed[name]
                    target[t] = source if every else source[list(recorder.layers)]

    def forward_many(self, tokens: Sequence[int], states: Sequence[State]) -> Array:
        """A token to each of several states; logits (B, V)."""
        B = len(tokens)
        with TEAM.lock:
            if B == 1:
                room = self._single
            elif self._many is not None and self._many.count == B:
                room = self._many
            else:
                room = self._many = Room(self.config, self.dtype, B, self._ahead)
            logits = np.empty((B, self.config.vocab_size), np.float32)
            self._run(room, tokens, states, logits, self._no_states, self._no_rows)
        return logits

    def _run(
        self, room: Room, tokens: Sequence[int], states: Sequence[State], logits: Array,
        copies: Array, rows: Any,
    ) -> None:  # fmt: skip
        room.tokens[:] = tokens
        for where, state in zip(room.where, states, strict=True):
            arrays = state.wkv, state.att_shift, state.ffn_shift
            where[:] = [array.__array_interface__["data"][0] for array in arrays]
        TEAM.run(
            self._threads, self.dtype, decode.step, self._counters, int(self._counters[NEXT]),
            room.plan, room.tokens, *self._memory, room.memory, room.cuts, room.where, logits,
            copies, rows, *self._constants,
        )  # fmt: skip


class Room:
    """What the threads share for so many sequences side by side, and their tasks.

    Parameters
    ----------
    config : Config
    dtype : str
    count : int
    ahead : (int, int)
        See `distances`.
    """

    def __init__(self, config: Config, dtype: str, count: int, ahead: tuple[int, int]) -> None:
        self.count = count
        row_bytes = format_of(dtype, "head").row_bytes(config.n_embd)
        self.plan = decode.plan(config, row_bytes, count)
        places_, size = scratch_places(config, count)
        self.memory, self.cuts = np.zeros(size, np.uint8), table(places_)
        self.scratch = s = views(Scratch, self.memory, places_)
        s.ones[:] = s.mixed.unit[:] = 1
        s.ranks[:] = np.cumsum((0, *ranks(config)))
        s.mixed.ahead[:] = ahead
        self.tokens, self.where = np.zeros(count, np.int64), np.zeros((count, 3), np.int64)

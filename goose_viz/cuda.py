"""The CUDA engine as goose_viz sees it: a thin adapter over `goose_gpu`.

The state lives on the card.  It is copied to the host when somebody looks at it, and back when
somebody asked for arrays to write into.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_gpu import CardError
from goose_gpu.card import Card
from goose_gpu.engine import Engine, Slot
from goose_gpu.formats import format_name
from goose_gpu.weights import Sizes, Source
from goose_viz.config import Config
from goose_viz.convert import Progress, as_stored, matrix_of, stored_by_columns
from goose_viz.errors import GooseError
from goose_viz.many import one_by_one
from goose_viz.probe import Recorder
from goose_viz.ranking import Candidates
from goose_viz.state import State
from goose_viz.weights import Weights

_FLOAT32 = np.dtype(np.float32)


class CudaState(State):
    """A state on a card.

    ``wkv``, ``att_shift`` and ``ffn_shift`` are host arrays, read-only, that are brought up to date
    whenever they are asked for.  `edit` gives arrays to write into; a change counts if it is made
    between that and the next `forward`.
    """

    def __init__(self, engine: Engine, config: Config) -> None:
        self._engine, self._config = engine, config
        self._slot = Slot(engine)
        self._host: State | None = None
        self._up_to_date = False  # the host arrays say what the card says
        self._dirty = False  # somebody may be changing the host arrays

    def edit(self) -> State:
        """Arrays on the host to write into; they go to the card before the next token."""
        with self._engine.lock:
            host = self._arrays()
            self._dirty = True
            return host

    def _look(self, name: str) -> NDArray[Any]:
        view: NDArray[Any] = getattr(self._arrays(), name).view()
        view.flags.writeable = False
        return view

    def _arrays(self) -> State:
        with self._engine.lock:
            if self._host is None:
                self._host = State.zeros(self._config)
            if not self._up_to_date:
                words = self._engine.read(self._slot)
                for array in self._host.arrays().values():
                    array[...] = words[: array.size].reshape(array.shape)
                    words = words[array.size :]
                self._up_to_date = True
            return self._host

    def to_card(self) -> Slot:
        """The state on the card, with the changes that were made on the host."""
        with self._engine.lock:
            if self._dirty and self._host is not None:
                words = np.concatenate([a.ravel() for a in self._host.arrays().values()])
                self._engine.write(self._slot, words)
            return self._slot

    def advanced(self) -> None:
        """The card's state is another one now."""
        self._up_to_date = self._dirty = False

    def of(self, engine: Engine) -> bool:
        """Whether the state lies where this engine computes."""
        return self._engine is engine

    @property
    def wkv(self) -> NDArray[Any]:
        """(L, H, N, N) = [value, key]."""
        return self._look("wkv")

    @wkv.setter
    def wkv(self, value: NDArray[Any]) -> None:
        self.edit().wkv[...] = value

    @property
    def att_shift(self) -> NDArray[Any]:
        """(L, D)."""
        return self._look("att_shift")

    @att_shift.setter
    def att_shift(self, value: NDArray[Any]) -> None:
        self.edit().att_shift[...] = value

    @property
    def ffn_shift(self) -> NDArray[Any]:
        """(L, D)."""
        return self._look("ffn_shift")

    @ffn_shift.setter
    def ffn_shift(self, value: NDArray[Any]) -> None:
        self.edit().ffn_shift[...] = value

    @property
    def nbytes(self) -> int:
        """Bytes of the three arrays, on the card."""
        return 4 * self._engine.sizes.state_words

    def copy(self) -> State:
        """An independent copy: on the card, or on the host if the card is full."""
        try:
            other = CudaState(self._engine, self._config)
        except CardError:
            return self._arrays().copy()
        self._engine.copy(self.to_card(), other._slot)
        return other

    def assign(self, other: State) -> None:
        """Take over another state's numbers."""
        if other is self:
            return
        if isinstance(other, CudaState) and other.of(self._engine):
            self._engine.copy(other.to_card(), self._slot)
        else:
            other.check(self._config)
            words = [np.asarray(a, np.float32).ravel() for a in other.arrays().values()]
            self._engine.write(self._slot, np.concatenate(words))
        self.advanced()

    def make_ready(self, config: Config, dtype: np.dtype[Any]) -> None:
        """Check that the state is one of such a model; its arrays are float32 already."""
        if config != self._config or dtype != _FLOAT32:
            super().make_ready(config, dtype)


class CudaEngine:
    """RWKV-7 on an NVIDIA card, float32 arithmetic over weights of any type.

    Attributes
    ----------
    words : str
        The card and its driver.
    """

    state_dtype = _FLOAT32

    def __init__(self, weights: Weights, ordinal: int, dtype: str, progress: Progress) -> None:
        self.config = c = weights.config
        self.dtype = dtype
        self.n_parameters = weights.n_parameters
        sizes = Sizes(
            c.n_layer, c.n_embd, c.n_head, c.n_ffn, c.vocab_size,
            (c.rank_decay, c.rank_iclr, c.rank_value, c.rank_gate),
            c.layer_norm_eps, c.group_norm_eps, c.removal_scale,
        )  # fmt: skip
        source = Source(
            lambda name: _matrix(weights, name, dtype),
            lambda name: weights[name].float32().ravel(),
            lambda name: name in weights.tensors,
        )
        card = Card(ordinal)
        self.engine = Engine(card, sizes, dtype, source, progress)
        self.nbytes = self.engine.nbytes
        memory = card.memory()
        room = f", {memory[1] / 1e9:.0f} GB" if memory is not None else ""
        self.words = f"{card.name}{room}, {card.driver}"

    @property
    def bytes_read(self) -> int:
        """All weights but the embedding, zeros of the channel mix or not; the state both ways."""
        embedding = self.engine.weights.emb
        unread = int(embedding.size) * int(embedding.dtype.itemsize)
        return self.nbytes - unread + 8 * self.engine.sizes.state_words

    def new_state(self) -> State:
        """The state before the first token, on the card."""
        with _in_one_sentence():
            return CudaState(self.engine, self.config)

    def forward(
        self,
        tokens: Sequence[int],
        state: State,
        all_logits: bool,
        recorder: Recorder | None,
        report: Callable[[float], None],
        candidates: Candidates | None = None,
    ) -> NDArray[np.float32]:
        """Feed tokens; logits (V,) of the last or (T, V) of all; the state advances in place."""
        with _in_one_sentence(), self.engine.lock:
            if isinstance(state, CudaState) and state.of(self.engine):
                return self._feed(tokens, state, all_logits, recorder, report, candidates)
            here = CudaState(self.engine, self.config)
            here.assign(state)
            logits = self._feed(tokens, here, all_logits, recorder, report, candidates)
            state.assign(here)
            return logits

    def forward_many(self, tokens: Sequence[int], states: Sequence[State]) -> NDArray[np.float32]:
        """A token to each of several states; logits (B, V)."""
        return one_by_one(self.forward, tokens, states)

    def _feed(
        self,
        tokens: Sequence[int],
        state: CudaState,
        all_logits: bool,
        recorder: Recorder | None,
        report: Callable[[float], None],
        candidates: Candidates | None,
    ) -> NDArray[np.float32]:
        slot = state.to_card()
        try:
            return self.engine.feed(tokens, slot, all_logits, recorder, report, candidates)
        finally:
            state.advanced()


def _matrix(
    weights: Weights, name: str, dtype: str
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """A matrix in its format, with the scales of its stored rows if that is int8."""
    kind = format_name(dtype, matrix_of(name))
    turned = kind == "int8" and stored_by_columns(name)
    rows, scales = as_stored(weights[name].transposed() if turned else weights[name], kind)
    return rows.T if turned else rows, scales


@contextlib.contextmanager
def _in_one_sentence() -> Iterator[None]:
    """What the card cannot do is a person's error, not the program's."""
    try:
        yield
    except CardError as error:
        raise GooseError(str(error)) from None

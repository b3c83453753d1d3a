"""RWKV-7 on a card: weights, the state that is being worked on, and the two ways to feed tokens."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_gpu import ranking
from goose_gpu.candidates import REACH
from goose_gpu.card import Card
from goose_gpu.choice import CardError
from goose_gpu.decode import Decoder, Wanted
from goose_gpu.prefill import CHUNK, Prefill, room_bytes
from goose_gpu.weights import Sizes, Source, Weights, weight_bytes

FEW = 8  # fewer tokens go one by one: a recorded token costs less than a prompt's many launches
_LOG = 4096  # tokens of the greedy log


class Slot:
    """A state on a card: one flat array, wkv (L, H, N, N) then both shifts (L, D)."""

    def __init__(self, engine: Engine) -> None:
        with engine.lock, engine.card.active():  # nobody may be recording meanwhile
            words = engine.card.zeros(engine.sizes.state_words, np.float32)
        self._held = [words]
        weakref.finalize(self, engine.card.free, self._held)

    @property
    def words(self) -> Any:
        """The array."""
        return self._held[0]


class _Parts:
    """What an engine has on its card."""

    def __init__(
        self, weights: Weights, decoder: Decoder, prefill: Prefill, words: Any,
        host_words: NDArray[np.float32],
    ) -> None:  # fmt: skip
        self.weights, self.decoder, self.prefill = weights, decoder, prefill
        self.words, self.host_words = words, host_words
        self.greedy: Any = None


class Engine:
    """A model on a card.

    Parameters
    ----------
    card : Card
    sizes : Sizes
    dtype : str
        ``"fp32"``, ``"bf16"``, ``"fp16"``, ``"int8"`` or ``"int4"``.
    source : Source
    progress : callable (float, str)
    chunk : int
        Tokens of a prompt at a time.
    few : int
        Fewer tokens than this go one by one.

    Raises
    ------
    CardError
        If the model does not fit the card's memory or its head size the kernels.
    """

    def __init__(
        self, card: Card, sizes: Sizes, dtype: str, source: Source,
        progress: Callable[[float, str], None], chunk: int = CHUNK, few: int = FEW,
    ) -> None:  # fmt: skip
        N = sizes.head_size
        if N % 8 or N > 128:
            raise CardError(
                f"heads of {N} channels do not fit the kernels, which take multiples of 8 up to "
                "128; use device='cpu'"
            )
        self.card, self.sizes, self.dtype = card, sizes, dtype
        self._few = few
        self.lock = threading.RLock()  # of whoever uses the card's buffers
        with card.active():
            card.require(weight_bytes(sizes, dtype) + room_bytes(sizes, dtype, chunk), "the model")
            weights = Weights(card, sizes, dtype, source, progress)
            words = card.zeros(sizes.state_words, np.float32)
            decoder = Decoder(card, weights, words)
            prefill = Prefill(decoder, chunk)
            host_words = card.pinned(sizes.state_words, np.float32)
        # the only hold on what lies on the card: it must be let go with the card current
        self._parts = [_Parts(weights, decoder, prefill, words, host_words)]
        del weights, words, decoder, prefill, host_words
        weakref.finalize(self, card.free, self._parts)
        self.nbytes = self.weights.nbytes
        self._held: weakref.ref[Slot] | None = None  # whose state the working words are

    @property
    def weights(self) -> Weights:
        """The model's weights."""
        return self._parts[0].weights

    @property
    def decoder(self) -> Decoder:
        """The way of a token."""
        return self._parts[0].decoder

    @property
    def prefill(self) -> Prefill:
        """The way of a prompt."""
        return self._parts[0].prefill

    @property
    def _words(self) -> Any:
        return self._parts[0].words

    @property
    def _host_words(self) -> NDArray[np.float32]:
        return self._parts[0].host_words

    # -- states ----------------------------------------------------------------------------------

    def copy(self, source: Slot, target: Slot) -> None:
        """Make one slot's state that of another."""
        if source is target:
            return
        with self.lock, self.card.active():
            self._let_go_of(target)
            held = self._held is not None and self._held() is source
            self.card.copy(self._words if held else source.words, target.words)

    def read(self, slot: Slot) -> NDArray[np.float32]:
        """A slot's state on the host: a new flat array."""
        with self.lock, self.card.active():
            held = self._held is not None and self._held() is slot
            self.card.to_host(self._words if held else slot.words, self._host_words)
            self.card.synchronize()
            return self._host_words.copy()

    def write(self, slot: Slot, words: NDArray[np.float32]) -> None:
        """Set a slot's state from a flat host array."""
        with self.lock, self.card.active():
            self._host_words[:] = words
            self._let_go_of(slot)
            self.card.to_device(self._host_words, slot.words)
            self.card.synchronize()

    def _let_go_of(self, slot: Slot) -> None:
        """What the working words hold of this slot is out of date from now on."""
        if self._held is not None and self._held() is slot:
            self._held = None

    def _hold(self, slot: Slot) -> None:
        """Make the working words this slot's; those of another go back to it."""
        held = self._held() if self._held is not None else None
        if held is slot:
            return
        if held is not None:
            self.card.copy(self._words, held.words)
        self.card.copy(slot.words, self._words)
        self._held = weakref.ref(slot)

    # -- tokens ----------------------------------------------------------------------------------

    def feed(
        self, tokens: Sequence[int], slot: Slot, all_logits: bool, sink: Any = None,
        report: Callable[[float], None] | None = None, candidates: Any = None,
    ) -> NDArray[np.float32]:  # fmt: skip
        """Feed tokens to a slot's state.

        Parameters
        ----------
        tokens : sequence of int
        slot : Slot
            Advances in place.
        all_logits : bool
            Whether to return the logits behind every token or behind the last.
        sink : object, optional
            ``layers`` and ``arrays``, observable -> (T, layers, …), filled in place.
        report : callable (float), optional
            Told the share done before every chunk of a prompt; it may raise.
        candidates : object, optional
            Its ``fill`` gets, behind a token that was fed by itself, the tokens within `REACH` of
            the highest logit, in order, that logit, the sum of e^(logit - highest) over all, and
            the lowest logit that is within reach; not where there are more than `ROOM`.

        Returns
        -------
        ndarray
            float32 (T, V) or (V,).
        """
        T, V = len(tokens), self.sizes.vocab_size
        rows = np.empty((T if all_logits else 1, V), np.float32)
        if sink is not None and not sink.layers:
            sink = None  # of no layer there is nothing to keep
        with self.lock, self.card.active():
            self._hold(slot)
            if self._few > T:
                self._feed_singly(tokens, all_logits, sink, rows)
                found = self.decoder.candidates
                n = int(found.count[0])
                if candidates is not None and n <= found.listed.size:
                    highest, total = found.summary
                    lowest = float(np.float32(highest) - REACH)
                    candidates.fill(np.sort(found.listed[:n]), float(highest), float(total), lowest)
            else:
                self.prefill.feed(list(tokens), all_logits, sink, rows, report)
        return rows if all_logits else rows[0]

    def _feed_singly(
        self, tokens: Sequence[int], all_logits: bool, sink: Any, rows: NDArray[np.float32]
    ) -> None:
        wanted = Wanted() if sink is None else Wanted(tuple(sink.arrays), tuple(sink.layers))
        last = len(tokens) - 1
        for t, token in enumerate(tokens):
            logits, seen = self.decoder.step(token, wanted, all_logits or t == last)
            if logits is not None:
                rows[t if all_logits else 0] = logits
            for name, value in seen.items():
                sink.arrays[name][t] = value

    def greedy(self, token: int, n: int, slot: Slot) -> NDArray[np.int32]:
        """The n likeliest tokens behind a token, each fed in turn, without leaving the card."""
        out = np.empty(n, np.int32)
        card, d = self.card, self.decoder
        with self.lock, card.active():
            self._hold(slot)
            if self._parts[0].greedy is None:
                blocks = ranking.portions(self.sizes.vocab_size)
                best = card.zeros(blocks, np.float32), card.zeros(blocks, np.int32)
                value, log = card.zeros(1, np.float32), card.zeros(_LOG, np.int32)
                position = card.zeros(1, np.int64)

                def work() -> None:
                    d.launch(Wanted(), True)
                    ranking.top_k(card.queue, d.logits, 1, *best, value, d.token)
                    ranking.append(card.queue, d.token, log, position)

                self._parts[0].greedy = (
                    card.record(work), log, position,
                    card.pinned(_LOG, np.int32), card.pinned(1, np.int64),
                )  # fmt: skip
            step, log, position, host_log, zero = self._parts[0].greedy
            d.set_token(token)
            for start in range(0, n, _LOG):
                count = min(_LOG, n - start)
                card.to_device(zero, position)
                for _ in range(count):
                    step()
                card.to_host(log, host_log)
                card.synchronize()
                out[start : start + count] = host_log[:count]
        return out

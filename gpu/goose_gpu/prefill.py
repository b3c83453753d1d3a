"""A prompt: its tokens side by side as matrix products; only the state goes token by token.

What comes out for a token does not depend on how many tokens are fed with it, bit for bit, so that
a prompt may be cut into chunks of any size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_gpu import matmul, prompt, recurrence, vocabulary
from goose_gpu.decode import Decoder, Wanted
from goose_gpu.formats import FORMATS
from goose_gpu.matmul import Products
from goose_gpu.planes import SCALARS, VECTORS
from goose_gpu.weights import Sizes, padded_sizes

CHUNK = 512  # tokens at a time: memory stays bounded at any length
LOGIT_ROWS = 64
_STATES = 32 << 20  # bytes of states kept at a time, when each token's state is asked for


class Prefill:
    """The buffers of a prompt's way through the model, and that way.

    Parameters
    ----------
    decoder : Decoder
        Its card, weights and state.
    chunk : int
        Tokens at a time.
    """

    def __init__(self, decoder: Decoder, chunk: int = CHUNK) -> None:
        self.decoder = decoder
        self.card, self.weights = decoder.card, decoder.weights
        s = self.sizes = decoder.sizes
        D, H = s.n_embd, s.n_head
        w = self.weights
        self.capacity = chunk
        self.tensor = w.memory.itemsize == 2 and self.card.tensor_cores
        zeros, T = self.card.zeros, chunk
        self.tokens = zeros(T, np.int32)
        self.x = zeros((1, T, D), np.float32)
        self.normed, self.v_first, self.read, self.taken = (
            zeros((T, D), np.float32) for _ in range(4)
        )
        self.mixed = zeros((6, T, w.width), np.float32)
        self.vec = zeros((8, T, D), np.float32)
        self.low = zeros((1, T, sum(w.ranks)), np.float32)
        self.out = zeros((1, T, w.width), np.float32)
        self.hidden = zeros((1, T, w.ffn), np.float32)
        self.scalars = zeros((3, T, H), np.float32)
        if self.tensor:
            most = T * max(6 * w.width, w.ffn, sum(w.ranks))
            self.high, self.rest = zeros(most, w.memory), zeros(most, w.memory)
            self.scales = zeros(6 * T, np.float32)
        self.logits = zeros((1, min(LOGIT_ROWS, T), s.vocab_size), np.float32)
        self._host_logits = self.card.pinned((min(LOGIT_ROWS, T), s.vocab_size), np.float32)
        self._host_tokens = self.card.pinned(T, np.int32)
        self._no_states = zeros((1, 1), np.float32)

    def feed(
        self, tokens: list[int], all_logits: bool, sink: Any, rows: NDArray[np.float32],
        report: Callable[[float], None] | None = None,
    ) -> None:  # fmt: skip
        """Feed tokens; logits go to rows (T or 1, V), observables to the sink's arrays.

        A sink has ``layers`` and ``arrays``: observable -> (T, layers, …).
        """
        wanted = Wanted() if sink is None else Wanted(tuple(sink.arrays), tuple(sink.layers))
        chunk = self.capacity
        if "wkv" in wanted.names:
            chunk = min(chunk, max(1, _STATES // (4 * self.sizes.n_embd * self.sizes.head_size)))
        for start in range(0, len(tokens), chunk):
            if report is not None:
                report(start / len(tokens))
            part = tokens[start : start + chunk]
            last = start + len(part) == len(tokens)
            self._chunk(part, start, wanted, sink)
            if all_logits:
                self._logits_of_all(len(part), rows[start : start + len(part)])
            elif last:
                d = self.decoder
                eps = np.float32(self.sizes.layer_norm_eps)
                vocabulary.head(
                    self.card.queue, self.x[0], len(part) - 1, self.weights.ln_out, eps,
                    self.weights.head.weights, self.weights.head.scales, d.logits,
                )  # fmt: skip
                self.card.to_host(d.logits, self._host_logits[0])
                self.card.synchronize()
                rows[0] = self._host_logits[0]
            self.card.synchronize()

    def _product(
        self, x: Any, T: int, products: Products, out: Any, add: bool = False,
        how: int = prompt.AS_IT_IS, split: bool = True,
    ) -> None:  # fmt: skip
        """Out (+)= x W^T after an activation; ``split`` False: x is what it was the last time."""
        queue, ends = self.card.queue, self._ends
        if not self.tensor:
            if how != prompt.AS_IT_IS:
                prompt.activate(queue, x, T, how, ends)
            matmul.multiply(queue, x, T, products, out, add)
            return
        planes, capacity, row = x.shape
        high, low = (
            a[: planes * capacity * row].reshape(planes, capacity, row)
            for a in (self.high, self.rest)
        )
        scales = self.scales[: planes * capacity].reshape(planes, capacity)
        if split:
            prompt.split(queue, x, T, high, low, scales, how, ends)
        matmul.multiply_split(queue, high, low, scales, T, products, out, add)

    @property
    def _ends(self) -> tuple[int, int]:
        w, a, v, _ = self.weights.ranks
        return w, w + a + v

    def _chunk(self, tokens: list[int], start: int, wanted: Wanted, sink: Any) -> None:
        T, s, w, queue = len(tokens), self.sizes, self.weights, self.card.queue
        ln_eps, gn_eps = np.float32(s.layer_norm_eps), np.float32(s.group_norm_eps)
        removal = np.float32(s.removal_scale)
        d, x = self.decoder, self.x[0]
        self._host_tokens[:T] = tokens
        self.card.to_device(self._host_tokens, self.tokens)
        # all memory is taken before the first launch: where there is none, nothing has changed yet
        H, N, D = s.n_head, s.head_size, s.n_embd
        widths = dict.fromkeys(VECTORS, D) | dict.fromkeys(SCALARS, H)
        widths |= {"wkv": D * N, "read": D, "residual": D}
        numbers = {name: T * widths[name] for name in wanted.names} if wanted.layers else {}
        stagings = (Staging(self.card, numbers), Staging(self.card, numbers))
        states = self.card.zeros((T, D * N), np.float32) if "wkv" in numbers else None
        vocabulary.embed(queue, self.tokens, w.emb, w.emb_scales, w.ln0, ln_eps, x, T)
        for i, layer in enumerate(w.layers):
            prompt.norm_rows(queue, x, T, layer.ln1, ln_eps, self.normed)
            prompt.mix_rows(queue, self.normed, T, d.att_shift[i], layer.mix, self.mixed)
            prompt.keep_row(queue, self.normed, T - 1, d.att_shift[i])
            self._product(self.mixed, T, layer.rkv, self.vec)
            self._product(self.mixed, T, layer.low, self.low, split=False)
            self._product(self.low, T, layer.up, self.vec, how=prompt.LOW_RANK)
            recurrence.prepare(
                queue, i, self.vec, T, H, layer.att, self.v_first, removal, self.scalars
            )
            keep = "wkv" in wanted.names and i in wanted.layers
            recurrence.recur(
                queue, self.vec, T, H, removal, d.wkv[i], self.read, self.taken,
                states if keep else self._no_states, keep,
            )  # fmt: skip
            recurrence.finish(
                queue, self.vec, T, H, layer.att, self.read, self.taken, self.scalars, gn_eps,
                self.out,
            )  # fmt: skip
            self._product(self.out, T, layer.output, self.x, add=True)
            prompt.norm_rows(queue, x, T, layer.ln2, ln_eps, self.normed)
            prompt.mix_rows(queue, self.normed, T, d.ffn_shift[i], layer.ffn_mix, self.mixed)
            prompt.keep_row(queue, self.normed, T - 1, d.ffn_shift[i])
            self._product(self.mixed[:1], T, layer.ffn_key, self.hidden)
            self._product(
                self.hidden, T, layer.ffn_value, self.x, add=True, how=prompt.RELU_SQUARED
            )
            if i in wanted.layers:
                place = wanted.layers.index(i)
                staging = stagings[place % 2]
                staging.send(
                    {name: self._seen(name, T, states) for name in wanted.names},
                    {name: sink.arrays[name][start : start + T, place] for name in wanted.names},
                )
                stagings[1 - place % 2].land()
        for staging in stagings:
            staging.land()

    def _seen(self, name: str, T: int, states: Any) -> Any:
        """An observable of T tokens in the layer just done, on the card."""
        if name in VECTORS:
            return self.vec[VECTORS.index(name)][:T]
        if name in SCALARS:
            return self.scalars[SCALARS.index(name)][:T]
        return {"wkv": states, "read": self.read, "residual": self.x[0]}[name][:T]

    def _logits_of_all(self, T: int, rows: NDArray[np.float32]) -> None:
        queue, s = self.card.queue, self.sizes
        eps = np.float32(s.layer_norm_eps)
        prompt.norm_rows(queue, self.x[0], T, self.weights.ln_out, eps, self.normed)
        most = self.logits.shape[1]
        for begin in range(0, T, most):
            n = min(most, T - begin)
            out = self.out.reshape(-1)[: most * self.weights.width]
            out = out.reshape(1, most, self.weights.width)
            prompt.copy_rows(queue, self.normed, begin, n, out)
            self._product(out, n, self.weights.head, self.logits)
            self.card.to_host(self.logits.reshape(-1), self._host_logits.reshape(-1))
            self.card.synchronize()
            rows[begin : begin + n] = self._host_logits[:n]


def room_bytes(sizes: Sizes, dtype: str, chunk: int) -> int:
    """Memory that the buffers of one token and of a prompt take, and the states themselves."""
    itemsize = FORMATS[dtype].memory.itemsize
    ranks, width, F = padded_sizes(sizes, dtype)
    D, H, R, V = sizes.n_embd, sizes.n_head, sum(ranks), sizes.vocab_size
    numbers = 13 * D + 7 * width + R + F + 3 * H  # float32, a token of a prompt
    halves = 2 * max(6 * width, F, R) if itemsize == 2 else 0
    prompt_room = chunk * (4 * numbers + itemsize * halves) + 4 * LOGIT_ROWS * V
    token_room = 4 * (sizes.n_layer * (10 * D + 3 * H) + 16 * D + F + V)
    return prompt_room + token_room + 2 * 4 * sizes.state_words


class Staging:
    """One layer's observables on their way to the host, while the card works on the next.

    Parameters
    ----------
    card : Card
    numbers : dict of str to int
        Observable -> how many float32 numbers.
    """

    def __init__(self, card: Any, numbers: dict[str, int]) -> None:
        self.card = card
        self._device = {name: card.zeros(n, np.float32) for name, n in numbers.items()}
        self._pinned = {name: card.pinned(n, np.float32) for name, n in numbers.items()}
        self._targets: dict[str, NDArray[Any]] = {}
        self._done: Any = None

    def send(self, sources: dict[str, Any], targets: dict[str, NDArray[Any]]) -> None:
        """Begin to copy device arrays towards host arrays of the same sizes."""
        self.land()  # what was sent before has the room until it has arrived
        for name, source in sources.items():
            self.card.copy(source.reshape(source.size), self._device[name])
        self.card.fork()
        for name in sources:
            self.card.to_host(self._device[name], self._pinned[name], side=True)
        self._done = self.card.mark_side()
        self._targets = targets

    def land(self) -> None:
        """Wait for what was sent, and put it where it belongs."""
        if not self._targets:
            return
        self.card.wait(self._done)
        for name, target in self._targets.items():
            target[...] = self._pinned[name].reshape(target.shape)
        self._targets = {}

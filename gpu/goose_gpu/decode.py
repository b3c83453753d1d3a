"""One token: five launches a layer, the same ones every time, so that they can be recorded.

The token's id lies in device memory; a recording holds nothing that changes from token to token.
Observables that somebody asked for travel to the host on a side stream: the state of a layer while
the next layers work, the rest while the head works.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from goose_gpu import channelmix, matvec, timemix, vocabulary
from goose_gpu.candidates import Candidates
from goose_gpu.planes import SCALARS, VECTORS
from goose_gpu.weights import Sizes, Weights

Landing = dict[str, NDArray[np.float32]]  # observable -> (layers, …), pinned


class Wanted(NamedTuple):
    """Which observables of which layers a forward call is asked for."""

    names: tuple[str, ...] = ()
    layers: tuple[int, ...] = ()


class Decoder:
    """The buffers of a token's way through the model, and that way.

    Parameters
    ----------
    card : Card
    weights : Weights
    words : device array
        The state that every token advances, flat; see `Sizes.state_words`.
    """

    def __init__(self, card: Any, weights: Weights, words: Any) -> None:
        self.card, self.weights, self.sizes = card, weights, weights.sizes
        s = self.sizes
        L, D, H, N = s.n_layer, s.n_embd, s.n_head, s.head_size
        wkv, att_shift, ffn_shift = views(words, s)
        self.wkv, self.att_shift, self.ffn_shift = wkv, att_shift, ffn_shift
        zeros = card.zeros
        self.token = zeros(1, np.int32)
        self.x = zeros((1, D), np.float32)
        self.low = zeros(sum(weights.ranks), np.float32)
        self.hidden = zeros(weights.ffn, np.float32)
        self.v_first, self.out, self.fresh = (zeros(D, np.float32) for _ in range(3))
        pieces, columns = weights.slices
        splits = channelmix.splits_of(weights.ffn, pieces, card.queue.multiprocessors)
        self.partial = zeros((splits, pieces * columns), np.float32)
        self.tickets = zeros(pieces, np.int32)
        self.logits = zeros(s.vocab_size, np.float32)
        self.candidates = Candidates(card, s.vocab_size)
        # what can be observed, of every layer
        self.vec = [zeros((8, D), np.float32) for _ in range(L)]
        self.scalars = [zeros((3, H), np.float32) for _ in range(L)]
        self.read = zeros((L, D), np.float32)
        self.residual = zeros((L, D), np.float32)

        self._token = card.pinned(1, np.int32)
        self._logits = card.pinned(s.vocab_size, np.float32)
        self._recordings: dict[tuple[Wanted, bool], tuple[Any, Landing]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {
            "wkv": (H, N, N),
            "read": (H, N),
            "residual": (D,),
        }
        self._shapes |= dict.fromkeys(VECTORS, (D,)) | dict.fromkeys(SCALARS, (H,))

    def step(
        self, token: int, wanted: Wanted, with_logits: bool
    ) -> tuple[NDArray[np.float32] | None, dict[str, NDArray[np.float32]]]:
        """Feed a token: (logits (V,), observables (layers, …)), both overwritten by the next."""
        self.set_token(token)
        key = wanted, with_logits
        if key not in self._recordings:
            if len(self._recordings) >= 16:  # the one that was not used for longest goes
                self._recordings.pop(next(iter(self._recordings)))
            shape = (len(wanted.layers),)
            landing = {
                name: self.card.pinned(shape + self._shapes[name], np.float32)
                for name in wanted.names
            }
            me = weakref.proxy(self)  # the recording is ours: it must not keep us
            recording = self.card.record(lambda: me.launch(wanted, with_logits, landing))
            self._recordings[key] = recording, landing
        recording, landing = self._recordings[key] = self._recordings.pop(key)
        recording()
        self.card.synchronize()
        return (self._logits if with_logits else None), landing

    def set_token(self, token: int) -> None:
        """The token that the next launches feed."""
        self._token[0] = token
        self.card.to_device(self._token, self.token)

    def launch(self, wanted: Wanted, with_logits: bool, landing: Landing | None = None) -> None:
        """Every launch of a token; with somewhere to land, the copies to the host too."""
        card, w, queue = self.card, self.weights, self.card.queue
        ln_eps = np.float32(self.sizes.layer_norm_eps)
        gn_eps = np.float32(self.sizes.group_norm_eps)
        removal = np.float32(self.sizes.removal_scale)
        x = self.x[0]
        vocabulary.embed(queue, self.token, w.emb, w.emb_scales, w.ln0, ln_eps, self.x, 1)
        for i, layer in enumerate(w.layers):
            timemix.project(
                queue, x, layer.ln1, ln_eps, self.att_shift[i], layer.mix, layer.rkv.weights,
                layer.rkv.scales, layer.low.weights, layer.low.scales, w.ranks, self.vec[i],
                self.low, self.fresh,
            )  # fmt: skip
            timemix.advance(
                queue, i, self.low, layer.up.weights, layer.up.scales, w.ranks, self.vec[i],
                layer.att, self.wkv[i], self.v_first, self.fresh, self.att_shift[i],
                self.scalars[i], self.read[i], self.out, gn_eps, removal,
            )  # fmt: skip
            if landing is not None and "wkv" in landing and i in wanted.layers:
                card.fork()
                self._copy(wanted, landing, "wkv", i)
            matvec.add_product(queue, self.out, layer.output.weights, layer.output.scales, x)
            channelmix.ffn_key(
                queue, x, layer.ln2, ln_eps, self.ffn_shift[i], layer.ffn_mix[0],
                layer.ffn_key.weights, layer.ffn_key.scales, self.hidden, self.fresh,
            )  # fmt: skip
            channelmix.ffn_value(
                queue, self.hidden, layer.ffn_value.weights, layer.ffn_value.scales, x,
                self.partial, self.tickets, self.fresh, self.ffn_shift[i], self.residual[i],
            )  # fmt: skip
        if landing:
            card.fork()
            for name in landing:
                for i in wanted.layers if name != "wkv" else ():
                    self._copy(wanted, landing, name, i)
        if with_logits:
            vocabulary.head(
                queue, self.x, 0, w.ln_out, ln_eps, w.head.weights, w.head.scales, self.logits
            )
            if landing is not None:
                card.to_host(self.logits, self._logits)
                self.candidates.launch(queue, self.logits)
        if landing:
            card.join()

    def _copy(self, wanted: Wanted, landing: Landing, name: str, layer: int) -> None:
        target = landing[name][wanted.layers.index(layer)]
        self.card.to_host(self._source(name, layer), target.reshape(-1), side=True)

    def _source(self, name: str, layer: int) -> Any:
        if name in VECTORS:
            return self.vec[layer][VECTORS.index(name)]
        if name in SCALARS:
            return self.scalars[layer][SCALARS.index(name)]
        return {"wkv": self.wkv, "read": self.read, "residual": self.residual}[name][layer]


def views(words: Any, sizes: Sizes) -> tuple[list[Any], list[Any], list[Any]]:
    """A flat state as wkv, att_shift and ffn_shift, each a list of flat arrays, one a layer."""
    L, D, N = sizes.n_layer, sizes.n_embd, sizes.head_size
    parts: Sequence[int] = (D * N, D, D)
    lists: list[list[Any]] = []
    start = 0
    for n in parts:
        lists.append([words[start + i * n : start + (i + 1) * n] for i in range(L)])
        start += L * n
    return lists[0], lists[1], lists[2]

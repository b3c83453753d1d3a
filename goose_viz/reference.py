"""RWKV-7 in plain float64 NumPy: the oracle, made to be read beside the paper.

One function is the model, a token at a time: `step`.  D = n_embd, H heads of N, S = wkv.  Formulas
and names follow BlinkDL/RWKV-LM RWKV-v7 and the paper "RWKV-7 Goose with Expressive Dynamic State
Evolution" (2025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from goose_viz.many import one_by_one
from goose_viz.probe import Recorder
from goose_viz.ranking import Candidates
from goose_viz.state import State
from goose_viz.weights import Weights

Array = NDArray[np.float64]


def sigmoid(z: Array) -> Array:
    """1 / (1 + e^-z), in the form that never overflows."""
    return 0.5 * (1 + np.tanh(0.5 * z))


def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> Array:
    """Zero mean and unit variance along the last axis, then scale and offset."""
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight + bias  # type: ignore[no-any-return]


class Layer:
    """A view of the weights that answers to the names of one block."""

    def __init__(self, weights: dict[str, Array], prefix: str) -> None:
        self._weights, self._prefix = weights, prefix

    def __getattr__(self, name: str) -> Array:
        return self._weights[self._prefix + name]

    def norm(self, x: Array, name: str, eps: float) -> Array:
        """Layer norm with this block's parameters of that name."""
        prefix = self._prefix + name
        return layer_norm(
            x, self._weights[prefix + ".weight"], self._weights[prefix + ".bias"], eps
        )


class ReferenceEngine:
    """The model in float64; state and observables are float64 too."""

    dtype = "fp64"
    state_dtype = np.dtype(np.float64)

    def __init__(self, weights: Weights) -> None:
        self.config = weights.config
        self.weights = {name: weights[name].float64() for name in weights.tensors}
        self.n_parameters = weights.n_parameters
        self.nbytes = sum(a.nbytes for a in self.weights.values())

    @property
    def bytes_read(self) -> int:
        """All weights but the embedding's other rows, and the state there and back."""
        c = self.config
        state = 2 * 8 * c.n_layer * c.n_embd * c.head_size
        return self.nbytes - 8 * (c.vocab_size - 1) * c.n_embd + state

    def new_state(self) -> State:
        """The state before the first token."""
        return State.zeros(self.config, self.state_dtype)

    def forward(
        self,
        tokens: Sequence[int],
        state: State,
        all_logits: bool,
        recorder: Recorder | None,
        report: Callable[[float], None],
        candidates: Candidates | None = None,
    ) -> Array:
        """Feed tokens one by one; logits (V,) of the last or (T, V) of all."""
        logits = []
        for t, token in enumerate(tokens):
            report(t / len(tokens))
            x, seen = self.step(token, state)
            if recorder is not None:
                for layer, observables in enumerate(seen):
                    recorder.put_token(t, layer, observables)
            if all_logits or t == len(tokens) - 1:
                logits.append(self.weights["head.weight"] @ x)
        return np.array(logits) if all_logits else logits[0]

    def forward_many(self, tokens: Sequence[int], states: Sequence[State]) -> Array:
        """A token to each of several states; logits (B, V)."""
        return one_by_one(self.forward, tokens, states)

    def step(self, token: int, state: State) -> tuple[Array, list[dict[str, Array]]]:
        """One token: (x before the head, then every layer's observables); state in place."""
        c, eps = self.config, self.config.layer_norm_eps
        root = Layer(self.weights, "")
        x = Layer(self.weights, "blocks.0.").norm(self.weights["emb.weight"][token], "ln0", eps)
        v_first = np.zeros(0)
        seen: list[dict[str, Array]] = []
        for i in range(c.n_layer):
            block = Layer(self.weights, f"blocks.{i}.")
            y, v_first, o = self.time_mix(i, block.norm(x, "ln1", eps), v_first, state)
            x = x + y
            xx = block.norm(x, "ln2", eps)
            k = xx + (state.ffn_shift[i] - xx) * self.weights[f"blocks.{i}.ffn.x_k"]
            state.ffn_shift[i] = xx
            k = np.maximum(self.weights[f"blocks.{i}.ffn.key.weight"] @ k, 0) ** 2
            x = x + self.weights[f"blocks.{i}.ffn.value.weight"] @ k
            seen.append({**o, "residual": x})
        return root.norm(x, "ln_out", eps), seen

    def time_mix(
        self, i: int, xx: Array, v_first: Array, state: State
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Layer i: (its output (D,), layer 0's value (D,), observables); S and shift in place."""
        p, W = Layer(self.weights, f"blocks.{i}.att."), self.weights
        H, N = self.config.n_head, self.config.head_size
        d = state.att_shift[i] - xx
        state.att_shift[i] = xx
        x_r, x_w, x_k = xx + d * p.x_r, xx + d * p.x_w, xx + d * p.x_k
        x_v, x_a, x_g = xx + d * p.x_v, xx + d * p.x_a, xx + d * p.x_g

        r = W[f"blocks.{i}.att.receptance.weight"] @ x_r
        k = W[f"blocks.{i}.att.key.weight"] @ x_k
        v = W[f"blocks.{i}.att.value.weight"] @ x_v
        w = np.exp(-np.exp(-0.5) * sigmoid(p.w0 + np.tanh(x_w @ p.w1) @ p.w2))  # decay
        a = sigmoid(p.a0 + (x_a @ p.a1) @ p.a2)  # in-context learning rate
        g = sigmoid(x_g @ p.g1) @ p.g2
        if i == 0:
            v_first, mix = v, np.zeros_like(v)
        else:
            mix = sigmoid(p.v0 + (x_v @ p.v1) @ p.v2)
        v = v + (v_first - v) * mix

        r, w, v, a, k = (z.reshape(H, N) for z in (r, w, v, a, k))
        kappa = k * p.k_k.reshape(H, N)
        kappa = kappa / np.maximum(np.linalg.norm(kappa, axis=-1, keepdims=True), 1e-12)
        k = k * (1 + (a - 1) * p.k_a.reshape(H, N))

        S = state.wkv[i]  # (H, N, N) = [value, key]
        erase = self.config.removal_scale * kappa * a
        removed = np.einsum("hvk,hk,hj->hvj", S, kappa, erase)  # c (S kappa) (kappa a)^T
        written = np.einsum("hv,hk->hvk", v, k)
        S[:] = S * w[:, None, :] - removed + written

        y = read = np.einsum("hvk,hk->hv", S, r)
        weight, bias = (W[f"blocks.{i}.att.ln_x.{n}"].reshape(H, N) for n in ("weight", "bias"))
        y = layer_norm(y, weight, bias, self.config.group_norm_eps)  # per head: a group norm
        bonus = (r * k * p.r_k).sum(-1)
        y = (y + bonus[:, None] * v).ravel()
        out = W[f"blocks.{i}.att.output.weight"] @ (y * g)
        return out, v_first, {
            "decay": w.ravel(), "iclr": a.ravel(), "removal_key": kappa.ravel(),
            "replacement_key": k.ravel(), "value": v.ravel(), "receptance": r.ravel(),
            "gate": g, "value_mix": mix, "wkv": S.copy(), "read": read, "bonus": bonus,
            "removed_norm": np.linalg.norm(removed, axis=(1, 2)),
            "written_norm": np.linalg.norm(written, axis=(1, 2)),
        }  # fmt: skip

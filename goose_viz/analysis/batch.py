"""The model's layers over many rows at once, on the CPU: for runs that differ inside a layer.

An engine runs one text as fast as it can; what is done here needs many that are disturbed in the
midst of a layer.  Formulas as in `goose_viz.reference`; the products are BLAS's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.compiled import compiled
from goose_viz.config import Config
from goose_viz.ranking import softmax
from goose_viz.reference import layer_norm, sigmoid

if TYPE_CHECKING:
    from goose_viz.model import Model

Rows = NDArray[Any]  # (rows, D), float32

_FASTEST = np.float32(-np.exp(-0.5))


class Batch:
    """One layer's state, for several rows.

    Attributes
    ----------
    wkv : ndarray (rows, H, N, N)
    att_shift, ffn_shift : ndarray (rows, D)
    """

    def __init__(self, config: Config, rows: int) -> None:
        H, N, D = config.n_head, config.head_size, config.n_embd
        self.wkv = np.zeros((rows, H, N, N), np.float32)
        self.att_shift, self.ffn_shift = (np.zeros((rows, D), np.float32) for _ in range(2))

    def rows(self, start: int, stop: int) -> Batch:
        """Some of the rows; the same numbers, not others."""
        part = object.__new__(Batch)
        part.wkv = self.wkv[start:stop]
        part.att_shift, part.ffn_shift = self.att_shift[start:stop], self.ffn_shift[start:stop]
        return part

    def assign(self, other: Batch) -> None:
        """Take over another's numbers, of as many rows or of one."""
        self.wkv[...] = other.wkv
        self.att_shift[...], self.ffn_shift[...] = other.att_shift, other.ffn_shift


class Layers:
    """A model's layers as float32, read when they are needed.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        self.config, self._model = model.config, model
        self._known: dict[str, NDArray[Any]] = {}  # float32

    def _get(self, name: str) -> NDArray[Any]:
        found = self._known.get(name)
        if found is None:
            found = self._known[name] = self._model.numbers(name).astype(np.float32)
        return found

    def embedding_deviation(self) -> float:
        """The standard deviation of all embeddings' numbers."""
        return float(self._model.numbers("emb.weight").std())

    def embed(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """(…, D) of the embedding matrix, through the first norm."""
        return self._norm(rows.astype(np.float32), "blocks.0.ln0")

    def chance(self, x: Rows, token: int) -> NDArray[np.float64]:
        """(rows,): a token's probability behind the last layer's residual."""
        x = self._norm(x, "ln_out")
        return softmax(x @ self._get("head.weight").T)[:, token]

    def _norm(self, x: Rows, name: str) -> Rows:
        weight, bias = self._get(f"{name}.weight"), self._get(f"{name}.bias")
        return layer_norm(x, weight, bias, self.config.layer_norm_eps)

    def step(self, i: int, x: Rows, first: Rows | None, state: Batch) -> tuple[Rows, Rows]:
        """A token through a layer, in every row; the state goes on in place.

        Parameters
        ----------
        i : int
        x : ndarray (rows, D)
        first : ndarray (rows, D) or None
            Layer 0's value; None in layer 0.
        state : Batch

        Returns
        -------
        (ndarray (rows, D), ndarray (rows, D))
            The residual behind it, and layer 0's value.
        """
        get, block = self._get, f"blocks.{i}."
        xx = self._norm(x, f"{block}ln1")
        mixed, first = self._time_mix(i, xx, first, state)
        x = x + mixed
        xx = self._norm(x, f"{block}ln2")
        k = xx + (state.ffn_shift - xx) * get(f"{block}ffn.x_k")
        state.ffn_shift[...] = xx
        k = np.maximum(k @ get(f"{block}ffn.key.weight").T, 0) ** 2
        return x + k @ get(f"{block}ffn.value.weight").T, first

    def _time_mix(self, i: int, xx: Rows, first: Rows | None, state: Batch) -> tuple[Rows, Rows]:
        c = self.config
        H, N, rows = c.n_head, c.head_size, len(xx)

        def p(name: str) -> NDArray[Any]:
            return self._get(f"blocks.{i}.att.{name}")

        d = state.att_shift - xx
        state.att_shift[...] = xx
        r = (xx + d * p("x_r")) @ p("receptance.weight").T
        k = (xx + d * p("x_k")) @ p("key.weight").T
        x_v = xx + d * p("x_v")
        v = x_v @ p("value.weight").T
        w = sigmoid(p("w0") + np.tanh((xx + d * p("x_w")) @ p("w1")) @ p("w2"))
        w = np.exp(_FASTEST * w)
        a = sigmoid(p("a0") + (xx + d * p("x_a")) @ p("a1") @ p("a2"))
        g = sigmoid((xx + d * p("x_g")) @ p("g1")) @ p("g2")
        if first is None:
            first = v
        else:
            v = v + (first - v) * sigmoid(p("v0") + x_v @ p("v1") @ p("v2"))
        kappa = (k * p("k_k")).reshape(rows, H, N)
        length = np.sqrt((kappa * kappa).sum(-1, keepdims=True))
        kappa = kappa / np.maximum(length, np.float32(1e-12))
        k = k * (1 + (a - 1) * p("k_a"))
        rate = a * np.float32(c.removal_scale)
        heads = [np.ascontiguousarray(z.reshape(rows, H, N)) for z in (w, rate, kappa, k, v, r)]
        y: NDArray[Any] = np.empty((rows, H, N), np.float32)
        _remember(*heads, state.wkv, y)
        weight, bias = (p(f"ln_x.{n}").reshape(H, N) for n in ("weight", "bias"))
        y = layer_norm(y, weight, bias, c.group_norm_eps).reshape(rows, -1)  # per head
        bonus = (heads[5] * heads[3] * p("r_k").reshape(H, N)).sum(-1, keepdims=True)
        y = y + (bonus * heads[4]).reshape(rows, -1)
        return (y * g) @ p("output.weight").T, first


@compiled
def _remember(w, a, kappa, k, v, r, S, y):  # type: ignore[no-untyped-def]
    """Write a token into memories S (rows, H, N, N) and read them, y = S r; others (rows, H, N)."""
    rows, H, N = w.shape
    for row in range(rows):
        for head in range(H):
            for i in range(N):
                found = np.float32(0)
                for j in range(N):
                    found += S[row, head, i, j] * kappa[row, head, j]
                read, value = np.float32(0), v[row, head, i]
                for j in range(N):
                    rate = kappa[row, head, j] * a[row, head, j]
                    number = S[row, head, i, j] * w[row, head, j] - found * rate
                    number += value * k[row, head, j]
                    S[row, head, i, j] = number
                    read += number * r[row, head, j]
                y[row, head, i] = read

"""The RWKV-7 state recurrence with its gradient, as numba kernels behind a torch autograd function.

Per head, with S (N, N) = [value, key] and all vectors (N,):

    S_t = S_{t-1} diag(w_t) + (S_{t-1} a_t) b_t^T + v_t k_t^T        y_t = S_t r_t

with a = -kappa and b = kappa * iclr, times the removal scale.  Rows of S (one value channel each)
never meet, so a block of rows runs forward over all T keeping its history in cache, then backward
over the same history.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from numba import njit, prange

ROWS = 8  # value rows a block; their history of T * ROWS * N floats is the scratch that is kept


@functools.cache
def kernels(N: int) -> tuple[Callable[..., None], Callable[..., None]]:
    """The recurrence and its gradient for heads of N channels, which LLVM is to know."""

    @njit(parallel=True, fastmath=True, cache=True)
    def _forward(r, w, k, v, a, b, y):  # all (B, T, H, N) float32
        B, T, H, _ = r.shape
        for bh in prange(B * H):
            i_b, i_h = bh // H, bh % H
            S = np.zeros((N, N), np.float32)
            for t in range(T):
                rt, wt, kt = r[i_b, t, i_h], w[i_b, t, i_h], k[i_b, t, i_h]
                at, bt, vt = a[i_b, t, i_h], b[i_b, t, i_h], v[i_b, t, i_h]
                for i in range(N):
                    sa = np.float32(0)
                    for j in range(N):
                        sa += S[i, j] * at[j]
                    out = np.float32(0)
                    vi = vt[i]
                    for j in range(N):
                        s = S[i, j] * wt[j] + sa * bt[j] + vi * kt[j]
                        S[i, j] = s
                        out += s * rt[j]
                    y[i_b, t, i_h, i] = out

    @njit(parallel=True, fastmath=True, cache=True)
    def _backward(r, w, k, v, a, b, dy, dr, dw, dk, dv, da, db):
        B, T, H, _ = r.shape
        for bh in prange(B * H):
            i_b, i_h = bh // H, bh % H
            history = np.zeros((T + 1, ROWS, N), np.float32)
            sas = np.zeros((T, ROWS), np.float32)
            dS = np.zeros((ROWS, N), np.float32)
            for i0 in range(0, N, ROWS):
                for t in range(T):
                    wt, kt = w[i_b, t, i_h], k[i_b, t, i_h]
                    at, bt, vt = a[i_b, t, i_h], b[i_b, t, i_h], v[i_b, t, i_h]
                    for i in range(ROWS):
                        prev, cur = history[t, i], history[t + 1, i]
                        sa = np.float32(0)
                        for j in range(N):
                            sa += prev[j] * at[j]
                        sas[t, i] = sa
                        vi = vt[i0 + i]
                        for j in range(N):
                            cur[j] = prev[j] * wt[j] + sa * bt[j] + vi * kt[j]
                dS[:] = 0
                for t in range(T - 1, -1, -1):
                    rt, wt, kt = r[i_b, t, i_h], w[i_b, t, i_h], k[i_b, t, i_h]
                    at, bt, vt = a[i_b, t, i_h], b[i_b, t, i_h], v[i_b, t, i_h]
                    drt, dwt, dkt = dr[i_b, t, i_h], dw[i_b, t, i_h], dk[i_b, t, i_h]
                    dat, dbt, dvt = da[i_b, t, i_h], db[i_b, t, i_h], dv[i_b, t, i_h]
                    for i in range(ROWS):
                        prev, cur, g = history[t, i], history[t + 1, i], dS[i]
                        dyi, vi, sa = dy[i_b, t, i_h, i0 + i], vt[i0 + i], sas[t, i]
                        dsa, dvi = np.float32(0), np.float32(0)
                        for j in range(N):
                            gj = g[j] + dyi * rt[j]
                            g[j] = gj
                            drt[j] += dyi * cur[j]
                            dkt[j] += gj * vi
                            dwt[j] += gj * prev[j]
                            dbt[j] += gj * sa
                            dsa += gj * bt[j]
                            dvi += gj * kt[j]
                        dvt[i0 + i] = dvi
                        for j in range(N):
                            dat[j] += dsa * prev[j]
                            g[j] = g[j] * wt[j] + dsa * at[j]

    return _forward, _backward


class Wkv(torch.autograd.Function):
    """(r, w, k, v, a, b) -> y, all (B, T, H, N) float32; the state starts at zero."""

    @staticmethod
    def forward(ctx, *inputs):
        inputs = tuple(x.contiguous() for x in inputs)
        ctx.save_for_backward(*inputs)
        y = torch.empty_like(inputs[0])
        kernels(y.shape[-1])[0](*(x.detach().numpy() for x in inputs), y.numpy())
        return y

    @staticmethod
    def backward(ctx, dy):
        inputs = ctx.saved_tensors
        grads = tuple(torch.zeros_like(x) for x in inputs)  # r w k v a b
        dr, dw, dk, dv, da, db = grads
        kernels(dy.shape[-1])[1](
            *(x.detach().numpy() for x in inputs),
            dy.contiguous().numpy(),
            *(x.numpy() for x in (dr, dw, dk, dv, da, db)),
        )
        return grads

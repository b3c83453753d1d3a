"""RWKV-7 on the CPU: numba kernels for one token and for the recurrent part of many.

Weights keep the bits of their file and are widened to float32 as they are read: a float32 array is
itself, a uint16 array is bfloat16, an int16 array is float16 (numba compiles no float16 arrays).
State and every sum are float32.  Everything stays in this one file, because numba's cache does not
notice a change in an imported helper.

Shapes: L layers, D = n_embd, F = n_ffn, V rows of the vocabulary, H heads of N, R = the sum of the
four low-rank widths.  Rows of ``vec`` are the observables of `goose_viz.observables.VECTORS`.
"""

from __future__ import annotations

import math
from collections import namedtuple

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

#: What the kernels read of a model.  16-bit or float32 unless marked f32, which is always float32.
Packed = namedtuple(
    "Packed",
    [
        "emb",  # (V, D)
        "ln0",  # (2, D) f32: weight, bias
        "ln",  # (L, 4, D) f32: ln1 weight, bias, ln2 weight, bias
        "mix",  # (L, 6, D) f32: x_r x_w x_k x_v x_a x_g
        "rkv",  # (L, 3 D, D): receptance, key, value
        "down",  # (L, R, D): w1, a1, v1, g1, transposed and stacked
        "w2",  # (L, D, rank): transposed
        "a2",  # (L, D, rank)
        "v2",  # (L, D, rank)
        "g2",  # (L, D, rank)
        "att",  # (L, 8, D) f32: w0 a0 v0 k_k k_a r_k ln_x.weight ln_x.bias
        "output",  # (L, D, D)
        "ffn_mix",  # (L, D) f32
        "ffn_key",  # (L, F, D)
        "ffn_value",  # (L, D, F)
        "ln_out",  # (2, D) f32
        "head",  # (V, D)
    ],
)

# NaN and infinity keep their meaning; sums may be reordered so that they vectorise.
_FAST = {"reassoc", "contract", "arcp", "nsz"}
_E = np.float32(math.exp(-0.5))
_ONE = np.float32(1)
_HALF = np.float32(0.5)
_ZERO = np.float32(0)


@intrinsic
def widen(typingctx, x):
    """A stored weight as float32: identity, bfloat16 bits (uint16) or float16 bits (int16)."""
    if x == types.float32:
        return types.float32(x), lambda context, builder, sig, args: args[0]
    if x == types.uint16:

        def from_bfloat16(context, builder, sig, args):
            wide = builder.zext(args[0], ir.IntType(32))
            return builder.bitcast(
                builder.shl(wide, ir.Constant(ir.IntType(32), 16)), ir.FloatType()
            )

        return types.float32(x), from_bfloat16
    if x == types.int16:

        def from_float16(context, builder, sig, args):
            return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

        return types.float32(x), from_float16
    return None


@njit(nogil=True, cache=True, fastmath=_FAST, inline="never")
def _dot(row, x):  # (K,), (K,) f32 -> f32
    total = _ZERO
    for i in range(x.size):
        total += widen(row[i]) * x[i]
    return total


@njit(nogil=True, cache=True)
def _sigmoid(z):  # the form that never overflows; float32
    return _HALF + _HALF * np.float32(math.tanh(_HALF * z))


@njit(nogil=True, cache=True, fastmath=_FAST)
def _layer_norm(x, weight, bias, eps, out):  # (D,) each
    n = x.size
    mean = _ZERO
    for i in range(n):
        mean += x[i]
    mean /= np.float32(n)
    variance = _ZERO
    for i in range(n):
        variance += (x[i] - mean) * (x[i] - mean)
    scale = _ONE / np.float32(math.sqrt(variance / np.float32(n) + eps))
    for i in range(n):
        out[i] = (x[i] - mean) * scale * weight[i] + bias[i]


@njit(nogil=True, cache=True, fastmath=_FAST)
def _head_token(h, layer, p, S, v_first, vec, scalars, read, out, t, gn_eps):
    """One head, one token: from projections and low-rank sums to the gated read.

    vec (8, T, D) holds on entry, in the order of VECTORS: the decay's and the rate's low-rank
    sums, nothing, key, value, receptance, gate, the value mix's low-rank sum; on return the
    observables themselves.  S (N, N) = [value, key] and v_first (T, D) change in place; scalars
    (3, T, H), read (T, H, N) and out (T, D) are written.
    """
    N = S.shape[0]
    c0 = h * N
    w, a, kappa, k = vec[0, t], vec[1, t], vec[2, t], vec[3, t]
    v, r, g, mix = vec[4, t], vec[5, t], vec[6, t], vec[7, t]
    norm = _ZERO
    for c in range(c0, c0 + N):
        w[c] = np.float32(math.exp(-_E * _sigmoid(p[0, c] + w[c])))
        a[c] = _sigmoid(p[1, c] + a[c])
        kappa[c] = k[c] * p[3, c]
        norm += kappa[c] * kappa[c]
        k[c] = k[c] * (_ONE + (a[c] - _ONE) * p[4, c])
        if layer == 0:
            v_first[t, c] = v[c]
            mix[c] = _ZERO
        else:
            mix[c] = _sigmoid(p[2, c] + mix[c])
            v[c] = v[c] + (v_first[t, c] - v[c]) * mix[c]
    scale = _ONE / max(np.float32(math.sqrt(norm)), np.float32(1e-12))
    bonus, k_norm, b_norm, v_norm = _ZERO, _ZERO, _ZERO, _ZERO
    for c in range(c0, c0 + N):
        kappa[c] *= scale
        bonus += r[c] * k[c] * p[5, c]
        k_norm += k[c] * k[c]
        b_norm += (kappa[c] * a[c]) * (kappa[c] * a[c])
        v_norm += v[c] * v[c]

    # S diag(w) - (S kappa)(kappa a)^T + v k~^T, then y = S r, a value row at a time
    wh, ah, kappah = w[c0 : c0 + N], a[c0 : c0 + N], kappa[c0 : c0 + N]
    kh, rh = k[c0 : c0 + N], r[c0 : c0 + N]
    y = read[t, h]
    taken = _ZERO
    for i in range(N):
        row = S[i]
        sk = _ZERO
        for j in range(N):
            sk += row[j] * kappah[j]
        taken += sk * sk
        vi = v[c0 + i]
        yi = _ZERO
        for j in range(N):
            s = row[j] * wh[j] - sk * (kappah[j] * ah[j]) + vi * kh[j]
            row[j] = s
            yi += s * rh[j]
        y[i] = yi

    mean = _ZERO
    for i in range(N):
        mean += y[i]
    mean /= np.float32(N)
    variance = _ZERO
    for i in range(N):
        variance += (y[i] - mean) * (y[i] - mean)
    scale = _ONE / np.float32(math.sqrt(variance / np.float32(N) + gn_eps))
    for i in range(N):
        c = c0 + i
        normed = (y[i] - mean) * scale * p[6, c] + p[7, c]
        out[t, c] = (normed + bonus * v[c]) * g[c]
    scalars[0, t, h] = bonus
    scalars[1, t, h] = math.sqrt(taken * b_norm)  # both parts are rank one: norms multiply
    scalars[2, t, h] = math.sqrt(v_norm * k_norm)


@njit(nogil=True, cache=True, parallel=True, fastmath=_FAST)
def step(token, m, att_shift, ffn_shift, wkv, vec, scalars, read, residual, logits, ln_eps, gn_eps):
    """One token through the whole model.

    m is Packed; att_shift and ffn_shift (L, D) and wkv (L, H, N, N) change in place; written are
    vec (L, 8, 1, D), scalars (L, 3, 1, H), read (L, 1, H, N), residual (L, D) and logits (V,).
    """
    L, D = att_shift.shape
    H, N = wkv.shape[1], wkv.shape[2]
    F, R = m.ffn_key.shape[1], m.down.shape[1]
    rw, ra, rv, _rg = m.w2.shape[2], m.a2.shape[2], m.v2.shape[2], m.g2.shape[2]
    x, xx = np.empty(D, np.float32), np.empty(D, np.float32)
    mixed = np.empty((6, D), np.float32)
    low, hidden = np.empty(R, np.float32), np.empty(F, np.float32)
    v_first, out = np.empty((1, D), np.float32), np.empty((1, D), np.float32)

    for i in range(D):
        xx[i] = widen(m.emb[token, i])
    _layer_norm(xx, m.ln0[0], m.ln0[1], ln_eps, x)
    for layer in range(L):
        _layer_norm(x, m.ln[layer, 0], m.ln[layer, 1], ln_eps, xx)
        for i in range(D):
            d = att_shift[layer, i] - xx[i]
            for c in range(6):
                mixed[c, i] = xx[i] + d * m.mix[layer, c, i]
            att_shift[layer, i] = xx[i]

        vl = vec[layer]
        for row in prange(3 * D + R):
            if row < D:
                vl[5, 0, row] = _dot(m.rkv[layer, row], mixed[0])
            elif row < 2 * D:
                vl[3, 0, row - D] = _dot(m.rkv[layer, row], mixed[2])
            elif row < 3 * D:
                vl[4, 0, row - 2 * D] = _dot(m.rkv[layer, row], mixed[3])
            else:
                i = row - 3 * D
                source = 1
                if i >= rw + ra + rv:
                    source = 5
                elif i >= rw + ra:
                    source = 3
                elif i >= rw:
                    source = 4
                z = _dot(m.down[layer, i], mixed[source])
                if source == 1:
                    z = np.float32(math.tanh(z))
                elif source == 5:
                    z = _sigmoid(z)
                low[i] = z

        for h in prange(H):
            for c in range(h * N, h * N + N):
                vl[0, 0, c] = _dot(m.w2[layer, c], low[:rw])
                vl[1, 0, c] = _dot(m.a2[layer, c], low[rw : rw + ra])
                vl[7, 0, c] = _dot(m.v2[layer, c], low[rw + ra : rw + ra + rv])
                vl[6, 0, c] = _dot(m.g2[layer, c], low[rw + ra + rv :])
            _head_token(
                h, layer, m.att[layer], wkv[layer, h], v_first, vl, scalars[layer], read[layer],
                out, 0, gn_eps,
            )  # fmt: skip

        for i in prange(D):
            x[i] += _dot(m.output[layer, i], out[0])

        _layer_norm(x, m.ln[layer, 2], m.ln[layer, 3], ln_eps, xx)
        for i in range(D):
            mixed[0, i] = xx[i] + (ffn_shift[layer, i] - xx[i]) * m.ffn_mix[layer, i]
            ffn_shift[layer, i] = xx[i]
        for i in prange(F):
            z = max(_dot(m.ffn_key[layer, i], mixed[0]), _ZERO)
            hidden[i] = z * z
        for i in prange(D):
            x[i] += _dot(m.ffn_value[layer, i], hidden)
            residual[layer, i] = x[i]

    _layer_norm(x, m.ln_out[0], m.ln_out[1], ln_eps, xx)
    for i in prange(m.head.shape[0]):
        logits[i] = _dot(m.head[i], xx)


@njit(nogil=True, cache=True, fastmath=_FAST)
def embed(tokens, emb, ln0, eps, x):
    """Rows of the embedding through layer norm 0: tokens (T,) int64 -> x (T, D)."""
    row = np.empty(x.shape[1], np.float32)
    for t in range(tokens.size):
        for i in range(row.size):
            row[i] = widen(emb[tokens[t], i])
        _layer_norm(row, ln0[0], ln0[1], eps, x[t])


@njit(nogil=True, cache=True, fastmath=_FAST)
def norm_and_mix(x, weight, bias, eps, shift, mix, mixed):
    """Layer norm, token shift, mixing: x (T, D), mix (C, D) -> mixed (C, T, D); shift in place."""
    T, D = x.shape
    xx = np.empty(D, np.float32)
    for t in range(T):
        _layer_norm(x[t], weight, bias, eps, xx)
        for c in range(mix.shape[0]):
            for i in range(D):
                mixed[c, t, i] = xx[i] + (shift[i] - xx[i]) * mix[c, i]
        for i in range(D):
            shift[i] = xx[i]


@njit(nogil=True, cache=True, fastmath=_FAST)
def norm(x, weight, bias, eps, out):
    """Layer norm of every row of x (T, D)."""
    for t in range(x.shape[0]):
        _layer_norm(x[t], weight, bias, eps, out[t])


@njit(nogil=True, cache=True, parallel=True)
def recur(layer, p, wkv, v_first, vec, scalars, read, out, gn_eps, states):
    """The time mix's recurrence over T tokens, a head at a time; see `_head_token`.

    wkv (H, N, N) changes in place.  states is (T, H, N, N) to keep the state after every token, or
    has T = 0 to keep none.
    """
    for h in prange(wkv.shape[0]):
        for t in range(vec.shape[1]):
            _head_token(h, layer, p, wkv[h], v_first, vec, scalars, read, out, t, gn_eps)
            if states.shape[0] > 0:
                states[t, h] = wkv[h]


@njit(nogil=True, cache=True, parallel=True)
def widen_matrix(bits, out):
    """A stored matrix (rows, columns) as float32."""
    for i in prange(bits.shape[0]):
        for j in range(bits.shape[1]):
            out[i, j] = widen(bits[i, j])


@njit(nogil=True, cache=True)
def relu_squared(x):
    """max(x, 0)^2, in place, over a matrix (T, F)."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            z = max(x[i, j], _ZERO)
            x[i, j] = z * z

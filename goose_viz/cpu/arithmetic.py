"""What both ways through the model share: norms, gates, and one head's step of the recurrence.

Shapes: L layers, D = n_embd, H heads of N, T tokens.  Rows of ``vec`` (8, T, D) are the observables
of `goose_viz.observables.VECTORS`, rows of ``scalars`` (3, T, H) those of `SCALARS`.  All float32.
"""

from __future__ import annotations

import math

import numpy as np

from goose_viz.compiled import compiled
from goose_viz.cpu.building import FAR
from goose_viz.cpu.integers import LARGEST
from goose_viz.cpu.lanes import (
    add_four,
    are_whole,
    dot,
    four_state_rows,
    magnitudes,
    one_state_row,
    power_of_two,
    round_into,
)
from goose_viz.cpu.rows import times_four, times_many, times_one, vectors_at_once

_E = np.float32(math.exp(-0.5))
ONE, HALF, ZERO = (np.float32(n) for n in (1, 0.5, 0))
_LOG2_E = np.float32(1 / math.log(2))
_LN2_HIGH = np.float32(0.693359375)  # few bits, so that whole multiples are exact
_LN2_LOW = np.float32(math.log(2) - 0.693359375)
_C2, _C3, _C4, _C5, _C6, _C7 = (np.float32(1 / math.factorial(n)) for n in range(2, 8))
_LOWEST, _HIGHEST = np.float32(-87), np.float32(88)  # what float32 has an exponential of
_MOST = np.float32(LARGEST)
_ROWS = 8  # that meet many vectors, before the next vectors
#: What the magnitudes of a rounded vector may add up to: times 127 they fit an int32.
_MOST_IN_ALL = np.float32((2**31 - 1) / 127 * 0.999)
_LEAST = np.float32(1e-37)  # of a unit: there must be a number that it goes into once
_FLOOR = np.float32(1e-12)  # of a removal key's length


@compiled
def unit_of(x, start, n):
    """What n numbers of x from an index on are rounded to multiples of, to meet whole numbers.

    So much that no sum of products overflows.
    """
    most, total = magnitudes(x, start, n)
    unit = max(most / _MOST, total / (_MOST_IN_ALL - np.float32(n)))
    if unit == ZERO:
        return ONE
    return _LEAST if unit < _LEAST else unit


@compiled
def meet(met, c, weights):
    """Make vector c of `layout.Met` ready for such weights: whole numbers want whole ones."""
    if are_whole(weights):
        n = met.numbers.shape[1]
        unit = unit_of(met.numbers, c * n, n)
        round_into(met.numbers, c * n, n, ONE / unit, met.whole, c * met.whole.shape[1])
        met.unit[c] = unit


@compiled
def product(weights, scales, first, rows, at, step, met, c, count, out):
    """out[at + b step + i] = W[first + i] . vector c + b, for so many rows and vectors.

    Indices of rows count through all layers, ``at`` from the array's beginning.  A row that meets
    many vectors is read once; what comes is the same bits as of one at a time.
    """
    if count == 1:
        i = 0
        while i + 4 <= rows:
            times_four(weights, scales, first + i, met, c, out, at + i, 0)
            i += 4
        while i < rows:
            times_one(weights, scales, first + i, met, c, out, at + i, 0)
            i += 1
        return
    together = vectors_at_once(weights)
    for begin in range(0, rows, _ROWS):  # they and the vectors that they meet stay in the caches
        end, b = min(begin + _ROWS, rows), 0
        while b + together <= count:
            for i in range(begin, end):
                times_many(weights, scales, first + i, met, c + b, out, at + b * step + i, step)
            b += together
        while b < count:
            for i in range(begin, end):
                times_one(weights, scales, first + i, met, c + b, out, at + b * step + i, 0)
            b += 1


@compiled
def exp(x):
    """e^x to 2e-7 of itself, in a form that runs sixteen at a time."""
    x = min(max(x, _LOWEST), _HIGHEST)
    z = x * _LOG2_E
    k = np.int32(z + (HALF if z >= ZERO else -HALF))
    r = x - np.float32(k) * _LN2_HIGH - np.float32(k) * _LN2_LOW  # |r| <= ln(2) / 2
    p = _C7 * r + _C6
    p = p * r + _C5
    p = p * r + _C4
    p = p * r + _C3
    p = p * r + _C2
    return (p * r * r + r + ONE) * power_of_two(k)


@compiled
def sigmoid(z):
    """1 / (1 + e^-z)."""
    return ONE / (ONE + exp(-z))


@compiled
def tanh(z):
    """Tanh, exact near 0."""
    return np.float32(math.tanh(z))


@compiled
def layer_norm(x, weight, bias, eps, ones, out):
    """Layer norm of x (D,) into out (D,); ones are D of them."""
    n = x.size
    mean = dot(x, 0, ones, 0, n) / np.float32(n)
    for i in range(n):
        out[i] = x[i] - mean
    variance = dot(out, 0, out, 0, n) / np.float32(n)
    scale = ONE / np.float32(math.sqrt(variance + eps))
    for i in range(n):
        out[i] = out[i] * scale * weight[i] + bias[i]


@compiled
def mix(xx, shift, weight, out):
    """Out = xx + (shift - xx) weight, all (D,)."""
    for i in range(xx.size):
        out[i] = xx[i] + (shift[i] - xx[i]) * weight[i]


@compiled
def _row(rows, i, count, stride, beyond, step):
    """Where the row at entry i of a list begins; past its end, at ``beyond`` and steps from it."""
    return rows[i] * stride if i < count else beyond + (i - count) * step


@compiled
def _from(rows, i, count, stride, beyond, step):
    """Where four rows begin, from entry i of a list."""
    return (
        _row(rows, i, count, stride, beyond, step),
        _row(rows, i + 1, count, stride, beyond, step),
        _row(rows, i + 2, count, stride, beyond, step),
        _row(rows, i + 3, count, stride, beyond, step),
    )


@compiled
def rows_ahead(weights):
    """How many rows before its use `add_rows` asks for a row."""
    return max(4, FAR // (weights.shape[-1] * weights.itemsize) // 4 * 4)


@compiled
def add_rows(weights, rows, factors, count, width, out, start, beyond, step):
    """out[start:] += factors[i] weights[rows[i]], a row of ``width`` numbers, for i < count.

    The two lists have room for what makes fours of them: up to three entries behind the last are
    written.  The first `rows_ahead` rows should have been
    asked for.  At the end as many are asked for from item ``beyond`` on, ``step`` apart: 0 to ask
    for nothing new.
    """
    ahead, stride = rows_ahead(weights), weights.shape[-1]
    fours = (count + 3) // 4 * 4
    for i in range(count, fours):
        rows[i], factors[i] = rows[count - 1], ZERO
    for i in range(0, fours, 4):
        add_four(
            weights, _from(rows, i, fours, stride, beyond, step),
            _from(rows, i + 4, count, stride, beyond, step),
            _from(rows, i + ahead, count, stride, beyond, step),
            (factors[i], factors[i + 1], factors[i + 2], factors[i + 3]), out, start, width,
        )  # fmt: skip


@compiled
def head_gates(h, layer, p, v_first, vec, scalars, t, removal, erase):
    """One head's observables, from its projections and low-rank sums.

    vec holds on entry, in the order of VECTORS: the decay's and the rate's low-rank sums, nothing,
    key, value, receptance, gate, the value mix's low-rank sum; on return the observables
    themselves; erase (N,) gets c kappa a, c = ``removal``.  p (8, D) is the layer's ``att``;
    v_first (T, D) is written by layer 0.  scalars (3, T, H) get the bonus, the norm of what is
    written, and that of c kappa a, which `head_output` makes the norm of what is removed.
    """
    T, D = vec.shape[1], vec.shape[2]
    N = erase.size
    first, end = h * N, (h + 1) * N
    w, a, kappa = vec[0, t, first:end], vec[1, t, first:end], vec[2, t, first:end]
    k, v, r = vec[3, t, first:end], vec[4, t, first:end], vec[5, t, first:end]
    mixed, v0 = vec[7, t, first:end], v_first[t, first:end]
    w_bias, a_bias, v_bias = p[0, first:end], p[1, first:end], p[2, first:end]
    k_k, k_a, r_k = p[3, first:end], p[4, first:end], p[5, first:end]
    for i in range(N):
        w[i] = exp(-_E * sigmoid(w_bias[i] + w[i]))
    for i in range(N):
        a[i] = sigmoid(a_bias[i] + a[i])
    for i in range(N):
        kappa[i] = k[i] * k_k[i]
    for i in range(N):
        k[i] = k[i] * (ONE + (a[i] - ONE) * k_a[i])
    if layer == 0:
        for i in range(N):
            v0[i] = v[i]
            mixed[i] = ZERO
    else:
        for i in range(N):
            mixed[i] = sigmoid(v_bias[i] + mixed[i])
        for i in range(N):
            v[i] = v[i] + (v0[i] - v[i]) * mixed[i]
    for i in range(N):  # for the bonus; it is not c kappa a yet
        erase[i] = r[i] * r_k[i]
    at = t * D + first
    kappas, keys, values = 2 * T * D + at, 3 * T * D + at, 4 * T * D + at
    scalars[0, t, h] = dot(erase, 0, vec, keys, N)
    length = np.float32(math.sqrt(dot(vec, kappas, vec, kappas, N)))
    scale = ONE / max(length, _FLOOR)
    for i in range(N):
        kappa[i] *= scale
    for i in range(N):
        erase[i] = removal * kappa[i] * a[i]
    scalars[1, t, h] = math.sqrt(dot(erase, 0, erase, 0, N))
    written = dot(vec, values, vec, values, N) * dot(vec, keys, vec, keys, N)
    scalars[2, t, h] = math.sqrt(written)


@compiled
def head_rows(S, value, stop, vec, at, plane, erase, y):
    """Value rows up to ``stop`` of a head's state, one token further; see `four_state_rows`."""
    N = S.shape[0]
    lost = ZERO
    while value + 4 <= stop:
        lost += four_state_rows(S, value, N, vec, at, plane, erase, y)
        value += 4
    while value < stop:
        lost += one_state_row(S, value, N, vec, at, plane, erase, y)
        value += 1
    return lost


@compiled
def head_output(h, p, y, vec, scalars, taken, out, t, gn_eps):
    """From the read y (N,) to the gated output out[t, head]; taken = sum (S kappa)^2."""
    N = y.size
    first, end = h * N, (h + 1) * N
    v, g, gated = vec[4, t, first:end], vec[6, t, first:end], out[t, first:end]
    weight, bias = p[6, first:end], p[7, first:end]
    mean = ZERO
    for i in range(N):
        mean += y[i]
    mean /= np.float32(N)
    variance = ZERO
    for i in range(N):
        variance += (y[i] - mean) * (y[i] - mean)
    scale = ONE / np.float32(math.sqrt(variance / np.float32(N) + gn_eps))
    bonus = scalars[0, t, h]
    for i in range(N):
        gated[i] = ((y[i] - mean) * scale * weight[i] + bias[i] + bonus * v[i]) * g[i]
    scalars[1, t, h] *= np.float32(math.sqrt(taken))  # both parts are rank one: norms multiply

"""The inner loops over tokens: how the memory's transitions carry vectors there and back.

G_t = diag(w_t) - kappa_t (kappa_t a_t)^T is what token t does to the memory from the right, before
it writes; ``rates`` are a_t, times the removal scale.  Numbers are summed in float64; those that
have faded to nothing are taken for zero.
"""

from __future__ import annotations

import numpy as np

from goose_viz.compiled import compiled
from goose_viz.cpu.lanes import flush_denormals, restore


@compiled
def walk(decay, rates, removal, written, read, factors, marks, part, weights, reached, first):  # type: ignore[no-untyped-def]
    """Carry what a head reads back over the tokens: q_{t-1} = G_t q_t.

    decay, rates, removal, written : (T, L, H, N); read : (L, H, N), q of the last token.
    factors : (T, L, H), or empty; marks : (T,), a row of ``reached``, or -1.
    part : (4,), the layers and heads to do, as bounds.
    Fills weights (L, H, T) with k~_t . q_t, reached (rows, L, H, N) with the q just ahead of marked
    tokens, first (L, H, N) with the q ahead of all.
    """
    T, _, _, N = decay.shape
    before = flush_denormals()
    q = np.empty(N)
    for layer in range(part[0], part[1]):
        for head in range(part[2], part[3]):
            for i in range(N):
                q[i] = read[layer, head, i]
            for t in range(T - 1, -1, -1):
                weight, along = 0.0, 0.0
                for i in range(N):
                    weight += written[t, layer, head, i] * q[i]
                    along += removal[t, layer, head, i] * rates[t, layer, head, i] * q[i]
                weights[layer, head, t] = weight
                for i in range(N):
                    q[i] = decay[t, layer, head, i] * q[i] - removal[t, layer, head, i] * along
                if marks[t] >= 0:
                    for i in range(N):
                        reached[marks[t], layer, head, i] = q[i]
                if factors.size > 0:
                    for i in range(N):
                        q[i] *= factors[t, layer, head]
            for i in range(N):
                first[layer, head, i] = q[i]
    restore(before)


@compiled
def walk_from_each(decay, rates, removal, written, receptance, factors, layer, head, out):  # type: ignore[no-untyped-def]
    """Fill out (T, T) with k~_t . q_t of every token's own read, a row a token; one head."""
    T, _, _, N = decay.shape
    before = flush_denormals()
    q, fade, key, along = np.empty(N), np.empty(N), np.empty(N), np.empty(N)
    for last in range(T):
        for i in range(N):
            q[i] = receptance[last, layer, head, i]
        for t in range(last, -1, -1):
            weight, dot = 0.0, 0.0
            for i in range(N):
                fade[i] = decay[t, layer, head, i]
                key[i] = removal[t, layer, head, i]
                along[i] = key[i] * rates[t, layer, head, i]
                weight += written[t, layer, head, i] * q[i]
                dot += along[i] * q[i]
            out[last, t] = weight
            for i in range(N):
                q[i] = fade[i] * q[i] - key[i] * dot
            if factors.size > 0:
                for i in range(N):
                    q[i] *= factors[t, layer, head]
    restore(before)


@compiled
def fade(decay, rates, removal, written, factors, layer, head, out):  # type: ignore[no-untyped-def]
    """Fill out (T, N) with each token's key as it is behind the last: k~_t^T G_{t+1} … G_T."""
    T, _, _, N = decay.shape
    before = flush_denormals()
    onward = np.eye(N)  # G_{t+1} … G_T
    row = np.empty(N)
    for t in range(T - 1, -1, -1):
        for j in range(N):
            out[t, j] = 0.0
            row[j] = 0.0
        for i in range(N):
            k = written[t, layer, head, i]
            a = removal[t, layer, head, i] * rates[t, layer, head, i]
            for j in range(N):
                out[t, j] += k * onward[i, j]
                row[j] += a * onward[i, j]
        factor = factors[t, layer, head] if factors.size > 0 else 1.0
        for i in range(N):
            w, k = decay[t, layer, head, i] * factor, removal[t, layer, head, i] * factor
            for j in range(N):
                onward[i, j] = w * onward[i, j] - k * row[j]
    restore(before)


@compiled
def carry(decay, rates, removal, factors, begin, rows):  # type: ignore[no-untyped-def]
    """Carry rows (L, H, R, N) over the tokens from ``begin`` on, in place: p <- p G_t."""
    T, L, H, N = decay.shape
    before = flush_denormals()
    for layer in range(L):
        for head in range(H):
            for t in range(begin, T):
                factor = factors[t, layer, head] if factors.size > 0 else 1.0
                for r in range(rows.shape[2]):
                    dot = 0.0
                    for i in range(N):
                        dot += rows[layer, head, r, i] * removal[t, layer, head, i]
                    for i in range(N):
                        rows[layer, head, r, i] = factor * (
                            rows[layer, head, r, i] * decay[t, layer, head, i]
                            - dot * removal[t, layer, head, i] * rates[t, layer, head, i]
                        )
    restore(before)


@compiled
def remember(decay, rates, removal, written, value, factors, part, memory, squares, missed, least):  # type: ignore[no-untyped-def]
    """Write the tokens into memory (L, H, N, N) in place, S <- factor S G_t + v k~^T, and measure.

    part : (6,), the layers, heads and tokens to do, as bounds.
    Fills squares (T, L, H) with sums of squares behind each token, missed (T, L, H) with
    |v_t - S_{t-1} kappa_t|, least (T, L, H) with the least eigenvalue of G_t.
    """
    N = decay.shape[3]
    before = flush_denormals()
    found, along, b2 = np.empty(N), np.empty(N), np.empty(N)
    for layer in range(part[0], part[1]):
        for head in range(part[2], part[3]):
            S = memory[layer, head]
            for t in range(part[4], part[5]):
                factor = factors[t, layer, head] if factors.size > 0 else 1.0
                miss = 0.0
                for i in range(N):
                    dot = 0.0
                    for j in range(N):
                        dot += S[i, j] * removal[t, layer, head, j]
                    found[i] = factor * dot
                    difference = value[t, layer, head, i] - found[i]
                    miss += difference * difference
                low, reach = np.inf, 0.0
                for j in range(N):
                    key, rate = removal[t, layer, head, j], rates[t, layer, head, j]
                    along[j] = key * rate
                    b2[j] = key * key * rate
                    reach += b2[j]
                    low = min(low, decay[t, layer, head, j])
                total = 0.0
                for i in range(N):
                    for j in range(N):
                        number = factor * S[i, j] * decay[t, layer, head, j]
                        number -= found[i] * along[j]
                        number += value[t, layer, head, i] * written[t, layer, head, j]
                        S[i, j] = number
                        total += number * number
                squares[t, layer, head] = total
                missed[t, layer, head] = np.sqrt(miss)
                least[t, layer, head] = _least(decay[t, layer, head], b2, low, reach)
    restore(before)


@compiled
def _least(decay, b2, low, reach):  # type: ignore[no-untyped-def]
    """The least eigenvalue of diag(w) - b b^T: below all w, sum b^2 / (w - x) rises through 1."""
    if reach == 0:
        return low
    left, right = low - reach, low
    for _ in range(60):
        x = 0.5 * (left + right)
        total = 0.0
        for j in range(decay.size):
            total += b2[j] / (decay[j] - x)
        if total < 1:
            left = x
        else:
            right = x
    return 0.5 * (left + right)

"""What is not a matrix product when many tokens go through the model at once.

Every kernel is a job of ``pieces`` equal tasks, up to ticket ``limit`` (see `tickets`); each thread
calls it with the same arguments.  T tokens; D, H, N as in `arithmetic`.
"""

from __future__ import annotations

import numpy as np

from goose_viz.compiled import compiled
from goose_viz.cpu.arithmetic import (
    ONE,
    ZERO,
    head_gates,
    head_output,
    head_rows,
    layer_norm,
    mix,
    product,
    sigmoid,
    tanh,
    unit_of,
)
from goose_viz.cpu.lanes import (
    ask_for,
    borrowed,
    flush_denormals,
    restore,
    round_into,
    scale_of,
    widen_row,
)
from goose_viz.cpu.tickets import draw, finish, wait_for_all


@compiled
def norm_and_mix(
    counters, limit, pieces, x, norms, eps, ones, shift, weights, mixed, whole, unit, last
):  # fmt: skip
    """Layer norm, token shift, mixing: x (T, D), weights (C, D) -> mixed (C, T, D).

    norms (2, D) are weight and bias, shift (D,) the norm of the token before the first; last (D,)
    gets the norm of the last.  mixed, whole and unit are a `prompt.Vectors`: what is mixed is
    rounded if it has room for that.
    """
    x, norms, ones, shift = borrowed(x), borrowed(norms), borrowed(ones), borrowed(shift)
    weights, mixed, last = borrowed(weights), borrowed(mixed), borrowed(last)
    whole, unit = borrowed(whole), borrowed(unit)
    T, D = x.shape
    xx, before = np.empty(D, np.float32), np.empty(D, np.float32)
    one = np.empty(D, np.float32)
    flat = whole.reshape(-1)
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        piece = ticket - (limit - pieces)
        begin, end = T * piece // pieces, T * (piece + 1) // pieces
        if begin == 0:
            before[:] = shift
        elif begin < end:
            layer_norm(x[begin - 1], norms[0], norms[1], eps, ones, before)
        for t in range(begin, end):
            layer_norm(x[t], norms[0], norms[1], eps, ones, xx)
            for c in range(weights.shape[0]):
                if whole.size == 0:
                    mix(xx, before, weights[c], mixed[c, t])
                else:
                    mix(xx, before, weights[c], one)
                    unit[c, t] = unit_of(one, 0, D)
                    to = (c * T + t) * whole.shape[2]
                    round_into(one, 0, D, ONE / unit[c, t], flat, to)
            before[:] = xx
        if begin < end == T:
            last[:] = xx
        finish(counters)
    wait_for_all(counters, limit)


@compiled
def norm(x, weight, bias, eps, ones, out):
    """Layer norm of every row of x (T, D)."""
    for t in range(x.shape[0]):
        layer_norm(x[t], weight, bias, eps, ones, out[t])


@compiled
def widen_rows(counters, limit, pieces, weights, scales, first, out):
    """Stored rows from ``first`` on, counted through all layers, as float32; out (rows, width)."""
    weights, scales, out = borrowed(weights), borrowed(scales), borrowed(out)
    rows, width = out.shape
    stride = weights.shape[-1]
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        piece = ticket - (limit - pieces)
        for row in range(rows * piece // pieces, rows * (piece + 1) // pieces):
            scale = scale_of(scales, first + row, weights)
            widen_row(weights, (first + row) * stride, scale, width, out, row * width)
        finish(counters)
    wait_for_all(counters, limit)


@compiled
def look_up(weights, scales, rows, out):
    """Out (n, width) = the rows (n,) of weights (V, width), which has no blocks."""
    width = out.shape[1]
    for i in range(rows.size):
        row = rows[i]
        widen_row(weights, row * width, scale_of(scales, row, weights), width, out, i * width)


@compiled
def project(counters, limit, pieces, weights, scales, met, out):
    """Out (rows,) = W x for the first of ``met``, made ready: no matrix need be widened for it."""
    weights, scales, met, out = borrowed(weights), borrowed(scales), borrowed(met), borrowed(out)
    rows = weights.shape[0]
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        piece = ticket - (limit - pieces)
        begin, end = rows * piece // pieces, rows * (piece + 1) // pieces
        product(weights, scales, begin, end - begin, begin, 0, met, 0, 1, out)
        finish(counters)
    wait_for_all(counters, limit)


@compiled
def activate(counters, limit, pieces, x, tanh_end, sigmoid_begin, squared):
    """What a product's columns go through, x (T, columns) in place.

    Tanh before ``tanh_end``, sigmoid from ``sigmoid_begin`` on; or max(x, 0)^2 where ``squared``.
    """
    x = borrowed(x)
    rows = x.shape[0]
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        piece = ticket - (limit - pieces)
        for t in range(rows * piece // pieces, rows * (piece + 1) // pieces):
            row = x[t]
            if squared:
                for i in range(row.size):
                    z = max(row[i], ZERO)
                    row[i] = z * z
            else:
                for i in range(tanh_end):
                    row[i] = tanh(row[i])
                for i in range(sigmoid_begin, row.size):
                    row[i] = sigmoid(row[i])
        finish(counters)
    wait_for_all(counters, limit)


@compiled
def recur(
    counters, limit, pieces, layer, p, wkv, v_first, vec, scalars, read, out, gn_eps, removal,
    states,
):  # fmt: skip
    """The recurrence over T tokens, a head a task.

    p is the layer's ``att`` (8, D); wkv (H, N, N) changes in place; vec (8, T, D) and scalars
    (3, T, H) as in `arithmetic`, removal is c; read (T, H, N) and out (T, D) are written.  states
    is (T, H, N, N) to keep the state after every token, or has T = 0 to keep none.
    """
    before = flush_denormals()
    p, wkv, v_first = borrowed(p), borrowed(wkv), borrowed(v_first)
    vec, scalars = borrowed(vec), borrowed(scalars)
    read, out, states = borrowed(read), borrowed(out), borrowed(states)
    T, D, N = vec.shape[1], vec.shape[2], wkv.shape[1]
    flat = vec.reshape(-1)
    erase = np.empty(N, np.float32)
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        h = ticket - (limit - pieces)
        S = wkv[h]
        for t in range(T):
            for i in range(h * N, (h + 1) * N, 16):  # the next token's is on its way meanwhile
                at = (t + 1) * D + i
                for plane in range(8):
                    ask_for(vec, plane * T * D + at)
                ask_for(v_first, at)
                ask_for(read, at)
                ask_for(out, at)
            head_gates(h, layer, p, v_first, vec, scalars, t, removal, erase)
            y = read[t, h]
            taken = head_rows(S, 0, N, flat, t * D + h * N, T * D, erase, y)
            head_output(h, p, y, vec, scalars, taken, out, t, gn_eps)
            if states.shape[0] > 0:
                states[t, h, :, :] = S
        finish(counters)
    wait_for_all(counters, limit)
    restore(before)

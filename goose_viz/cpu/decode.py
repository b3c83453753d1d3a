"""One token through the model: a list of tasks that any number of threads works off.

Three phases a layer.  *Inward*: receptance, key, value and the first halves of the low-rank pairs,
row by row.  *Heads*: a head's gates, its step of the recurrence and its share of the output matrix.
*Channels*: rows of the channel mix, and at once the value rows of those that are not zero.  What
heads and channels add to the residual stream comes in parts, summed in their order by the thread
that ends the phase; it then prepares the next one.  A thread that must wait for it asks for its
next weights meanwhile, so that memory never rests.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from goose_gpu.planes import LOW, LOW_MIX, LOW_PLANE, RKV_MIX, RKV_PLANE
from goose_viz.compiled import compiled
from goose_viz.config import Config
from goose_viz.cpu.arithmetic import (
    ONE,
    ZERO,
    add_rows,
    head_gates,
    head_output,
    head_rows,
    layer_norm,
    meet,
    mix,
    product,
    rows_ahead,
    sigmoid,
    tanh,
)
from goose_viz.cpu.blocks import float32_at
from goose_viz.cpu.building import FAR, LINE
from goose_viz.cpu.lanes import (
    add_wide,
    ask_for,
    borrowed,
    clock,
    flush_denormals,
    index_of,
    restore,
    scale_of,
    sum_rows,
    widen,
    widen_row,
)
from goose_viz.cpu.layout import SHARES, model_of, ranks, scratch_of
from goose_viz.cpu.tickets import draw, finish, is_open, open_until, wait

_EMBED, _INWARD, _HEAD, _CHANNEL, _VOCABULARY, _AFTER_HEADS, _AFTER_CHANNELS = range(7)
_TANH, _SIGMOID = LOW.index("w"), LOW.index("g")  # of what lies between the low-rank halves
_VOCABULARY_BYTES = 512 << 10  # of a task; its phase has no small ones to end with
_NOT_YET = -2
_ASKED = 192 << 10  # bytes asked for at most while waiting: they must fit into the second cache


class Queue(NamedTuple):
    """Where a thread draws its tickets, and the one that it drew before its task was done."""

    counters: NDArray[np.int64]
    tasks: NDArray[np.int64]  # see `plan`
    base: int  # the job's first ticket
    ahead: NDArray[np.int64]  # (1,) that ticket, -1 when none is left, or _NOT_YET


def plan(config: Config, row_bytes: int, count: int = 1) -> NDArray[np.int64]:
    """The tasks of a token: kind, layer, first row, last row, part; end and size of the phase.

    ``row_bytes`` are those of a token's row in the head.  With ``count`` sequences side by side,
    what comes between phases is shared too: its tasks have sequences for rows, and the number of
    parts to add up.
    """
    D, V = config.n_embd, config.vocab_size
    R = sum(ranks(config))
    each = [(b, b + 1) for b in range(count)]
    phases = [[(_EMBED, 0, 0, count, 0)]]
    for layer in range(config.n_layer):
        phases.append([(_INWARD, layer, *cut, 0) for cut in _cuts(3 * D + R)])
        phases.append([(_HEAD, layer, h, h + 1, h) for h in range(config.n_head)])
        if count > 1:
            phases.append([(_AFTER_HEADS, layer, *one, config.n_head) for one in each])
        channels = _cuts(config.n_ffn)
        phases.append([(_CHANNEL, layer, *cut, i) for i, cut in enumerate(channels)])
        if count > 1:
            phases.append([(_AFTER_CHANNELS, layer, *one, len(channels)) for one in each])
    pieces = max(1, V * row_bytes // _VOCABULARY_BYTES)
    ends = [V * i // pieces for i in range(pieces + 1)]
    phases.append([(_VOCABULARY, 0, a, b, 0) for a, b in pairwise(ends)])
    tasks, end = [], 0
    for phase in phases:
        end += len(phase)
        tasks += [(*task, end, len(phase)) for task in phase]
    return np.array(tasks, np.int64)


def _cuts(n: int) -> list[tuple[int, int]]:
    """Rows 0 to n in the proportions of the shares, none empty."""
    whole = sum(SHARES)
    ends = [n * sum(SHARES[:i]) // whole for i in range(len(SHARES) + 1)]
    return [(a, b) for a, b in pairwise(ends) if b > a]


@compiled
def _draw(queue):
    """The thread's next ticket, drawn now unless it was before."""
    if queue.ahead[0] == _NOT_YET:
        queue.ahead[0] = draw(queue.counters, queue.base + queue.tasks.shape[0])
    return queue.ahead[0]


@compiled
def _next_head(queue, layer):
    """The head of the same layer that this thread takes next, or -1."""
    ticket = _draw(queue)
    if ticket < 0:
        return -1
    task = queue.tasks[ticket - queue.base]
    return task[2] if task[0] == _HEAD and task[1] == layer else -1


@compiled
def _ask(weights, at, end):
    """Ask for weights from number ``at`` up to ``end``; where that came to."""
    per_line = LINE // weights.itemsize
    while at < end:
        ask_for(weights, at)
        at += per_line
    return at


@compiled
def _ask_rows(weights, at, end, counters, ticket):
    """Ask for weights from number ``at`` on: a little, or much while the phase is not open yet."""
    per_line = LINE // weights.itemsize
    last = min(end, at + _ASKED // weights.itemsize)
    at = _ask(weights, at, min(end, at + FAR // weights.itemsize))
    while at < last and not is_open(counters, ticket):
        at = _ask(weights, at, min(last, at + 32 * per_line))


@compiled
def _inward(layer, first, last, m, s, counters, ticket):
    """Rows of r, k, v and of the low-rank pairs' first halves, as one matrix."""
    B, D = s.x.shape
    R = s.low.shape[1]
    rows = 3 * D
    split = min(max(rows, first), last)  # from here on it is low rank
    base, low = layer * rows, layer * R - rows
    stride = m.rkv.shape[-1]
    _ask_rows(m.rkv, (base + first) * stride, (base + split) * stride, counters, ticket)
    stride = m.down.shape[-1]
    _ask_rows(m.down, (low + split) * stride, (low + last) * stride, counters, ticket)
    wait(counters, ticket)
    vec, lows = s.vec.reshape(-1), s.low.reshape(-1)
    for part in range(3):
        a, b = max(first, part * D), min(split, (part + 1) * D)
        if a < b:
            c, at = RKV_MIX[part] * B, (layer * 8 + RKV_PLANE[part]) * B * D + a - part * D
            product(m.rkv, m.scale.rkv, base + a, b - a, at, D, s.mixed, c, B, vec)
    for part in range(4):
        a, b = max(split, rows + s.ranks[part]), min(last, rows + s.ranks[part + 1])
        if a < b:
            c, at = LOW_MIX[part] * B, a - rows
            product(m.down, m.scale.down, low + a, b - a, at, R, s.mixed, c, B, lows)
            for n in range(B):
                for i in range(at, at + b - a):
                    if part == _TANH:
                        s.low[n, i] = tanh(s.low[n, i])
                    elif part == _SIGMOID:
                        s.low[n, i] = sigmoid(s.low[n, i])


@compiled
def _head(layer, h, m, s, where, copy, gn_eps, removal, queue, ticket, foreseen):
    """A head of every sequence, from its low-rank sums to its part of the output product.

    The states at ``where`` change in place.  copy is (N, N) to get one of the first state, or has
    no rows.  ``foreseen`` is whether the thread's last task has asked for what this begins with.
    """
    B, D = s.x.shape
    H, R, N = m.up.shape[1:]
    c0 = h * N
    rows = layer * D + c0
    size = R * N  # of a head's part of m.up
    begin = (layer * H + h) * size
    stop = begin + size
    if not foreseen:
        _ask_rows(m.up, begin, stop, queue.counters, ticket)
    wait(queue.counters, ticket)
    following = _next_head(queue, layer)

    # with the arithmetic on what is there, what comes next is asked for
    flat, lows, vec, scalars = s.vec.reshape(-1), s.low.reshape(-1), s.vec[layer], s.scalars[layer]
    stride = m.output.shape[-1]
    asked, end = rows * stride, (rows + N) * stride
    erase = np.empty(N, np.float32)
    state = float32_at(where[0, 0], (m.up.shape[0] * H * N * N,))
    for b in range(B):
        S = float32_at(where[b, 0] + 4 * (layer * H + h) * N * N, (N, N))
        at = (layer * 8 * B + b) * D + c0
        for part in range(4):
            low = s.ranks[part]
            count = s.ranks[part + 1] - low
            to = at + LOW_PLANE[part] * B * D
            source = begin + low * N
            if part == 0 and not foreseen:
                sum_rows(m.up, source, count, lows, b * R + low, flat, to, N, stop, S, 0, S.size)
            else:
                asked = sum_rows(
                    m.up, source, count, lows, b * R + low, flat, to, N, stop, m.output, asked, end
                )
            scales = (layer * 4 + part) * D + c0
            for i in range(N):
                flat[to + i] *= scale_of(m.scale.up, scales + i, m.up)
        y = s.read[layer, b, h]
        head_gates(h, layer, m.att[layer], s.v_first, vec, scalars, b, removal, erase)
        taken = ZERO
        share = max(end - asked, 0) * 4 // N  # with every four rows
        other, last = stop, stop
        if following >= 0 and b == B - 1:
            other = (layer * H + following) * size
            last = other + size
        for i in range(0, N, 4):
            asked = _ask(m.output, asked, min(end, asked + share))
            other = _ask(m.up, other, min(last, other + size * 4 // N))
            taken += head_rows(S, i, min(i + 4, N), flat, at, B * D, erase, y)
        if b == 0:
            for i in range(copy.shape[0]):
                for j in range(N):
                    copy[i, j] = S[i, j]
        head_output(h, m.att[layer], y, vec, scalars, taken, s.out, b, gn_eps)

    wanted, factors = np.empty(N + 3, np.int64), np.empty((B, N + 3), np.float32)
    for i in range(N):
        wanted[i] = rows + i
        scale = scale_of(m.scale.output, rows + i, m.output)
        for b in range(B):
            factors[b, i] = s.out[b, c0 + i] * scale
    beyond, step = end - stride, 0
    if following >= 0:
        beyond, step = index_of(m.output, state, (layer * H + following) * N * N), stride
    _add_rows(m.output, wanted, factors, N, s.parts[h], beyond, step)
    return following >= 0


@compiled
def _add_rows(weights, wanted, factors, count, out, beyond, step):
    """Out (B, D) = sum_i factors[b, i] weights[wanted[i]]; see `add_rows`.

    Rows that meet many are widened once; what comes is the same bits as of one at a time.
    """
    B, D = out.shape
    for b in range(B):
        for j in range(D):
            out[b, j] = ZERO
    if B == 1:
        add_rows(weights, wanted, factors[0], count, D, out, 0, beyond, step)
        return
    wide, stride = np.empty((4, D), np.float32), weights.shape[-1]
    for i in range(0, count, 4):
        for r in range(4):
            if i + r < count:
                widen_row(weights, wanted[i + r] * stride, ONE, D, wide, r * D)
            else:
                for b in range(B):
                    factors[b, i + r] = ZERO
        for b in range(B):
            four = (factors[b, i], factors[b, i + 1], factors[b, i + 2], factors[b, i + 3])
            add_wide(wide, four, out, b * D, D)


@compiled
def _channels(layer, first, last, part, m, s, counters, ticket):
    """Channels of the channel mix: relu(W_k x)^2, and W_v's rows for those that are not zero."""
    B, F = s.x.shape[0], m.ffn_key.shape[1]
    base, stride = layer * F, m.ffn_key.shape[-1]
    _ask_rows(m.ffn_key, (base + first) * stride, (base + last) * stride, counters, ticket)
    wait(counters, ticket)
    room = last - first + 3
    wanted, factors = np.empty(room, np.int64), np.empty((B, room), np.float32)
    found, asked, ahead = 0, 0, rows_ahead(m.ffn_value)
    stride = m.ffn_value.shape[-1]
    fours = np.empty(4 * B, np.float32)
    for i in range(first, last):
        row, at = base + i, (i - first) % 4
        if at == 0:
            count = min(last - i, 4)
            product(m.ffn_key, m.scale.ffn_key, row, count, 0, 4, s.mixed, 0, B, fours)
        # no branch: which channels are zero cannot be foreseen, and a core that guesses wrong
        # loses what it has begun of the next rows
        wanted[found] = row
        scale, alive = scale_of(m.scale.ffn_value, row, m.ffn_value), 0
        for b in range(B):
            z = max(fours[4 * b + at], ZERO)
            factors[b, found] = z * z * scale
            alive |= int(z != ZERO)
        found += alive
        if i >= last - ahead and asked < found:  # the first values have the time of these keys
            at = wanted[asked] * stride
            _ask(m.ffn_value, at, at + stride)
            asked += 1
    s.live[layer, part] = found
    beyond = wanted[max(found - 1, 0)] * stride
    _add_rows(m.ffn_value, wanted, factors, found, s.parts[part], beyond, 0)


@compiled
def _add_parts(s, n, b):
    for part in range(n):
        for i in range(s.x.shape[1]):
            s.x[b, i] += s.parts[part, b, i]


@compiled
def _begin(b, token, m, s, where, eps):
    """A token's row of the embedding, and what its first layer begins with."""
    D = s.x.shape[1]
    for i in range(D):
        s.xx[b, i] = widen(m.emb[token, i]) * scale_of(m.scale.emb, token, m.emb)
    layer_norm(s.xx[b], m.ln0[0], m.ln0[1], eps, s.ones, s.x[b])
    _before_time_mix(b, 0, m, s, where, eps)


@compiled
def _before_time_mix(b, layer, m, s, where, eps):
    """Norm, token shift and the six mixes of a layer; the shift in place."""
    B, D = s.x.shape
    shift, xx = float32_at(where[b, 1] + 4 * layer * D, (D,)), s.xx[b]
    layer_norm(s.x[b], m.ln[layer, 0], m.ln[layer, 1], eps, s.ones, xx)
    for c in range(6):
        mix(xx, shift, m.mix[layer, c], s.mixed.numbers[c * B + b])
        meet(s.mixed, c * B + b, m.rkv)
    for i in range(D):
        shift[i] = xx[i]


@compiled
def _after_heads(b, layer, n, m, s, where, eps):
    """What the heads have read goes into the residual stream; norm and mix of the channels."""
    D = s.x.shape[1]
    _add_parts(s, n, b)
    shift, xx = float32_at(where[b, 2] + 4 * layer * D, (D,)), s.xx[b]
    layer_norm(s.x[b], m.ln[layer, 2], m.ln[layer, 3], eps, s.ones, xx)
    mix(xx, shift, m.ffn_mix[layer, 0], s.mixed.numbers[b])
    meet(s.mixed, b, m.ffn_key)
    for i in range(D):
        shift[i] = xx[i]


@compiled
def _after_channels(b, layer, n, m, s, where, eps):
    """The same of the channels; what the next layer begins with, or the head."""
    _add_parts(s, n, b)
    for i in range(s.x.shape[1]):
        s.residual[layer, b, i] = s.x[b, i]
    if layer + 1 < m.ln.shape[0]:
        _before_time_mix(b, layer + 1, m, s, where, eps)
    else:
        layer_norm(s.x[b], m.ln_out[0], m.ln_out[1], eps, s.ones, s.mixed.numbers[b])
        meet(s.mixed, b, m.head)


@compiled
def step(
    counters, base, tasks, tokens, matrices, cuts, memory, scratch_cuts, where, logits, states,
    state_row, ln_eps, gn_eps, removal,
):  # fmt: skip
    """One token of each of B sequences; every thread that helps calls this with the same.

    counters and tasks see `tickets` and `plan`; base is the job's first ticket; tokens (B,);
    matrices to scratch_cuts are what `model_of` and `scratch_of` take.  where (B, 3) are the
    addresses of the states' wkv (L, H, N, N), att_shift and ffn_shift (L, D), which change in
    place.  logits (B, V) are written, and so is states[state_row[layer]] (H, N, N), a copy of the
    first sequence's state in a layer, unless the row is negative.
    """
    before = flush_denormals()
    counters, tasks, tokens = borrowed(counters), borrowed(tasks), borrowed(tokens)
    m, s = model_of(matrices, cuts), scratch_of(memory, scratch_cuts)
    where, logits = borrowed(where), borrowed(logits)
    states, state_row = borrowed(states), borrowed(state_row)
    n, B = tasks.shape[0], tokens.size
    L, N = m.up.shape[0], m.up.shape[3]
    nothing = np.empty((0, N), np.float32)
    queue, foreseen = Queue(counters, tasks, base, np.full(1, _NOT_YET)), False
    while True:
        ticket = _draw(queue)
        if ticket < 0:
            break
        queue.ahead[0] = _NOT_YET
        task = tasks[ticket - base]
        kind, layer, first, last, part = task[0], task[1], task[2], task[3], task[4]
        if kind == _INWARD:
            _inward(layer, first, last, m, s, counters, ticket)
        elif kind == _HEAD:
            copy = states[state_row[layer], first] if state_row[layer] >= 0 else nothing
            foreseen = _head(
                layer, first, m, s, where, copy, gn_eps, removal, queue, ticket, foreseen
            )
        elif kind == _CHANNEL:
            _channels(layer, first, last, part, m, s, counters, ticket)
        elif kind == _VOCABULARY:
            stride, V = m.head.shape[-1], m.head.shape[0]
            _ask_rows(m.head, first * stride, last * stride, counters, ticket)
            wait(counters, ticket)
            rows, flat = last - first, logits.reshape(-1)
            product(m.head, m.scale.head, first, rows, first, V, s.mixed, 0, B, flat)
        else:
            wait(counters, ticket)
            for b in range(first, last):
                if kind == _EMBED:
                    _begin(b, tokens[b], m, s, where, ln_eps)
                elif kind == _AFTER_HEADS:
                    _after_heads(b, layer, part, m, s, where, ln_eps)
                else:
                    _after_channels(b, layer, part, m, s, where, ln_eps)

        if finish(counters) == base + task[5]:  # the last of its phase prepares the next
            if B == 1 and kind == _HEAD:
                _after_heads(0, layer, task[6], m, s, where, ln_eps)
            elif B == 1 and kind == _CHANNEL:
                _after_channels(0, layer, task[6], m, s, where, ln_eps)
            if kind <= _VOCABULARY:
                s.ended[3 * L + 1 if kind == _VOCABULARY else 3 * layer + kind] = clock()
            following = task[5]
            end = base + (tasks[following, 5] if following < n else n + 1)
            open_until(counters, end)
    wait(counters, base + n)
    restore(before)

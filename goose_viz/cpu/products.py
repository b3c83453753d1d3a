"""Many rounded vectors times int8 or int4 weights: what most of a prompt is.

A piece of the work is some columns of what comes out, a panel of sixteen at a time, for all
vectors.  Each kernel is a job as in `prompt_kernels`.
"""

from __future__ import annotations

import numpy as np

from goose_gpu.formats import FORMATS
from goose_viz.compiled import compiled
from goose_viz.cpu.arithmetic import ONE, ZERO, unit_of
from goose_viz.cpu.lanes import borrowed, round_into, scale_of
from goose_viz.cpu.panels import (
    COLUMNS,
    group_scales,
    pair_columns,
    pairs_of_row,
    tile_four,
    tile_one,
    turn_rows,
)
from goose_viz.cpu.tickets import draw, finish, wait_for_all

_AT_ONCE = 4  # vectors whose sums stay in registers
_PANELS = 4  # that a vector goes through while it is in the first cache
_GROUP = FORMATS["int4"].group


@compiled
def _panels_of(piece, pieces, columns):
    """The first column of a piece, and where it ends: whole panels."""
    panels = (columns + COLUMNS - 1) // COLUMNS
    begin, end = panels * piece // pieces, panels * (piece + 1) // pieces
    return begin * COLUMNS, min(end * COLUMNS, columns)


@compiled
def _tile(weights, whole, t, panel, groups, unit, factors, out, at, step, add):
    """A few vectors from vector t on through a panel; how many."""
    left, width, pairs = whole.shape[0] - t, whole.shape[1], panel.size // COLUMNS
    many = _AT_ONCE if left >= _AT_ONCE else 1
    x, to = t * width, at + t * step
    if many > 1:
        tile_four(
            weights, whole, x, width, panel, pairs, groups, unit, t, factors, out, to, step, add
        )
    else:
        tile_one(
            weights, whole, x, width, panel, pairs, groups, unit, t, factors, out, to, step, add
        )
    return many


@compiled
def _through(weights, whole, unit, panels, groups, factors, columns, out, at, step, add):
    """out[at + t step + c] (+)= factors[c] vector t . column c of panels, for ``columns`` of them.

    whole (T, width) are the rounded vectors, unit (T,) what they are multiples of.  A vector goes
    through all panels while it is in the first cache.
    """
    T, t = whole.shape[0], 0
    rest = np.empty((_AT_ONCE, COLUMNS), np.float32)
    while t < T:
        many = 0
        for p in range((columns + COLUMNS - 1) // COLUMNS):
            c = p * COLUMNS
            if c + COLUMNS <= columns:
                many = _tile(
                    weights, whole, t, panels[p], groups[p], unit, factors[p], out, at + c, step,
                    add,
                )  # fmt: skip
                continue
            flat = rest.reshape(-1)
            many = _tile(
                weights, whole, t, panels[p], groups[p], unit, factors[p], flat, -t * COLUMNS,
                COLUMNS, False,
            )  # fmt: skip
            for v in range(many):
                for i in range(columns - c):
                    place = at + (t + v) * step + c + i
                    out[place] = rest[v, i] + (out[place] if add else ZERO)
        t += many


@compiled
def rows_times(
    counters, limit, pieces, weights, scales, first, rows, n, whole, unit, out, at, step
):  # fmt: skip
    """out[at + t step + i] = W[first + i] . vector t, over n numbers a row.

    out is flat; indices of rows count through all layers.
    """
    weights, scales, out = borrowed(weights), borrowed(scales), borrowed(out)
    whole, unit = borrowed(whole), borrowed(unit)
    stride, pairs = weights.shape[-1], pairs_of_row(weights, n)
    panels = np.empty((_PANELS, COLUMNS * pairs), np.int32)
    groups = np.empty((_PANELS, max(COLUMNS, COLUMNS * 2 * pairs // _GROUP)), np.float32)
    factors = np.empty((_PANELS, COLUMNS), np.float32)
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        begin, end = _panels_of(ticket - (limit - pieces), pieces, rows)
        for i in range(begin, end, _PANELS * COLUMNS):
            columns = min(_PANELS * COLUMNS, end - i)
            for p in range((columns + COLUMNS - 1) // COLUMNS):
                row = first + i + p * COLUMNS
                count = min(COLUMNS, columns - p * COLUMNS)
                turn_rows(weights, row, count, n, panels[p])
                for c in range(count):
                    group_scales(weights, (row + c) * stride, n, groups[p], c)
                    factors[p, c] = scale_of(scales, row + c, weights)
            _through(
                weights, whole, unit, panels, groups, factors, columns, out, at + i, step, False
            )
        finish(counters)
    wait_for_all(counters, limit)


@compiled
def columns_times(counters, limit, pieces, weights, first, inputs, D, whole, unit, out):
    """Out (T, D) += sum_i vector t's number i times row ``first + i`` of weights, unscaled."""
    weights, whole, unit, out = borrowed(weights), borrowed(whole), borrowed(unit), borrowed(out)
    stride, flat = weights.shape[-1], out.reshape(-1)
    panels = np.zeros((_PANELS, COLUMNS * ((inputs + 1) // 2)), np.int32)
    factors = np.ones((_PANELS, COLUMNS), np.float32)
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        begin, end = _panels_of(ticket - (limit - pieces), pieces, D)
        for j in range(begin, end, _PANELS * COLUMNS):
            columns = min(_PANELS * COLUMNS, end - j)
            for p in range((columns + COLUMNS - 1) // COLUMNS):
                c = p * COLUMNS
                count = min(COLUMNS, columns - c)
                for i in range(0, inputs, 2):  # an odd one's partner meets zeros
                    one = (first + i) * stride + j + c
                    two = (first + min(i + 1, inputs - 1)) * stride + j + c
                    pair_columns(weights, one, two, count, panels[p], i // 2)
            _through(weights, whole, unit, panels, factors, factors, columns, flat, j, D, True)
        finish(counters)
    wait_for_all(counters, limit)


@compiled
def shorten(counters, limit, pieces, x, scales, first, squared, whole, unit):
    """Round x (T, n), times the scales of its numbers from ``first`` on, for `columns_times`.

    Where ``squared``, max(x, 0)^2 comes first.  whole (T, width) int16 and unit (T,) are written.
    """
    x, scales, whole, unit = borrowed(x), borrowed(scales), borrowed(whole), borrowed(unit)
    T, n = x.shape
    width = whole.shape[1]
    while True:
        ticket = draw(counters, limit)
        if ticket < 0:
            break
        piece = ticket - (limit - pieces)
        for t in range(T * piece // pieces, T * (piece + 1) // pieces):
            row = x[t]
            for i in range(n):
                z = row[i]
                if squared:
                    z = max(z, ZERO)
                    z = z * z
                row[i] = z * scales[first + i]
            unit[t] = unit_of(x, t * n, n)
            round_into(x, t * n, n, ONE / unit[t], whole, t * width)
            if n % 2:
                whole[t, n] = 0
        finish(counters)
    wait_for_all(counters, limit)

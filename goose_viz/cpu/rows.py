"""Rows of weights times a vector, four rows at a time: what most of a token is.

Sums are kept in sixteen lanes for floats and in eight for whole numbers, and are added up in one
order whether a row is one of four or alone.  Rows are read one behind the other, as they lie: four
side by side would each be a stranger to what the processor asks for by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from goose_viz.cpu.building import (
    F32,
    I8,
    I32,
    LANES,
    LINE,
    STORED,
    blocks_of,
    data_of,
    fma,
    int64,
    load_lanes,
    prefetch,
    spread,
    widened,
)
from goose_viz.cpu.integers import FOURS, PAIRS, WHOLE, chunk_of_fours, int8_pairs, scales_of


def _zeros(builder: Any, kind: Any, n: int) -> list[Any]:
    slots = [cgutils.alloca_once(builder, kind) for _ in range(n)]
    for slot in slots:
        builder.store(ir.Constant(kind, None), slot)
    return slots


def _sums(builder: Any, vectors: list[Any], add: Callable[[Any, Any], Any]) -> Any:
    """Of each of four vectors of eight: a vector of four."""
    a, b, c, d = vectors

    def mixed(x: Any, y: Any, first: list[int], second: list[int]) -> Any:
        kind = ir.VectorType(I32, len(first))
        return add(
            builder.shuffle_vector(x, y, ir.Constant(kind, first)),
            builder.shuffle_vector(x, y, ir.Constant(kind, second)),
        )

    low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    ac, bd = mixed(a, c, low, high), mixed(b, d, low, high)
    four = mixed(ac, bd, [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15])
    return mixed(four, four, [0, 2, 4, 6], [1, 3, 5, 7])


def _ask(builder: Any, row: Any, ahead: list[tuple[Any, int]], lines: int = 1) -> None:
    """Ask for so many lines at each distance from a place; the last of all asks beyond the end.

    Nothing comes of asking for what is not there, and the next rows are often another's to read.
    """
    place = builder.bitcast(row, ir.PointerType(I8))
    for distance, closeness in ahead:
        there = builder.gep(place, [distance])
        for n in range(lines):
            prefetch(builder, builder.gep(there, [int64(n * LINE)]), closeness)


def _floats(builder: Any, kind: Any, rows: list[Any], numbers: Any, n: Any, ahead: Any) -> Any:
    """(four sums of sixteen lanes as of eight, where whole lanes end)."""
    size = kind.bitwidth // 8
    wide = ir.VectorType(F32, LANES)
    per_line = max(LANES, LINE // size)
    halves, done = [], n
    for row in rows:
        sums = _zeros(builder, wide, 2)

        def add(i: Any, slot: Any, row: Any = row) -> None:
            x = load_lanes(builder, numbers, i, 4)
            w = widened(builder, kind, load_lanes(builder, row, i, size))
            builder.store(fma(builder, w, x, builder.load(slot)), slot)

        def line(i: Any, row: Any = row, sums: Any = sums, add: Any = add) -> None:
            for k in range(2):
                part = builder.add(i, int64(k * per_line))
                _ask(builder, builder.gep(row, [part]), ahead)
                for m in range(0, per_line, LANES):
                    slot = sums[(k * per_line + m) // LANES % 2]
                    add(builder.add(part, int64(m)), slot)

        def first(i: Any, sums: Any = sums, add: Any = add) -> None:
            add(i, sums[0])

        done = blocks_of(builder, int64(0), n, 2 * per_line, line)
        done = blocks_of(builder, done, n, LANES, first)
        total = builder.fadd(*(builder.load(slot) for slot in sums))
        low, high = (
            builder.shuffle_vector(total, total, ir.Constant(ir.VectorType(I32, 8), half))
            for half in (list(range(8)), list(range(8, 16)))
        )
        halves.append(builder.fadd(low, high))
    return halves, done


def _bytes(builder: Any, rows: list[Any], whole: Any, n: Any, ahead: Any) -> Any:
    """The same of int8 rows, as int32."""
    found, done = [], n
    for row in rows:
        sums = _zeros(builder, ir.VectorType(I32, PAIRS), 2)

        def add(i: Any, slot: Any, row: Any = row) -> None:
            pairs = int8_pairs(builder, builder.gep(row, [i]), builder.gep(whole, [i]))
            builder.store(builder.add(builder.load(slot), pairs), slot)

        def line(i: Any, row: Any = row, sums: Any = sums, add: Any = add) -> None:
            _ask(builder, builder.gep(row, [i]), ahead)
            for k in range(LINE // LANES):
                add(builder.add(i, int64(k * LANES)), sums[k % 2])

        def first(i: Any, sums: Any = sums, add: Any = add) -> None:
            add(i, sums[0])

        done = blocks_of(builder, int64(0), n, LINE, line)
        done = blocks_of(builder, done, n, LANES, first)
        found.append(builder.add(*(builder.load(slot) for slot in sums)))
    return found, done


def _fours(builder: Any, rows: list[Any], whole: Any, n: Any, ahead: Any) -> Any:
    """The same of int4 rows, scales included, as float32; all of a row is whole blocks."""
    wide = ir.VectorType(F32, PAIRS)
    scales = cgutils.alloca_once(builder, wide)
    first = builder.bitcast(scales, ir.PointerType(F32))
    blocks = builder.sdiv(builder.add(n, int64(FOURS.block - 1)), int64(FOURS.block))
    found = []
    for row in rows:
        sums = _zeros(builder, wide, 2)
        with cgutils.for_range(builder, blocks) as loop:
            block = builder.gep(row, [builder.mul(loop.index, int64(FOURS.items))])
            numbers = builder.gep(whole, [builder.mul(loop.index, int64(FOURS.block))])
            _ask(builder, block, ahead, -(-FOURS.items // LINE))
            builder.store(scales_of(builder, block), scales)
            for chunk in range(4):
                groups = chunk_of_fours(builder, block, chunk, numbers)
                for half, (group, slot) in enumerate(zip(groups, sums, strict=True)):
                    scale = builder.load(builder.gep(first, [int64(2 * chunk + half)]))
                    value = fma(builder, group, spread(builder, scale, PAIRS), builder.load(slot))
                    builder.store(value, slot)
        found.append(builder.fadd(*(builder.load(slot) for slot in sums)))
    return found, None


def _times(count: int) -> Any:
    """A function for so many rows: 4 or 1."""

    def typing(
        typingctx: Any, weights: Any, scales: Any, row: Any, met: Any, c: Any, out: Any, to: Any
    ) -> Any:
        kind = weights.dtype
        if kind not in STORED and kind not in WHOLE:
            return None

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            weights_, scales_, first, met_, c_, out_, to_ = args
            array = context.make_array(weights)(context, builder, weights_)
            stride = cgutils.unpack_tuple(builder, array.shape)[-1]
            rows = [
                builder.gep(array.data, [builder.mul(builder.add(first, int64(r)), stride)])
                for r in range(count)
            ]
            numbers, whole, unit, distances = (
                context.make_array(kind_)(context, builder, builder.extract_value(met_, i))
                for i, kind_ in enumerate(sig.args[3].types)
            )
            n = cgutils.unpack_tuple(builder, numbers.shape)[1]
            filled = cgutils.unpack_tuple(builder, whole.shape)[1]
            x = builder.gep(numbers.data, [builder.mul(c_, n)])
            q = builder.gep(whole.data, [builder.mul(c_, filled)])
            ahead = [
                (builder.load(builder.gep(distances.data, [int64(n)])), closeness)
                for n, closeness in enumerate((3, 2))
            ]
            if kind == types.int8:
                sums, done = _bytes(builder, rows, q, n, ahead)
            elif kind == types.uint8:
                sums, done = _fours(builder, rows, q, n, ahead)
            else:
                sums, done = _floats(builder, kind, rows, x, n, ahead)
            exact = kind == types.int8
            sums += [ir.Constant(sums[0].type, None)] * (4 - count)
            total = _sums(builder, sums, builder.add if exact else builder.fadd)
            slot = cgutils.alloca_once(builder, total.type)
            builder.store(total, slot)
            if done is not None:  # what does not fill the lanes
                one_by_one = builder.bitcast(slot, ir.PointerType(total.type.element))
                for r, place in enumerate(rows):
                    target = builder.gep(one_by_one, [int64(r)])

                    def one(i: Any, place: Any = place, target: Any = target) -> None:
                        stored = builder.load(builder.gep(place, [i]))
                        old = builder.load(target)
                        if exact:
                            value = builder.sext(builder.load(builder.gep(q, [i])), I32)
                            more = builder.mul(builder.sext(stored, I32), value)
                            builder.store(builder.add(old, more), target)
                            return
                        value = builder.load(builder.gep(x, [i]))
                        w = widened(builder, kind, stored)
                        builder.store(fma(builder, w, value, old), target)

                    blocks_of(builder, done, n, 1, one)
            total = builder.load(slot)
            if exact:
                total = builder.sitofp(total, ir.VectorType(F32, 4))
            if kind in WHOLE:
                factor = builder.load(builder.gep(unit.data, [c_]))
                total = builder.fmul(total, spread(builder, factor, 4))
            target = builder.gep(data_of(context, builder, sig.args[5], out_), [to_])
            place = builder.gep(data_of(context, builder, scales, scales_), [first])
            for r in range(count) if count < 4 else ():
                value = builder.extract_element(total, ir.Constant(I32, r))
                if exact:
                    value = builder.fmul(value, builder.load(builder.gep(place, [int64(r)])))
                builder.store(value, builder.gep(target, [int64(r)]))
            if count == 4:
                vector = ir.PointerType(total.type)
                if exact:
                    total = builder.fmul(
                        total, builder.load(builder.bitcast(place, vector), align=4)
                    )
                builder.store(total, builder.bitcast(target, vector), align=4)
            return context.get_dummy_value()

        i = types.int64
        return types.void(weights, scales, i, met, i, out, i), code

    return intrinsic(typing)


#: times_four(weights, scales, row, met, c, out, to): out[to + i] = W[row + i] . vector c of a
#: `layout.Met`, i from 0 to 3.  Indices of rows count through all layers, ``to`` from the array's
#: beginning.
times_four, times_one = _times(4), _times(1)

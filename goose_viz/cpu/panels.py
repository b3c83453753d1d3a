"""Whole numbers by panels: sixteen rows of weights meet several vectors in registers.

Sixteen rows are turned so that their numbers lie side by side, two of a row next to each other,
since an instruction takes two products and adds them up: an item is a pair, 32 bits.  A tile takes
four rounded vectors through such a panel, a pair at a time, and keeps their sums in registers.
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
    I32,
    LANES,
    blocks_of,
    data_of,
    every,
    fma,
    int64,
    lanes_of,
    read,
    spread,
    write,
)
from goose_viz.cpu.integers import (
    FOURS,
    PAIRS,
    WHOLE,
    blocks_in,
    int8_as_int16,
    pairs_of,
    run_of_chunk,
    scales_of,
)

COLUMNS = LANES  # of a panel
_HALF = COLUMNS // 2
_GROUP = FOURS.group // 2  # pairs that share a scale


@intrinsic
def pairs_of_row(typingctx: Any, weights: Any, n: Any) -> Any:
    """Pairs of a row of n numbers, with what fills int4 up to whole blocks."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if weights.dtype != types.uint8:
            return builder.sdiv(builder.add(args[1], int64(1)), int64(2))
        return builder.mul(blocks_in(builder, args[1]), int64(FOURS.block // 2))

    return types.int64(weights, types.int64), code


@intrinsic
def group_scales(typingctx: Any, weights: Any, at: Any, n: Any, out: Any, to: Any) -> Any:
    """out[to + g COLUMNS] = scale g of the n numbers of an int4 row at item ``at``."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if weights.dtype != types.uint8:
            return context.get_dummy_value()
        row = builder.gep(data_of(context, builder, weights, args[0]), [args[1]])
        target = builder.gep(data_of(context, builder, out, args[3]), [args[4]])
        per_block = FOURS.block // FOURS.group
        with cgutils.for_range(builder, blocks_in(builder, args[2])) as loop:
            block = builder.gep(row, [builder.mul(loop.index, int64(FOURS.items))])
            scales = scales_of(builder, block)
            base = builder.mul(loop.index, int64(per_block * COLUMNS))
            for g in range(per_block):
                scale = builder.extract_element(scales, ir.Constant(I32, g))
                place = builder.add(base, int64(g * COLUMNS))
                builder.store(scale, builder.gep(target, [place]))
        return context.get_dummy_value()

    i = types.int64
    return types.void(weights, i, i, out, i), code


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Eight vectors of eight, turned: vector i holds number i of each."""

    def mixed(a: Any, b: Any, order: list[int]) -> Any:
        return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, 8), order))

    low, high = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
    twos = [mixed(rows[i], rows[i + 1], o) for i in range(0, 8, 2) for o in (low, high)]
    low, high = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
    fours = [
        mixed(twos[4 * h + i], twos[4 * h + 2 + i], o)
        for h in (0, 1)
        for i in (0, 1)
        for o in (low, high)
    ]
    low, high = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]
    return [mixed(fours[i], fours[4 + i], o) for o in (low, high) for i in range(4)]


@intrinsic
def turn_rows(typingctx: Any, weights: Any, first: Any, count: Any, n: Any, panel: Any) -> Any:
    """panel[k COLUMNS + c] = pair k of row ``first + c``, of n numbers a row; an odd one's is zero.

    Of ``count`` rows, at most COLUMNS; the columns behind repeat the last.  panel is int32.
    """
    kind = weights.dtype
    if kind not in WHOLE:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = context.make_array(weights)(context, builder, args[0])
        stride = cgutils.unpack_tuple(builder, array.shape)[-1]
        last = builder.sub(args[2], int64(1))
        rows = []
        for c in range(COLUMNS):
            inside = builder.icmp_signed("<", int64(c), last)
            row = builder.add(args[1], builder.select(inside, int64(c), last))
            rows.append(builder.gep(array.data, [builder.mul(row, stride)]))
        target = data_of(context, builder, panel, args[4])

        def put(loaded: Callable[[Any], Any], k: Any) -> None:
            """Turn sixteen numbers of each row, eight pairs, to pair k and behind."""
            for half in (0, _HALF):
                found = [
                    builder.bitcast(loaded(row), ir.VectorType(I32, _HALF))
                    for row in rows[half : half + _HALF]
                ]
                for m, turned in enumerate(_turned(builder, found)):
                    place = builder.mul(builder.add(k, int64(m)), int64(COLUMNS))
                    write(builder, turned, target, builder.add(place, int64(half)))

        def block(b: Any) -> None:
            at = builder.mul(b, int64(FOURS.items))
            for run in range(FOURS.block // LANES):
                k = builder.add(builder.mul(b, int64(FOURS.block // 2)), int64(_HALF * run))

                def fours(row: Any, run: int = run) -> Any:
                    return run_of_chunk(builder, builder.gep(row, [at]), run // 4, run % 4)

                put(fours, k)

        def sixteen(i: Any) -> None:
            k = builder.sdiv(i, int64(2))
            put(lambda row: int8_as_int16(builder, builder.gep(row, [i])), k)

        def two(i: Any) -> None:
            following = builder.add(i, int64(1))
            alone = builder.icmp_signed("==", following, args[3])
            places = i, builder.select(alone, i, following)
            for c, row in enumerate(rows):
                low, high = (
                    builder.sext(builder.load(builder.gep(row, [place])), I32) for place in places
                )
                low = builder.and_(low, ir.Constant(I32, 0xFFFF))
                high = builder.select(alone, ir.Constant(I32, 0), high)
                pair = builder.or_(builder.shl(high, ir.Constant(I32, 16)), low)
                place = builder.mul(builder.sdiv(i, int64(2)), int64(COLUMNS))
                builder.store(pair, builder.gep(target, [builder.add(place, int64(c))]))

        if kind == types.uint8:
            blocks_of(builder, int64(0), blocks_in(builder, args[3]), 1, block)
        else:
            done = blocks_of(builder, int64(0), args[3], LANES, sixteen)
            blocks_of(builder, done, builder.add(args[3], int64(1)), 2, two)
        return context.get_dummy_value()

    i = types.int64
    return types.void(weights, i, i, i, panel), code


@intrinsic
def pair_columns(
    typingctx: Any, weights: Any, at: Any, other: Any, count: Any, panel: Any, k: Any
) -> Any:
    """panel[k COLUMNS + c] = int8 number c from item ``at`` on, with that from ``other`` on.

    Of ``count`` numbers, at most COLUMNS; the columns behind them are not written.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_of(context, builder, weights, args[0])
        target = data_of(context, builder, panel, args[4])
        target = builder.gep(target, [builder.mul(args[5], int64(COLUMNS))])
        both = args[1], args[2]

        def pairs(c: Any, many: bool) -> None:
            kind = lanes_of(I32) if many else I32
            a, b = (builder.sext(read(builder, data, builder.add(i, c), many), kind) for i in both)
            mask, by = (ir.Constant(kind, [n] * COLUMNS if many else n) for n in (0xFFFF, 16))
            pair = builder.or_(builder.shl(b, by), builder.and_(a, mask))
            write(builder, pair, target, c)

        every(builder, int64(0), args[3], pairs)
        return context.get_dummy_value()

    i = types.int64
    return types.void(weights, i, i, i, panel, i), code


def _tile(count: int) -> Callable[..., Any]:
    """A function that takes ``count`` vectors through a panel."""

    def typing(
        typingctx: Any, weights: Any, x: Any, at: Any, stride: Any, panel: Any, n: Any,
        scales: Any, unit: Any, u: Any, factors: Any, out: Any, to: Any, step: Any, add: Any,
    ) -> Any:  # fmt: skip
        grouped = weights.dtype == types.uint8
        whole, wide = ir.VectorType(I32, PAIRS), ir.VectorType(F32, PAIRS)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            x_, at_, stride_, panel_, n_, scales_, unit_, u_, factors_, out_, to_, step_, add_ = (
                args[1:]
            )
            numbers = builder.gep(data_of(context, builder, x, x_), [at_])
            rows = [
                builder.bitcast(
                    builder.gep(numbers, [builder.mul(stride_, int64(t))]), ir.PointerType(I32)
                )
                for t in range(count)
            ]
            columns = data_of(context, builder, panel, panel_)
            by = data_of(context, builder, scales, scales_)
            places = [(t, h) for t in range(count) for h in (0, 1)]
            slots = {place: cgutils.alloca_once(builder, whole) for place in places}

            def zero() -> None:
                for slot in slots.values():
                    builder.store(ir.Constant(whole, None), slot)

            def eight(pointer: Any, i: Any, kind: Any, align: int = 32) -> Any:
                place = builder.gep(pointer, [i])
                return builder.load(builder.bitcast(place, ir.PointerType(kind)), align=align)

            def one(k: Any) -> None:
                place = builder.mul(k, int64(COLUMNS))
                halves = [eight(columns, builder.add(place, int64(h)), whole) for h in (0, _HALF)]
                for t, row in enumerate(rows):
                    pair = builder.load(builder.gep(row, [k]), align=4)
                    everywhere = spread(builder, pair, PAIRS)
                    for h, half in enumerate(halves):
                        more = pairs_of(builder, half, everywhere)
                        builder.store(builder.add(builder.load(slots[t, h]), more), slots[t, h])

            def sum_of(place: tuple[int, int]) -> Any:
                return builder.sitofp(builder.load(slots[place]), wide)

            if grouped:
                sums = {place: cgutils.alloca_once(builder, wide) for place in places}
                for slot in sums.values():
                    builder.store(ir.Constant(wide, None), slot)

                def group(begin: Any) -> None:
                    zero()
                    blocks_of(builder, begin, builder.add(begin, int64(_GROUP)), 1, one)
                    scale = builder.mul(builder.sdiv(begin, int64(_GROUP)), int64(COLUMNS))
                    for (t, h), slot in sums.items():
                        scaled = eight(by, builder.add(scale, int64(h * _HALF)), wide)
                        builder.store(
                            fma(builder, sum_of((t, h)), scaled, builder.load(slot)), slot
                        )

                blocks_of(builder, int64(0), n_, _GROUP, group)
                found = {place: builder.load(slot) for place, slot in sums.items()}
            else:
                zero()
                blocks_of(builder, int64(0), n_, 1, one)
                found = {place: sum_of(place) for place in places}

            units = builder.gep(data_of(context, builder, unit, unit_), [u_])
            factor = data_of(context, builder, factors, factors_)
            target = builder.gep(data_of(context, builder, out, out_), [to_])
            zeros = ir.Constant(wide, None)
            for (t, h), value in found.items():
                one_unit = builder.load(builder.gep(units, [int64(t)]))
                value = builder.fmul(value, spread(builder, one_unit, PAIRS))
                value = builder.fmul(value, eight(factor, int64(h * _HALF), wide, 4))
                place = builder.add(builder.mul(step_, int64(t)), int64(h * _HALF))
                old = builder.select(add_, eight(target, place, wide, 4), zeros)
                write(builder, builder.fadd(value, old), target, place)
            return context.get_dummy_value()

        i = types.int64
        return (
            types.void(weights, x, i, i, panel, i, scales, unit, i, factors, out, i, i, add),
            code,
        )

    return typing


#: tile_four(weights, x, at, stride, panel, n, scales, unit, u, factors, out, to, step, add): out[to
#: + t step + c] (+)= unit[u + t] factors[c] (vector t . column c) of a panel of n pairs, int4 with
#: its scales.  Vector t begins at number ``at + t stride``, both even, of x, which is int16.
tile_four, tile_one = intrinsic(_tile(4)), intrinsic(_tile(1))

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
from goose_viz.cpu.integers import (
    FOURS,
    PAIRS,
    WHOLE,
    blocks_in,
    int8_as_int16,
    numbers_of_chunk,
    pairs_with,
    scales_of,
)


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


def _floats(builder: Any, kind: Any, row: Any, vectors: list[Any], n: Any, ahead: Any) -> Any:
    """(a row times each vector, summed to eight lanes; where whole lanes end)."""
    size = kind.bitwidth // 8
    per_line = max(LANES, LINE // size)
    sums = [_zeros(builder, ir.VectorType(F32, LANES), 2) for _ in vectors]

    def add(i: Any, odd: int = 0) -> None:
        w = widened(builder, kind, load_lanes(builder, row, i, size))
        for x, slots in zip(vectors, sums, strict=True):
            value = fma(builder, w, load_lanes(builder, x, i, 4), builder.load(slots[odd]))
            builder.store(value, slots[odd])

    def lines(i: Any) -> None:
        for k in range(2):
            part = builder.add(i, int64(k * per_line))
            _ask(builder, builder.gep(row, [part]), ahead)
            for m in range(0, per_line, LANES):
                add(builder.add(part, int64(m)), (k * per_line + m) // LANES % 2)

    done = blocks_of(builder, int64(0), n, 2 * per_line, lines)
    done = blocks_of(builder, done, n, LANES, add)
    totals = [builder.fadd(*(builder.load(slot) for slot in slots)) for slots in sums]
    return [_halves_added(builder, total) for total in totals], done


def _halves_added(builder: Any, vector: Any) -> Any:
    kind = ir.VectorType(I32, 8)
    low, high = (ir.Constant(kind, list(range(begin, begin + 8))) for begin in (0, 8))
    return builder.fadd(
        builder.shuffle_vector(vector, vector, low), builder.shuffle_vector(vector, vector, high)
    )


def _bytes(builder: Any, row: Any, vectors: list[Any], n: Any, ahead: Any) -> Any:
    """The same of an int8 row and rounded vectors, as int32."""
    sums = [_zeros(builder, ir.VectorType(I32, PAIRS), 2) for _ in vectors]

    def add(i: Any, odd: int = 0) -> None:
        w = int8_as_int16(builder, builder.gep(row, [i]))
        for x, slots in zip(vectors, sums, strict=True):
            pairs = pairs_with(builder, w, builder.gep(x, [i]))
            builder.store(builder.add(builder.load(slots[odd]), pairs), slots[odd])

    def line(i: Any) -> None:
        _ask(builder, builder.gep(row, [i]), ahead)
        for k in range(LINE // LANES):
            add(builder.add(i, int64(k * LANES)), k % 2)

    done = blocks_of(builder, int64(0), n, LINE, line)
    done = blocks_of(builder, done, n, LANES, add)
    return [builder.add(*(builder.load(slot) for slot in slots)) for slots in sums], done


def _fours(builder: Any, row: Any, vectors: list[Any], n: Any, ahead: Any) -> Any:
    """The same of an int4 row, scales included, as float32; all of a row is whole blocks."""
    wide = ir.VectorType(F32, PAIRS)
    scales = cgutils.alloca_once(builder, wide)
    first = builder.bitcast(scales, ir.PointerType(F32))
    sums = [_zeros(builder, wide, 2) for _ in vectors]
    with cgutils.for_range(builder, blocks_in(builder, n)) as loop:
        block = builder.gep(row, [builder.mul(loop.index, int64(FOURS.items))])
        _ask(builder, block, ahead, -(-FOURS.items // LINE))
        builder.store(scales_of(builder, block), scales)
        place = builder.mul(loop.index, int64(FOURS.block))
        for chunk in range(4):
            words = numbers_of_chunk(builder, block, chunk)
            for half in range(2):
                scale = builder.load(builder.gep(first, [int64(2 * chunk + half)]))
                scale = spread(builder, scale, PAIRS)
                for x, slots in zip(vectors, sums, strict=True):
                    parts = []
                    for k in (2 * half, 2 * half + 1):
                        at = builder.add(place, int64(64 * chunk + 16 * k))
                        parts.append(pairs_with(builder, words[k], builder.gep(x, [at])))
                    group = builder.sitofp(builder.add(*parts), wide)
                    value = fma(builder, group, scale, builder.load(slots[half]))
                    builder.store(value, slots[half])
    return [builder.fadd(*(builder.load(slot) for slot in slots)) for slots in sums], None


def _times(n_rows: int, n_vectors: int) -> Any:
    """A function for so many rows times so many vectors: four products at most."""

    def typing(
        typingctx: Any, weights: Any, scales: Any, row: Any, met: Any, c: Any, out: Any, to: Any,
        step: Any,
    ) -> Any:  # fmt: skip
        kind = weights.dtype
        if kind not in STORED and kind not in WHOLE:
            return None

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            weights_, scales_, first, met_, c_, out_, to_, step_ = args
            array = context.make_array(weights)(context, builder, weights_)
            stride = cgutils.unpack_tuple(builder, array.shape)[-1]
            rows = [
                builder.gep(array.data, [builder.mul(builder.add(first, int64(r)), stride)])
                for r in range(n_rows)
            ]
            numbers, whole, unit, distances = (
                context.make_array(kind_)(context, builder, builder.extract_value(met_, i))
                for i, kind_ in enumerate(sig.args[3].types)
            )
            n = cgutils.unpack_tuple(builder, numbers.shape)[1]
            met_array = whole if kind in WHOLE else numbers
            width = cgutils.unpack_tuple(builder, met_array.shape)[1]
            places = [builder.add(c_, int64(v)) for v in range(n_vectors)]
            vectors = [builder.gep(met_array.data, [builder.mul(p, width)]) for p in places]
            ahead = [
                (builder.load(builder.gep(distances.data, [int64(m)])), closeness)
                for m, closeness in enumerate((3, 2))
            ]
            exact = kind == types.int8
            sums, done = [], None
            for r in rows:
                if exact:
                    found, done = _bytes(builder, r, vectors, n, ahead)
                elif kind == types.uint8:
                    found, done = _fours(builder, r, vectors, n, ahead)
                else:
                    found, done = _floats(builder, kind, r, vectors, n, ahead)
                sums += found
            sums += [ir.Constant(sums[0].type, None)] * (4 - len(sums))
            total = _sums(builder, sums, builder.add if exact else builder.fadd)
            slot = cgutils.alloca_once_value(builder, total)
            single = builder.bitcast(slot, ir.PointerType(total.type.element))
            products = [(r, v) for r in range(n_rows) for v in range(n_vectors)]
            if done is not None:
                for i, (r, v) in enumerate(products):
                    target = builder.gep(single, [int64(i)])
                    _rest(builder, kind, rows[r], vectors[v], done, n, target)
            total = builder.load(slot)
            if exact:
                total = builder.sitofp(total, ir.VectorType(F32, 4))
            target = builder.gep(data_of(context, builder, sig.args[5], out_), [to_])
            place = builder.gep(data_of(context, builder, scales, scales_), [first])
            for i, (r, v) in enumerate(products):
                value = builder.extract_element(total, ir.Constant(I32, i))
                if kind in WHOLE:
                    value = builder.fmul(value, builder.load(builder.gep(unit.data, [places[v]])))
                if exact:
                    value = builder.fmul(value, builder.load(builder.gep(place, [int64(r)])))
                at = builder.add(builder.mul(step_, int64(v)), int64(r))
                builder.store(value, builder.gep(target, [at]))
            return context.get_dummy_value()

        i = types.int64
        return types.void(weights, scales, i, met, i, out, i, i), code

    return typing


def _rest(
    builder: Any, kind: Any, row: Any, vector: Any, begin: Any, end: Any, target: Any
) -> None:
    """Add the products that do not fill the lanes to a number in memory."""

    def one(i: Any) -> None:
        stored, value = (builder.load(builder.gep(p, [i])) for p in (row, vector))
        old = builder.load(target)
        if kind == types.int8:
            more = builder.mul(builder.sext(stored, I32), builder.sext(value, I32))
            builder.store(builder.add(old, more), target)
        else:
            builder.store(fma(builder, widened(builder, kind, stored), value, old), target)

    blocks_of(builder, begin, end, 1, one)


@intrinsic
def vectors_at_once(typingctx: Any, weights: Any) -> Any:
    """How many vectors `times_many` takes: their sums must stay in registers."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return int64(4 if weights.dtype in WHOLE else 2)

    return types.int64(weights), code


@intrinsic
def times_many(
    typingctx: Any, weights: Any, scales: Any, row: Any, met: Any, c: Any, out: Any, to: Any,
    step: Any,
) -> Any:  # fmt: skip
    """out[to + v step] = W[row] . vector c + v, for `vectors_at_once` of them."""
    chosen = _four_vectors if weights.dtype in WHOLE else _two_vectors
    return chosen(typingctx, weights, scales, row, met, c, out, to, step)


#: times_four(weights, scales, row, met, c, out, to, step): out[to + i] = W[row + i] . vector c of a
#: `layout.Met`, i from 0 to 3.  Indices of rows count through all layers, ``to`` from the array's
#: beginning.
times_four, times_one = intrinsic(_times(4, 1)), intrinsic(_times(1, 1))
_two_vectors, _four_vectors = _times(1, 2), _times(1, 4)

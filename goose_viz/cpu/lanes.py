"""Sixteen numbers at a time, and memory asked for ahead of its use: the inner loops, as LLVM.

A compiler that may reorder sums would choose their order anew in every build; here the order is
written down.  Weights are widened to float32 as they are read: a float32 array is itself, uint16
is bfloat16, int16 is float16 (numba compiles no float16 arrays), int8 is a multiple of a scale that
the caller applies.  Arrays are C-contiguous and indices count numbers from their beginning; nothing
here checks bounds.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
#: Sums that a dot product keeps apart, so that each addition need not wait for the last.
_SUMS = 4
#: Bytes between what is added and what is asked for: into the first cache, into the second.  Alone,
#: the processor's own prefetching reaches two thirds of the memory's rate on 16-bit rows.
NEAR, FAR = 2048, 16384
OTHERS = 4  # lines of another array that `sum_rows` asks for with each row
LINE = 64  # bytes that memory hands out at once

I8, I16, I32, I64 = (ir.IntType(n) for n in (8, 16, 32, 64))
F32 = ir.FloatType()
_STORED = {types.float32: F32, types.uint16: I16, types.int16: I16, types.int8: I8}
_X86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "i386")


def _vector(element: Any) -> Any:
    return ir.VectorType(element, LANES)


def _number(n: int) -> Any:
    return ir.Constant(I64, n)


def _data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _external(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    wide = isinstance(c.type, ir.VectorType)
    name = f"llvm.fmuladd.{f'v{LANES}f32' if wide else 'f32'}"
    return builder.call(_external(builder, name, c.type, [c.type] * 3), [a, b, c])


def _total(builder: Any, sums: Any) -> Any:
    """The sum over the lanes."""
    name = f"llvm.vector.reduce.fadd.v{LANES}f32"
    add = _external(builder, name, F32, [F32, sums.type])
    return builder.call(add, [ir.Constant(F32, 0.0), sums], fastmath=("reassoc",))


def _spread(builder: Any, number: Any) -> Any:
    """The same float32 in all lanes."""
    undefined = ir.Constant(_vector(F32), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(I32, 0))
    return builder.shuffle_vector(
        first, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES)
    )


def _prefetch(builder: Any, pointer: Any, closeness: int) -> None:
    """Ask for a line, to be read: closeness 3 is the first cache, 2 the second."""
    byte = builder.bitcast(pointer, ir.PointerType(I8))
    ask = _external(builder, "llvm.prefetch.p0", ir.VoidType(), [byte.type, I32, I32, I32])
    builder.call(ask, [byte, *(ir.Constant(I32, n) for n in (0, closeness, 1))])


def _load(builder: Any, data: Any, index: Any, size: int) -> Any:
    """Sixteen stored numbers from any index on."""
    pointer = builder.gep(data, [index])
    vector = ir.PointerType(_vector(pointer.type.pointee))
    return builder.load(builder.bitcast(pointer, vector), align=size)


def _widened(builder: Any, kind: Any, stored: Any) -> Any:
    """Stored numbers, one or sixteen, as float32."""
    many = isinstance(stored.type, ir.VectorType)

    def like(element: Any) -> Any:
        return _vector(element) if many else element

    if kind == types.uint16:
        wide = builder.zext(stored, like(I32))
        by = ir.Constant(wide.type, [16] * LANES if many else 16)
        return builder.bitcast(builder.shl(wide, by), like(F32))
    if kind == types.int16:
        return builder.fpext(builder.bitcast(stored, like(ir.HalfType())), like(F32))
    if kind == types.int8:
        return builder.sitofp(builder.sext(stored, like(I32)), like(F32))
    return stored


def _blocks(builder: Any, begin: Any, end: Any, step: int, body: Callable[[Any], None]) -> Any:
    """Run body(i) for whole steps from begin; where they end."""
    room = builder.sub(end, begin)
    whole = builder.sub(room, builder.srem(room, _number(step)))
    stop = builder.add(begin, whole)
    with cgutils.for_range_slice(builder, begin, stop, _number(step), inc=True) as (i, _count):
        body(i)
    return stop


@intrinsic
def borrowed(typingctx: Any, value: Any) -> Any:
    """The same array, or tuple of arrays, without its reference counts.

    Every view of an array counts it up and down, and threads that share arrays would fetch those
    counts from each other's caches all the time.  Whoever called holds the arrays meanwhile.
    """

    def strip(context: Any, builder: Any, kind: Any, value: Any) -> Any:
        if isinstance(kind, types.Array):
            array = context.make_array(kind)(context, builder, value=value)
            array.meminfo = ir.Constant(array.meminfo.type, None)
            array.parent = ir.Constant(array.parent.type, None)
            return array._getvalue()
        if isinstance(kind, types.BaseTuple):
            parts = cgutils.unpack_tuple(builder, value)
            stripped = [
                strip(context, builder, k, v) for k, v in zip(kind.types, parts, strict=True)
            ]
            return context.make_tuple(builder, kind, stripped)
        return value

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return strip(context, builder, value, args[0])

    return value(value), code


@intrinsic
def widen(typingctx: Any, number: Any) -> Any:
    """A stored weight as float32 (an int8 still wants its scale)."""
    if number not in _STORED:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _widened(builder, number, args[0])

    return types.float32(number), code


@intrinsic
def scale_of(typingctx: Any, scales: Any, row: Any, weights: Any) -> Any:
    """scales[row] for int8 weights, 1 for all others, whose scales are empty."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if weights.dtype != types.int8:
            return ir.Constant(F32, 1.0)
        return builder.load(builder.gep(_data(context, builder, scales, args[0]), [args[1]]))

    return types.float32(scales, types.int64, weights), code


@intrinsic
def dot_ahead(typingctx: Any, weights: Any, at: Any, x: Any, start: Any, n: Any, end: Any) -> Any:
    """sum_i weights[at + i] x[start + i] over n numbers; x is float32.

    Weights up to number ``end`` are asked for meanwhile: they are wanted next.
    """
    kind = weights.dtype
    if kind not in _STORED:
        return None
    size = kind.bitwidth // 8

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row = builder.gep(_data(context, builder, weights, args[0]), [args[1]])
        numbers = builder.gep(_data(context, builder, x, args[2]), [args[3]])
        n, last = args[4], builder.sub(builder.sub(args[5], args[1]), _number(1))
        zero = ir.Constant(_vector(F32), [0.0] * LANES)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(_SUMS)]

        def add(i: Any, target: Any) -> None:
            w = _widened(builder, kind, _load(builder, row, i, size))
            value = _fma(builder, w, _load(builder, numbers, i, 4), builder.load(target))
            builder.store(value, target)

        def block(i: Any) -> None:
            for k, target in enumerate(sums):
                index = builder.add(i, _number(k * LANES))
                if k * LANES * size % LINE == 0:
                    for distance, closeness in ((NEAR, 3), (FAR, 2)):
                        ahead = builder.add(index, _number(distance // size))
                        inside = builder.icmp_signed("<", ahead, last)
                        ahead = builder.select(inside, ahead, last)
                        _prefetch(builder, builder.gep(row, [ahead]), closeness)
                add(index, target)

        done = _blocks(builder, _number(0), n, _SUMS * LANES, block)
        done = _blocks(builder, done, n, LANES, lambda i: add(i, sums[0]))
        a, b, c, d = (builder.load(s) for s in sums)
        total = _total(builder, builder.fadd(builder.fadd(a, b), builder.fadd(c, d)))
        result = cgutils.alloca_once_value(builder, total)

        def one(i: Any) -> None:
            w = _widened(builder, kind, builder.load(builder.gep(row, [i])))
            value = builder.load(builder.gep(numbers, [i]))
            builder.store(_fma(builder, w, value, builder.load(result)), result)

        _blocks(builder, done, n, 1, one)
        return builder.load(result)

    return types.float32(weights, types.int64, x, *[types.int64] * 3), code


@intrinsic
def add_four(
    typingctx: Any, weights: Any, rows: Any, near: Any, far: Any, factors: Any,
    out: Any, start: Any, n: Any,
) -> Any:  # fmt: skip
    """out[start + j] += sum_i factors[i] weights[rows[i] + j], i from 0 to 3, in that order.

    rows is a tuple of four indices, factors one of four float32, out is float32.  The rows at the
    indices of ``near`` and ``far``, four each, are asked for meanwhile.
    """
    kind = weights.dtype
    if kind not in _STORED:
        return None
    size = kind.bitwidth // 8
    per_line = LINE // size

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = _data(context, builder, weights, args[0])
        four = [builder.gep(data, [builder.extract_value(args[1], i)]) for i in range(4)]
        near_ = [builder.gep(data, [builder.extract_value(args[2], i)]) for i in range(4)]
        far_ = [builder.gep(data, [builder.extract_value(args[3], i)]) for i in range(4)]
        factors_ = [builder.extract_value(args[4], i) for i in range(4)]
        target = builder.gep(_data(context, builder, out, args[5]), [args[6]])
        n = args[7]
        spread = [_spread(builder, f) for f in factors_]

        def line(j: Any) -> None:
            # four rows of float32 would not stay in the first cache until their turn
            for rows_, closeness in ((near_, 3), (far_, 2))[size == 4 :]:
                for row in rows_:
                    _prefetch(builder, builder.gep(row, [j]), closeness)
            with cgutils.for_range_slice(
                builder, j, builder.add(j, _number(per_line)), _number(LANES), inc=True
            ) as (i, _count):
                block(i)

        def block(j: Any) -> None:
            total = _load(builder, target, j, 4)
            for row, f in zip(four, spread, strict=True):
                w = _widened(builder, kind, _load(builder, row, j, size))
                total = _fma(builder, w, f, total)
            pointer = builder.gep(target, [j])
            builder.store(total, builder.bitcast(pointer, ir.PointerType(total.type)), align=4)

        def one(j: Any) -> None:
            pointer = builder.gep(target, [j])
            total = builder.load(pointer)
            for row, f in zip(four, factors_, strict=True):
                w = _widened(builder, kind, builder.load(builder.gep(row, [j])))
                total = _fma(builder, w, f, total)
            builder.store(total, pointer)

        done = _blocks(builder, _number(0), n, per_line, line)
        done = _blocks(builder, done, n, LANES, block)
        _blocks(builder, done, n, 1, one)
        return context.get_dummy_value()

    rows_, factors_ = types.UniTuple(types.int64, 4), types.UniTuple(types.float32, 4)
    return types.void(weights, *[rows_] * 3, factors_, out, types.int64, types.int64), code


@intrinsic
def sum_rows(
    typingctx: Any, weights: Any, at: Any, count: Any, x: Any, start: Any, out: Any, to: Any,
    n: Any, end: Any, others: Any, other: Any, last: Any,
) -> Any:  # fmt: skip
    """out[to + j] = sum_i x[start + i] weights[at + i n + j] for j < n, over ``count`` rows.

    Meanwhile the weights up to number ``end`` are asked for, and of another array the numbers from
    ``other`` to ``last``, `OTHERS` lines a row: where that came to is returned.
    """
    kind = weights.dtype
    if kind not in _STORED:
        return None
    size = kind.bitwidth // 8

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = builder.gep(_data(context, builder, weights, args[0]), [args[1]])
        count, n = args[2], args[7]
        numbers = builder.gep(_data(context, builder, x, args[3]), [args[4]])
        target = builder.gep(_data(context, builder, out, args[5]), [args[6]])
        bound = builder.sub(builder.sub(args[8], args[1]), _number(1))
        elsewhere = _data(context, builder, others, args[9])
        asked = cgutils.alloca_once_value(builder, args[10])
        per_line = _number(LINE // (others.dtype.bitwidth // 8))

        def ask_ahead(row: Any, width: int) -> None:
            for k in range(0, width * size, LINE):
                ahead = builder.add(row, _number((FAR + k) // size))
                inside = builder.icmp_signed("<", ahead, bound)
                ahead = builder.select(inside, ahead, bound)
                _prefetch(builder, builder.gep(rows, [ahead]), 2)
            for _ in range(OTHERS):
                place = builder.load(asked)
                inside = builder.icmp_signed("<", place, args[11])
                _prefetch(builder, builder.gep(elsewhere, [place]), 2)
                step = builder.select(inside, per_line, _number(0))
                builder.store(builder.add(place, step), asked)

        def columns(j: Any, width: int) -> None:
            """So many columns from j on: 16 or a multiple, or 1."""
            parts = max(1, width // LANES)
            zero = ir.Constant(
                F32 if width == 1 else _vector(F32), 0.0 if width == 1 else [0.0] * LANES
            )
            sums = [cgutils.alloca_once_value(builder, zero) for _ in range(parts)]
            for total in sums:
                builder.store(zero, total)
            with cgutils.for_range(builder, count) as loop:
                row = builder.add(builder.mul(loop.index, n), j)
                if width > 1:
                    ask_ahead(row, width)
                factor = builder.load(builder.gep(numbers, [loop.index]))
                if width > 1:
                    factor = _spread(builder, factor)
                for k, total in enumerate(sums):
                    place = builder.add(row, _number(k * LANES))
                    if width > 1:
                        stored = _load(builder, rows, place, size)
                    else:
                        stored = builder.load(builder.gep(rows, [place]))
                    w = _widened(builder, kind, stored)
                    builder.store(_fma(builder, w, factor, builder.load(total)), total)
            for k, total in enumerate(sums):
                pointer = builder.gep(target, [builder.add(j, _number(k * LANES))])
                pointer = builder.bitcast(pointer, ir.PointerType(zero.type))
                builder.store(builder.load(total), pointer, align=4)

        done = _blocks(builder, _number(0), n, 4 * LANES, lambda j: columns(j, 4 * LANES))
        done = _blocks(builder, done, n, LANES, lambda j: columns(j, LANES))
        _blocks(builder, done, n, 1, lambda j: columns(j, 1))
        return builder.load(asked)

    i = types.int64
    return types.int64(weights, i, i, x, i, out, i, i, i, others, i, i), code


def _state_rows(count: int) -> Any:
    """A function that takes ``count`` value rows of a head's state one token further."""

    def typing(
        typingctx: Any,
        S: Any,
        value: Any,
        N: Any,
        vec: Any,
        at: Any,
        plane: Any,
        erase: Any,
        y: Any,
    ) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value, N, at, plane = args[1], args[2], args[4], args[5]
            state = builder.gep(_data(context, builder, S, args[0]), [builder.mul(value, N)])
            rows = [builder.gep(state, [builder.mul(_number(r), N)]) for r in range(count)]
            head = builder.gep(_data(context, builder, vec, args[3]), [at])
            w, kappa, key, v, r = (
                builder.gep(head, [builder.mul(plane, _number(n))]) for n in (0, 2, 3, 4, 5)
            )
            out = _data(context, builder, sig.args[7], args[7])
            erased = _data(context, builder, sig.args[6], args[6])
            values = [
                builder.load(builder.gep(v, [builder.add(value, _number(n))])) for n in range(count)
            ]

            def sums(body: Any) -> list[Any]:
                """Body(i, lanes) -> what to add for each row, over all N numbers of the rows."""
                zero = ir.Constant(_vector(F32), [0.0] * LANES)
                wide = [cgutils.alloca_once_value(builder, zero) for _ in rows]

                def add(totals: list[Any], lanes: int) -> Any:
                    def at_number(i: Any) -> None:
                        for total, (a, b) in zip(totals, body(i, lanes), strict=True):
                            builder.store(_fma(builder, a, b, builder.load(total)), total)

                    return at_number

                for total in wide:
                    builder.store(zero, total)
                done = _blocks(builder, _number(0), N, LANES, add(wide, LANES))
                totals = [_total(builder, builder.load(total)) for total in wide]
                narrow = [cgutils.alloca_once_value(builder, t) for t in totals]
                for total, start in zip(narrow, totals, strict=True):
                    builder.store(start, total)
                _blocks(builder, done, N, 1, add(narrow, 1))
                return [builder.load(total) for total in narrow]

            def load(pointer: Any, i: Any, lanes: int) -> Any:
                if lanes == LANES:
                    return _load(builder, pointer, i, 4)
                return builder.load(builder.gep(pointer, [i]))

            def spread(number: Any, lanes: int) -> Any:
                return _spread(builder, number) if lanes == LANES else number

            def read_kappa(i: Any, lanes: int) -> list[Any]:
                factor = load(kappa, i, lanes)
                return [(load(row, i, lanes), factor) for row in rows]

            taken = sums(read_kappa)
            minus = [builder.fneg(t) for t in taken]

            def update(i: Any, lanes: int) -> list[Any]:
                w_, b_, k_, r_ = (load(p, i, lanes) for p in (w, erased, key, r))
                new = []
                for row, t, u in zip(rows, minus, values, strict=True):
                    s = builder.fmul(load(row, i, lanes), w_)
                    s = _fma(builder, spread(t, lanes), b_, s)
                    s = _fma(builder, spread(u, lanes), k_, s)
                    pointer = builder.gep(row, [i])
                    builder.store(s, builder.bitcast(pointer, ir.PointerType(s.type)), align=4)
                    new.append((s, r_))
                return new

            for n, total in enumerate(sums(update)):
                builder.store(total, builder.gep(out, [builder.add(value, _number(n))]))
            lost = ir.Constant(F32, 0.0)
            for t in taken:
                lost = _fma(builder, t, t, lost)
            return lost

        i = types.int64
        return types.float32(S, i, i, vec, i, i, erase, y), code

    return intrinsic(typing)


#: state_rows(S, value, N, vec, at, plane, erase, y): rows from ``value`` on of
#: S diag(w) - (S kappa)(kappa a)^T + v k~^T, in place, and y = S r of them.  S (N, N) = [value,
#: key]; vec's numbers ``at`` and ``plane`` apart are w, -, kappa, k~, v, r; erase (N,) is kappa a.
#: The sum of (S kappa)^2 is returned.
four_state_rows, one_state_row = _state_rows(4), _state_rows(1)


@intrinsic
def ask_for(typingctx: Any, array: Any, at: Any) -> Any:
    """Ask for the line with number ``at`` of an array to come to the second cache."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = _data(context, builder, array, args[0])
        _prefetch(builder, builder.gep(data, [args[1]]), 2)
        return context.get_dummy_value()

    return types.void(array, types.int64), code


@intrinsic
def index_of(typingctx: Any, weights: Any, array: Any, at: Any) -> Any:
    """Which number of ``weights`` would lie where number ``at`` of another array does.

    Only to be asked for: it is beyond the one's bounds.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        there = builder.gep(_data(context, builder, sig.args[1], args[1]), [args[2]])
        here = _data(context, builder, sig.args[0], args[0])
        there, here = (builder.ptrtoint(pointer, I64) for pointer in (there, here))
        return builder.sdiv(builder.sub(there, here), _number(weights.dtype.bitwidth // 8))

    return types.int64(weights, array, types.int64), code


@intrinsic
def read_through(typingctx: Any, words: Any, at: Any, n: Any, ahead: Any) -> Any:
    """Read n int32 and do as little as can be done with them: the sum of all, wrapping around.

    ``ahead`` is how many words further lines are asked for; 0 leaves that to the processor.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.gep(_data(context, builder, words, args[0]), [args[1]])
        zero = ir.Constant(_vector(I32), [0] * LANES)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(_SUMS)]
        for total in sums:
            builder.store(zero, total)

        def block(i: Any) -> None:
            for k, total in enumerate(sums):
                index = builder.add(i, _number(k * LANES))
                _prefetch(builder, builder.gep(first, [builder.add(index, args[3])]), 2)
                value = _load(builder, first, index, 4)
                builder.store(builder.add(builder.load(total), value), total)

        _blocks(builder, _number(0), args[2], _SUMS * LANES, block)
        a, b, c, d = (builder.load(s) for s in sums)
        add = _external(builder, f"llvm.vector.reduce.add.v{LANES}i32", I32, [zero.type])
        return builder.call(add, [builder.add(builder.add(a, b), builder.add(c, d))])

    return types.int32(words, types.int64, types.int64, types.int64), code


@intrinsic
def clock(typingctx: Any) -> Any:
    """The processor's clock, in ticks of its own; 0 where it tells nobody."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.call(_external(builder, "llvm.readcyclecounter", I64, []), [])

    return types.int64(), code


@intrinsic
def power_of_two(typingctx: Any, exponent: Any) -> Any:
    """2^exponent for an int32 from -126 to 127."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        biased = builder.add(args[0], ir.Constant(I32, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(I32, 23)), F32)

    return types.float32(types.int32), code


@intrinsic
def flush_denormals(typingctx: Any) -> Any:
    """Let this thread take numbers under 1.2e-38 for zero; what `restore` wants back.

    A state that nobody writes to fades into them, and each costs a hundred cycles on x86.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if not _X86:
            return ir.Constant(I32, 0)
        slot = cgutils.alloca_once(builder, I32)
        byte = builder.bitcast(slot, ir.PointerType(I8))
        read = _external(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [byte.type])
        builder.call(read, [byte])
        before = builder.load(slot)
        builder.store(builder.or_(before, ir.Constant(I32, 0x8040)), slot)
        builder.call(_external(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [byte.type]), [byte])
        return before

    return types.int32(), code


@intrinsic
def restore(typingctx: Any, before: Any) -> Any:
    """Undo `flush_denormals`."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _X86:
            slot = cgutils.alloca_once_value(builder, args[0])
            byte = builder.bitcast(slot, ir.PointerType(I8))
            write = _external(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [byte.type])
            builder.call(write, [byte])
        return context.get_dummy_value()

    return types.void(types.int32), code

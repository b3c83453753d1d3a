"""Sixteen numbers at a time, and memory asked for ahead of its use: the inner loops, as LLVM.

A compiler that may reorder sums would choose their order anew in every build; here the order is
written down.  Arrays are C-contiguous and indices count items from their beginning; nothing here
checks bounds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from goose_viz.cpu.building import (
    F32,
    FAR,
    I8,
    I16,
    I32,
    I64,
    LANES,
    LINE,
    OTHERS,
    STORED,
    SUMS,
    X86,
    blocks_of,
    data_of,
    every,
    external,
    fma,
    int64,
    lanes_of,
    load_lanes,
    prefetch,
    read,
    spread,
    total_of,
    widened,
    write,
)
from goose_viz.cpu.integers import WHOLE


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
    if number not in STORED:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return widened(builder, number, args[0])

    return types.float32(number), code


@intrinsic
def scale_of(typingctx: Any, scales: Any, row: Any, weights: Any) -> Any:
    """scales[row] for int8 weights, 1 for all others, whose scales are empty."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if weights.dtype != types.int8:
            return ir.Constant(F32, 1.0)
        return builder.load(builder.gep(data_of(context, builder, scales, args[0]), [args[1]]))

    return types.float32(scales, types.int64, weights), code


@intrinsic
def dot(typingctx: Any, a: Any, i: Any, b: Any, j: Any, n: Any) -> Any:
    """sum_k a[i + k] b[j + k] over n numbers of two float32 arrays."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        one = builder.gep(data_of(context, builder, sig.args[0], args[0]), [args[1]])
        two = builder.gep(data_of(context, builder, sig.args[2], args[2]), [args[3]])
        zero = ir.Constant(lanes_of(F32), [0.0] * LANES)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(SUMS)]

        def add(k: Any, target: Any) -> None:
            numbers = (load_lanes(builder, row, k, 4) for row in (one, two))
            builder.store(fma(builder, *numbers, builder.load(target)), target)

        def block(k: Any) -> None:
            for m, target in enumerate(sums):
                add(builder.add(k, int64(m * LANES)), target)

        done = blocks_of(builder, int64(0), args[4], SUMS * LANES, block)
        done = blocks_of(builder, done, args[4], LANES, lambda k: add(k, sums[0]))
        p, q, r, s = (builder.load(slot) for slot in sums)
        total = total_of(builder, builder.fadd(builder.fadd(p, q), builder.fadd(r, s)))
        result = cgutils.alloca_once_value(builder, total)

        def single(k: Any) -> None:
            numbers = (builder.load(builder.gep(row, [k])) for row in (one, two))
            builder.store(fma(builder, *numbers, builder.load(result)), result)

        blocks_of(builder, done, args[4], 1, single)
        return builder.load(result)

    return types.float32(a, types.int64, b, types.int64, types.int64), code


def _adder(builder: Any, kind: Any, rows: list[Any], factors: list[Any], target: Any) -> Any:
    """A body for `every`: target[j] += sum_i factors[i] rows[i][j], in that order."""
    everywhere = [spread(builder, f) for f in factors]

    def add(j: Any, many: bool) -> None:
        total = read(builder, target, j, many)
        for row, f in zip(rows, everywhere if many else factors, strict=True):
            total = fma(builder, widened(builder, kind, read(builder, row, j, many)), f, total)
        write(builder, total, target, j)

    return add


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
    if kind not in STORED:
        return None
    size = kind.bitwidth // 8
    per_line = LINE // size

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_of(context, builder, weights, args[0])
        four, near_, far_ = (
            [builder.gep(data, [builder.extract_value(indices, i)]) for i in range(4)]
            for indices in args[1:4]
        )
        factors_ = [builder.extract_value(args[4], i) for i in range(4)]
        target = builder.gep(data_of(context, builder, out, args[5]), [args[6]])
        add = _adder(builder, kind, four, factors_, target)

        def line(j: Any) -> None:
            # four rows of float32 would not stay in the first cache until their turn
            for rows_, closeness in ((near_, 3), (far_, 2))[size == 4 :]:
                for row in rows_:
                    prefetch(builder, builder.gep(row, [j]), closeness)
            blocks_of(builder, j, builder.add(j, int64(per_line)), LANES, lambda i: add(i, True))

        done = blocks_of(builder, int64(0), args[7], per_line, line)
        every(builder, done, args[7], add)
        return context.get_dummy_value()

    rows_, factors_ = types.UniTuple(types.int64, 4), types.UniTuple(types.float32, 4)
    return types.void(weights, *[rows_] * 3, factors_, out, types.int64, types.int64), code


@intrinsic
def add_wide(typingctx: Any, rows: Any, factors: Any, out: Any, start: Any, n: Any) -> Any:
    """`add_four` for the four rows of ``rows`` (4, n), float32 that are in the first cache."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data, n = data_of(context, builder, rows, args[0]), args[4]
        four = [builder.gep(data, [builder.mul(n, int64(i))]) for i in range(4)]
        factors_ = [builder.extract_value(args[1], i) for i in range(4)]
        target = builder.gep(data_of(context, builder, out, args[2]), [args[3]])
        every(builder, int64(0), n, _adder(builder, rows.dtype, four, factors_, target))
        return context.get_dummy_value()

    i = types.int64
    return types.void(rows, types.UniTuple(types.float32, 4), out, i, i), code


@intrinsic
def widen_row(typingctx: Any, weights: Any, at: Any, scale: Any, n: Any, out: Any, to: Any) -> Any:
    """out[to : to + n] = scale times the row of n numbers at item ``at``; not of int4."""
    kind = weights.dtype
    if kind not in STORED:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row = builder.gep(data_of(context, builder, weights, args[0]), [args[1]])
        target = builder.gep(data_of(context, builder, out, args[4]), [args[5]])
        everywhere = spread(builder, args[2])

        def put(i: Any, many: bool) -> None:
            value = widened(builder, kind, read(builder, row, i, many))
            write(builder, builder.fmul(value, everywhere if many else args[2]), target, i)

        every(builder, int64(0), args[3], put)
        return context.get_dummy_value()

    i = types.int64
    return types.void(weights, i, types.float32, i, out, i), code


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
    if kind not in STORED:
        return None
    size = kind.bitwidth // 8

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = builder.gep(data_of(context, builder, weights, args[0]), [args[1]])
        count, n = args[2], args[7]
        numbers = builder.gep(data_of(context, builder, x, args[3]), [args[4]])
        target = builder.gep(data_of(context, builder, out, args[5]), [args[6]])
        bound = builder.sub(builder.sub(args[8], args[1]), int64(1))
        elsewhere = data_of(context, builder, others, args[9])
        asked = cgutils.alloca_once_value(builder, args[10])
        per_line = int64(LINE // (others.dtype.bitwidth // 8))

        def ask_ahead(row: Any, width: int) -> None:
            for k in range(0, width * size, LINE):
                ahead = builder.add(row, int64((FAR + k) // size))
                inside = builder.icmp_signed("<", ahead, bound)
                ahead = builder.select(inside, ahead, bound)
                prefetch(builder, builder.gep(rows, [ahead]), 2)
            for _ in range(OTHERS):
                place = builder.load(asked)
                inside = builder.icmp_signed("<", place, args[11])
                prefetch(builder, builder.gep(elsewhere, [place]), 2)
                step = builder.select(inside, per_line, int64(0))
                builder.store(builder.add(place, step), asked)

        def columns(j: Any, width: int) -> None:
            """So many columns from j on: 16 or a multiple, or 1."""
            parts = max(1, width // LANES)
            zero = ir.Constant(
                F32 if width == 1 else lanes_of(F32), 0.0 if width == 1 else [0.0] * LANES
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
                    factor = spread(builder, factor)
                for k, total in enumerate(sums):
                    place = builder.add(row, int64(k * LANES))
                    if width > 1:
                        stored = load_lanes(builder, rows, place, size)
                    else:
                        stored = builder.load(builder.gep(rows, [place]))
                    w = widened(builder, kind, stored)
                    builder.store(fma(builder, w, factor, builder.load(total)), total)
            for k, total in enumerate(sums):
                pointer = builder.gep(target, [builder.add(j, int64(k * LANES))])
                pointer = builder.bitcast(pointer, ir.PointerType(zero.type))
                builder.store(builder.load(total), pointer, align=4)

        done = blocks_of(builder, int64(0), n, 4 * LANES, lambda j: columns(j, 4 * LANES))
        done = blocks_of(builder, done, n, LANES, lambda j: columns(j, LANES))
        blocks_of(builder, done, n, 1, lambda j: columns(j, 1))
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
            state = builder.gep(data_of(context, builder, S, args[0]), [builder.mul(value, N)])
            rows = [builder.gep(state, [builder.mul(int64(r), N)]) for r in range(count)]
            head = builder.gep(data_of(context, builder, vec, args[3]), [at])
            w, kappa, key, v, r = (
                builder.gep(head, [builder.mul(plane, int64(n))]) for n in (0, 2, 3, 4, 5)
            )
            out = data_of(context, builder, sig.args[7], args[7])
            erased = data_of(context, builder, sig.args[6], args[6])
            values = [
                builder.load(builder.gep(v, [builder.add(value, int64(n))])) for n in range(count)
            ]

            def sums(body: Any) -> list[Any]:
                """Body(i, lanes) -> what to add for each row, over all N numbers of the rows."""
                zero = ir.Constant(lanes_of(F32), [0.0] * LANES)
                wide = [cgutils.alloca_once_value(builder, zero) for _ in rows]

                def add(totals: list[Any], lanes: int) -> Any:
                    def at_number(i: Any) -> None:
                        for total, (a, b) in zip(totals, body(i, lanes), strict=True):
                            builder.store(fma(builder, a, b, builder.load(total)), total)

                    return at_number

                for total in wide:
                    builder.store(zero, total)
                done = blocks_of(builder, int64(0), N, LANES, add(wide, LANES))
                totals = [total_of(builder, builder.load(total)) for total in wide]
                narrow = [cgutils.alloca_once_value(builder, t) for t in totals]
                for total, start in zip(narrow, totals, strict=True):
                    builder.store(start, total)
                blocks_of(builder, done, N, 1, add(narrow, 1))
                return [builder.load(total) for total in narrow]

            def load(pointer: Any, i: Any, lanes: int) -> Any:
                if lanes == LANES:
                    return load_lanes(builder, pointer, i, 4)
                return builder.load(builder.gep(pointer, [i]))

            def everywhere(value: Any, lanes: int) -> Any:
                return spread(builder, value) if lanes == LANES else value

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
                    s = fma(builder, everywhere(t, lanes), b_, s)
                    s = fma(builder, everywhere(u, lanes), k_, s)
                    pointer = builder.gep(row, [i])
                    builder.store(s, builder.bitcast(pointer, ir.PointerType(s.type)), align=4)
                    new.append((s, r_))
                return new

            for n, total in enumerate(sums(update)):
                builder.store(total, builder.gep(out, [builder.add(value, int64(n))]))
            lost = ir.Constant(F32, 0.0)
            for t in taken:
                lost = fma(builder, t, t, lost)
            return lost

        i = types.int64
        return types.float32(S, i, i, vec, i, i, erase, y), code

    return intrinsic(typing)


#: state_rows(S, value, N, vec, at, plane, erase, y): rows from ``value`` on of
#: S diag(w) - c (S kappa)(kappa a)^T + v k~^T, in place, and y = S r of them.  S (N, N) = [value,
#: key]; vec's numbers ``at`` and ``plane`` apart are w, -, kappa, k~, v, r; erase (N,) is c kappa
#: a.
#: The sum of (S kappa)^2 is returned.
four_state_rows, one_state_row = _state_rows(4), _state_rows(1)


@intrinsic
def are_whole(typingctx: Any, weights: Any) -> Any:
    """Whether weights are whole numbers, which meet a vector that was rounded."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(ir.IntType(1), weights.dtype in WHOLE)

    return types.boolean(weights), code


@intrinsic
def magnitudes(typingctx: Any, x: Any, start: Any, n: Any) -> Any:
    """Of n float32 from an index on: the largest magnitude, and the sum of all.

    Both are NaN or infinite if one of them is.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.gep(data_of(context, builder, x, args[0]), [args[1]])
        zero = ir.Constant(lanes_of(I32), [0] * LANES)
        none = ir.Constant(lanes_of(F32), [0.0] * LANES)
        most, total = (cgutils.alloca_once_value(builder, v) for v in (zero, none))

        def keep(bits: Any, largest: Any, total: Any) -> None:
            old = builder.load(largest)  # as whole numbers, magnitudes have the same order
            many = isinstance(bits.type, ir.VectorType)
            but_the_sign = [0x7FFFFFFF] * LANES if many else 0x7FFFFFFF
            bits = builder.and_(bits, ir.Constant(bits.type, but_the_sign))
            builder.store(builder.select(builder.icmp_signed(">", bits, old), bits, old), largest)
            old = builder.load(total)
            builder.store(builder.fadd(old, builder.bitcast(bits, old.type)), total)

        def block(i: Any) -> None:
            keep(builder.bitcast(load_lanes(builder, first, i, 4), zero.type), most, total)

        done = blocks_of(builder, int64(0), args[2], LANES, block)
        reduce = external(builder, f"llvm.vector.reduce.smax.v{LANES}i32", I32, [zero.type])
        single = cgutils.alloca_once_value(builder, builder.call(reduce, [builder.load(most)]))
        sum_ = cgutils.alloca_once_value(builder, total_of(builder, builder.load(total)))

        def one(i: Any) -> None:
            keep(builder.bitcast(builder.load(builder.gep(first, [i])), I32), single, sum_)

        blocks_of(builder, done, args[2], 1, one)
        largest = builder.bitcast(builder.load(single), F32)
        return context.make_tuple(builder, sig.return_type, [largest, builder.load(sum_)])

    result = types.UniTuple(types.float32, 2)
    return result(x, types.int64, types.int64), code


@intrinsic
def round_into(typingctx: Any, x: Any, start: Any, n: Any, by: Any, out: Any, to: Any) -> Any:
    """out[to + i] = x[start + i] times ``by``, to the nearest whole number, for i < n; int16."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.gep(data_of(context, builder, x, args[0]), [args[1]])
        target = builder.gep(data_of(context, builder, out, args[4]), [args[5]])
        everywhere = spread(builder, args[3])

        def put(i: Any, many: bool) -> None:
            value = builder.fmul(read(builder, first, i, many), everywhere if many else args[3])
            suffix = f".v{LANES}" if many else "."
            near = external(builder, f"llvm.nearbyint{suffix}f32", value.type, [value.type])
            wide, narrow = (lanes_of(kind) if many else kind for kind in (I32, I16))
            # NaN is 0: the unit is NaN then
            name = f"llvm.fptosi.sat{suffix}i32{suffix}f32"
            whole = external(builder, name, wide, [value.type])
            value = builder.call(whole, [builder.call(near, [value])])
            write(builder, builder.trunc(value, narrow), target, i)

        every(builder, int64(0), args[2], put)
        return context.get_dummy_value()

    i = types.int64
    return types.void(x, i, i, types.float32, out, i), code


@intrinsic
def ask_for(typingctx: Any, array: Any, at: Any) -> Any:
    """Ask for the line with number ``at`` of an array to come to the second cache."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_of(context, builder, array, args[0])
        prefetch(builder, builder.gep(data, [args[1]]), 2)
        return context.get_dummy_value()

    return types.void(array, types.int64), code


@intrinsic
def index_of(typingctx: Any, weights: Any, array: Any, at: Any) -> Any:
    """Which number of ``weights`` would lie where number ``at`` of another array does.

    Only to be asked for: it is beyond the one's bounds.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        there = builder.gep(data_of(context, builder, sig.args[1], args[1]), [args[2]])
        here = data_of(context, builder, sig.args[0], args[0])
        there, here = (builder.ptrtoint(pointer, I64) for pointer in (there, here))
        return builder.sdiv(builder.sub(there, here), int64(weights.dtype.bitwidth // 8))

    return types.int64(weights, array, types.int64), code


@intrinsic
def read_through(typingctx: Any, words: Any, at: Any, n: Any, ahead: Any) -> Any:
    """Read n int32 and do as little as can be done with them: the sum of all, wrapping around.

    ``ahead`` is how many words further lines are asked for; 0 leaves that to the processor.
    """

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = builder.gep(data_of(context, builder, words, args[0]), [args[1]])
        zero = ir.Constant(lanes_of(I32), [0] * LANES)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(SUMS)]
        for total in sums:
            builder.store(zero, total)

        def block(i: Any) -> None:
            for k, total in enumerate(sums):
                index = builder.add(i, int64(k * LANES))
                prefetch(builder, builder.gep(first, [builder.add(index, args[3])]), 2)
                value = load_lanes(builder, first, index, 4)
                builder.store(builder.add(builder.load(total), value), total)

        blocks_of(builder, int64(0), args[2], SUMS * LANES, block)
        a, b, c, d = (builder.load(s) for s in sums)
        add = external(builder, f"llvm.vector.reduce.add.v{LANES}i32", I32, [zero.type])
        return builder.call(add, [builder.add(builder.add(a, b), builder.add(c, d))])

    return types.int32(words, types.int64, types.int64, types.int64), code


@intrinsic
def clock(typingctx: Any) -> Any:
    """The processor's clock, in ticks of its own; 0 where it tells nobody."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.call(external(builder, "llvm.readcyclecounter", I64, []), [])

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
        if not X86:
            return ir.Constant(I32, 0)
        slot = cgutils.alloca_once(builder, I32)
        byte = builder.bitcast(slot, ir.PointerType(I8))
        read = external(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), [byte.type])
        builder.call(read, [byte])
        before = builder.load(slot)
        builder.store(builder.or_(before, ir.Constant(I32, 0x8040)), slot)
        builder.call(external(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [byte.type]), [byte])
        return before

    return types.int32(), code


@intrinsic
def restore(typingctx: Any, before: Any) -> Any:
    """Undo `flush_denormals`."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if X86:
            slot = cgutils.alloca_once_value(builder, args[0])
            byte = builder.bitcast(slot, ir.PointerType(I8))
            write = external(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [byte.type])
            builder.call(write, [byte])
        return context.get_dummy_value()

    return types.void(types.int32), code

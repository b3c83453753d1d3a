"""`lanes` on a card: instructions that numba has no name for, as LLVM and PTX.

Index arguments are int64.  Nothing here checks bounds: the kernels do.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from goose_gpu.formats import FORMATS

#: The compiler must not move a call among diverging lanes, or double it.
CONVERGENT = ("convergent",)

I1, I16, I32, I64 = (ir.IntType(n) for n in (1, 16, 32, 64))
F32 = ir.FloatType()
#: What the words of a packet are called: the name tells what they are made of.
_BITS = {
    types.float32: types.float32, types.uint16: types.uint32, types.int16: types.int32,
    types.int8: types.uint64, types.uint8: types.int64,
}  # fmt: skip
_FOURS = FORMATS["int4"]
_SCALES = _FOURS.block // _FOURS.group * 2  # bytes of a block in front of its numbers


def _element(weights: Any) -> Any:
    """A weight array's dtype, if these functions know it."""
    dtype = getattr(weights, "dtype", weights)
    return dtype if dtype in _BITS else None


def _kind(packet: Any) -> Any:
    """The weight dtype that a packet was read from."""
    return {v: k for k, v in _BITS.items()}.get(packet.dtype)


def _size(dtype: Any) -> int:
    return _FOURS.packet if dtype == types.uint8 else 128 // int(dtype.bitwidth)


def pointer_to(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Where an array's element lies."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [builder.zext(index, I64) if index.type != I64 else index])


def _four(builder: Any, pointer: Any) -> list[Any]:
    """Four floats from a pointer that is a multiple of 16 bytes."""
    vector = ir.VectorType(F32, 4)
    value = builder.load(builder.bitcast(pointer, ir.PointerType(vector)), align=16)
    return [builder.extract_element(value, ir.Constant(I32, i)) for i in range(4)]


def _wide(builder: Any, kind: Any, bits: Any) -> Any:
    """8 or 16 bits as float32."""
    if kind == types.int8:
        return builder.sitofp(bits, F32)
    if kind == types.uint16:
        shifted = builder.shl(builder.zext(bits, I32), ir.Constant(I32, 16))
        return builder.bitcast(shifted, F32)
    return builder.fpext(builder.bitcast(bits, ir.HalfType()), F32)


def _unpack(builder: Any, kind: Any, packet: Any) -> list[Any]:
    """A packet's numbers as float32 values, in memory order."""
    words = [builder.extract_value(packet, i) for i in range(4)]
    if kind == types.float32:
        return words
    numbers = []
    for word in words:
        if kind == types.int8:
            word = builder.trunc(word, I32)
            for byte in range(4):
                left = builder.shl(word, ir.Constant(I32, 24 - 8 * byte))
                numbers.append(_wide(builder, kind, builder.ashr(left, ir.Constant(I32, 24))))
        elif kind == types.uint16:  # the upper half is a float32 already, but for the lower bits
            low = builder.bitcast(builder.shl(word, ir.Constant(I32, 16)), F32)
            mask = ir.Constant(I32, 0xFFFF0000)
            numbers += [low, builder.bitcast(builder.and_(word, mask), F32)]
        else:
            high = builder.lshr(word, ir.Constant(I32, 16))
            numbers += [_wide(builder, kind, builder.trunc(half, I16)) for half in (word, high)]
    return numbers


def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    module = builder.module
    f = module.declare_intrinsic("llvm.fma", [F32], ir.FunctionType(F32, [F32] * 3))
    return builder.call(f, [a, b, c])


def pack(builder: Any, values: list[Any]) -> Any:
    """Values of one type as one tuple."""
    packed: Any = ir.Constant(ir.ArrayType(values[0].type, len(values)), ir.Undefined)
    for i, value in enumerate(values):
        packed = builder.insert_value(packed, value, i)
    return packed


@intrinsic
def packet_size(typingctx: Any, weights: Any) -> Any:
    """Numbers in 16 bytes: 4, 8, 16 or 32."""
    if (dtype := _element(weights)) is None:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(I64, _size(dtype))

    return types.int64(weights), code


@intrinsic
def widen(typingctx: Any, number: Any) -> Any:
    """A stored weight as float32 (an int8 still wants its scale); not one of int4."""
    if (dtype := _element(number)) is None:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if dtype == types.float32 else _wide(builder, dtype, args[0])

    return types.float32(number), code


@intrinsic
def number_at(typingctx: Any, weights: Any, index: Any) -> Any:
    """Number ``index`` of flat weights as float32 (an int8 still wants its scale)."""
    if (dtype := _element(weights)) is None:
        return None

    def load(context: Any, builder: Any, array: Any, at: Any, kind: Any) -> Any:
        pointer = pointer_to(context, builder, weights, array, at)
        return builder.load(builder.bitcast(pointer, ir.PointerType(kind)))

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, at = args
        if dtype == types.float32:
            return load(context, builder, array, at, F32)
        if dtype != types.uint8:
            bits = load(context, builder, array, at, ir.IntType(int(dtype.bitwidth)))
            return _wide(builder, dtype, bits)
        number = lambda n: ir.Constant(I64, n)  # noqa: E731
        begin = builder.mul(builder.udiv(at, number(_FOURS.block)), number(_FOURS.items))
        within = builder.urem(at, number(_FOURS.block))
        group = builder.udiv(within, number(_FOURS.group))
        scale = builder.add(begin, builder.mul(group, number(2)))
        run = builder.mul(builder.udiv(within, number(64)), number(16))
        word = builder.add(run, builder.urem(within, number(16)))
        word = builder.add(builder.mul(word, number(2)), builder.add(begin, number(_SCALES)))
        fourth = builder.udiv(builder.urem(within, number(64)), number(16))
        left = builder.sub(ir.Constant(I16, 12), builder.trunc(builder.mul(fourth, number(4)), I16))
        bits = builder.shl(load(context, builder, array, word, I16), left)
        value = builder.sitofp(builder.ashr(bits, ir.Constant(I16, 12)), F32)
        half = load(context, builder, array, scale, I16)
        return builder.fmul(value, _wide(builder, types.int16, half))

    return types.float32(weights, types.int64), code


@intrinsic
def scale_of(typingctx: Any, scales: Any, index: Any, weights: Any) -> Any:
    """scales[index] for int8 weights; 1 for all others, which have none."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if _element(weights) != types.int8:
            return ir.Constant(F32, 1.0)
        return builder.load(pointer_to(context, builder, scales, *args[:2]))

    return types.float32(scales, types.int64, weights), code


@intrinsic
def load_packet(typingctx: Any, weights: Any, index: Any, wanted: Any) -> Any:
    """16 bytes of weights from number ``index`` on; zeros, and no access, if not wanted.

    Int4 comes with a word that holds its two scales.  See `slot` for which numbers it has.

    Past L1, since a token reads every weight once; volatile, so that the load stays ahead of
    the barrier that it is written ahead of.
    """
    if (dtype := _element(weights)) is None:
        return None
    packet = types.UniTuple(_BITS[dtype], 5 if dtype == types.uint8 else 4)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, at, on = args
        pointers = [
            builder.ptrtoint(pointer_to(context, builder, weights, array, i), I64)
            for i in (_places_of_fours(builder, at) if dtype == types.uint8 else [at])
        ]
        n = 3 + len(pointers)  # words
        on_at = n + len(pointers)
        text = f"{{ .reg .pred p; setp.ne.u32 p, ${on_at}, 0; "
        text += "".join(f"mov.u32 ${i}, 0; " for i in range(n))
        text += f"@p ld.global.nc.L1::no_allocate.v4.u32 {{$0, $1, $2, $3}}, [${n}]; "
        if n == 5:
            text += f"@p ld.global.nc.u32 $4, [${n + 1}]; "
        kind = ir.FunctionType(ir.LiteralStructType([I32] * n), [I64] * len(pointers) + [I32])
        constraints = ",".join(["=&r"] * n + ["l"] * len(pointers) + ["r"])
        asm = ir.InlineAsm(kind, text + "}", constraints, side_effect=True)
        words = builder.call(asm, [*pointers, builder.zext(on, I32)])
        values = [builder.extract_value(words, i) for i in range(n)]
        if dtype == types.float32:
            values = [builder.bitcast(v, F32) for v in values]
        elif dtype in (types.int8, types.uint8):
            values = [builder.zext(v, I64) for v in values]
        return pack(builder, values)

    return packet(weights, types.int64, types.boolean), code


@intrinsic
def dot_packet(typingctx: Any, packet: Any, xs: Any, at: Any, half: Any, total: Any) -> Any:
    """Total + a packet times float32 xs, four at a time: from ``at``, ``at + half`` and so on."""
    kind = _kind(packet)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values, array, i, gap, sum_ = args
        x = []
        for _ in range(_size(kind) // 4):
            x += _four(builder, pointer_to(context, builder, xs, array, i))
            i = builder.add(i, gap)
        if kind == types.uint8:
            return _dot_fours(builder, values, x, sum_)
        for weight, number in zip(_unpack(builder, kind, values), x, strict=True):
            sum_ = _fma(builder, weight, number, sum_)
        return sum_

    return types.float32(packet, xs, types.int64, types.int64, types.float32), code


def _places_of_fours(builder: Any, at: Any) -> list[Any]:
    """In which bytes of int4 the packet of number ``at`` begins, and the word of its scales."""
    number = lambda n: ir.Constant(I64, n)  # noqa: E731
    block = builder.udiv(at, number(_FOURS.block))
    packet = builder.udiv(builder.urem(at, number(_FOURS.block)), number(_FOURS.packet))
    begin = builder.mul(block, number(_FOURS.items))
    numbers = builder.add(begin, builder.mul(packet, number(16)))
    scales = builder.mul(builder.udiv(packet, number(2)), number(4))
    return [builder.add(numbers, number(_SCALES)), builder.add(begin, scales)]


def _dot_fours(builder: Any, packet: Any, x: list[Any], total: Any) -> Any:
    """Total + a packet of int4 times 32 numbers x: four runs of eight, two for each scale.

    Run k's numbers are bits 4 k of eight 16-bit words, n - 8 for the bits n with the uppermost
    turned.  Or-ed into 2^23 they are a float32 16^k (n - 8) + 2^23 + 8 16^k, without a conversion,
    which a card does at a quarter of the rate or less; the 16^k is divided out of the sum.
    """
    words = [builder.trunc(builder.extract_value(packet, i), I32) for i in range(5)]
    halves = [h for w in words for h in (w, builder.lshr(w, ir.Constant(I32, 16)))]
    sums = []
    for k in range(4):
        part: Any = ir.Constant(F32, 0.0)
        offset = ir.Constant(F32, -float((1 << 23) + (8 << 4 * k)))
        for i in range(8):
            bits = builder.and_(halves[i], ir.Constant(I32, 15 << 4 * k))
            bits = builder.xor(bits, ir.Constant(I32, 0x4B000000 | 8 << 4 * k))
            number = builder.fadd(builder.bitcast(bits, F32), offset)
            part = _fma(builder, number, x[8 * k + i], part)
        sums.append(part)
    for k in (0, 2):
        part = builder.fmul(sums[k], ir.Constant(F32, 16.0**-k))
        part = _fma(builder, sums[k + 1], ir.Constant(F32, 16.0 ** -(k + 1)), part)
        bits = builder.trunc(halves[8 + k // 2], I16)
        total = _fma(builder, _wide(builder, types.int16, bits), part, total)
    return total


@intrinsic
def no_sums(typingctx: Any, weights: Any) -> Any:
    """As many zeros as a packet of these weights has numbers."""
    if (dtype := _element(weights)) is None:
        return None
    n = _size(dtype)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(ir.ArrayType(F32, n), [0.0] * n)

    return types.UniTuple(types.float32, n)(weights), code


@intrinsic
def add_packet(typingctx: Any, packet: Any, factor: Any, sums: Any) -> Any:
    """Sums + a packet times a factor, number by number."""
    kind = _kind(packet)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        numbers = _unpack(builder, kind, args[0])
        old = [builder.extract_value(args[2], i) for i in range(len(numbers))]
        new = [_fma(builder, w, args[1], s) for w, s in zip(numbers, old, strict=True)]
        return pack(builder, new)

    return sums(packet, types.float32, sums), code


@intrinsic
def store_sums(typingctx: Any, sums: Any, target: Any, at: Any) -> Any:
    """Write the sums to target[at : at + n]."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for i in range(sums.count):
            index = builder.add(args[2], ir.Constant(I64, i))
            pointer = pointer_to(context, builder, target, args[1], index)
            builder.store(builder.extract_value(args[0], i), pointer)
        return context.get_dummy_value()

    return types.void(sums, target, types.int64), code


def _exchange(builder: Any, value: Any, mode: str, distance: int) -> Any:
    """The value of another lane: ``bfly`` lane ^ distance, ``up`` lane - distance."""
    text = f"shfl.sync.{mode}.b32 $0, $1, {distance}, {31 if mode == 'bfly' else 0}, -1;"
    asm = ir.InlineAsm(ir.FunctionType(F32, [F32]), text, "=f,f", side_effect=True)
    return builder.call(asm, [value], attrs=CONVERGENT)


@intrinsic
def column_sums(typingctx: Any, sums: Any) -> Any:
    """Each sum over the eight lanes of the same index modulo 4."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [builder.extract_value(args[0], i) for i in range(sums.count)]
        for distance in (4, 8, 16):
            others = [_exchange(builder, v, "bfly", distance) for v in values]
            values = [builder.fadd(a, b) for a, b in zip(values, others, strict=True)]
        return pack(builder, values)

    return sums(sums), code


@intrinsic
def load_fresh(typingctx: Any, array: Any, index: Any) -> Any:
    """A float32 that another block has just written: past L1, which is not coherent."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = builder.ptrtoint(pointer_to(context, builder, array, *args), I64)
        kind = ir.FunctionType(F32, [I64])
        asm = ir.InlineAsm(kind, "ld.volatile.global.f32 $0, [$1];", "=f,l", side_effect=True)
        return builder.call(asm, [pointer])

    return types.float32(array, types.int64), code


def _over_lanes(distances: tuple[int, ...], combine: str, words: str) -> Any:
    def typing(typingctx: Any, value: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = args[0]
            for distance in distances:
                other = _exchange(builder, value, "bfly", distance)
                if combine == "sum":
                    value = builder.fadd(value, other)
                else:
                    more = builder.fcmp_ordered(">", other, value)
                    value = builder.select(more, other, value)
            return value

        return types.float32(types.float32), code

    typing.__doc__ = words
    return intrinsic(typing)


lane_sum = _over_lanes((16, 8, 4, 2, 1), "sum", "A float32's sum over the warp, in every lane.")
lane_max = _over_lanes((16, 8, 4, 2, 1), "max", "A float32's maximum over the warp.")
part_sum = _over_lanes((4, 2, 1), "sum", "A float32's sum over its group of eight lanes.")


@intrinsic
def lane_scan(typingctx: Any, value: Any) -> Any:
    """An int32's sum over this lane and those before it in the warp."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        text = "{ .reg .pred p; .reg .b32 t; " + "".join(
            f"shfl.sync.up.b32 t|p, $0, {d}, 0, -1; @p add.s32 $0, $0, t; "
            for d in (1, 2, 4, 8, 16)
        )
        kind = ir.FunctionType(I32, [I32])
        asm = ir.InlineAsm(kind, text + "}", "=r,0", side_effect=True)
        return builder.call(asm, args, attrs=CONVERGENT)

    return types.int32(types.int32), code


@intrinsic
def load_four(typingctx: Any, array: Any, index: Any) -> Any:
    """Four float32 from an index that is a multiple of four."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return pack(builder, _four(builder, pointer_to(context, builder, array, *args)))

    return types.UniTuple(types.float32, 4)(array, types.int64), code


@intrinsic
def store_four(typingctx: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Write four float32 to an index that is a multiple of four."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector: Any = ir.Constant(ir.VectorType(F32, 4), ir.Undefined)
        for i, value in enumerate(args[2:]):
            vector = builder.insert_element(vector, value, ir.Constant(I32, i))
        pointer = pointer_to(context, builder, array, args[0], args[1])
        builder.store(vector, builder.bitcast(pointer, ir.PointerType(vector.type)), align=16)
        return context.get_dummy_value()

    f = types.float32
    return types.void(array, types.int64, f, f, f, f), code


@intrinsic
def power_of_two(typingctx: Any, exponent: Any) -> Any:
    """2^exponent for an int32 from -126 to 127."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.add(args[0], ir.Constant(I32, 127))
        return builder.bitcast(builder.shl(bits, ir.Constant(I32, 23)), F32)

    return types.float32(types.int32), code


@intrinsic
def narrow(typingctx: Any, number: Any, like: Any) -> Any:
    """A float32 as the nearest number of an array's weight type, in its bits."""
    if (dtype := _element(like)) is None:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if dtype == types.float32:
            return args[0]
        if dtype == types.int16:
            return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), I16)
        bits = builder.bitcast(args[0], I32)
        odd = builder.and_(builder.lshr(bits, ir.Constant(I32, 16)), ir.Constant(I32, 1))
        bits = builder.add(builder.add(bits, ir.Constant(I32, 0x7FFF)), odd)
        return builder.trunc(builder.lshr(bits, ir.Constant(I32, 16)), I16)

    return dtype(types.float32, like), code

"""What the CUDA simulator lacks, in one place: the lanes of a warp and 16-byte packets.

Every function here has two forms.  On a card a warp has 32 lanes that exchange registers, and
weights are read 16 bytes at a time.  Under ``NUMBA_ENABLE_CUDASIM=1`` a "warp" is one thread, so
that sums over lanes are the identity, and a packet is read number by number; the kernels are the
same source either way.

Weights keep the bits of their file: float32 is itself, uint16 is bfloat16, int16 is float16.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda
from numba.core import config

SIMULATOR = bool(config.ENABLE_CUDASIM)

LANES = 1 if SIMULATOR else 32  # threads that share a row of a matrix
PARTS = 1 if SIMULATOR else 8  # threads that share a row of a head's state
STRIPE = 4 if SIMULATOR else 32  # threads that share a partial sum in the ffn's value kernel

ZERO = np.float32(0)
ONE = np.float32(1)
HALF = np.float32(0.5)


if SIMULATOR:

    @cuda.jit(device=True)
    def packet_size(weights):  # type: ignore[no-redef]
        return 16 // weights.dtype.itemsize

    @cuda.jit(device=True)
    def widen(number):
        if number.dtype == np.uint16:
            return (np.array(number, np.uint32) << np.uint32(16)).view(np.float32)[()]
        if number.dtype == np.int16:
            return np.float32(number.view(np.float16))
        return number

    @cuda.jit(device=True)
    def load_packet(weights, index, wanted):
        return weights, index, wanted

    @cuda.jit(device=True)
    def dot_packet(packet, xs, at, half, total):
        weights, index, wanted = packet
        if wanted:
            for i in range(packet_size(weights)):
                j = at + i if i < 4 else at + half + i - 4
                total += widen(weights[index + i]) * xs[j]
        return total

    @cuda.jit(device=True)
    def no_sums(weights):
        return (ZERO,) * packet_size(weights)

    @cuda.jit(device=True)
    def add_packet(packet, factor, sums):
        weights, index, wanted = packet
        if not wanted:
            return sums
        return tuple(s + widen(weights[index + i]) * factor for i, s in enumerate(sums))

    @cuda.jit(device=True)
    def store_sums(sums, target, at):
        for i, value in enumerate(sums):
            target[at + i] = value

    @cuda.jit(device=True)
    def column_sums(sums):
        return sums

    @cuda.jit(device=True)
    def load_fresh(array, index):
        return array[index]

    @cuda.jit(device=True)
    def lane_sum(value):
        return value

    @cuda.jit(device=True)
    def lane_max(value):
        return value

    @cuda.jit(device=True)
    def part_sum(value):
        return value

    @cuda.jit(device=True)
    def lane_scan(value):
        return value

    @cuda.jit(device=True)
    def load_four(array, index):
        return tuple(array[index + i] for i in range(4))

    @cuda.jit(device=True)
    def store_four(array, index, a, b, c, d):
        array[index : index + 4] = a, b, c, d

    @cuda.jit(device=True)
    def power_of_two(exponent):
        return np.float32(2.0 ** int(exponent))

    @cuda.jit(device=True)
    def narrow(number, like):
        if like.dtype == np.uint16:
            bits = np.array(number, np.float32).view(np.uint32)
            bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            return (bits >> np.uint32(16)).astype(np.uint16)[()]
        if like.dtype == np.int16:
            return np.float16(number).view(np.int16)
        return number

else:
    from llvmlite import ir
    from numba.cuda import types
    from numba.cuda.extending import intrinsic

    _I1, _I16, _I32, _I64 = (ir.IntType(n) for n in (1, 16, 32, 64))
    _F32 = ir.FloatType()
    _BITS = {types.float32: types.float32, types.uint16: types.uint32, types.int16: types.int32}

    def _element(weights: Any) -> Any:
        """A weight array's dtype, if these functions know it."""
        dtype = getattr(weights, "dtype", weights)
        return dtype if dtype in _BITS else None

    def _kind(packet: Any) -> Any:
        """The weight dtype that a packet was read from."""
        return {v: k for k, v in _BITS.items()}.get(packet.dtype)

    def _size(dtype: Any) -> int:
        return 128 // dtype.bitwidth

    def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
        data = context.make_array(array_type)(context, builder, array).data
        return builder.gep(data, [builder.zext(index, _I64) if index.type != _I64 else index])

    def _four(builder: Any, pointer: Any) -> list[Any]:
        """Four floats from a pointer that is a multiple of 16 bytes."""
        vector = ir.VectorType(_F32, 4)
        value = builder.load(builder.bitcast(pointer, ir.PointerType(vector)), align=16)
        return [builder.extract_element(value, ir.Constant(_I32, i)) for i in range(4)]

    def _wide(builder: Any, kind: Any, bits: Any) -> Any:
        """16 bits as float32."""
        if kind == types.uint16:
            shifted = builder.shl(builder.zext(bits, _I32), ir.Constant(_I32, 16))
            return builder.bitcast(shifted, _F32)
        return builder.fpext(builder.bitcast(bits, ir.HalfType()), _F32)

    def _unpack(builder: Any, kind: Any, packet: Any) -> list[Any]:
        """A packet's numbers as float32 values, in memory order."""
        words = [builder.extract_value(packet, i) for i in range(4)]
        if kind == types.float32:
            return words
        numbers = []
        for word in words:
            if kind == types.uint16:  # the upper half is a float32 already, but for the lower bits
                low = builder.bitcast(builder.shl(word, ir.Constant(_I32, 16)), _F32)
                mask = ir.Constant(_I32, 0xFFFF0000)
                numbers += [low, builder.bitcast(builder.and_(word, mask), _F32)]
            else:
                high = builder.lshr(word, ir.Constant(_I32, 16))
                numbers += [
                    _wide(builder, kind, builder.trunc(half, _I16)) for half in (word, high)
                ]
        return numbers

    def _fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
        module = builder.module
        f = module.declare_intrinsic("llvm.fma", [_F32], ir.FunctionType(_F32, [_F32] * 3))
        return builder.call(f, [a, b, c])

    def _tuple(builder: Any, values: list[Any]) -> Any:
        packed: Any = ir.Constant(ir.ArrayType(values[0].type, len(values)), ir.Undefined)
        for i, value in enumerate(values):
            packed = builder.insert_value(packed, value, i)
        return packed

    @intrinsic
    def packet_size(typingctx: Any, weights: Any) -> Any:
        """Numbers in 16 bytes: 4 or 8."""
        if (dtype := _element(weights)) is None:
            return None

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return ir.Constant(_I64, _size(dtype))

        return types.int64(weights), code

    @intrinsic
    def widen(typingctx: Any, number: Any) -> Any:
        """A stored weight as float32."""
        if (dtype := _element(number)) is None:
            return None

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return args[0] if dtype == types.float32 else _wide(builder, dtype, args[0])

        return types.float32(number), code

    @intrinsic
    def load_packet(typingctx: Any, weights: Any, index: Any, wanted: Any) -> Any:
        """16 bytes of weights from element ``index`` on; zeros, and no access, if not wanted.

        Past L1, since a token reads every weight once; volatile, so that the load stays ahead of
        the barrier that it is written ahead of.
        """
        if (dtype := _element(weights)) is None:
            return None
        packet = types.UniTuple(_BITS[dtype], 4)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            array, at, on = args
            pointer = builder.ptrtoint(_pointer(context, builder, weights, array, at), _I64)
            text = (
                "{ .reg .pred p; setp.ne.u32 p, $5, 0; "
                "mov.u32 $0, 0; mov.u32 $1, 0; mov.u32 $2, 0; mov.u32 $3, 0; "
                "@p ld.global.nc.L1::no_allocate.v4.u32 {$0, $1, $2, $3}, [$4]; }"
            )
            kind = ir.FunctionType(ir.LiteralStructType([_I32] * 4), [_I64, _I32])
            asm = ir.InlineAsm(kind, text, "=&r,=&r,=&r,=&r,l,r", side_effect=True)
            words = builder.call(asm, [pointer, builder.zext(on, _I32)])
            values = [builder.extract_value(words, i) for i in range(4)]
            if dtype == types.float32:
                values = [builder.bitcast(v, _F32) for v in values]
            return _tuple(builder, values)

        return packet(weights, types.int64, types.boolean), code

    @intrinsic
    def dot_packet(
        typingctx: Any, packet: Any, xs: Any, at: Any, half: Any, total: Any
    ) -> Any:
        """Total + a packet times float32 xs: four from ``at``, four more from ``at + half``."""
        kind = _kind(packet)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values, array, i, gap, sum_ = args
            x = _four(builder, _pointer(context, builder, xs, array, i))
            if kind != types.float32:
                x += _four(builder, _pointer(context, builder, xs, array, builder.add(i, gap)))
            for weight, number in zip(_unpack(builder, kind, values), x, strict=True):
                sum_ = _fma(builder, weight, number, sum_)
            return sum_

        return types.float32(packet, xs, types.int64, types.int64, types.float32), code

    @intrinsic
    def no_sums(typingctx: Any, weights: Any) -> Any:
        """As many zeros as a packet of these weights has numbers."""
        if (dtype := _element(weights)) is None:
            return None
        n = _size(dtype)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return ir.Constant(ir.ArrayType(_F32, n), [0.0] * n)

        return types.UniTuple(types.float32, n)(weights), code

    @intrinsic
    def add_packet(typingctx: Any, packet: Any, factor: Any, sums: Any) -> Any:
        """Sums + a packet times a factor, number by number."""
        kind = _kind(packet)

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            numbers = _unpack(builder, kind, args[0])
            old = [builder.extract_value(args[2], i) for i in range(len(numbers))]
            new = [_fma(builder, w, args[1], s) for w, s in zip(numbers, old, strict=True)]
            return _tuple(builder, new)

        return sums(packet, types.float32, sums), code

    @intrinsic
    def store_sums(typingctx: Any, sums: Any, target: Any, at: Any) -> Any:
        """Write the sums to target[at : at + n]."""

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            for i in range(sums.count):
                index = builder.add(args[2], ir.Constant(_I64, i))
                pointer = _pointer(context, builder, target, args[1], index)
                builder.store(builder.extract_value(args[0], i), pointer)
            return context.get_dummy_value()

        return types.void(sums, target, types.int64), code

    def _exchange(builder: Any, value: Any, mode: str, distance: int) -> Any:
        """The value of another lane: ``bfly`` lane ^ distance, ``up`` lane - distance."""
        text = f"shfl.sync.{mode}.b32 $0, $1, {distance}, {31 if mode == 'bfly' else 0}, -1;"
        asm = ir.InlineAsm(ir.FunctionType(_F32, [_F32]), text, "=f,f", side_effect=True)
        return builder.call(asm, [value])

    @intrinsic
    def column_sums(typingctx: Any, sums: Any) -> Any:
        """Each sum over the eight lanes of the same index modulo 4."""

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            values = [builder.extract_value(args[0], i) for i in range(sums.count)]
            for distance in (4, 8, 16):
                others = [_exchange(builder, v, "bfly", distance) for v in values]
                values = [builder.fadd(a, b) for a, b in zip(values, others, strict=True)]
            return _tuple(builder, values)

        return sums(sums), code

    @intrinsic
    def load_fresh(typingctx: Any, array: Any, index: Any) -> Any:
        """A float32 that another block has just written: past L1, which is not coherent."""

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            pointer = builder.ptrtoint(_pointer(context, builder, array, *args), _I64)
            kind = ir.FunctionType(_F32, [_I64])
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
            kind = ir.FunctionType(_I32, [_I32])
            asm = ir.InlineAsm(kind, text + "}", "=r,0", side_effect=True)
            return builder.call(asm, args)

        return types.int32(types.int32), code

    @intrinsic
    def load_four(typingctx: Any, array: Any, index: Any) -> Any:
        """Four float32 from an index that is a multiple of four."""

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _tuple(builder, _four(builder, _pointer(context, builder, array, *args)))

        return types.UniTuple(types.float32, 4)(array, types.int64), code

    @intrinsic
    def store_four(
        typingctx: Any, array: Any, index: Any, a: Any, b: Any, c: Any, d: Any
    ) -> Any:
        """Write four float32 to an index that is a multiple of four."""

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vector: Any = ir.Constant(ir.VectorType(_F32, 4), ir.Undefined)
            for i, value in enumerate(args[2:]):
                vector = builder.insert_element(vector, value, ir.Constant(_I32, i))
            pointer = _pointer(context, builder, array, args[0], args[1])
            builder.store(
                vector, builder.bitcast(pointer, ir.PointerType(vector.type)), align=16
            )
            return context.get_dummy_value()

        f = types.float32
        return types.void(array, types.int64, f, f, f, f), code

    @intrinsic
    def power_of_two(typingctx: Any, exponent: Any) -> Any:
        """2^exponent for an int32 from -126 to 127."""

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            bits = builder.add(args[0], ir.Constant(_I32, 127))
            return builder.bitcast(builder.shl(bits, ir.Constant(_I32, 23)), _F32)

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
                return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), _I16)
            bits = builder.bitcast(args[0], _I32)
            odd = builder.and_(builder.lshr(bits, ir.Constant(_I32, 16)), ir.Constant(_I32, 1))
            bits = builder.add(builder.add(bits, ir.Constant(_I32, 0x7FFF)), odd)
            return builder.trunc(builder.lshr(bits, ir.Constant(_I32, 16)), _I16)

        return dtype(types.float32, like), code

    @intrinsic
    def shared_address(typingctx: Any, array: Any) -> Any:
        """Where a shared array begins, in bytes of shared memory."""

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = context.make_array(array)(context, builder, args[0]).data
            kind = ir.PointerType(data.type.pointee, addrspace=3)
            return builder.ptrtoint(builder.addrspacecast(data, kind), _I32)

        return types.int32(array), code

    @intrinsic
    def copy_packet(typingctx: Any, target: Any, array: Any, index: Any, wanted: Any) -> Any:
        """Begin to copy 16 bytes from array[index] to a shared address; zeros if not wanted."""

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            at, data, i, on = args
            i = builder.select(on, i, ir.Constant(_I64, 0))
            pointer = builder.ptrtoint(_pointer(context, builder, array, data, i), _I64)
            size = builder.select(on, ir.Constant(_I32, 16), ir.Constant(_I32, 0))
            kind = ir.FunctionType(ir.VoidType(), [_I32, _I64, _I32])
            text = "cp.async.cg.shared.global [$0], [$1], 16, $2;"
            builder.call(ir.InlineAsm(kind, text, "r,l,r", side_effect=True), [at, pointer, size])
            return context.get_dummy_value()

        return types.void(types.int32, array, types.int64, types.boolean), code

    def _statement(text: str, words: str) -> Any:
        def typing(typingctx: Any) -> Any:
            def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                kind = ir.FunctionType(ir.VoidType(), [])
                builder.call(ir.InlineAsm(kind, text, "~{memory}", side_effect=True), [])
                return context.get_dummy_value()

            return types.void(), code

        typing.__doc__ = words
        return intrinsic(typing)

    end_group = _statement("cp.async.commit_group;", "The copies begun so far are a group.")
    wait_all = _statement("cp.async.wait_group 0;", "Wait until every group has arrived.")
    wait_but_two = _statement("cp.async.wait_group 2;", "Wait for all groups but the last two.")

    def _load_matrices(suffix: str, words: str) -> Any:
        def typing(typingctx: Any, address: Any) -> Any:
            def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                kind = ir.FunctionType(ir.LiteralStructType([_I32] * 4), [_I32])
                text = f"ldmatrix.sync.aligned.m8n8.x4{suffix}.shared.b16 {{$0, $1, $2, $3}}, [$4];"
                asm = ir.InlineAsm(kind, text, "=r,=r,=r,=r,r,~{memory}", side_effect=True)
                words = builder.call(asm, args)
                return _tuple(builder, [builder.extract_value(words, i) for i in range(4)])

            return types.UniTuple(types.uint32, 4)(types.int32), code

        typing.__doc__ = words
        return intrinsic(typing)

    load_matrices = _load_matrices("", "Four 8 x 8 matrices of 16-bit numbers; each lane a row's address.")
    load_transposed = _load_matrices(".trans", "Four 8 x 8 matrices, each transposed as it is read.")

    @intrinsic
    def multiply_matrices(
        typingctx: Any, sums: Any, a: Any, b0: Any, b1: Any, like: Any
    ) -> Any:
        """Sums (16 x 8) + a (16 x 16) b (16 x 8) on the tensor cores, float32 sums."""
        name = {types.uint16: "bf16", types.int16: "f16"}.get(like.dtype)
        if name is None:
            return None

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            c = [builder.extract_value(args[0], i) for i in range(4)]
            left = [builder.extract_value(args[1], i) for i in range(4)]
            text = (
                f"mma.sync.aligned.m16n8k16.row.col.f32.{name}.{name}.f32 {{$0, $1, $2, $3}}, "
                "{$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
            )
            kind = ir.FunctionType(
                ir.LiteralStructType([_F32] * 4), [_I32] * 6 + [_F32] * 4
            )
            constraints = "=f,=f,=f,=f," + "r," * 6 + "f,f,f,f"
            out = builder.call(
                ir.InlineAsm(kind, text, constraints), [*left, args[2], args[3], *c]
            )
            return _tuple(builder, [builder.extract_value(out, i) for i in range(4)])

        u = types.uint32
        return sums(sums, types.UniTuple(u, 4), u, u, like), code

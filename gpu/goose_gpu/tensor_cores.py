"""Tensor cores and what feeds them: asynchronous copies into shared memory, matrix loads.

Compute capability 8.0 and up.  The fragments' layout is that of the PTX ISA, mma.m16n8k16.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from goose_gpu.intrinsics import CONVERGENT, F32, I32, I64, pack, pointer_to


@intrinsic
def shared_address(typingctx: Any, array: Any) -> Any:
    """Where a shared array begins, in bytes of shared memory."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        kind = ir.PointerType(data.type.pointee, addrspace=3)
        return builder.ptrtoint(builder.addrspacecast(data, kind), I32)

    return types.int32(array), code


@intrinsic
def copy_packet(typingctx: Any, target: Any, array: Any, index: Any, wanted: Any) -> Any:
    """Begin to copy 16 bytes from array[index] to a shared address; zeros if not wanted."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at, data, i, on = args
        i = builder.select(on, i, ir.Constant(I64, 0))
        pointer = builder.ptrtoint(pointer_to(context, builder, array, data, i), I64)
        size = builder.select(on, ir.Constant(I32, 16), ir.Constant(I32, 0))
        kind = ir.FunctionType(ir.VoidType(), [I32, I64, I32])
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
            kind = ir.FunctionType(ir.LiteralStructType([I32] * 4), [I32])
            text = f"ldmatrix.sync.aligned.m8n8.x4{suffix}.shared.b16 {{$0, $1, $2, $3}}, [$4];"
            asm = ir.InlineAsm(kind, text, "=r,=r,=r,=r,r,~{memory}", side_effect=True)
            words = builder.call(asm, args, attrs=CONVERGENT)
            return pack(builder, [builder.extract_value(words, i) for i in range(4)])

        return types.UniTuple(types.uint32, 4)(types.int32), code

    typing.__doc__ = words
    return intrinsic(typing)


load_matrices = _load_matrices("", "Four 8 x 8 matrices of 16 bits; each lane names a row.")
load_transposed = _load_matrices(".trans", "The same, each transposed.")


@intrinsic
def multiply_matrices(typingctx: Any, sums: Any, a: Any, b0: Any, b1: Any, like: Any) -> Any:
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
        kind = ir.FunctionType(ir.LiteralStructType([F32] * 4), [I32] * 6 + [F32] * 4)
        constraints = "=f,=f,=f,=f," + "r," * 6 + "f,f,f,f"
        asm = ir.InlineAsm(kind, text, constraints)
        out = builder.call(asm, [*left, args[2], args[3], *c], attrs=CONVERGENT)
        return pack(builder, [builder.extract_value(out, i) for i in range(4)])

    u = types.uint32
    return sums(sums, types.UniTuple(u, 4), u, u, like), code

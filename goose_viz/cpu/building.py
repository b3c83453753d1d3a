"""Sixteen numbers at a time as LLVM: what the inner loops of `lanes` and `integers` are built from.

Weights are widened to float32 as they are read: a float32 array is itself, uint16 is bfloat16,
int16 is float16, int8 is a multiple of a scale that the caller applies.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

LANES = 16
#: Sums that a dot product keeps apart, so that each addition need not wait for the last.
SUMS = 4
FAR = 16384  # bytes between rows that are added and those that are asked for
OTHERS = 4  # lines of another array that `sum_rows` asks for with each row
LINE = 64  # bytes that memory hands out at once

I8, I16, I32, I64 = (ir.IntType(n) for n in (8, 16, 32, 64))
F32 = ir.FloatType()
STORED = {types.float32: F32, types.uint16: I16, types.int16: I16, types.int8: I8}
X86 = platform.machine().lower() in ("x86_64", "amd64", "i686", "i386")


def lanes_of(element: Any) -> Any:
    """The type of sixteen of them."""
    return ir.VectorType(element, LANES)


def int64(n: int) -> Any:
    """A constant."""
    return ir.Constant(I64, n)


def data_of(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    """The pointer to the first item of an array."""
    return context.make_array(array_type)(context, builder, array).data


def external(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """A function of LLVM, declared once in a module."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """A b + c, one number or many."""
    wide = isinstance(c.type, ir.VectorType)
    name = f"llvm.fmuladd.{f'v{c.type.count}f32' if wide else 'f32'}"
    return builder.call(external(builder, name, c.type, [c.type] * 3), [a, b, c])


def total_of(builder: Any, sums: Any) -> Any:
    """The sum over the lanes."""
    name = f"llvm.vector.reduce.fadd.v{LANES}f32"
    add = external(builder, name, F32, [F32, sums.type])
    return builder.call(add, [ir.Constant(F32, 0.0), sums], fastmath=("reassoc",))


def spread(builder: Any, value: Any, n: int = LANES) -> Any:
    """The same number in all of n lanes."""
    undefined = ir.Constant(ir.VectorType(value.type, n), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, n), [0] * n))


def prefetch(builder: Any, pointer: Any, closeness: int) -> None:
    """Ask for a line, to be read: closeness 3 is the first cache, 2 the second."""
    byte = builder.bitcast(pointer, ir.PointerType(I8))
    ask = external(builder, "llvm.prefetch.p0", ir.VoidType(), [byte.type, I32, I32, I32])
    builder.call(ask, [byte, *(ir.Constant(I32, n) for n in (0, closeness, 1))])


def load_lanes(builder: Any, data: Any, index: Any, size: int) -> Any:
    """Sixteen stored numbers from any index on."""
    pointer = builder.gep(data, [index])
    vector = ir.PointerType(lanes_of(pointer.type.pointee))
    return builder.load(builder.bitcast(pointer, vector), align=size)


def widened(builder: Any, kind: Any, stored: Any) -> Any:
    """Stored numbers, one or sixteen, as float32."""
    many = isinstance(stored.type, ir.VectorType)

    def like(element: Any) -> Any:
        return lanes_of(element) if many else element

    if kind == types.uint16:
        wide = builder.zext(stored, like(I32))
        by = ir.Constant(wide.type, [16] * LANES if many else 16)
        return builder.bitcast(builder.shl(wide, by), like(F32))
    if kind == types.int16:
        return builder.fpext(builder.bitcast(stored, like(ir.HalfType())), like(F32))
    if kind == types.int8:
        return builder.sitofp(builder.sext(stored, like(I32)), like(F32))
    return stored


def blocks_of(builder: Any, begin: Any, end: Any, step: int, body: Callable[[Any], None]) -> Any:
    """Run body(i) for whole steps from begin; where they end."""
    room = builder.sub(end, begin)
    whole = builder.sub(room, builder.srem(room, int64(step)))
    stop = builder.add(begin, whole)
    with cgutils.for_range_slice(builder, begin, stop, int64(step), inc=True) as (i, _count):
        body(i)
    return stop


def read(builder: Any, pointer: Any, i: Any, many: bool) -> Any:
    """Number i behind a pointer, or sixteen from it on."""
    if not many:
        return builder.load(builder.gep(pointer, [i]))
    kind = pointer.type.pointee
    return load_lanes(builder, pointer, i, kind.width // 8 if isinstance(kind, ir.IntType) else 4)


def write(builder: Any, value: Any, pointer: Any, i: Any) -> None:
    """One number or sixteen, from number i behind a pointer on."""
    place = builder.gep(pointer, [i])
    kind = pointer.type.pointee
    size = kind.width // 8 if isinstance(kind, ir.IntType) else 4
    builder.store(value, builder.bitcast(place, ir.PointerType(value.type)), align=size)


def every(builder: Any, begin: Any, end: Any, body: Callable[[Any, bool], None]) -> None:
    """Run body(i, True) for sixteen numbers from i on, body(i, False) for each that is left."""
    done = blocks_of(builder, begin, end, LANES, lambda i: body(i, True))
    blocks_of(builder, done, end, 1, lambda i: body(i, False))

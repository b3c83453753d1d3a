"""Whole numbers times whole numbers: int8 and int4 weights met by a vector that was rounded once.

A vector becomes int16 multiples of its largest magnitude / 32767, which leaves 2^-16 of that: far
below what rounding has taken from the weights.  An instruction then does sixteen products and eight
sums, without widening anything to float32; sums of whole numbers are exact in any order.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types

from goose_gpu.formats import FORMATS
from goose_viz.cpu.building import (
    F32,
    I8,
    I16,
    I32,
    LANES,
    external,
    int64,
    lanes_of,
)

LARGEST = 32767
PAIRS = LANES // 2
FOURS = FORMATS["int4"]
WHOLE = (types.int8, types.uint8)
_AVX2 = llvm.get_host_cpu_features().get("avx2", False)


def pairs_of(builder: Any, a: Any, b: Any) -> Any:
    """Sixteen int16 times sixteen, neighbours added: eight int32.

    The sixteen may come as eight int32 that hold two each.
    """
    wide, short = ir.VectorType(I32, PAIRS), lanes_of(I16)
    a, b = (builder.bitcast(v, short) if v.type != short else v for v in (a, b))
    if _AVX2:
        add = external(builder, "llvm.x86.avx2.pmadd.wd", wide, [a.type, b.type])
        return builder.call(add, [a, b])
    double = ir.VectorType(I32, LANES)
    products = builder.mul(builder.sext(a, double), builder.sext(b, double))
    even, odd = (ir.Constant(wide, [2 * i + n for i in range(PAIRS)]) for n in (0, 1))
    undefined = ir.Constant(double, ir.Undefined)
    return builder.add(
        builder.shuffle_vector(products, undefined, even),
        builder.shuffle_vector(products, undefined, odd),
    )


def _constants(kind: Any, n: int, value: int) -> Any:
    return ir.Constant(ir.VectorType(kind, n), [value] * n)


def _nibbles(builder: Any, words: Any, k: int) -> Any:
    """Number k of each of sixteen words of four, as int16."""
    if k < 3:
        words = builder.shl(words, _constants(I16, LANES, 12 - 4 * k))
    return builder.ashr(words, _constants(I16, LANES, 12))


def _vector_at(builder: Any, pointer: Any, element: Any, n: int) -> Any:
    """N elements from a pointer to anything, at any address."""
    vector = ir.VectorType(element, n)
    return builder.load(builder.bitcast(pointer, ir.PointerType(vector)), align=1)


def blocks_in(builder: Any, n: Any) -> Any:
    """Blocks of int4 that n numbers take."""
    return builder.sdiv(builder.add(n, int64(FOURS.block - 1)), int64(FOURS.block))


def scales_of(builder: Any, block: Any) -> Any:
    """The eight scales of a block of int4, as float32."""
    halves = _vector_at(builder, block, ir.HalfType(), 8)
    return builder.fpext(halves, ir.VectorType(F32, 8))


def int8_as_int16(builder: Any, weights: Any) -> Any:
    """Sixteen int8 from a pointer."""
    return builder.sext(_vector_at(builder, weights, I8, LANES), ir.VectorType(I16, LANES))


def pairs_with(builder: Any, numbers: Any, vector: Any) -> Any:
    """Sixteen int16 times sixteen from a pointer, neighbours added: eight int32."""
    return pairs_of(builder, numbers, _vector_at(builder, vector, I16, LANES))


def run_of_chunk(builder: Any, block: Any, chunk: int, k: int) -> Any:
    """Sixteen numbers of the 64 of a chunk of an int4 block, as int16."""
    words = _vector_at(builder, builder.gep(block, [int64(16 + 32 * chunk)]), I16, LANES)
    return _nibbles(builder, words, k)


def numbers_of_chunk(builder: Any, block: Any, chunk: int) -> list[Any]:
    """64 numbers of an int4 block, as four times sixteen int16."""
    return [run_of_chunk(builder, block, chunk, k) for k in range(4)]

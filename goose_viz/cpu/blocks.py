"""Many arrays as cuts of one piece of memory, made anew by the kernel for every token.

Python pays for each array that a call brings: what it knows of it has been displaced from the
caches by the weights of the last token, some two microseconds apiece.  Cutting costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj
from numba.np.numpy_support import as_dtype
from numpy.typing import NDArray

_LINE = 64  # every array begins on a cache line
_AXES = 4
_I64 = ir.IntType(64)


class Place(NamedTuple):
    """Where an array lies in a piece of memory."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int  # bytes


class Sort(NamedTuple):
    """What is known of an array before any sizes are."""

    dtype: np.dtype[Any]
    axes: int


Places = dict[str, Place]


def lay_out(arrays: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> tuple[Places, int]:
    """Places for arrays one behind the other, and the bytes in all."""
    found, offset = {}, 0
    for name, (shape, dtype) in arrays.items():
        found[name] = Place(shape, dtype, offset)
        offset += -(-math.prod(shape) * dtype.itemsize // _LINE) * _LINE
    return found, offset


def table(places: Places) -> NDArray[np.int64]:
    """(arrays, 5) where each begins, in bytes, and its shape: what kernels cut by."""
    rows = [(p.offset, *p.shape, *[1] * (_AXES - len(p.shape))) for p in places.values()]
    return np.array(rows, np.int64)


def views(kind: Any, memory: Any, places: Places, prefix: str = "") -> Any:
    """The arrays, as a named tuple that may hold others of its sort."""
    parts = []
    for name in kind._fields:
        if name in _nested(kind):
            parts.append(views(_nested(kind)[name], memory, places, f"{prefix}{name}."))
            continue
        shape, dtype, offset = places[prefix + name]
        parts.append(np.frombuffer(memory, dtype, math.prod(shape), offset).reshape(shape))
    return kind(*parts)


def names(kind: Any, prefix: str = "") -> list[str]:
    """Of all arrays in a named tuple and those that it holds, in order."""
    found = []
    for name in kind._fields:
        if name in _nested(kind):
            found += names(_nested(kind)[name], f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def _nested(kind: Any) -> dict[str, Any]:
    """The named tuples among a named tuple's fields."""
    return getattr(kind, "nested", lambda: {})()


def cutter(kind: Any, sorts: Callable[[np.dtype[Any]], Mapping[str, Sort]]) -> Any:
    """A compiled function (memory, table) -> ``kind``, arrays of borrowed memory.

    Parameters
    ----------
    kind : type of named tuple
    sorts : callable
        What each array is, when the memory is of a certain type.
    """

    def type_of(part: Any, known: Mapping[str, Sort], prefix: str = "") -> Any:
        members = []
        for name in part._fields:
            if name in _nested(part):
                members.append(type_of(_nested(part)[name], known, f"{prefix}{name}."))
            else:
                sort = known[prefix + name]
                members.append(types.Array(from_dtype(sort.dtype), sort.axes, "C"))
        return types.BaseTuple.from_types(members, part)

    @intrinsic
    def cut(typingctx: Any, memory: Any, places: Any) -> Any:
        whole = type_of(kind, sorts(as_dtype(memory.dtype)))

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            base = context.make_array(sig.args[0])(context, builder, args[0]).data
            base = builder.bitcast(base, ir.PointerType(ir.IntType(8)))
            rows = context.make_array(sig.args[1])(context, builder, args[1]).data
            number = [0]

            def entry(i: int) -> Any:
                place = ir.Constant(_I64, number[0] * (1 + _AXES) + i)
                return builder.load(builder.gep(rows, [place]))

            def make(of: Any) -> Any:
                if isinstance(of, types.BaseTuple):
                    return context.make_tuple(builder, of, [make(t) for t in of.types])
                array = context.make_array(of)(context, builder)
                element = context.get_data_type(of.dtype)
                size = context.get_constant(types.intp, context.get_abi_sizeof(element))
                shape = [entry(1 + n) for n in range(of.ndim)]
                strides = [size]
                for length in shape[:0:-1]:
                    strides.insert(0, builder.mul(strides[0], length))
                data = builder.bitcast(builder.gep(base, [entry(0)]), ir.PointerType(element))
                arrayobj.populate_array(
                    array, data=data, shape=cgutils.pack_array(builder, shape),
                    strides=cgutils.pack_array(builder, strides), itemsize=size, meminfo=None,
                )  # fmt: skip
                number[0] += 1
                return array._getvalue()

            return make(sig.return_type)

        return whole(memory, places), code

    return cut


@intrinsic
def float32_at(typingctx: Any, address: Any, shape: Any) -> Any:
    """The float32 array (C-contiguous, borrowed) at an address."""
    whole = types.Array(types.float32, len(shape), "C")

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = context.make_array(whole)(context, builder)
        element = context.get_data_type(types.float32)
        size = context.get_constant(types.intp, 4)
        lengths = cgutils.unpack_tuple(builder, args[1])
        strides = [size]
        for length in lengths[:0:-1]:
            strides.insert(0, builder.mul(strides[0], length))
        arrayobj.populate_array(
            array, data=builder.inttoptr(args[0], ir.PointerType(element)),
            shape=cgutils.pack_array(builder, lengths),
            strides=cgutils.pack_array(builder, strides), itemsize=size, meminfo=None,
        )  # fmt: skip
        return array._getvalue()

    return whole(address, shape), code

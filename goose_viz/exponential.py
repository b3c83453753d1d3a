"""e^x for many numbers at once: what a compiler turns into vector instructions, unlike libm's.

x = k ln 2 + r with k whole and |r| <= ln 2 / 2; e^r by its series, 2^k by adding k to the exponent.
To 2.3e-16 relative for x from -700 to 0; below, it is 0.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from goose_viz.compiled import compiled

_LOG2_E = 1.4426950408889634
_LN_2_HIGH, _LN_2_LOW = 0.6931471803691238, 1.9082149292705877e-10
_WHOLE = 6755399441055744.0  # 1.5 * 2^52: added to a number, it leaves the nearest whole one


@intrinsic
def _bits(typingctx: Any, number: Any) -> Any:
    """The bits of a float64 as an int64."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), code


@intrinsic
def _number(typingctx: Any, bits: Any) -> Any:
    """The float64 of which these are the bits."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), code


@compiled
def exp_negative(x):  # type: ignore[no-untyped-def]
    """e^x for x up to 0."""
    there = x >= -700.0
    x = x if there else -700.0
    shifted = x * _LOG2_E + _WHOLE
    k = shifted - _WHOLE
    r = (x - k * _LN_2_HIGH) - k * _LN_2_LOW
    y = 1.0 / 6227020800.0
    y = y * r + 1.0 / 479001600.0
    y = y * r + 1.0 / 39916800.0
    y = y * r + 1.0 / 3628800.0
    y = y * r + 1.0 / 362880.0
    y = y * r + 1.0 / 40320.0
    y = y * r + 1.0 / 5040.0
    y = y * r + 1.0 / 720.0
    y = y * r + 1.0 / 120.0
    y = y * r + 1.0 / 24.0
    y = y * r + 1.0 / 6.0
    y = y * r + 0.5
    y = y * r + 1.0
    y = y * r + 1.0
    y = _number(_bits(y) + (_bits(shifted) << 52))
    return y if there else 0.0

"""The factor before a memory's removal, which no released model has: what files say of it."""

from __future__ import annotations

import contextlib
import math

from goose_viz.errors import CheckpointError

#: Its key in a safetensors file's metadata and in a config.json; behind ``rwkv7.`` in a GGUF.
KEY = "removal_scale"
_MOST = 2.0  # where nothing fades, 1 - c a is left along the removal key: beyond 2 it grows


def removal_scale(value: object, where: str) -> float:
    """The number that a file says.

    Parameters
    ----------
    value : object
    where : str
        What says it, for the message.

    Raises
    ------
    CheckpointError
        If it is no number from 0 to 2.
    """
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
    if not 0 <= number <= _MOST:
        raise CheckpointError(
            f"{where} says {KEY} {value!r}; expected a number from 0, for no removal, to 2, where "
            "what was there is turned round"
        )
    return number

"""How this package compiles: outside the GIL, kept on disk, fresh when any of its files changes."""

from __future__ import annotations

import functools
from typing import Any

from numba import njit

from goose_gpu.compile_cache import cached


def compiled(function: Any) -> Any:
    """Compile on first use.

    A product and the sum it goes into may be one instruction; nothing else is reordered, so the
    same weights and tokens give the same bits in every process.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    return cached(functools.partial(njit, **options), function)


def regrouped(function: Any) -> Any:
    """As `compiled`, but sums may be taken in another order: for those that nobody adds on to.

    The order is fixed when it is compiled; it may differ between processors.
    """
    flags = {"contract", "reassoc", "nsz"}
    options = {"nogil": True, "error_model": "numpy", "fastmath": flags}
    return cached(functools.partial(njit, **options), function)

"""How this package compiles: outside the GIL, kept on disk, fresh when any of its files changes."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from numba import njit


def compiled(function: Any) -> Any:
    """Compile on first use.

    A product and the sum it goes into may be one instruction; nothing else is reordered, so the
    same weights and tokens give the same bits in every process.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        dispatcher = njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to write to: compiled anew in every process
        return njit(**options)(function)
    # numba looks for changes in the function's own file only, not in those it takes from
    file = dispatcher._cache._cache_file
    file._source_stamp = _sources()
    # two processes that compile at once would write different code under one name
    name = file._data_name
    file._data_name = lambda number: f"{os.getpid()}-{name(number)}"
    return dispatcher


@functools.cache
def _sources() -> tuple[tuple[str, int, int], ...]:
    """When each file of this package was written, and its size."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return tuple((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files)

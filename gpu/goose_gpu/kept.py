"""What numba compiled stays on disk: of these sources only, whoever else compiles at the time."""

from __future__ import annotations

import contextlib
import functools
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any


def kept(compile_later: Callable[..., Any], function: Any) -> Any:
    """The dispatcher of a function, numba's ``cache=True`` mended in two places.

    numba looks for changes in the function's own file only, not in those it takes from; and it
    numbers the files of one function by an index that several processes write without a lock, so
    that one may fill a file with other code than another's index says.

    Parameters
    ----------
    compile_later : callable
        What numba's decorator returns but for ``cache``; nothing is compiled yet.
    function : function
        To be compiled.

    Source: numba.core.caching.IndexDataCacheFile.
    """
    try:
        dispatcher = compile_later(cache=True)(function)
    except RuntimeError:  # nowhere to write to: compiled anew in every process
        return compile_later()(function)
    file = dispatcher._cache._cache_file
    package = Path(function.__code__.co_filename).parent
    file._source_stamp = _stamp(package)
    _sweep(Path(file._cache_path), package)
    name = file._data_name
    file._data_name = lambda number: f"{uuid.uuid4().hex}-{name(number)}"  # one key's for ever
    return dispatcher


@functools.cache
def _stamp(package: Path) -> tuple[tuple[str, int, int], ...]:
    """When each file of a package was written, and its size."""
    files = sorted(package.glob("*.py"))
    return tuple((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files)


@functools.cache
def _sweep(folder: Path, package: Path) -> None:
    """Remove what was compiled before a package's sources changed: numba leaves it for ever."""
    newest = max(written for _, written, _ in _stamp(package))
    if newest > time.time_ns():  # a clock is wrong: everything would seem old
        return
    for path in folder.glob("*.nb[ci]"):
        with contextlib.suppress(OSError):  # another process was faster
            if path.stat().st_mtime_ns < newest:
                path.unlink()

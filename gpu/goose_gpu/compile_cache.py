"""What numba compiled stays on disk: of these sources only, whoever writes or dies at the time.

numba's own files are not for a program that people start twice at once and switch off: an index
that several processes write without a lock may name another's code, a file that a power cut left
half written ends every later start, and a change in an imported file goes unnoticed.  Here each
compiled function has a file of its own, named by all that it depends on, with a digest of its
content in front.  What cannot be read is as if it were not there.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import sys
import time
import uuid
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_DIGEST = hashlib.sha256().digest_size
_HERE = Path(__file__).parent  # `formats` and `planes` tell kernels of other packages what is where
_ABANDONED = 3600  # seconds after which a file that was never renamed has no writer any more


def cached(compile_later: Callable[..., Any], function: Any) -> Any:
    """The dispatcher of a function, its compiled code kept in files of our own.

    Parameters
    ----------
    compile_later : callable
        What numba's decorator returns but for ``cache``; nothing is compiled yet.
    function : function
        To be compiled.

    Source: numba.core.caching.Cache, which asks its file for no more than `_Files` has.
    """
    try:
        dispatcher = compile_later(cache=True)(function)
    except RuntimeError:  # nowhere to write to: compiled anew in every process
        return compile_later()(function)
    cache = dispatcher._cache
    package = Path(function.__code__.co_filename).parent
    folder = Path(cache.cache_path)
    _sweep(folder, package)
    cache._cache_file = _Files(
        folder, function, _stamp(package) + _stamp(_HERE), cache._cache_file._dump
    )
    cache.load_overload = _or_none(cache.load_overload, Exception)
    cache.save_overload = _or_none(cache.save_overload, OSError)  # a full disk, say
    return dispatcher


class _Files:
    """A file for each key: the types, the processor, what the function closes over."""

    def __init__(
        self, folder: Path, function: Any, stamp: object, dump: Callable[[Any], bytes]
    ) -> None:
        self._folder, self._dump = folder, dump
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        place = function.__module__, function.__qualname__, function.__code__.co_firstlineno
        self._circumstances = repr((place, stamp, _versions()))

    def path(self, key: Any) -> Path:
        """Where the code of a signature on a processor lies."""
        whole = f"{self._circumstances}\n{key}"
        return self._folder / f"{self._name}-{hashlib.sha256(whole.encode()).hexdigest()}.nbc"

    def load(self, key: Any) -> Any:
        """What was saved under a key; None if nothing whole was."""
        try:
            content = self.path(key).read_bytes()
        except OSError:
            return None
        data = content[_DIGEST:]
        if hashlib.sha256(data).digest() != content[:_DIGEST]:
            return None
        saved_under, value = pickle.loads(data)
        return value if saved_under == key else None

    def save(self, key: Any, value: Any) -> None:
        """Write a file that is there whole or not at all."""
        data = self._dump((key, value))
        path = self.path(key)
        temporary = path.with_name(f"{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(hashlib.sha256(data).digest() + data)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _or_none(method: Callable[..., Any], failure: type[Exception]) -> Callable[..., Any]:
    """The same method, answering None where it fails: a cache must never be what fails."""

    @functools.wraps(method)
    def tried(*args: Any) -> Any:
        try:
            return method(*args)
        except failure:
            return None

    return tried


@functools.cache
def _versions() -> tuple[str, ...]:
    """Of what compiles, and of the Python whose functions it compiles."""
    found = [sys.implementation.cache_tag or sys.version]
    for package in ("numba", "llvmlite", "numba-cuda"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return tuple(found)


@functools.cache
def _stamp(package: Path) -> tuple[tuple[str, int, int], ...]:
    """When each file of a package was written, and its size."""
    files = sorted(package.glob("*.py"))
    return tuple((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files)


@functools.cache
def _sweep(folder: Path, package: Path) -> None:
    """Remove what was compiled before a package's sources changed, and what nobody finished."""
    now = time.time_ns()
    newest = max(written for _, written, _ in _stamp(package))
    old = {".nbc": newest, ".nbi": newest, ".tmp": now - _ABANDONED * 10**9}
    if newest > now:  # a clock is wrong: everything would seem old
        return
    for path in folder.glob("*.*"):
        with contextlib.suppress(OSError):  # another process was faster
            if path.suffix in old and path.stat().st_mtime_ns < old[path.suffix]:
                path.unlink()

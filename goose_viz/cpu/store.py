"""Converted weights on disk, so that the second load of a file only reads.

They lie in the user's cache folder, under a name made of the file's identity (where it is, how
long, when written), the weight type and the layout's version.  ``GOOSE_VIZ_CACHE`` names another
folder, or is ``off``.  What was not used for longest goes when the folder grows beyond its bound.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import platformdirs

from goose_viz.checkpoint.folder import INDEX, shards
from goose_viz.convert import Progress

_VERSION = 3  # of `layout` and `convert`: a change in either makes old files useless
_MAGIC = b"goose-viz weights\n"
_HEADER = 4096  # bytes before the weights
_WORTH = 32 << 20  # bytes: smaller models are converted faster than anybody notices
_BOUND = 24 << 30  # bytes in the folder
_PIECE = 16 << 20  # bytes that one thread reads or writes at a time


def folder() -> Path | None:
    """Where converted weights lie, or None if nobody wants them kept."""
    chosen = os.environ.get("GOOSE_VIZ_CACHE", "")
    if chosen == "off":
        return None
    return Path(chosen) if chosen else platformdirs.user_cache_path("goose-viz") / "weights"


class Stored:
    """One model's converted weights, there or not yet.

    Parameters
    ----------
    source : Path
        The model's file or folder.
    dtype : str
        The weight type.
    nbytes : int
        Of the converted weights.
    """

    def __init__(self, source: Path, dtype: str, nbytes: int) -> None:
        self._nbytes = nbytes
        self._header = b""
        self.path: Path | None = None
        place = folder()
        if place is None or not _WORTH <= nbytes <= _BOUND:
            return
        with contextlib.suppress(OSError):
            of = identity(source)
            if not of:  # weights that lie in no file
                return
            facts = {"version": _VERSION, "dtype": dtype, "nbytes": nbytes, "of": of}
            words = json.dumps(facts, sort_keys=True)
            self._header = _MAGIC + hashlib.sha256(words.encode()).hexdigest().encode()
            self.path = place / f"{source.stem[:60]}-{dtype}-{self._header[-64:-48].decode()}.bin"

    def read(self, memory: mmap.mmap, threads: int, progress: Progress) -> bool:
        """Fill the memory; whether the weights were there, whole and of this very file."""
        if self.path is None:
            return False
        try:
            with self.path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if size != _HEADER + self._nbytes or not file.read(_HEADER).startswith(
                    self._header
                ):
                    return False
            self._copy(memory, threads, progress)
        except OSError:
            return False
        with contextlib.suppress(OSError):  # somebody else's cache is good for reading
            os.utime(self.path)  # used just now
        return True

    def _copy(self, memory: mmap.mmap, threads: int, progress: Progress) -> None:
        assert self.path is not None
        path, view, done = self.path, memoryview(memory), 0

        def read(start: int) -> int:
            with path.open("rb", buffering=0) as file:
                file.seek(_HEADER + start)
                piece = view[start : min(start + _PIECE, self._nbytes)]
                while piece:
                    count = file.readinto(piece)
                    if not count:
                        raise OSError("the file ends early")
                    piece = piece[count:]
            return min(_PIECE, self._nbytes - start)

        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(read, start) for start in range(0, self._nbytes, _PIECE)]
            try:
                for future in as_completed(futures):
                    done += future.result()
                    words = f"reading {done / 1e6:.0f} of {self._nbytes / 1e6:.0f} MB"
                    progress(done / self._nbytes, words)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def write(self, memory: mmap.mmap, progress: Progress) -> None:
        """Keep the weights for the next time, if there is room; a failure costs only that time."""
        if self.path is None:
            return
        place = self.path.parent
        temporary: Path | None = None
        try:
            place.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(place).free < 2 * self._nbytes + (1 << 30):
                return
            make_room(place, "*.bin", self._nbytes, _BOUND)
            handle, name = tempfile.mkstemp(dir=place, prefix=".", suffix=".part")
            temporary = Path(name)
            with os.fdopen(handle, "wb", buffering=0) as file, memoryview(memory) as view:
                file.write(self._header.ljust(_HEADER, b"\0"))
                for start in range(0, self._nbytes, _PIECE):
                    piece = view[start : min(start + _PIECE, self._nbytes)]
                    if file.write(piece) != len(piece):
                        raise OSError("the disk is full")
                    progress(start / self._nbytes, "keeping the converted weights for next time")
                os.fsync(file.fileno())  # a file of full length is taken for whole
            temporary.replace(self.path)
        except OSError:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
        except BaseException:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise


def identity(source: Path) -> list[tuple[str, int, int]]:
    """(path, bytes, time written) of all that a model is read from; nothing if it is no file."""
    if not source.exists():
        return []
    files = {source, *source.parent.glob("*.json")}
    if source.name.endswith(INDEX):
        files |= set(shards(source))
    found = []
    for file in sorted(files):
        facts = file.stat()
        found.append((str(file.resolve()), facts.st_size, facts.st_mtime_ns))
    return found


def make_room(place: Path, pattern: str, nbytes: int, bound: int) -> None:
    """Delete what was used longest ago until so many bytes fit under a bound."""
    files = sorted(place.glob(pattern), key=lambda f: f.stat().st_mtime)
    for half in place.glob(".*.part"):
        if time.time() - half.stat().st_mtime > 86400:  # its writer was killed
            files.insert(0, half)
    total = sum(f.stat().st_size for f in files)
    for file in files:
        if total + nbytes <= bound:
            return
        total -= file.stat().st_size
        file.unlink(missing_ok=True)

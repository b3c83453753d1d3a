"""One damaged file at a time: what came of it, in time and in memory."""

from __future__ import annotations

import random
import signal
import traceback
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from goose_viz.errors import GooseError

from . import readers
from .readers import Reader

SECONDS = 2.0  # of the processor; more is a hang
WAITING = 20.0  # seconds by the clock, for what waits; a busy machine is slow too
MORE = 4  # times the file that reading may take
COUNTED = 8  # of so many inputs the memory of one is counted, which makes it three times as slow
ROOM = 16 << 20  # bytes that are taken whatever the file: a model of its shapes, Python's own


class Hang(BaseException):
    """It took too long."""


class Fuzzer:
    """Damages a reader's files and reads them.

    Parameters
    ----------
    reader : Reader
    folder : Path
        Where its files lie.
    seed : int
    """

    def __init__(self, reader: Reader, folder: Path, seed: int = 0) -> None:
        readers._home[:] = [folder]
        readers.prepare(folder)
        self.reader, self._seed = reader, seed
        self._seeds = reader.seeds(folder)
        self.path = folder / reader.name.replace("/", "-").replace(" ", "-") / reader.file
        self.path.parent.mkdir(exist_ok=True)
        for whole in self._seeds:  # what is whole is read
            self.path.write_bytes(whole)
            reader.read(self.path)

    def input(self, k: int) -> bytes:
        """The k-th damaged file."""
        name = zlib.crc32(self.reader.name.encode())
        rng = random.Random(f"{self._seed} {name} {k}")
        damaged = self.reader.damage(rng, rng.choice(self._seeds))
        while rng.random() < 0.1:
            try:
                damaged = self.reader.damage(rng, damaged)
            except Exception:  # what is no container any more is damaged no further
                break
        return damaged

    def fault(self, k: int) -> str:
        """What is wrong with how the k-th is read, in words; empty if nothing."""
        content = self.input(k)
        self.path.write_bytes(content)
        counted = k % COUNTED == 0
        if counted:
            tracemalloc.start()
        try:
            with _alarm(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.reader.read(self.path)
        except GooseError as error:
            if not str(error).strip() or "\n" in str(error).strip():
                return f"not one sentence: {str(error)!r}"
        except Hang:
            return f"took more than {SECONDS} s\n{traceback.format_exc(limit=-4)}"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
        finally:
            peak = tracemalloc.get_traced_memory()[1] if counted else 0
            tracemalloc.stop()
        if peak > MORE * len(content) + ROOM:
            return f"took {peak / 2**20:.0f} MiB for a file of {len(content)} bytes"
        return ""


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Hang

    both = (
        (signal.SIGPROF, signal.ITIMER_PROF, SECONDS),
        (signal.SIGALRM, signal.ITIMER_REAL, WAITING),
    )
    former = [signal.signal(number, ring) for number, _, _ in both]
    for _, timer, seconds in both:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(both, former, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)

"""Where kernels are sent: a stream of a card, and the sizes that grids are cut to."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from numba import cuda

from goose_gpu.compile_cache import cached
from goose_gpu.lanes import LANES, SIMULATOR

#: Threads of a block that shares one vector: 10 warps (four threads under the simulator).
THREADS = 4 if SIMULATOR else 320
WARPS = THREADS // LANES


def cover(n: int, size: int) -> int:
    """How many pieces of a size cover n."""
    return -(-n // size)


def padded(n: int, multiple: int) -> int:
    """N, or the next multiple above it."""
    return cover(n, multiple) * multiple


class Queue:
    """A stream of a card.

    Parameters
    ----------
    stream : stream
        numba's or cuda.core's.
    multiprocessors : int
        Of the card: grids that loop are cut to twice as many blocks.
    """

    def __init__(self, stream: Any = 0, multiprocessors: int = 2) -> None:
        self.stream = stream
        self.multiprocessors = multiprocessors
        self.launches = 0
        self._configured: dict[Any, Any] = {}

    def launch(self, kernel: Any, grid: Any, block: int, *args: Any, shared: int = 0) -> None:
        """Send a kernel: grid of blocks, threads a block, bytes of dynamic shared memory."""
        key = kernel, grid, block, shared
        configured = self._configured.get(key)
        if configured is None or SIMULATOR:  # there a kernel has one configuration at a time
            with warnings.catch_warnings():  # a head a block is few blocks, and meant
                warnings.filterwarnings("ignore", message=".*Grid size")  # behind colour codes
                configured = kernel[grid, block, self.stream, shared]
            self._configured[key] = configured
        with _simulated(grid, block, shared) if SIMULATOR else contextlib.nullcontext():
            configured(*args)
        self.launches += 1

    def tile(self, rows: int) -> int:
        """Rows a block takes, so that two blocks a multiprocessor share them evenly."""
        return WARPS * cover(rows, WARPS * 2 * self.multiprocessors)


def kernel(threads: int, blocks: int = 1) -> Any:
    """Compile a function on its first use for the card it is used on; keep the result on disk.

    The registers are held to what so many threads a block and blocks a multiprocessor leave.
    """
    if SIMULATOR:
        return cuda.jit

    return functools.partial(cached, functools.partial(cuda.jit, launch_bounds=(threads, blocks)))


@contextlib.contextmanager
def _simulated(grid: Any, block: int, shared: int) -> Iterator[None]:
    """Give the simulator's ``cuda`` to all of this package for the time of a launch.

    numba's own way is to exchange it around every call of a device function, which the threads of
    a block take from under each other when it lies in another module than the kernel.
    """
    from numba.cuda.simulator.kernelapi import FakeCUDAModule

    sizes = (*(grid if isinstance(grid, tuple) else (grid,)), 1, 1)[:3]
    fake = FakeCUDAModule(sizes, (block, 1, 1), shared)
    modules = [
        m for n, m in list(sys.modules.items())
        if n.startswith("goose_gpu.") and getattr(m, "cuda", None) is cuda and n != __name__
    ]  # fmt: skip
    for module in modules:
        module.cuda = fake  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in modules:
            module.cuda = cuda  # type: ignore[attr-defined]

"""From a kernel to PTX and to machine code, without a card or a driver."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
from numba import cuda
from numba.cuda import dispatcher, types

from tests.gpu.ptx_cache import cached

ARCHITECTURES = ((7, 5), (8, 0), (9, 0), (10, 0), (12, 0))


def signature(*args):
    """The types that a launch with these arguments would compile for."""

    def one(a):
        if isinstance(a, np.ndarray):
            return types.Array(from_dtype[a.dtype], a.ndim, "C")
        return types.float32 if isinstance(a, np.float32) else types.int64

    names = ("float32", "float64", "uint16", "int16", "int8", "uint8", "int32", "int64")
    from_dtype = {np.dtype(n): getattr(types, n) for n in names}
    return types.void(*(one(a) for a in args))


def ptx_of(kernel, args, cc=(9, 0)):
    """What the compiler makes of a kernel launched with these arguments."""
    bounds = kernel.targetoptions["launch_bounds"]

    def compile_now():
        card = SimpleNamespace(compute_capability=cc)  # device functions ask the driver for it
        with patch.object(dispatcher, "get_current_device", lambda: card):
            text, _ = cuda.compile(
                kernel.py_func, signature(*args), cc=cc, output="ptx", device=False, abi="numba",
                launch_bounds=bounds,
            )  # fmt: skip
        return text

    return cached(kernel, signature(*args), cc, bounds, compile_now=compile_now)


@dataclass(frozen=True)
class Usage:
    """What the linker's log says of a kernel."""

    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int


def assemble(ptx: str, cc) -> tuple[bytes, Usage]:
    """Machine code of PTX for an architecture, and what it takes."""
    from cuda.bindings import nvjitlink

    options = [f"-arch=sm_{cc[0]}{cc[1]}", "-verbose"]
    handle = nvjitlink.create(len(options), options)
    try:
        data = ptx.encode() + b"\0"
        nvjitlink.add_data(handle, nvjitlink.InputType.PTX, data, len(data), "kernel")
        nvjitlink.complete(handle)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, cubin)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    finally:
        nvjitlink.destroy(handle)
    words = log.decode(errors="replace")
    find = lambda p: int(m[1]) if (m := re.search(p, words)) else 0  # noqa: E731
    usage = Usage(
        find(r"Used (\d+) registers"),
        find(r"(\d+) bytes stack frame"),
        find(r"(\d+) bytes spill stores"),
        find(r"(\d+) bytes spill loads"),
        find(r"(\d+) bytes smem"),
    )
    assert usage.registers, words
    return bytes(cubin), usage

"""PTX on disk, shared by the workers of a test run and by its stages: a kernel is compiled once.

A key is everything that the text depends on, so nothing here ever grows stale: the sources of the
whole package by content, the function with what it closes over, the argument types, the
architecture, the compiler's versions.
"""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

import goose_gpu

FOLDER = Path(__file__).parents[2] / ".pytest_cache" / "ptx"
_COMPILER = ("numba", "llvmlite", "numba-cuda", "cuda-bindings", "nvidia-nvvm", "nvidia-cuda-nvcc")


@functools.cache
def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(goose_gpu.__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    for package in _COMPILER:
        try:
            digest.update(f"{package} {version(package)}".encode())
        except ModuleNotFoundError:  # which of them carries the compiler depends on the toolkit
            continue
    return digest.hexdigest()


def _identity(thing) -> str:
    """A function by its name and by what it closes over; anything else by its repr."""
    function = getattr(thing, "py_func", thing)
    if not hasattr(function, "__code__"):
        return repr(thing)
    held = ",".join(_identity(c.cell_contents) for c in function.__closure__ or ())
    return (
        f"{function.__module__}.{function.__qualname__}:{function.__code__.co_firstlineno}({held})"
    )


def cached(kernel, *parts, compile_now) -> str:
    """The PTX of a kernel under these circumstances, compiled if nobody did before."""
    key = "\n".join([_sources(), _identity(kernel), *map(str, parts)])
    path = FOLDER / f"{hashlib.sha256(key.encode()).hexdigest()}.ptx"
    try:
        return path.read_text()
    except OSError:
        text = compile_now()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=FOLDER, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)  # whole or not at all: another worker may be reading
    return text

"""Compiled code on disk: whatever happens to it, or to who writes it, the next start works."""

from __future__ import annotations

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from numba import njit

from goose_gpu.compile_cache import _stamp, _sweep, cached

SOURCE = """
def twice(x):
    return 2 * x


def thrice(x):
    return 3 * x
"""


def _forget():
    """As in another process."""
    _stamp.cache_clear()
    _sweep.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of its own, whose cache is its own; it can be imported, as any other."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "other.py").write_text("def two():\n    return 2\n")
    path = package / "function.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("function", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "function", module)
    spec.loader.exec_module(module)
    return module


def files(package):
    return sorted(Path(package.__file__).parent.rglob("*.nbc"))


def test_the_next_process_compiles_nothing(package):
    cached(partial(njit), package.twice)(1)
    again = cached(partial(njit), package.twice)
    assert again(3) == 6
    assert not again.stats.cache_misses
    assert again(2.5) == 5  # other types are another file
    assert len(files(package)) == 2


@pytest.mark.parametrize("damage", [b"", b"half", b"begin", b"other", b"gone", b"folder"])
def test_damaged_files_are_compiled_again_and_replaced(package, damage):
    cached(partial(njit), package.twice)(1)
    (path,) = files(package)
    whole = path.read_bytes()
    if damage == b"half":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == b"begin":
        path.write_bytes(bytes(len(whole)))
    elif damage == b"other":  # one bit of the code
        path.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    elif damage in (b"gone", b"folder"):
        path.unlink()
        if damage == b"folder":
            path.mkdir()
    else:
        path.write_bytes(b"")
    again = cached(partial(njit), package.twice)
    assert again(4) == 8
    assert again.stats.cache_misses
    if damage != b"folder":  # which nothing can replace, nor needs to
        third = cached(partial(njit), package.twice)
        assert third(5) == 10
        assert third.stats.cache_hits


def test_what_unpickles_to_nonsense_is_compiled_again(package):
    first = cached(partial(njit), package.twice)
    first(1)
    (path,) = files(package)
    cache = first._cache
    key = cache._index_key(first.signatures[0], first.targetctx.codegen())
    cache._cache_file.save(key, ("a value", "of another version"))
    assert path.stat().st_size < 2000
    again = cached(partial(njit), package.twice)
    assert again(4) == 8


def test_functions_of_one_shape_do_not_meet(package):
    assert cached(partial(njit), package.twice)(7) == 14
    assert cached(partial(njit), package.thrice)(7) == 21
    assert cached(partial(njit), package.thrice)(8) == 24


def test_a_full_disk_costs_only_the_keeping(package, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert cached(partial(njit), package.twice)(2) == 4
    assert not files(package)


def test_a_change_beside_it_makes_it_stale(package):
    cached(partial(njit), package.twice)(1)
    _forget()
    again = cached(partial(njit), package.twice)
    again(1)
    assert again.stats.cache_hits
    (old,) = files(package)
    other = Path(package.__file__).parent / "other.py"
    os.utime(old, ns=(10**18, 10**18))
    os.utime(other, ns=(10**18 + 1, 10**18 + 1))
    _forget()
    stale = cached(partial(njit), package.twice)
    assert not old.exists()
    stale(1)
    assert stale.stats.cache_misses


def test_a_clock_that_is_wrong_sweeps_nothing(package):
    cached(partial(njit), package.twice)(1)
    (file,) = files(package)
    os.utime(Path(package.__file__).parent / "other.py", (2**33, 2**33))
    _forget()
    cached(partial(njit), package.twice)
    assert file.exists()


def test_nowhere_to_keep_it(package):
    def nowhere(**options):
        if options.get("cache"):
            return lambda function: (_ for _ in ()).throw(RuntimeError("no locator available"))
        return njit(**options)

    assert cached(nowhere, package.twice)(3) == 6


START = """
import sys; sys.path.insert(0, {folder!r})
import function
import numpy as np
from functools import partial
from numba import njit
from goose_gpu.compile_cache import cached
print("begin", flush=True)
for x in (1, 1.5, 1j, True, np.uint64(1), np.float32(1), np.int8(1), np.ones(3)):
    for f in (function.twice, function.thrice):
        assert np.all(cached(partial(njit), f)(x) == f(x))
print("done", flush=True)
"""


def test_kill_at_any_moment_of_a_first_start(package):
    """Then start again: `kill -9` leaves nothing that a later start stumbles over."""
    code = START.format(folder=str(Path(package.__file__).parent))
    rng = random.Random(1)
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "begin\n"
        time.sleep(rng.random() * 1.0)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "begin\ndone\n"
    assert len(files(package)) == 16

"""Compiled code on disk."""

from __future__ import annotations

import importlib.util
import os
from functools import partial

import pytest
from numba import njit

from goose_gpu.kept import _stamp, _sweep, kept


def _forget():
    """As in another process."""
    _stamp.cache_clear()
    _sweep.cache_clear()


@pytest.fixture
def function(tmp_path):
    """A function in a package of its own, whose cache is its own."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "other.py").write_text("def two():\n    return 2\n")
    path = package / "function.py"
    path.write_text("def twice(x):\n    return 2 * x\n")
    spec = importlib.util.spec_from_file_location("function", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.twice


def test_no_process_fills_the_file_of_anothers_index(function):
    ours, theirs = (kept(partial(njit), function) for _ in range(2))
    file = ours._cache._cache_file
    ours(1)
    index = file._load_index()
    file._save_index({})  # another process that had read the index before ours was written
    ours(1.5)
    file._save_index(index)  # and a third that had read it after
    assert theirs(2**60) == 2**61  # a float's would round
    assert isinstance(theirs(1), int)
    assert not theirs.stats.cache_misses


def test_a_change_beside_it_makes_it_stale(function, tmp_path):
    kept(partial(njit), function)(1)
    _forget()
    again = kept(partial(njit), function)
    again(1)
    assert again.stats.cache_hits
    (old,) = (tmp_path / "package").rglob("*.nbc")
    other = tmp_path / "package" / "other.py"
    os.utime(old, ns=(10**18, 10**18))
    os.utime(other, ns=(10**18 + 1, 10**18 + 1))
    _forget()
    stale = kept(partial(njit), function)
    assert not old.exists()
    stale(1)
    assert stale.stats.cache_misses


def test_a_clock_that_is_wrong_sweeps_nothing(function, tmp_path):
    kept(partial(njit), function)(1)
    (file,) = (tmp_path / "package").rglob("*.nbc")
    os.utime(tmp_path / "package" / "other.py", (2**33, 2**33))
    _forget()
    kept(partial(njit), function)
    assert file.exists()


def test_nowhere_to_keep_it(function, monkeypatch):
    def nowhere(**options):
        if options.get("cache"):
            return lambda function: (_ for _ in ()).throw(RuntimeError("no locator available"))
        return njit(**options)

    assert kept(nowhere, function)(3) == 6

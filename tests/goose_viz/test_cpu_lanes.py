"""The CPU's inner loops, at widths that fill their sixteen lanes and at such that do not."""

import numba
import numpy as np
import pytest

from goose_viz.checkpoint.tensor import Tensor
from goose_viz.convert import convert, quantise
from goose_viz.cpu.arithmetic import add_rows
from goose_viz.cpu.lanes import dot_ahead, index_of, sum_rows

WIDTHS = (1, 5, 16, 40, 64, 100, 200)


@numba.njit
def dot(weights, at, x, start, n):
    return dot_ahead(weights, at, x, start, n, weights.size)


@numba.njit
def sums(weights, at, count, x, start, out, to, n, others, last):
    return sum_rows(weights, at, count, x, start, out, to, n, weights.size, others, 0, last)


@numba.njit
def distance(weights, array, at):
    return index_of(weights, array, at)


def stored(rows, dtype):
    """(as it is stored, the numbers that this means, scales apart)."""
    if dtype == "int8":
        numbers, _ = quantise(rows)
        return numbers, numbers.astype(np.float32)
    bits = convert(Tensor(rows, "fp32"), dtype)
    if dtype == "bf16":
        return bits, (bits.astype(np.uint32) << 16).view(np.float32)
    return bits, bits.view({"fp32": np.float32, "fp16": np.float16}[dtype]).astype(np.float32)


@pytest.fixture(params=["fp32", "bf16", "fp16", "int8"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("n", WIDTHS)
def test_dot(dtype, n):
    rng = np.random.default_rng(n)
    weights, numbers = stored(rng.standard_normal((3, n)).astype(np.float32), dtype)
    x = rng.standard_normal(n + 2).astype(np.float32)
    for row in range(3):
        expected = numbers[row].astype(np.float64) @ x[2:]
        size = np.abs(numbers[row].astype(np.float64)) @ np.abs(x[2:])
        assert abs(dot(weights, row * n, x, 2, n) - expected) <= 1e-6 * size


@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("count", [0, 1, 7])
def test_sums_over_rows(dtype, n, count):
    rng = np.random.default_rng(n)
    weights, numbers = stored(rng.standard_normal((9, n)).astype(np.float32), dtype)
    x = rng.standard_normal(12).astype(np.float32)
    out = np.full(n + 4, 7, np.float32)
    others = np.zeros(100, np.float32)
    asked = sums(weights, 2 * n, count, x, 3, out, 3, n, others, 100)
    rows = numbers[2 : 2 + count].astype(np.float64)
    factors = x[3 : 3 + count, None]
    size = (np.abs(rows) * np.abs(factors)).sum(0) + 1e-9
    assert (np.abs(out[3:-1] - (rows * factors).sum(0)) <= 1e-6 * size).all()
    assert (out[[0, 1, 2, -1]] == 7).all()
    assert 0 <= asked < 100 + 16


@pytest.mark.parametrize("n", WIDTHS)
@pytest.mark.parametrize("count", [0, 3, 4, 11])
def test_rows_that_are_added(dtype, n, count):
    rng = np.random.default_rng(n)
    weights, numbers = stored(rng.standard_normal((30, n)).astype(np.float32), dtype)
    wanted = np.sort(rng.permutation(30)[:count])
    factors = rng.standard_normal(count).astype(np.float32)
    before = rng.standard_normal((2, n)).astype(np.float32)
    out = before.copy()
    add_rows(weights, wanted, factors, count, n, out, n, 0, n)
    rows = numbers[wanted].astype(np.float64) * factors[:, None]
    size = np.abs(rows).sum(0) + np.abs(before[1])
    assert (np.abs(out[1] - before[1] - rows.sum(0)) <= 1e-6 * size).all()
    assert (out[0] == before[0]).all()


def test_an_index_across_arrays(dtype):
    weights, _ = stored(np.ones((4, 64), np.float32), dtype)
    array = np.zeros(64, np.float32)
    bytes_apart = array.ctypes.data + 4 * 8 - weights.ctypes.data
    assert distance(weights, array, 8) == bytes_apart // weights.itemsize

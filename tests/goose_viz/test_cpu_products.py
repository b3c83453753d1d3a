"""Products of many rounded vectors with whole numbers, against exact arithmetic."""

import numpy as np
import pytest

from goose_gpu.formats import FORMATS
from goose_viz.convert import quantise
from goose_viz.cpu import products
from goose_viz.cpu.tickets import COUNTERS, NEXT
from goose_viz.four_bits import as_blocks, quantise_groups, widened


def run(kernel, pieces, *arguments):
    counters = np.zeros(COUNTERS, np.int64)
    kernel(counters, int(counters[NEXT]) + pieces, pieces, *arguments)


def rounded(rng, T, n):
    """(whole (T, width), unit (T,)): vectors with zeros behind them, as many as blocks want."""
    whole = np.zeros((T, FORMATS["int4"].padded(n + 1)), np.int16)
    whole[:, :n] = rng.integers(-20000, 20000, (T, n))
    return whole, (0.001 * rng.random(T) + 0.001).astype(np.float32)


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("T", [1, 4, 11])
@pytest.mark.parametrize(
    ("rows", "n", "pieces"),
    [(5, 8, 1), (70, 40, 3), (16, 96, 9), (37, 700, 2), (333, 41, 1), (9, 15, 1)],
)
def test_rows(kind, T, rows, n, pieces):
    rng = np.random.default_rng(rows + T)
    numbers = rng.standard_normal((rows + 3, n)).astype(np.float32)
    if kind == "int4":
        fours = quantise_groups(numbers)
        weights, scales, wide = as_blocks(*fours), np.ones(rows + 3, np.float32), widened(*fours, n)
    else:
        weights, scales = quantise(numbers)
        wide = weights * scales[:, None].astype(np.float64)
    whole, unit = rounded(rng, T, n)
    out = np.full((T, rows + 4), 7, np.float32)
    run(
        products.rows_times, pieces, weights, scales, 2, rows, n, whole, unit, out.reshape(-1), 3,
        rows + 4,
    )  # fmt: skip
    x = whole[:, :n] * unit[:, None].astype(np.float64)
    exact, size = x @ wide[2 : 2 + rows].T, np.abs(x) @ np.abs(wide[2 : 2 + rows]).T
    assert (np.abs(out[:, 3 : 3 + rows] - exact) <= 1e-6 * size).all()
    assert (out[:, [0, 1, 2, rows + 3]] == 7).all()


@pytest.mark.parametrize("T", [1, 4, 11])
@pytest.mark.parametrize(
    ("inputs", "D", "pieces"), [(7, 5, 1), (64, 70, 3), (301, 16, 9), (40, 96, 2), (24, 333, 1)]
)
def test_columns(T, inputs, D, pieces):
    rng = np.random.default_rng(inputs + T)
    weights = rng.integers(-127, 128, (inputs + 3, D)).astype(np.int8)
    whole, unit = rounded(rng, T, inputs)
    before = rng.standard_normal((T, D)).astype(np.float32)
    out = before.copy()
    run(products.columns_times, pieces, weights, 2, inputs, D, whole, unit, out)
    x = whole[:, :inputs] * unit[:, None].astype(np.float64)
    rows = weights[2 : 2 + inputs].astype(np.float64)
    size = np.abs(before) + np.abs(x) @ np.abs(rows)
    assert (np.abs(out - (before + x @ rows)) <= 1e-6 * size).all()


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("n", [1, 40, 301])
def test_shorten(squared, n):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((3, n)).astype(np.float32)
    x[1] = 0
    scales = rng.random(n + 2).astype(np.float32)
    expected = (np.maximum(x, 0).astype(np.float64) ** 2 if squared else x) * scales[2:]
    whole = np.full((3, FORMATS["int4"].padded(n + 1)), 9, np.int16)
    unit = np.zeros(3, np.float32)
    run(products.shorten, 2, x.copy(), scales, 2, squared, whole, unit)
    found = whole[:, :n] * unit[:, None].astype(np.float64)
    assert (np.abs(found - expected) <= 0.501 * unit[:, None]).all()
    assert (unit[[0, 2]] <= 1.001 * np.abs(expected[[0, 2]]).max(1) / 32767 + 1e-30).all()
    assert (whole[:, n:][:, : n % 2] == 0).all()  # an odd one's partner


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_has_no_number(bad):
    """It spoils what comes of it, and of no other."""
    x = np.ones((6, 40), np.float32)
    x[2, 33] = bad
    whole, unit = np.zeros((6, 256), np.int16), np.zeros(6, np.float32)
    run(products.shorten, 1, x, np.ones(40, np.float32), 0, False, whole, unit)
    weights, out = np.ones((40, 32), np.int8), np.zeros((6, 32), np.float32)
    run(products.columns_times, 1, weights, 0, 40, 32, whole, unit, out)
    assert not np.isfinite(out[2]).any()
    np.testing.assert_allclose(np.delete(out, 2, 0), 40, rtol=1e-4)


@pytest.mark.parametrize("n", [4096, 9000])
def test_no_sum_overflows(n):
    x, T = np.full((5, n), 3.0, np.float32), 5
    whole, unit = np.zeros((T, FORMATS["int4"].padded(n)), np.int16), np.zeros(T, np.float32)
    run(products.shorten, 1, x, np.ones(n, np.float32), 0, False, whole, unit)
    weights, out = np.full((16, n), -127, np.int8), np.zeros((T, 16), np.float32)
    run(
        products.rows_times, 1, weights, np.ones(16, np.float32), 0, 16, n, whole, unit,
        out.reshape(-1), 0, 16,
    )  # fmt: skip
    np.testing.assert_allclose(out, -127 * 3.0 * n, rtol=1e-4)

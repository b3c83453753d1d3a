"""The CPU's inner loops, at widths that fill their sixteen lanes and at such that do not."""

import numba
import numpy as np
import pytest

from goose_gpu.formats import FORMATS
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.convert import convert, quantise
from goose_viz.cpu import integers
from goose_viz.cpu import rows as rows_module
from goose_viz.cpu.arithmetic import add_rows, meet, product
from goose_viz.cpu.lanes import index_of, sum_rows, widen_row
from goose_viz.cpu.layout import Met
from goose_viz.four_bits import as_blocks, from_blocks, quantise_groups, widened

WIDTHS = (1, 5, 16, 40, 64, 100, 200)


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


@numba.njit
def widen(weights, at, out):
    widen_row(weights, at, np.float32(1), out.shape[1], out, out.shape[1])


@pytest.fixture(params=["fp32", "bf16", "fp16", "int8"])
def dtype(request):
    return request.param


def met_with(x):
    """Vectors (n, width) as `product` wants them."""
    room = FORMATS["int4"].padded(x.shape[1])
    whole, ahead = np.zeros((len(x), room), np.int16), np.array([1024, 16384])
    return Met(x, whole, np.ones(len(x), np.float32), ahead)


@numba.njit
def times(weights, scales, first, rows, at, met, c, out):
    meet(met, c, weights)
    product(weights, scales, first, rows, at, 0, met, c, 1, out)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("n", [*WIDTHS, 256, 700])
def test_rows_times_a_vector(kind, n):
    rng = np.random.default_rng(n)
    rows = rng.standard_normal((9, n)).astype(np.float32)
    scales = np.ones(9, np.float32)
    if kind == "int4":
        fours = quantise_groups(rows)
        weights, numbers = as_blocks(*fours), widened(*fours, n)
    elif kind == "int8":
        weights, scales = quantise(rows)
        numbers = weights * scales[:, None]
    else:
        weights, numbers = stored(rows, kind)
    x = rng.standard_normal((2, n)).astype(np.float32)
    out = np.full(12, 7, np.float32)
    met = met_with(x)
    times(weights, scales, 1, 7, 2, met, 1, out)
    used = x[1]
    if FORMATS[kind].whole:  # the vector was rounded, and nothing else
        used = met.whole[1, :n] * met.unit[1].astype(np.float64)
        assert met.unit[1] <= 1.001 * np.abs(x[1]).max() / 32767
        assert (np.abs(used - x[1]) <= 0.501 * met.unit[1]).all()
    exact = numbers[1:8].astype(np.float64) @ used
    size = np.abs(numbers[1:8].astype(np.float64)) @ np.abs(x[1])
    assert (np.abs(out[2:9] - exact) <= 1e-6 * size).all()
    assert (out[[0, 1, 9, 10, 11]] == 7).all()
    alone = np.empty(1, np.float32)
    for i in range(7):  # a row of four is what it is alone
        times(weights, scales, 1 + i, 1, 0, met_with(x), 1, alone)
        assert alone[0] == out[2 + i]


@pytest.mark.parametrize("n", [4096, 9000])
def test_whole_numbers_do_not_overflow(n):
    weights, scales = np.full((4, n), -127, np.int8), np.ones(4, np.float32)
    x = np.full((1, n), 3.0, np.float32)
    out = np.empty(4, np.float32)
    times(weights, scales, 0, 4, 0, met_with(x), 0, out)
    np.testing.assert_allclose(out, -127 * 3.0 * n, rtol=1e-4)


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_whole_numbers_pass_on_what_is_none(kind, bad):
    rows = np.ones((4, 40), np.float32)
    weights = as_blocks(*quantise_groups(rows)) if kind == "int4" else quantise(rows)[0]
    x = np.ones((1, 40), np.float32)
    x[0, 33] = bad
    out = np.zeros(4, np.float32)
    times(weights, np.ones(4, np.float32), 0, 4, 0, met_with(x), 0, out)
    assert not np.isfinite(out).any()
    x[:] = 0
    times(weights, np.ones(4, np.float32), 0, 4, 0, met_with(x), 0, out)
    assert (out == 0).all()


@pytest.mark.parametrize("width", [1, 32, 100, 256, 768])
def test_four_bits(width):
    rows = np.random.default_rng(width).standard_normal((40, width)).astype(np.float32)
    rows[3], rows[4], rows[5] = 0, 1e-30, 1e9
    numbers, scales = quantise_groups(rows)
    blocks = as_blocks(numbers, scales)
    kind = FORMATS["int4"]
    assert blocks.shape == (40, kind.stride(width))
    for found, expected in zip(from_blocks(blocks), (numbers, scales), strict=True):
        np.testing.assert_array_equal(found, expected)
    wide = widened(numbers, scales, width)
    regular = [i for i in range(40) if i != 5]  # that one is beyond float16
    off = np.abs(wide - rows)[regular]
    assert np.isfinite(wide).all()
    assert (off[:3] <= np.abs(rows[:3]).max() / 7).all()


def test_a_row_widened(dtype):
    rows = np.random.default_rng(1).standard_normal((4, 50)).astype(np.float32)
    weights, numbers = stored(rows, dtype)
    out = np.full((2, 50), 7, np.float32)
    widen(weights, 2 * 50, out)
    np.testing.assert_array_equal(out[1], numbers[2])
    assert (out[0] == 7).all()


def test_four_bits_leave_least():
    rows = np.random.default_rng(0).standard_normal((400, 256)).astype(np.float32)
    numbers, scales = quantise_groups(rows)
    left = ((widened(numbers, scales, 256) - rows) ** 2).mean()
    largest = np.abs(rows.reshape(-1, 32)).max(1, keepdims=True)
    plain = np.rint(rows.reshape(-1, 32) / largest * 7) * largest / 7
    usual = ((plain - rows.reshape(-1, 32)) ** 2).mean()
    assert left < 0.75 * usual
    again, same = quantise_groups(widened(numbers, scales, 256))
    np.testing.assert_allclose(widened(again, same, 256), widened(numbers, scales, 256), atol=1e-3)


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
    room = np.append(wanted, [0, 0, 0]), np.append(factors, np.zeros(3, np.float32))
    add_rows(weights, *room, count, n, out, n, 0, n)
    rows = numbers[wanted].astype(np.float64) * factors[:, None]
    size = np.abs(rows).sum(0) + np.abs(before[1])
    assert (np.abs(out[1] - before[1] - rows.sum(0)) <= 1e-6 * size).all()
    assert (out[0] == before[0]).all()


def test_an_index_across_arrays(dtype):
    weights, _ = stored(np.ones((4, 64), np.float32), dtype)
    array = np.zeros(64, np.float32)
    bytes_apart = array.ctypes.data + 4 * 8 - weights.ctypes.data
    assert distance(weights, array, 8) == bytes_apart // weights.itemsize


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_pairs_without_an_instruction_for_them(kind, monkeypatch):
    """What other processors compute is the same, bit for bit."""
    rng = np.random.default_rng(3)
    rows, x = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 300), (1, 300)))
    scales = np.ones(4, np.float32)
    if kind == "int4":
        weights = as_blocks(*quantise_groups(rows))
    else:
        weights, scales = quantise(rows)
    met, usual, plain = met_with(x), np.empty(4, np.float32), np.empty(4, np.float32)
    times(weights, scales, 0, 4, 0, met, 0, usual)
    monkeypatch.setattr(integers, "_AVX2", False)
    four = numba.extending.intrinsic(rows_module._times(4, 1))

    @numba.njit
    def without(weights, scales, met, out):
        four(weights, scales, 0, met, 0, out, 0, 0)

    without(weights, scales, met, plain)
    np.testing.assert_array_equal(plain, usual)

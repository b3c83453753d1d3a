"""Every kernel against plain NumPy: in the simulator, and as compiled code in the PTX machine."""

from itertools import pairwise, product

import numpy as np
import pytest

from tests.gpu import backends
from tests.gpu.backends import SIMULATOR, open_card

#: sm_75 runs the text of sm_90: `test_assembled.test_architectures_of_one_dialect`.
BACKENDS = backends.backends("simulator", "sm_90", "sm_120")

if BACKENDS:
    from goose_gpu import (
        candidates,
        channelmix,
        matmul,
        matvec,
        prompt,
        ranking,
        recurrence,
        timemix,
        vocabulary,
    )
    from goose_gpu.formats import FORMATS, format_name
    from goose_gpu.launch import padded
    from goose_viz.four_bits import as_blocks, widened

pytestmark = pytest.mark.skipif(not BACKENDS, reason="neither numba-cuda nor its simulator is here")

EPS, GN_EPS = np.float32(1e-5), np.float32(64e-5)
#: (heads, head size, ffn, ranks): the plain one and an odd one; heads of 64 where that is cheap.
SHAPES = {"plain": (2, 8, 32, (8, 8, 8, 8)), "odd": (3, 8, 37, (5, 3, 9, 13))}
if not SIMULATOR:
    SHAPES |= {"real": (2, 64, 300, (24, 16, 8, 40)), "narrow": (5, 16, 70, (3, 8, 5, 16))}


DTYPES = ("fp32", "bf16", "fp16", "int8")
FOURS = (*DTYPES, "int4")  # of the kernels that meet a matrix in four bits


def _tells(backend, shape="real", dtype="fp32"):
    """Whether a combination can show what no other does."""
    if backend == "sm_120" and shape in ("plain", "narrow"):
        return False  # sizes are the same code on every architecture
    return backend != "sm_120" or dtype not in ("int8", "int4")  # its dialect has none of its own


def pytest_generate_tests(metafunc):
    """Cards, shapes and dtypes together, so that what is left out is not collected."""
    given = {n for m in metafunc.definition.iter_markers("parametrize") for n in m.args[0].split()}
    names = [n for n in ("card", "shape", "dtype") if n in metafunc.fixturenames and n not in given]
    fours = metafunc.definition.get_closest_marker("four_bits")
    choices = {"shape": SHAPES, "dtype": FOURS if fours else DTYPES}
    chosen = BACKENDS
    if metafunc.definition.get_closest_marker("tensor_cores"):
        chosen = [b for b in BACKENDS if b.values[0] != "simulator"]
    rows = [
        pytest.param(b.values[0], *rest, marks=b.marks, id="-".join((b.values[0], *rest)))
        for b in chosen
        for rest in product(*(choices[n] for n in names[1:]))
        if _tells(b.values[0], **dict(zip(names[1:], rest, strict=True)))
    ]
    metafunc.parametrize(names, rows, indirect=[n for n in names if n != "dtype"])


@pytest.fixture
def card(request):
    return open_card(request.param)


@pytest.fixture
def shape(request):
    return SHAPES[request.param]


def weights(rng, dtype, *shape, scale=0.3, by_input=False):
    """(bits, their scales, the same numbers in float64)."""
    x = (scale * rng.standard_normal(shape)).astype(np.float32)
    none = np.full(1, np.nan, np.float32)
    if dtype == "int4":
        width = FORMATS["int4"].padded(shape[1])
        fours = rng.integers(-8, 8, (shape[0], width)).astype(np.int8)
        fours[:, shape[1] :] = 0
        halves = (0.03 * rng.standard_normal((shape[0], width // 32))).astype(np.float16)
        return as_blocks(fours, halves), none, widened(fours, halves, shape[1]).astype(np.float64)
    if dtype == "int8":
        bits = rng.integers(-127, 128, shape).astype(np.int8)
        scales = (0.004 * rng.random(shape[1 if by_input else 0]) + 0.002).astype(np.float32)
        return bits, scales, bits * (scales if by_input else scales[:, None]).astype(np.float64)
    if dtype == "fp32":
        return x, none, x.astype(np.float64)
    if dtype == "bf16":
        bits = (x.view(np.uint32) >> 16).astype(np.uint16)
        return bits, none, (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    half = x.astype(np.float16)
    return half.view(np.int16), none, half.astype(np.float64)


def wide_rows(bits, multiple):
    """Rows padded to whole packets, flat."""
    if bits.dtype == np.uint8:  # whole blocks
        return bits.ravel()
    width = padded(bits.shape[1], multiple)
    out = np.zeros((bits.shape[0], width), bits.dtype)
    out[:, : bits.shape[1]] = bits
    return out.ravel()


def packet(dtype):
    return FORMATS[format_name(dtype, "down")].packet


def vector(rng, *shape, offset=0.0):
    return (offset + rng.standard_normal(shape)).astype(np.float32)


def close(found, expected, tolerance=3e-6):
    expected = np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    scale = max(np.abs(expected).max(), 1e-30)
    error = np.abs(found - expected).max() / scale
    assert error <= tolerance, f"{error:.1e} of the largest"


def layer_norm(x, norm, eps=EPS):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float64(eps)) * norm[0] + norm[1]


def sigmoid(z):
    return 0.5 * (1 + np.tanh(0.5 * z))


class Up:
    """Arrays on the card by name, and back."""

    def __init__(self, card):
        self.card = card

    def __call__(self, array):
        return self.card.upload(np.ascontiguousarray(array))

    def norm(self, pair):
        return tuple(self(p) for p in pair)

    def back(self, array):
        host = np.zeros(array.shape, array.dtype)
        self.card.to_host(array, host)
        self.card.synchronize()
        return host


@pytest.fixture
def up(card):
    return Up(card)


def test_add_product(card, up, shape, dtype):
    rng = np.random.default_rng(1)
    H, N, F, _ = shape
    D = H * N
    bits, scales, W = weights(rng, dtype, D, F, by_input=True)
    source, x = vector(rng, F), vector(rng, D)
    d_x, rows = up(x), up(wide_rows(bits, packet(dtype)))
    matvec.add_product(card.queue, up(source), rows, up(scales), d_x)
    close(up.back(d_x), x + W @ source)


def test_embed(card, up, shape, dtype):
    rng = np.random.default_rng(2)
    D = shape[0] * shape[1]
    bits, scales, emb = weights(rng, dtype, 11, D)
    norm = vector(rng, D, offset=1), vector(rng, D)
    x = up(np.zeros((3, D), np.float32))
    tokens = np.array([10, 0, 7], np.int32)
    vocabulary.embed(card.queue, up(tokens), up(bits), up(scales), up.norm(norm), EPS, x, 3)
    close(up.back(x), layer_norm(emb[tokens], norm))


def test_head(card, up, shape, dtype):
    rng = np.random.default_rng(3)
    D, V = shape[0] * shape[1], 13 if SIMULATOR else 67
    bits, scales, W = weights(rng, dtype, V, D)
    norm = vector(rng, D, offset=1), vector(rng, D)
    x, logits = vector(rng, 3, D), up(np.zeros(V, np.float32))
    vocabulary.head(
        card.queue, up(x), 1, up.norm(norm), EPS, up(wide_rows(bits, packet(dtype))), up(scales),
        logits,
    )  # fmt: skip
    close(up.back(logits), W @ layer_norm(x[1].astype(np.float64), norm))


@pytest.mark.four_bits
def test_project(card, up, shape, dtype):
    rng = np.random.default_rng(4)
    H, N, _, ranks = shape
    D = H * N
    ranks = tuple(padded(r, packet(dtype)) for r in ranks)
    R = sum(ranks)
    rkv, rkv_scales, W = weights(rng, dtype, 3 * D, D)
    down, down_scales, W_down = weights(rng, format_name(dtype, "down"), R, D)
    norm = vector(rng, D, offset=1), vector(rng, D)
    x, shift, mix = vector(rng, D), vector(rng, D), vector(rng, 6, D)
    vec, low, fresh = (up(np.zeros(s, np.float32)) for s in ((8, D), R, D))
    d_shift = up(shift)
    timemix.project(
        card.queue, up(x), up.norm(norm), EPS, d_shift, up(mix),
        up(wide_rows(rkv, packet(dtype))), up(rkv_scales), up(wide_rows(down, packet(dtype))),
        up(down_scales), ranks, vec, low, fresh,
    )  # fmt: skip
    xx = layer_norm(x.astype(np.float64), norm)
    x_r, x_w, x_k, x_v, x_a, x_g = xx + (shift - xx) * mix
    W_r, W_k, W_v = np.split(W, 3)
    w1, a1, v1, g1 = np.split(W_down, np.cumsum(ranks[:3]))
    found = up.back(vec)
    for plane, expected in ((5, W_r @ x_r), (3, W_k @ x_k), (4, W_v @ x_v)):
        close(found[plane], expected)
    expected = [np.tanh(w1 @ x_w), a1 @ x_a, v1 @ x_v, sigmoid(g1 @ x_g)]
    close(up.back(low), np.concatenate(expected))
    close(up.back(fresh), xx)
    np.testing.assert_array_equal(up.back(d_shift), shift)  # others still read it


def heads(rng, T, H, N):
    """The inputs of a layer's heads for T tokens: vec, att, S, v_first."""
    D = H * N
    att = vector(rng, 8, D)
    att[3:5] = 0.8
    return vector(rng, 8, T, D), att, vector(rng, H, N, N), vector(rng, T, D)


def time_mix(layer, vec, att, S, v_first, removal_scale):
    """NumPy's answer: (vec, scalars, read, taken, out, S, states) after T tokens."""
    z_w, z_a, _, k, v, r, g, z_v = vec.astype(np.float64)
    T, (H, N, _) = k.shape[0], S.shape
    w0, a0, v0, k_k, k_a, r_k, gw, gb = att.astype(np.float64)
    w = np.exp(-np.exp(-0.5) * sigmoid(w0 + z_w))
    a = sigmoid(a0 + z_a)
    mixed = sigmoid(v0 + z_v) if layer else np.zeros_like(v)
    v = v + (v_first - v) * mixed
    by_head = lambda z: z.reshape(T, H, N)  # noqa: E731
    kappa = by_head(k * k_k)
    kappa = kappa / np.maximum(np.linalg.norm(kappa, axis=-1, keepdims=True), 1e-12)
    k = k * (1 + (a - 1) * k_a)
    bonus = by_head(r * k * r_k).sum(-1)
    read, taken = np.zeros((T, H, N)), np.zeros((T, H, N))
    removed, written, states = np.zeros((T, H)), np.zeros((T, H)), []
    S = S.astype(np.float64)
    for t in range(T):
        wt, at, kt, vt, rt = (by_head(z)[t] for z in (w, a, k, v, r))
        taken[t] = np.einsum("hvk,hk->hv", S, kappa[t])
        removal = np.einsum("hv,hk->hvk", taken[t], removal_scale * kappa[t] * at)
        write = np.einsum("hv,hk->hvk", vt, kt)
        removed[t] = np.linalg.norm(removal, axis=(1, 2))
        written[t] = np.linalg.norm(write, axis=(1, 2))
        S = S * wt[:, None, :] - removal + write
        read[t] = np.einsum("hvk,hk->hv", S, rt)
        states.append(S)
    y = read - read.mean(-1, keepdims=True)
    y = y / np.sqrt((y * y).mean(-1, keepdims=True) + np.float64(GN_EPS))
    out = (y.reshape(T, -1) * gw + gb + (bonus[..., None] * by_head(v)).reshape(T, -1)) * g
    seen = np.stack([w, a, kappa.reshape(T, -1), k, v, r, g, mixed])
    scalars = np.stack([bonus, removed, written])
    return seen, scalars, read.reshape(T, -1), taken.reshape(T, -1), out, S, np.stack(states)


@pytest.mark.parametrize("layer", [0, 1])
def test_advance(card, up, shape, dtype, layer):
    removal_scale = 1 + layer
    rng = np.random.default_rng(5)
    H, N, _, ranks = shape
    D = H * N
    ranks = tuple(padded(r, packet(dtype)) for r in ranks)
    R = sum(ranks)
    four = [weights(rng, dtype, D, r) for r in ranks]
    bits, W = (np.concatenate([f[i] for f in four], axis=1) for i in (0, 2))
    scales = np.concatenate([f[1] for f in four])
    low, shift, fresh = vector(rng, R), vector(rng, D), vector(rng, D)
    vec, att, S, v_first = heads(rng, 1, H, N)
    ends = np.cumsum([0, *ranks])
    sums = [W[:, a:b] @ low[a:b] for a, b in pairwise(ends)]
    vec[[0, 1, 7, 6], 0] = sums
    d_vec, d_S, d_first, d_shift = up(vec[:, 0]), up(S.ravel()), up(v_first[0]), up(shift)
    scalars, read, out = (up(np.zeros(s, np.float32)) for s in ((3, H), D, D))
    timemix.advance(
        card.queue, layer, up(low), up(bits.ravel()), up(scales), ranks, d_vec, up(att), d_S,
        d_first, up(fresh), d_shift, scalars, read, out, GN_EPS, np.float32(removal_scale),
    )  # fmt: skip
    seen, expected_scalars, expected_read, _, expected_out, expected_S, _ = time_mix(
        layer, vec, att, S, v_first, removal_scale
    )
    close(up.back(d_vec), seen[:, 0])
    close(up.back(scalars), expected_scalars[:, 0])
    close(up.back(read), expected_read[0])
    close(up.back(out), expected_out[0], 1e-5)  # the norm divides by a small deviation
    close(up.back(d_S), expected_S.ravel())
    close(up.back(d_first), seen[4, 0] if layer == 0 else v_first[0])
    np.testing.assert_array_equal(up.back(d_shift), fresh)


@pytest.mark.parametrize("T", [1, 2, 5] if SIMULATOR else [1, 2, 5, 19])  # it takes its time
def test_recurrence(card, up, shape, T):
    rng = np.random.default_rng(6)
    H, N, _, _ = shape
    D, capacity = H * N, T + 1
    vec, att, S, v_first = heads(rng, T, H, N)
    room = np.zeros((8, capacity, D), np.float32)
    room[:, :T] = vec
    d_vec, d_att, d_S = up(room), up(att), up(S.ravel())
    d_first = up(np.concatenate([v_first, v_first[:1]]))
    scalars = up(np.zeros((3, capacity, H), np.float32))
    read, taken = (up(np.zeros((capacity, D), np.float32)) for _ in range(2))
    states, out = (up(np.zeros(s, np.float32)) for s in ((T, D * N), (1, capacity, D + 8)))
    queue = card.queue
    removal_scale = 2 if T == 2 else 1
    c = np.float32(removal_scale)
    recurrence.prepare(queue, 1, d_vec, T, H, d_att, d_first, c, scalars)
    recurrence.recur(queue, d_vec, T, H, c, d_S, read, taken, states, True)
    recurrence.finish(queue, d_vec, T, H, d_att, read, taken, scalars, GN_EPS, out)
    seen, e_scalars, e_read, e_taken, e_out, e_S, e_states = time_mix(
        1, vec, att, S, v_first, removal_scale
    )
    close(up.back(d_vec)[:, :T], seen)
    close(up.back(read)[:T], e_read, 1e-5)
    close(up.back(taken)[:T], e_taken, 1e-5)
    close(up.back(scalars)[:, :T], e_scalars, 1e-5)
    close(up.back(out)[0, :T, :D], e_out, 2e-5)
    close(up.back(d_S), e_S.ravel(), 1e-5)
    close(up.back(states), e_states.reshape(T, -1), 1e-5)


def test_the_first_layers_value_is_kept(card, up):
    rng = np.random.default_rng(7)
    vec, att, _, _ = heads(rng, 2, 2, 8)
    first, d_vec = up(np.zeros((2, 16), np.float32)), up(vec)
    scalars = up(np.zeros((3, 2, 2), np.float32))
    recurrence.prepare(card.queue, 0, d_vec, 2, 2, up(att), first, np.float32(1), scalars)
    np.testing.assert_array_equal(up.back(first), vec[4])
    np.testing.assert_array_equal(up.back(d_vec)[4], vec[4])
    np.testing.assert_array_equal(up.back(d_vec)[7], 0)


@pytest.mark.four_bits
def test_ffn_key(card, up, shape, dtype):
    rng = np.random.default_rng(8)
    H, N, F, _ = shape
    D = H * N
    bits, scales, W = weights(rng, dtype, F, D)
    norm = vector(rng, D, offset=1), vector(rng, D)
    x, shift, mix = (vector(rng, D) for _ in range(3))
    hidden, fresh = up(np.zeros(F, np.float32)), up(np.zeros(D, np.float32))
    channelmix.ffn_key(
        card.queue, up(x), up.norm(norm), EPS, up(shift), up(mix),
        up(wide_rows(bits, packet(dtype))), up(scales), hidden, fresh,
    )  # fmt: skip
    xx = layer_norm(x.astype(np.float64), norm)
    close(up.back(hidden), np.maximum(W @ (xx + (shift - xx) * mix), 0) ** 2)
    close(up.back(fresh), xx)


def sliced(bits, dtype):
    """The value matrix (D, F) as the kernels read it: (slices, F, columns)."""
    D, F = bits.shape
    pieces, columns = channelmix.slices(D, FORMATS[dtype].memory.itemsize)
    out = np.zeros((pieces * columns, F), bits.dtype)
    out[:D] = bits
    return np.ascontiguousarray(out.reshape(pieces, columns, F).transpose(0, 2, 1)), columns


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("alive", [0.0, 0.2, 1.0])
def test_ffn_value(card, up, shape, dtype, splits, alive):
    rng = np.random.default_rng(9)
    H, N, F, _ = shape
    D = H * N
    bits, scales, W = weights(rng, dtype, D, F, by_input=True)
    hidden = vector(rng, F) ** 2 * (rng.random(F) < alive)
    hidden = hidden.astype(np.float32)
    value, columns = sliced(bits, dtype)
    nan = np.full(1, np.nan, np.float32) if dtype == "fp32" else np.full(1, -1).astype(value.dtype)
    value[:, hidden == 0] = nan[0]  # what a zero meets must not be read
    if dtype == "int8":
        scales[hidden == 0] = np.nan
    pieces = value.shape[0]
    x, fresh = vector(rng, D), vector(rng, D)
    d_x, shift, residual = up(x), up(np.zeros(D, np.float32)), up(np.zeros(D, np.float32))
    tickets = up(np.zeros(pieces, np.int32))
    partial = up(np.zeros((splits, pieces * columns), np.float32))
    for repeat in range(2):
        channelmix.ffn_value(
            card.queue, up(hidden), up(value.ravel()), up(scales), d_x, partial, tickets,
            up(fresh), shift, residual,
        )  # fmt: skip
        expected = x + (repeat + 1) * (W @ hidden)
        close(up.back(d_x), expected)
        np.testing.assert_array_equal(up.back(residual), up.back(d_x))
        np.testing.assert_array_equal(up.back(shift), fresh)
        assert not up.back(tickets).any()


@pytest.mark.four_bits
@pytest.mark.parametrize("T", [1, 2, 5])
def test_multiply(card, up, shape, dtype, T):
    rng = np.random.default_rng(10)
    H, N, F, _ = shape
    D, capacity, step = H * N, T + 2, packet(dtype)
    width = padded(D, step)
    w_row = FORMATS[dtype].padded(width)
    bits, scales, W = weights(rng, dtype, 2 * D + 5, D)
    x = np.zeros((3, capacity, width), np.float32)
    x[:, :T, :D] = vector(rng, 3, T, D)
    x[:, T:] = np.nan  # other tokens' room is nobody's business
    if dtype == "int8":  # the second job's scales lie elsewhere
        scales = np.concatenate([scales[:D], np.full(7, np.nan, np.float32), scales[D:]])
    jobs = [(2, 0, D, 0, width, 0, 0), (0, D, D + 5, 0, width, 1, 3, 7)]
    out = up(np.zeros((2, capacity, D + 9), np.float32))
    products = matmul.Products(up(wide_rows(bits, step)), up(scales), w_row, jobs, up)
    matmul.multiply(card.queue, up(x), T, products, out)
    found = up.back(out)
    close(found[0, :T, :D], x[2, :T, :D] @ W[:D].T)
    close(found[1, :T, 3 : D + 8], x[0, :T, :D] @ W[D:].T)
    assert not found[:, T:].any()
    assert not found[1, :T, :3].any()

    if dtype == "int4":
        return  # what is read by input is in eight bits
    bits, scales, W = weights(rng, dtype, D, F, by_input=True)
    value, columns = sliced(bits, dtype)
    x, old = vector(rng, 1, T, F), vector(rng, 1, T, D)
    out = up(old)
    products = matmul.Products(
        up(value.ravel()), up(scales), 0, [(0, 0, D, 0, F, 0, 0)], up, columns, F * columns,
        by_input=True,
    )  # fmt: skip
    matmul.multiply(card.queue, up(x), T, products, out, add=True)
    close(up.back(out)[0], old[0] + x[0] @ W.T)


@pytest.mark.tensor_cores
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("size", [(1, 8, 8), (5, 61, 96), (70, 130, 40), (130, 200, 72)])
def test_multiply_on_tensor_cores(card, up, dtype, size):
    T, rows, K = size
    rng = np.random.default_rng(11)
    capacity = T + 3
    bits, none, W = weights(rng, dtype, 2 * rows, K)
    x = np.zeros((2, capacity, K), np.float32)
    x[:, :T] = vector(rng, 2, T, K) * 10.0 ** rng.integers(-9, 9, (2, T, 1))
    memory = FORMATS[dtype].memory
    high, low = (up(np.full((2, capacity, K), -1).astype(memory)) for _ in range(2))
    scales = up(np.zeros((2, capacity), np.float32))
    prompt.split(card.queue, up(x), T, high, low, scales)
    jobs = [(1, 0, rows, 0, K, 0, 0), (0, rows, rows, 8 if K > 8 else 0, K - 8 or 8, 1, 0)]
    out = up(np.zeros((2, capacity, rows), np.float32))
    products = matmul.Products(up(bits.ravel()), up(none), K, jobs, up)
    matmul.multiply_split(card.queue, high, low, scales, T, products, out)
    found = up.back(out)
    # bfloat16 keeps 2^-17 of an activation, float16 2^-22
    tolerance = 2e-5 if dtype == "bf16" else 2e-6
    size = np.abs(x[:, :T]).max(-1)
    first = jobs[1][3]
    for t in range(T):
        close(found[0, t] / size[1, t], W[:rows] @ x[1, t] / size[1, t], tolerance)
        part = W[rows:, first : first + jobs[1][4]] @ x[0, t, first : first + jobs[1][4]]
        close(found[1, t] / size[0, t], part / size[0, t], tolerance)
    assert not found[:, T:].any()

    # what comes out for a token does not depend on how many there are with it
    again = up(np.zeros((2, capacity, rows), np.float32))
    matmul.multiply_split(card.queue, high, low, scales, 1, products, again)
    np.testing.assert_array_equal(up.back(again)[:, 0], found[:, 0])

    value, columns = sliced(bits[:rows], dtype)
    products = matmul.Products(
        up(value.ravel()), up(none), 0, [(1, 0, rows, 0, K, 0, 0)], up, columns, K * columns
    )
    old = vector(rng, 1, capacity, rows)
    out = up(old)
    matmul.multiply_split(card.queue, high, low, scales, T, products, out, add=True)
    close(up.back(out)[0, :T] - old[0, :T], x[1, :T] @ W[:rows].T, 1e-4)


@pytest.mark.parametrize("T", [1, 2, 5])
def test_rows_of_a_prompt(card, up, shape, T):
    rng = np.random.default_rng(12)
    D = shape[0] * shape[1]
    norm = vector(rng, D, offset=1), vector(rng, D)
    x, shift, mix = vector(rng, T + 1, D), vector(rng, D), vector(rng, 6, D)
    normed, mixed = (up(np.zeros(s, np.float32)) for s in ((T + 1, D), (6, T + 1, D + 4)))
    d_shift, queue = up(shift), card.queue
    prompt.norm_rows(queue, up(x), T, up.norm(norm), EPS, normed)
    prompt.mix_rows(queue, normed, T, d_shift, up(mix), mixed)
    xx = layer_norm(x[:T].astype(np.float64), norm)
    before = np.concatenate([shift[None], xx[:-1]])
    close(up.back(normed)[:T], xx)
    close(up.back(mixed)[:, :T, :D], xx + (before - xx) * mix[:, None])
    prompt.keep_row(queue, normed, T - 1, d_shift)
    close(up.back(d_shift), xx[-1])
    prompt.copy_rows(queue, normed, T - 1, 1, mixed)
    close(up.back(mixed)[0, 0, :D], xx[-1])


def activation(how, x, ends):
    if how == prompt.RELU_SQUARED:
        return np.maximum(x, 0) ** 2
    if how == prompt.LOW_RANK:
        w, v = ends
        return np.concatenate([np.tanh(x[..., :w]), x[..., w:v], sigmoid(x[..., v:])], -1)
    return x


@pytest.mark.parametrize("how", [0, 1, 2])
def test_activate(card, up, how):
    rng = np.random.default_rng(13)
    x, ends = vector(rng, 2, 4, 21), (8, 13)
    d_x = up(x)
    prompt.activate(card.queue, d_x, 3, how, ends)
    close(up.back(d_x)[:, :3], activation(how, x[:, :3].astype(np.float64), ends))
    np.testing.assert_array_equal(up.back(d_x)[:, 3], x[:, 3])


@pytest.mark.parametrize("how", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_split(card, up, dtype, how):
    rng = np.random.default_rng(14)
    x, ends = vector(rng, 2, 4, 21), (8, 13)
    x[0] *= 1e15
    x[1, 1] = 0
    x[1, 2] *= 1e-12
    memory = FORMATS[dtype].memory
    high, low = (up(np.zeros(x.shape, memory)) for _ in range(2))
    scales = up(np.zeros(x.shape[:2], np.float32))
    prompt.split(card.queue, up(x), 4, high, low, scales, how, ends)

    def wide(bits):
        if dtype == "bf16":
            return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return bits.view(np.float16).astype(np.float64)

    scale = up.back(scales).astype(np.float64)[..., None]
    found = scale * (wide(up.back(high)) + wide(up.back(low)))
    expected = activation(how, x.astype(np.float64), ends)
    size = np.abs(expected).max(-1, keepdims=True) + 1e-60
    assert (np.abs(found - expected) / size).max() <= (2**-16 if dtype == "bf16" else 2**-21)
    assert (np.log2(scale) % 1 == 0).all()


def test_top_k(card, up):
    rng = np.random.default_rng(15)
    n, k = (70, 3) if SIMULATOR else (5000, 7)
    values = rng.integers(-50, 50, n).astype(np.float32)  # many are equal
    blocks = ranking.portions(n)
    assert blocks > 1
    portion = up(np.zeros(blocks * k, np.float32)), up(np.zeros(blocks * k, np.int32))
    best, ids = up(np.zeros(k, np.float32)), up(np.zeros(k, np.int32))
    ranking.top_k(card.queue, up(values), k, *portion, best, ids)
    order = np.lexsort((np.arange(n), -values))[:k]
    np.testing.assert_array_equal(up.back(ids), order)
    np.testing.assert_array_equal(up.back(best), values[order])


@pytest.mark.parametrize("room", [4, 60])
def test_candidates(card, up, room):
    rng = np.random.default_rng(16)
    n = 70 if SIMULATOR else 5000
    logits = (9 * rng.standard_normal(n) - 40).astype(np.float32)
    logits[rng.integers(0, n, 3)] = -np.inf  # a vocabulary may have tokens that never come
    found = candidates.Candidates(card, n, room)
    for _ in range(2):  # nothing of the first time is left
        found.launch(card.queue, up(logits))
        card.synchronize()
        within = np.flatnonzero(logits >= logits.max() - candidates.REACH)
        assert found.count[0] == len(within) > 4
        if len(within) <= room:
            assert sorted(found.listed[: len(within)]) == within.tolist()
        else:
            assert set(found.listed) <= set(within)
        assert found.summary[0] == logits.max()
        total = np.exp(logits.astype(np.float64) - logits.max()).sum()
        np.testing.assert_allclose(found.summary[1], total, rtol=1e-12)
        logits = np.roll(logits, 7) + np.float32(2)


def test_append(card, up):
    token, log = up(np.array([42], np.int32)), up(np.zeros(3, np.int32))
    position = up(np.array([4], np.int64))
    ranking.append(card.queue, token, log, position)
    np.testing.assert_array_equal(up.back(log), [0, 42, 0])
    assert up.back(position)[0] == 5


def test_few_heads_do_not_warn(card, up):
    # numba warns of grids of fewer than 128 blocks; warnings are errors here
    prompt.activate(card.queue, up(np.zeros((1, 1, 1), np.float32)), 1, 0)

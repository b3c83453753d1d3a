import json
from dataclasses import asdict

import numpy as np
import pytest

import goose_viz as gv
from goose_viz.exponential import exp_negative
from goose_viz.ranking import Candidates, rank

V = 200


def plain(logits, counts, s):
    """The rwkv package's order of things, written for reading."""
    z = logits.astype(np.float64).copy()
    for token, count in counts.items():
        z[token] -= s.presence + count * s.frequency
    z[list(s.banned)] = -np.inf
    p = np.exp(z - z.max())
    p /= p.sum()
    if s.temperature == 0:
        return np.eye(len(p))[p.argmax()]
    ordered = np.sort(p)[::-1]
    reached = np.cumsum(ordered) >= s.top_p
    if reached.any() and s.top_p < 1:  # 1 means no cut, where a rounded sum might make one
        p[p < ordered[reached.argmax()]] = 0
    if s.top_k > 0:
        p[np.argsort(-p, kind="stable")[s.top_k :]] = 0
    p = p ** (1 / s.temperature)
    return p / p.sum()


@pytest.mark.parametrize(
    "options",
    [{}, {"temperature": 0.3}, {"temperature": 2.0, "top_p": 1.0}, {"top_p": 0.0}, {"top_k": 7},
     {"top_k": 3, "top_p": 0.99}, {"top_k": 1000}, {"banned": (3, 5, 9)}, {"temperature": 0},
     {"presence": 2.0, "frequency": 1.0}, {"top_p": 0.9999999}],
)  # fmt: skip
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0])
def test_distribution(options, scale):
    sampler = gv.Sampler(seed=0, **options)
    rng = np.random.default_rng(1)
    for _ in range(20):
        logits = (scale * rng.standard_normal(V)).astype(np.float32)
        counts, seen = sampler.new_counts(V), {}
        for token in rng.integers(0, V, 30):
            sampler.count(counts, int(token), "word")
            seen = {k: c * 0.996 for k, c in seen.items()}
            seen[int(token)] = seen.get(int(token), 0) + 1
        found = sampler.distribution(logits, counts)
        np.testing.assert_allclose(found, plain(logits, seen, sampler), atol=1e-12)
        assert found.sum() == pytest.approx(1)


def test_blanks_and_digits_weigh_nothing():
    sampler = gv.Sampler(seed=0)
    counts = sampler.new_counts(10)
    sampler.count(counts, 1, " ")
    sampler.count(counts, 2, "7")
    sampler.count(counts, 3, "dog")
    sampler.count(counts, 3, "dog")
    assert counts[1] == counts[2] == 0  # presence still counts for them, as in the rwkv package
    assert counts[3] == pytest.approx(1.996)
    assert counts[0] == -1


def test_the_draw_depends_on_seed_and_position_alone():
    logits = np.random.default_rng(0).standard_normal(V).astype(np.float32)
    counts = gv.Sampler(seed=1).new_counts(V)
    one = [gv.Sampler(seed=1, top_p=1.0).choose(logits, counts, i) for i in range(50)]
    again = [gv.Sampler(seed=1, top_p=1.0).choose(logits, counts, i) for i in reversed(range(50))]
    other = [gv.Sampler(seed=2, top_p=1.0).choose(logits, counts, i) for i in range(50)]
    assert one == again[::-1]
    assert one != other
    unseeded = gv.Sampler()
    assert unseeded.seed is not None
    assert unseeded.choose(logits, counts, 3) == unseeded.choose(logits, counts, 3)


def test_frequencies_follow_the_distribution():
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    sampler = gv.Sampler(seed=3, top_p=1.0)
    counts = sampler.new_counts(4)
    drawn = np.bincount([sampler.choose(logits, counts, i) for i in range(4000)], minlength=4)
    np.testing.assert_allclose(drawn / 4000, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_zero_temperature_is_greedy_and_bans_hold():
    logits = np.arange(V, dtype=np.float32)
    sampler = gv.Sampler(temperature=0, banned=(V - 1, V - 2), seed=0)
    assert sampler.choose(logits, sampler.new_counts(V), 0) == V - 3


def test_stops():
    sampler = gv.Sampler(stop=(5, "\n\nUser:"), seed=0)
    assert sampler.stops(5, "anything", 1)
    assert sampler.stops(1, "hello\n\nUser:", 1)
    assert sampler.stops(1, "hello\n\nUser: x", 3)  # the last token brought the colon, too
    assert not sampler.stops(1, "hello\n\nUser: x", 2)
    with pytest.raises(ValueError, match="empty stop text"):
        gv.Sampler(stop=("",))


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"top_p": 1.5},
        {"top_k": -2},
        {"penalty_decay": 2},
        {"seed": -1},
        {"presence": float("nan")},
        {"seed": 2**70},
    ],
)
def test_numbers_out_of_range(bad):
    with pytest.raises(ValueError, match="expected"):
        gv.Sampler(**bad)


def test_cuts_hold_whatever_the_temperature():
    logits = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
    counts = gv.Sampler().new_counts(4)
    for temperature in (np.inf, 1e30, 1e-30, 3.0):
        for options, kept in (({"top_k": 1}, 1), ({"top_p": 0.5}, 2), ({"top_k": 3}, 3)):
            sampler = gv.Sampler(**{"temperature": temperature, "top_p": 1.0, **options}, seed=1)
            p = sampler.distribution(logits, counts)
            assert p.sum() == pytest.approx(1)
            assert not p[kept:].any(), (temperature, options)
            if temperature > 1e9:
                np.testing.assert_allclose(p[:kept], 1 / kept)
    logits[2] = -np.inf  # what a model gives no chance at all has none at any temperature
    assert gv.Sampler(temperature=np.inf, top_p=1.0).distribution(logits, counts)[2] == 0


def test_numbers_of_numpy():
    sampler = gv.Sampler(
        temperature=np.float32(0.5), top_k=np.int64(3), seed=np.uint32(7), stop=(np.int64(4), "x"),
        banned=np.array([1, 2]), presence=np.float16(0.5),
    )  # fmt: skip
    plain = gv.Sampler(temperature=0.5, top_k=3, seed=7, stop=(4, "x"), banned=(1, 2), presence=0.5)
    assert sampler == plain
    assert json.loads(json.dumps(asdict(sampler))) == json.loads(json.dumps(asdict(plain)))
    assert sampler.stops(4, "", 0)


@pytest.mark.parametrize("options", [{"top_k": np.inf}, {"top_k": 0.5}, {"seed": 1.5}])
def test_numbers_that_are_not_whole(options):
    with pytest.raises(ValueError, match="expected"):
        gv.Sampler(**options)


def test_the_draws_are_those_of_the_plain_distribution():
    """Candidates are cut before anything is sorted: the same tokens as from the whole of it."""
    rng = np.random.default_rng(2)
    for options in (
        {}, {"top_p": 0.99, "temperature": 1.3}, {"top_p": 1.0}, {"top_p": 1.0, "top_k": 40},
        {"top_k": 5}, {"temperature": 0}, {"top_p": 0.9999999, "temperature": 0.4},
    ):  # fmt: skip
        sampler = gv.Sampler(seed=11, **options)
        counts = sampler.new_counts(5000)
        for position in range(60):
            logits = (rng.choice([0.3, 2.0, 8.0]) * rng.standard_normal(5000)).astype(np.float32)
            seen = {i: counts[i] for i in np.flatnonzero(counts >= 0)}
            p = plain(logits, seen, sampler)
            draw = np.random.Generator(np.random.Philox(key=11, counter=position)).random()
            expected = int(np.searchsorted(np.cumsum(p), draw, side="right"))
            token = sampler.choose(logits, counts, position)
            assert token == expected
            sampler.count(counts, token, "word")


def test_exponential():
    x = np.concatenate([-np.random.default_rng(0).random(20000) * 700, [-0.0, -700, -1e-300, -36]])
    found = np.array([exp_negative(float(v)) for v in x])
    assert (np.abs(found / np.exp(x) - 1) < 4e-16).all()
    assert exp_negative(-701.0) == exp_negative(-np.inf) == 0
    assert exp_negative(0.0) == 1


# -- what a device has found -------------------------------------------------------------------


def found_by_a_device(logits, reach=10.5):
    """As `goose_gpu.candidates` lists them."""
    out = Candidates()
    highest = logits.max()
    wide = np.exp(logits.astype(np.float64) - highest)
    lowest = np.float32(highest) - np.float32(reach)
    ids = np.flatnonzero(logits >= lowest).astype(np.int32)
    out.fill(ids, float(highest), float(wide.sum()), float(lowest))
    return out


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 0.3, "top_k": 40},
        {"top_p": 1.0, "top_k": 20},
        {"top_p": 1.0},
        {"top_p": 0.999, "temperature": 1.7},
        {"presence": 3.0, "frequency": 2.0},
        {"presence": -1.0},
        {"banned": (0, 3, 17, 999, 10**6)},
        {"banned": tuple(range(450))},
    ],
    ids=str,
)
@pytest.mark.parametrize("width", [1.0, 4.0, 12.0])
def test_what_a_device_found_saves_time_and_changes_nothing(options, width):
    """The same tokens and probabilities whether the host looks through all logits or not."""
    rng = np.random.default_rng(11)
    sampler = gv.Sampler(seed=5, **options)
    counts = sampler.new_counts(1000)
    used = 0
    for position in range(60):
        logits = (width * rng.standard_normal(1000)).astype(np.float32)
        logits[rng.integers(0, 1000)] += 8  # one that is likely
        found = found_by_a_device(logits)
        token = sampler.choose(logits, counts, position)
        assert sampler.choose(logits, counts, position, found) == token
        few = sampler._of_few(logits, counts, found, found.ids)
        if few is not None:
            used += 1
            ids, p = sampler._of_all(logits, counts)
            np.testing.assert_array_equal(few[0], ids)
            np.testing.assert_allclose(few[1], p, rtol=1e-10)
        sampler.count(counts, token, "x")
        (top, chances), chance = rank(logits, 10, token)
        (ids, p), one = rank(logits, 10, token, found)
        np.testing.assert_array_equal(ids, top)
        np.testing.assert_allclose(p, chances, rtol=1e-6)
        assert one == pytest.approx(chance, rel=1e-10)
    if width == 4.0 and options in ({}, {"temperature": 0.0}, {"presence": 3.0, "frequency": 2.0}):
        assert used > 50, "what people mostly ask for"
    if options == {"presence": -1.0}:
        assert used == 0, "a token that nobody listed could come up"


def test_of_logits_that_are_no_numbers_nothing_is_found():
    found = Candidates()
    found.fill(np.array([3], np.int32), float("nan"), 1.0, 0.0)
    found.fill(np.array([3], np.int32), 1.0, float("inf"), 0.0)
    found.fill(np.zeros(0, np.int32), 1.0, 1.0, 0.0)
    assert found.ids is None

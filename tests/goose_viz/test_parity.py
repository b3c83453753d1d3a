"""Every engine against numbers that were computed elsewhere, and against the reference."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import goose_viz as gv
from goose_viz.check import ALLOWED, compare
from tests.kept import reference_of

DATA = Path(__file__).parents[1] / "data"
# A folder of larger oracle files may lie beside the checkout.
BESIDE = Path(__file__).parents[2].parent / "shared" / "oracle"
ENGINES = {"reference": ("reference", "auto"), "fp32": ("cpu", "fp32"), "bf16": ("cpu", "bf16")}
#: Relative to the largest magnitude: float64 rounding, and float32 rounding through all layers.
TOLERANCE = {"reference": 1e-12, "fp32": 1e-4, "bf16": 1e-4}


def feed(model, tokens, portions):
    state, probe, logits, at = model.new_state(), gv.Probe(gv.OBSERVABLES), [], 0
    for n in portions:
        logits.append(model.forward(tokens[at : at + n], state, all_logits=True, probe=probe))
        at += n
    return np.concatenate(logits), state, probe.frames


@pytest.mark.parametrize(
    "portions", [(1,) * 24, (24,), (3, 5, 2, 14)], ids=["single", "all", "mixed"]
)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["random-L3-D128-N64", "random-L2-D96-N16"])
def test_oracle(name, engine, portions):
    device, dtype = ENGINES[engine]
    model = gv.load_model(DATA / f"{name}.bf16.pth", device=device, dtype=dtype)
    expected = load_file(DATA / f"{name}.expected.safetensors")
    logits, state, frames = feed(model, expected["tokens"].tolist(), portions)
    found = {"logits": logits, "att_shift": state.att_shift, "ffn_shift": state.ffn_shift}
    found["wkv_after_last"] = state.wkv
    for observable in ("decay", "iclr", "removed_norm", "written_norm"):
        found[observable] = np.stack([getattr(f, observable) for f in frames])
    for key, value in found.items():
        error = np.abs(value - expected[key]).max() / np.abs(expected[key]).max()
        assert error <= TOLERANCE[engine], f"{key}: {error:.1e}"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_real_checkpoint(engine):
    path = BESIDE / "tiny-rwkv7-834K.safetensors"
    if not path.exists():
        pytest.skip("the 834K checkpoint does not lie beside this checkout")
    device, dtype = ENGINES[engine]
    expected = json.loads((BESIDE / "tiny-rwkv7-834K.expected.json").read_text())
    model = gv.load_model(path, device=device, dtype=dtype)
    logits = model.forward(expected["prompt_bytes"], model.new_state())
    # the published logits are float32; bf16 rounds this fp32 checkpoint's weights to 8 bits
    allowed = 1e-5 if engine != "bf16" else 0.1
    assert np.abs(logits - np.array(expected["logits"])).max() <= allowed


@pytest.mark.parametrize("portions", [(1,) * 24, (24,)], ids=["single", "all"])
@pytest.mark.parametrize("dtype", ["fp16", "int8", "int4"])
@pytest.mark.parametrize("name", ["random-L3-D128-N64", "random-L2-D96-N16"])
def test_other_weight_types(name, dtype, portions, tmp_path):
    """What is left of the weights is computed with as exactly as before."""
    path = DATA / f"{name}.bf16.pth"
    reference = reference_of(path, dtype, tmp_path)
    model = gv.load_model(path, device="cpu", dtype=dtype)
    assert model.dtype == dtype
    tokens = load_file(DATA / f"{name}.expected.safetensors")["tokens"].tolist()
    expected, expected_state, expected_frames = feed(reference, tokens, (24,))
    logits, state, frames = feed(model, tokens, portions)
    # vectors are rounded to 16 bits, and on to the other side where they differ in the last
    allowed = 3e-4 if dtype == "int4" else 1e-4
    wkv = expected_state.wkv
    assert np.abs(logits - expected).max() <= allowed * np.abs(expected).max()
    assert np.abs(state.wkv - wkv).max() <= allowed * np.abs(wkv).max()
    for observable in gv.OBSERVABLES:
        a, b = (np.stack([getattr(f, observable) for f in fs]) for fs in (frames, expected_frames))
        assert np.abs(a - b).max() <= allowed * np.abs(b).max(), observable


@pytest.mark.parametrize("n_tokens", [2, 3, 4, 7, 128, 129, 300])
def test_many_at_once_equal_one_by_one(small, n_tokens):
    tokens = np.random.default_rng(n_tokens).integers(0, 61, n_tokens).tolist()
    logits, state, frames = feed(small, tokens, (n_tokens,))
    expected, expected_state, expected_frames = feed(small, tokens, (1,) * n_tokens)
    np.testing.assert_allclose(logits, expected, atol=2e-5 * np.abs(expected).max())
    for name, array in state.arrays().items():
        other = expected_state.arrays()[name]
        np.testing.assert_allclose(array, other, atol=2e-5 * np.abs(other).max(), err_msg=name)
    assert len(frames) == len(expected_frames) == n_tokens
    for name in gv.OBSERVABLES:
        a, b = (np.stack([getattr(f, name) for f in fs]) for fs in (frames, expected_frames))
        np.testing.assert_allclose(a, b, atol=2e-5 * np.abs(b).max(), err_msg=name)


def test_the_builtin_check_passes_and_can_fail(small):
    reference = gv.load_model(small.source, device="reference")
    findings = list(compare(small, reference, list(range(24))))
    assert len(findings) == 2 * (len(gv.OBSERVABLES) + 3)
    assert all(f.passed for f in findings), max(findings, key=lambda f: f.error)
    small._engine._m.att[1, 0, 5] += 0.05  # one decay bias of one channel
    try:
        wrong = {f.name for f in compare(small, reference, list(range(24))) if not f.passed}
    finally:
        small._engine._m.att[1, 0, 5] -= 0.05
    assert "decay" in wrong
    assert ALLOWED == 1e-4


def test_one_update_is_decay_removal_and_write(small):
    """S_new = S diag(w) - (S kappa)(kappa a)^T + v k~^T, with S = [value, key]."""
    c = small.config
    state, probe = small.new_state(), gv.Probe(gv.OBSERVABLES)
    rng = np.random.default_rng(0)
    state.wkv[:] = rng.standard_normal(state.wkv.shape)  # as asymmetric as can be
    before = state.wkv.astype(np.float64)
    small.forward([7], state, probe=probe)
    f = {k: v.astype(np.float64) for k, v in probe.frames[0].arrays().items()}

    def heads(name):
        return f[name].reshape(c.n_layer, c.n_head, c.head_size)

    w, a, kappa = heads("decay"), heads("iclr"), heads("removal_key")
    removed = np.einsum("lhvk,lhk,lhj->lhvj", before, kappa, kappa * a)
    written = np.einsum("lhv,lhk->lhvk", heads("value"), heads("replacement_key"))
    np.testing.assert_allclose(state.wkv, before * w[:, :, None] - removed + written, atol=1e-5)
    np.testing.assert_allclose(f["removed_norm"], np.linalg.norm(removed, axis=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(f["written_norm"], np.linalg.norm(written, axis=(2, 3)), rtol=1e-5)
    np.testing.assert_allclose(
        f["read"], np.einsum("lhvk,lhk->lhv", state.wkv, heads("receptance")), atol=1e-4
    )
    np.testing.assert_allclose(np.linalg.norm(kappa, axis=-1), 1, rtol=1e-6)
    transposed = small.new_state()
    transposed.wkv[:] = before.swapaxes(2, 3)
    small.forward([7], transposed)
    assert np.abs(transposed.wkv - state.wkv.swapaxes(2, 3)).max() > 0.1


def test_demo_greedy_equals_the_reference(demo):
    """1,000 greedy tokens; a first difference counts if the reference is not nearly undecided."""
    reference = gv.load_model(device="reference")
    fast = gv.load_model(dtype="fp32")
    state, slow_state = fast.new_state(), reference.new_state()
    tokens = [0, *demo.tokenizer.encode("Once upon a time")]
    logits, slow = fast.forward(tokens, state), reference.forward(tokens, slow_state)
    for i in range(1000):
        chosen, expected = int(logits.argmax()), int(slow.argmax())
        if chosen != expected:
            second, best = np.sort(slow)[-2:]
            assert best - second <= 1e-4, f"token {i}: {chosen} for {expected}"
            return
        logits, slow = fast.forward([chosen], state), reference.forward([chosen], slow_state)


def test_probing_changes_no_logit(small):
    tokens = list(range(40))
    for portions in ((1,) * 40, (40,)):
        plain, probed, at = small.new_state(), small.new_state(), 0
        for n in portions:
            a = small.forward(tokens[at : at + n], plain)
            b = small.forward(tokens[at : at + n], probed, probe=gv.Probe(gv.OBSERVABLES))
            at += n
            assert (a == b).all()
        assert (plain.wkv == probed.wkv).all()


def test_a_probe_of_some_layers(small):
    probe, whole = gv.Probe({"decay", "wkv"}, layers=[1]), gv.Probe({"decay", "wkv"})
    small.forward([1, 2, 3, 4, 5], small.new_state(), probe=probe)
    small.forward([1, 2, 3, 4, 5], small.new_state(), probe=whole)
    small.forward([1], small.new_state(), probe=probe)
    small.forward([1], small.new_state(), probe=whole)
    assert len(probe.frames) == 6
    for frame, every in zip(probe.frames, whole.frames, strict=True):
        assert frame.decay.shape == (1, 96)
        assert frame.decay.dtype == np.float32
        assert (frame.decay[0] == every.decay[1]).all()
        assert (frame.wkv[0] == every.wkv[1]).all()
        with pytest.raises(AttributeError, match="not probed"):
            _ = frame.gate
    probe.clear()
    assert probe.frames == []
    with pytest.raises(ValueError, match="there are decay, iclr"):
        gv.Probe({"dekay"})
    with pytest.raises(ValueError, match="layer 7 of 2"):
        small.forward([1], small.new_state(), probe=gv.Probe({"decay"}, layers=[7]))


def test_bad_tokens_leave_the_state_alone(small):
    state = small.new_state()
    for tokens in ([], [61], [-1], [3, 99999]):
        with pytest.raises(ValueError, match="expected"):
            small.forward(tokens, state)
    assert not state.wkv.any()


def test_a_state_of_another_model_is_refused(small, demo):
    with pytest.raises(gv.StateError, match="use a state of the same model"):
        small.forward([1], demo.new_state())


# -- many at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16", "int8", "int4"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_many_sequences_have_the_bits_of_one(dtype, count, threads, monkeypatch):
    monkeypatch.setenv("GOOSE_VIZ_THREADS", threads)
    model = gv.load_model(DATA / "random-L2-D96-N16.bf16.pth", device="cpu", dtype=dtype)
    V = model.config.vocab_size
    together = [model.new_state() for _ in range(count)]
    for i, state in enumerate(together):  # each has come another way
        model.forward([(3 + 5 * i + k) % V for k in range(1 + i % 3)], state)
    singly = [state.copy() for state in together]
    for step in range(3):
        tokens = [(7 * i + 13 * step + 5) % V for i in range(count)]
        logits = model.forward_many(tokens, together)
        assert logits.shape == (count, V)
        for token, state, row in zip(tokens, singly, logits, strict=True):
            np.testing.assert_array_equal(model.forward([token], state), row)
    for one, other in zip(together, singly, strict=True):
        for name, array in one.arrays().items():
            np.testing.assert_array_equal(array, other.arrays()[name])


def test_many_sequences_on_the_reference():
    model = gv.load_model(DATA / "random-L2-D96-N16.bf16.pth", device="reference")
    together = [model.new_state() for _ in range(3)]
    singly = [model.new_state() for _ in range(3)]
    for tokens in ([1, 2, 3], [4, 4, 4]):
        logits = model.forward_many(tokens, together)
        for token, state, row in zip(tokens, singly, logits, strict=True):
            np.testing.assert_array_equal(model.forward([token], state), row)


def test_other_numbers_of_sequences_in_between():
    model = gv.load_model(DATA / "random-L2-D96-N16.bf16.pth", device="cpu")
    states = [model.new_state() for _ in range(4)]
    alone = model.new_state()
    for token, count in ((3, 4), (5, 2), (7, 4), (9, 1)):
        found = model.forward_many([token] * count, states[:count])
        expected = model.forward([token], alone)
        np.testing.assert_array_equal(found[0], expected)
        model.forward([token, token], model.new_state())  # and others' tokens


@pytest.mark.parametrize(
    ("tokens", "which", "words"),
    [
        ([], [], "0 tokens for 0 states"),
        ([1, 2], [0], "2 tokens for 1 states"),
        ([1, 5000], [0, 1], "token 5000 is outside the vocabulary"),
        ([1, 2], [0, 0], "a state is there twice"),
    ],
)
def test_many_sequences_that_will_not_do(demo, tokens, which, words):
    states = [demo.new_state() for _ in range(2)]
    with pytest.raises(ValueError, match=words):
        demo.forward_many(tokens, [states[i] for i in which])
    assert not any(array.any() for state in states for array in state.arrays().values())

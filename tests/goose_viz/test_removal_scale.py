"""A factor before the removal: in files, in every engine, in what is worked out from frames."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import goose_viz as gv
from goose_viz import analysis as ga
from goose_viz import cli
from goose_viz.analysis.causal_trace import tracing
from goose_viz.analysis.steps import finish
from tests.conftest import save_random, two_heads_of
from tests.kept import reference_of

TOKENS = np.random.default_rng(0).integers(0, 61, 37).tolist()


@pytest.fixture(scope="module", params=[0, 1.5, 2])
def scaled(request, tmp_path_factory):
    """(path, c) of a random model."""
    path = tmp_path_factory.mktemp("scaled") / "m.safetensors"
    save_random(path, two_heads_of(16, request.param))
    return path, request.param


def run(path, portions, **how):
    model = gv.load_model(path, **how)
    state, probe, at, logits = model.new_state(), gv.Probe(gv.OBSERVABLES), 0, []
    for n in portions:
        logits.append(model.forward(TOKENS[at : at + n], state, all_logits=True, probe=probe))
        at += n
    return np.concatenate(logits), state, probe.frames


def test_the_reference_is_the_formula(scaled):
    path, c = scaled
    _, state, frames = run(path, (37,), device="reference")
    S = np.zeros_like(state.wkv)
    for frame in frames:
        assert frame.removal_scale == c
        w, a, kappa, k, v = (
            getattr(frame, n).reshape(3, 2, 16)
            for n in ("decay", "iclr", "removal_key", "replacement_key", "value")
        )
        eye = np.eye(16)
        G = eye * w[..., None, :] - c * kappa[..., :, None] * (kappa * a)[..., None, :]
        removed = c * (S @ kappa[..., None]) * (kappa * a)[..., None, :]
        norms = np.linalg.norm(removed, axis=(-2, -1))
        np.testing.assert_allclose(frame.removed_norm, norms, rtol=1e-12, atol=1e-15)
        S = S @ G + v[..., :, None] * k[..., None, :]
        np.testing.assert_allclose(frame.wkv, S, rtol=0, atol=1e-12 * np.abs(S).max())


@pytest.mark.parametrize("portions", [(1,) * 37, (37,)], ids=["single", "prompt"])
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_the_cpu_against_the_reference(scaled, portions, dtype, tmp_path):
    path, c = scaled
    logits, state, frames = run(path, portions, device="cpu", dtype=dtype)
    reference_of(path, dtype, tmp_path)
    expected, other, others = run(tmp_path / "kept.safetensors", (37,), device="reference")
    allowed = 2e-5 if dtype == "fp32" else 1e-3
    assert np.abs(logits - expected).max() <= allowed * np.abs(expected).max()
    assert np.abs(state.wkv - other.wkv).max() <= allowed * np.abs(other.wkv).max()
    removed, theirs = (np.stack([f.removed_norm for f in fs]) for fs in (frames, others))
    assert np.abs(removed - theirs).max() <= allowed * max(np.abs(theirs).max(), 1e-9)
    assert (c == 0) == (not removed.any())


def test_many_side_by_side(scaled):
    path, _ = scaled
    model = gv.load_model(path, device="cpu", dtype="fp32")
    states = [model.new_state() for _ in range(3)]
    alone = [model.new_state() for _ in range(3)]
    for t in range(0, 30, 3):
        found = model.forward_many(TOKENS[t : t + 3], states)
        for i in range(3):
            assert (found[i] == model.forward([TOKENS[t + i]], alone[i])).all()


def test_what_is_worked_out_from_frames(scaled):
    """Edits, spectra, health, transport, forgetting and the attribution know the factor."""
    path, c = scaled
    model = gv.load_model(path, device="reference")
    session = gv.Session(model, gv.Sampler(seed=1), gv.Probe(gv.OBSERVABLES))
    session.feed(TOKENS)
    before, frame = session.state_at(36).wkv, session.frame
    for layer, head in ((0, 0), (2, 1)):
        edit = ga.edit(before[layer, head], frame, layer, head)
        np.testing.assert_allclose(edit.result, session.state.wkv[layer, head], atol=1e-12)
        w, a, kappa = (
            getattr(frame, n)[layer].reshape(2, 16)[head] for n in ("decay", "iclr", "removal_key")
        )
        G = np.diag(w) - c * np.outer(kappa, kappa * a)
        eigenvalues = np.sort(np.linalg.eigvals(G).real)
        np.testing.assert_allclose(ga.spectrum(frame, layer, head), eigenvalues, atol=1e-12)
        least = ga.health(session.frames()).least[-1, layer, head]
        assert least == pytest.approx(eigenvalues[0], abs=1e-12)
        whole = ga.attention(session.frames(), layer, head)
        np.testing.assert_allclose(whole.read, frame.read[layer, head], rtol=1e-9, atol=1e-12)
    found = ga.attribution(model, session.frames(), target=5)
    assert found.total == pytest.approx(session.logits[5], rel=1e-9)
    surprise = ga.health(session.frames()).rms[-1]
    np.testing.assert_allclose(surprise, np.sqrt((session.state.wkv**2).mean((2, 3))), rtol=1e-9)
    remains = np.stack([[ga.remains(session.frames(), i, h, 20) for h in (0, 1)] for i in range(3)])
    expected = session.state.wkv - remains
    session.apply(gv.Forget(20))
    np.testing.assert_allclose(session.state.wkv, expected, atol=1e-12)


def test_replacing_goes_on_with_it(scaled):
    """The other word's memory, carried through the transitions of what came since."""
    path, c = scaled
    model = gv.load_model(path, device="reference")
    session = gv.Session(model, gv.Sampler(seed=1), gv.Probe(gv.OBSERVABLES))
    session.feed(TOKENS)
    frames = session.frames()
    other = session.state_at(10).copy()
    model.forward([3], other)
    S = other.wkv - session.state_at(11).wkv
    S = S.copy()
    for frame in frames[11:]:
        w, a, kappa = (
            getattr(frame, n).reshape(3, 2, 16) for n in ("decay", "iclr", "removal_key")
        )
        taken = np.einsum("lhvk,lhk->lhv", S, kappa)
        S = S * w[..., None, :] - c * taken[..., None] * (kappa * a)[..., None, :]
    expected = session.state.wkv + S
    session.apply(gv.Replace(10, 11, [3]))
    np.testing.assert_allclose(session.state.wkv, expected, atol=1e-12)


def test_a_snapshot_has_it(scaled, tmp_path):
    path, c = scaled
    model = gv.load_model(path, device="cpu")
    session = gv.Session(model, gv.Sampler(seed=1), gv.Probe(gv.OBSERVABLES))
    session.feed(TOKENS)
    gv.save_snapshot(tmp_path / "s.safetensors", session)
    snapshot = gv.load_snapshot(tmp_path / "s.safetensors")
    again = snapshot.resume(model, probe=gv.Probe(gv.OBSERVABLES))
    found = ga.spectrum(again.frame, 1, 1)
    np.testing.assert_array_equal(found, ga.spectrum(session.frame, 1, 1))
    assert snapshot.differs(model) == ""
    tensors = load_file(path)
    save_file(tensors, tmp_path / "m.safetensors", metadata={"removal_scale": "0.5"})
    assert snapshot.differs(gv.load_model(tmp_path / "m.safetensors", device="cpu")) == (
        f"removal scale {float(c)}"
    )


def test_causal_traces_compute_with_it(scaled, tmp_path):
    """Whoever runs many at once writes the same memories as the engine."""
    path, _ = scaled
    model = gv.load_model(path, device="cpu", dtype="fp32")
    logits = model.forward(TOKENS, model.new_state()).astype(np.float64)
    p = np.exp(logits - logits.max())
    traced = finish(tracing(model, TOKENS, [2], 2, draws=1))
    assert traced.clean == pytest.approx(p[2] / p.sum(), rel=1e-3)
    save_file(load_file(path), tmp_path / "one.safetensors")
    other = gv.load_model(tmp_path / "one.safetensors", device="cpu", dtype="fp32")
    without = finish(tracing(other, TOKENS, [2], 2, draws=1)).clean
    assert without != pytest.approx(traced.clean, rel=1e-2), "it would be seen"


def test_convert_keeps_it(scaled, tmp_path, capfd):
    path, c = scaled
    expected = run(path, (37,), device="cpu", dtype="fp32")[0]
    source = path
    for to, file in (
        ("hf", "a"),
        ("fla", "b"),
        ("gguf", "c.gguf"),
        ("safetensors", "d.safetensors"),
    ):
        out = tmp_path / file
        assert cli.run(["convert", str(source), str(out), "--to", to]) == 0
        assert f"removal_scale {c:g} and compute with 1" in " ".join(capfd.readouterr().out.split())
        assert gv.load_model(out).config.removal_scale == c
        assert (run(out, (37,), device="cpu", dtype="fp32")[0] == expected).all()
        source = out
    with safe_open(tmp_path / "d.safetensors", framework="np") as file:
        assert float(file.metadata()["removal_scale"]) == c


def test_info_shows_it(scaled, capfd):
    path, c = scaled
    assert cli.run(["info", str(path)]) == 0
    assert f"removal scale {c:g}, in S diag(w) - c (S kappa)(kappa a)^T" in " ".join(
        capfd.readouterr().out.replace("│", " ").split()
    )
    assert cli.run(["info", "stories-7M"]) == 0
    assert "removal scale" not in capfd.readouterr().out


@pytest.mark.parametrize("said", ["3", "-0.5", "two", "nan", "inf", ""])
def test_a_factor_that_is_none(tmp_path, scaled, said):
    save_file(load_file(scaled[0]), tmp_path / "m.safetensors", metadata={"removal_scale": said})
    with pytest.raises(gv.CheckpointError, match="expected a number from 0, for no removal, to 2"):
        gv.load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("said", [2.5, "2.5", True, None, [2]])
def test_a_config_that_says_none(tmp_path, small_folder, said):
    config = small_folder(removal_scale=said)
    if said is None:  # silent, as null is everywhere
        assert gv.load_model(config).config.removal_scale == 1
        return
    with pytest.raises(gv.CheckpointError, match=r"config\.json says removal_scale"):
        gv.load_model(config)


def test_who_contradicts_the_file(tmp_path, scaled, capfd):
    folder = tmp_path / "hf"
    assert cli.run(["convert", str(scaled[0]), str(folder), "--to", "hf"]) == 0
    capfd.readouterr()
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", metadata={"removal_scale": "0.25"})
    with pytest.raises(gv.CheckpointError, match=r"says removal_scale .* says 0\.25; one of the"):
        gv.load_model(folder)


@pytest.fixture
def small_folder(tmp_path, tmp_path_factory):
    """Make a folder in Transformers' layout whose config says more."""
    import json

    source = tmp_path_factory.mktemp("one") / "m.safetensors"
    save_random(source, two_heads_of(16))

    def make(**more):
        folder = tmp_path / "hf"
        assert cli.run(["convert", str(source), str(folder), "--to", "hf"]) == 0
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | more))
        return folder

    return make

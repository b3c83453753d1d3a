"""The whole model on a card, through goose_viz: against the oracle, and against the CPU."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import goose_viz as gv
from goose_viz import analysis as ga
from goose_viz.config import Config
from goose_viz.ranking import Candidates
from goose_viz.weights import expected_shapes
from tests.conftest import save_random
from tests.gpu.backends import BACKENDS, backends, open_card
from tests.kept import reference_of

pytestmark = pytest.mark.skipif(not BACKENDS, reason="neither numba-cuda nor its simulator is here")
DATA = Path(__file__).parents[1] / "data"
#: float32 rounding through all layers; a prompt in bfloat16 keeps 2^-17 of an activation.
TOLERANCE = {"fp32": 2e-6, "bf16": 3e-5, "fp16": 1e-5}


def only(*names):
    """Run a test on some backends only: what it looks at does not depend on the architecture."""
    return pytest.mark.parametrize("cuda", backends(*names), indirect=True)


@pytest.fixture(params=BACKENDS)
def cuda(request, monkeypatch):
    """Load a model onto the backend's card; with the numbers of tokens that are few and many."""

    def load(source, dtype="auto", few=4, chunk=16):
        import goose_gpu
        import goose_viz.cuda
        from goose_gpu.engine import Engine

        class Small(Engine):
            def __init__(self, card, *args):
                super().__init__(card, *args, few=few, chunk=chunk)

        monkeypatch.setattr(goose_viz.cuda, "Engine", Small)
        if request.param.startswith("sm_"):
            monkeypatch.setattr(goose_viz.cuda, "Card", lambda ordinal: open_card(request.param))
            monkeypatch.setattr(goose_gpu, "choose_card", lambda ordinal: None)
        return gv.load_model(source, device="cuda", dtype=dtype)

    load.backend = request.param
    return load


def feed(model, tokens, portions, observables=gv.OBSERVABLES):
    state, probe, logits, at = model.new_state(), gv.Probe(observables), [], 0
    for n in portions:
        logits.append(model.forward(tokens[at : at + n], state, all_logits=True, probe=probe))
        at += n
    return np.concatenate(logits), state, probe.frames


def close(found, expected, tolerance, name=""):
    scale = max(np.abs(expected).max(), 1e-30)
    error = np.abs(found - expected).max() / scale
    assert error <= tolerance, f"{name}: {error:.1e}"


def test_the_oracle(cuda):
    """Three tokens of the oracle, one at a time, and each observable."""
    name = "random-L2-D96-N16"
    model = cuda(DATA / f"{name}.bf16.pth")
    assert model.device == "cuda"
    assert model.dtype == "bf16"
    assert model.device_words
    expected = load_file(DATA / f"{name}.expected.safetensors")
    tokens = expected["tokens"].tolist()[:3]
    logits, state, frames = feed(model, tokens, (1, 2))
    close(logits, expected["logits"][:3], 2e-6, "logits")
    for observable in ("decay", "iclr", "removed_norm", "written_norm"):
        found = np.stack([getattr(f, observable) for f in frames])
        close(found, expected[observable][:3], 2e-6, observable)
    reference = gv.load_model(DATA / f"{name}.bf16.pth", device="reference")
    _, other, others = feed(reference, tokens, (3,))
    for key, array in state.arrays().items():
        close(array, other.arrays()[key], 2e-6, key)
    for observable in gv.OBSERVABLES:
        for mine, theirs in zip(frames, others, strict=True):
            a, b = getattr(mine, observable), getattr(theirs, observable)
            assert a.shape == b.shape
            close(a, b, 2e-6, observable)


@pytest.mark.parametrize(
    ("cuda", "name", "dtype"),
    [
        pytest.param(b.values[0], name, dtype, marks=b.marks)
        for name, dtype, names in (
            ("random-L3-D128-N64", "bf16", ("sm_90", "sm_120")),
            ("random-L2-D96-N16", "bf16", ("sm_75", "driver")),
            ("random-L2-D96-N16", "fp16", ("sm_90",)),
            ("random-L2-D96-N16", "fp32", ("sm_90",)),
        )
        for b in backends(*names)
    ],
    indirect=["cuda"],
)
def test_the_oracle_as_a_prompt(cuda, name, dtype):
    model = cuda(DATA / f"{name}.bf16.pth", dtype)
    expected = load_file(DATA / f"{name}.expected.safetensors")
    logits, state, frames = feed(model, expected["tokens"].tolist(), (1, 21, 2))
    tolerance = TOLERANCE[dtype]
    close(logits, expected["logits"], tolerance, "logits")
    close(state.wkv, expected["wkv_after_last"], tolerance, "wkv")
    for key in ("att_shift", "ffn_shift"):
        close(getattr(state, key), expected[key], tolerance, key)
    for observable in ("decay", "iclr", "removed_norm", "written_norm"):
        found = np.stack([getattr(f, observable) for f in frames])
        close(found, expected[observable], tolerance, observable)


@pytest.mark.parametrize(
    ("cuda", "name", "dtype"),
    [
        pytest.param(b.values[0], name, dtype, marks=b.marks)
        for name, dtype, arch in (
            ("random-L3-D128-N64", "int8", "sm_75"),
            ("random-L2-D96-N16", "int8", "sm_90"),
            ("random-L2-D96-N16", "int4", "sm_75"),
            ("random-L3-D128-N64", "int4", "sm_90"),
        )
        for b in backends(arch)
    ],
    indirect=["cuda"],
)
def test_whole_numbers_are_the_ones_that_are_kept(cuda, name, dtype, tmp_path):
    """The same rows with the same scales, one token or many at a time."""
    path = DATA / f"{name}.bf16.pth"
    tokens = load_file(DATA / f"{name}.expected.safetensors")["tokens"].tolist()[:12]
    expected, other, others = feed(reference_of(path, dtype, tmp_path), tokens, (12,))
    model = cuda(path, dtype)
    assert model.dtype == dtype
    logits, state, frames = feed(model, tokens, (1, 9, 2))
    close(logits, expected, 5e-6)
    close(state.wkv, other.wkv, 5e-6)
    for observable in gv.OBSERVABLES:
        for mine, theirs in zip(frames, others, strict=True):
            close(getattr(mine, observable), getattr(theirs, observable), 5e-6, observable)


@only("sm_90", "simulator", "driver")
def test_portions(cuda, tiny):
    """Prompts and single tokens, with every observable, against the CPU."""
    tokens, portions = [3, 22, 0, 7, 7, 15], (1, 5)
    logits, state, frames = feed(cuda(tiny, chunk=3), tokens, portions)
    expected, other, others = feed(gv.load_model(tiny, device="cpu"), tokens, (1,) * 6)
    close(logits, expected, 5e-6)
    for key, array in state.arrays().items():
        close(array, other.arrays()[key], 5e-6, key)
    for observable in gv.OBSERVABLES:
        found = np.stack([getattr(f, observable) for f in frames])
        close(found, np.stack([getattr(f, observable) for f in others]), 5e-6, observable)


@only("sm_90", "simulator")
@pytest.mark.parametrize("removal_scale", [0, 2])
def test_a_factor_before_the_removal(cuda, tmp_path, removal_scale):
    """In single tokens and in prompts; the norms of what is removed know it too."""
    sizes = (2, 16, 2, 8, 40, 23, 5, 8, 3, 9)
    path = tmp_path / "scaled.safetensors"
    save_random(path, Config(*sizes, "safetensors", removal_scale=removal_scale))
    tokens = [3, 22, 0, 7, 7, 15]
    logits, state, frames = feed(cuda(path), tokens, (1, 4, 1))
    expected, other, others = feed(gv.load_model(path, device="reference"), tokens, (6,))
    close(logits, expected, 5e-6)
    close(state.wkv, other.wkv, 5e-6)
    for observable in gv.OBSERVABLES:
        found = np.stack([getattr(f, observable) for f in frames])
        close(found, np.stack([getattr(f, observable) for f in others]), 5e-6, observable)


@only("sm_90", "simulator")
def test_several_sequences_in_four_bits(cuda, tiny, tmp_path):
    """A token to each of two, twice: the oracle's numbers, and the bits of one at a time."""
    model, oracle = cuda(tiny, "int4"), reference_of(tiny, "int4", tmp_path)
    states, singly, expected = ([m.new_state() for _ in range(2)] for m in (model, model, oracle))
    for tokens in ([3, 22], [0, 7]):
        logits = model.forward_many(tokens, states)
        close(logits, oracle.forward_many(tokens, expected), 5e-6)
        alone = [model.forward([t], s) for t, s in zip(tokens, singly, strict=True)]
        np.testing.assert_array_equal(logits, np.stack(alone))
    for mine, other, theirs in zip(states, singly, expected, strict=True):
        np.testing.assert_array_equal(mine.wkv, other.wkv)
        close(mine.wkv, theirs.wkv, 5e-6)


@only("sm_90", "driver")
def test_one_layer_of_some_observables(cuda, tiny):
    model = cuda(tiny)
    reference = gv.load_model(tiny, device="cpu")
    layers = [1, 0]
    probe, other = (gv.Probe({"wkv", "decay"}, layers=layers) for _ in range(2))
    for portion in ([1], [2, 3, 4, 5, 6], [7]):
        state = model.new_state()
        model.forward(portion, state, probe=probe)
        reference.forward(portion, reference.new_state(), probe=other)
    model.forward([1], model.new_state(), probe=gv.Probe({"decay"}, layers=[]))
    for mine, theirs in zip(probe.frames, other.frames, strict=True):
        assert mine.wkv.shape == (2, 2, 8, 8)
        close(mine.wkv, theirs.wkv, 2e-6)
        close(mine.decay, theirs.decay, 2e-6)


@only("sm_90")
def test_a_prompt_has_the_same_bits_in_any_chunks(cuda, tiny):
    tokens = [3, 22, 0, 7, 7, 15]
    runs = [feed(cuda(tiny, chunk=chunk), tokens, (6,), {"wkv"}) for chunk in (6, 5, 2)]
    for logits, state, frames in runs[1:]:
        np.testing.assert_array_equal(logits, runs[0][0])
        np.testing.assert_array_equal(state.wkv, runs[0][1].wkv)
        np.testing.assert_array_equal(frames[3].wkv, runs[0][2][3].wkv)


@only("sm_90")
def test_probing_changes_no_bit(cuda, tiny):
    model = cuda(tiny)
    for portion in ([5], [1, 2, 3, 4, 5]):
        plain, probed = model.new_state(), model.new_state()
        a = model.forward(portion, plain)
        b = model.forward(portion, probed, probe=gv.Probe(gv.OBSERVABLES))
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(plain.wkv, probed.wkv)


@only("sm_90", "driver")
def test_states_on_the_card(cuda, tiny, monkeypatch):
    model = cuda(tiny)
    assert model.new_state().nbytes == gv.State.zeros(model.config).nbytes
    first, second = model.new_state(), model.new_state()
    model.forward([1], first)
    model.forward([9], second)  # two states take turns on one engine
    kept = first.copy()
    a = model.forward([2], first)
    model.forward([4], second)
    np.testing.assert_array_equal(model.forward([2], kept), a)
    np.testing.assert_array_equal(kept.wkv, first.wkv)

    second.assign(first)
    np.testing.assert_array_equal(model.forward([3], second), model.forward([3], first))

    # looking and editing are two calls: what was only looked at costs no way back to the card
    sent = []
    engine = model._engine.engine
    write = engine.write
    monkeypatch.setattr(engine, "write", lambda *a: (sent.append(1), write(*a)))
    assert np.isfinite(first.wkv).all()
    model.forward([3], first.copy())
    model.forward([3], first)
    model.forward([3], second)
    assert not sent
    with pytest.raises(ValueError, match="read-only"):
        first.wkv[0, 0] = 0

    # the host's arrays may be changed, and are brought up to date when they are asked for
    first.edit().wkv[0, 0] = 0
    first.ffn_shift = np.ones_like(first.ffn_shift)
    host = gv.State(first.wkv.copy(), first.att_shift.copy(), first.ffn_shift.copy())
    assert not host.wkv[0, 0].any()
    changed = model.forward([3], first)
    np.testing.assert_array_equal(model.forward([3], host), changed)  # a host's state works too
    np.testing.assert_array_equal(host.wkv, first.wkv)
    assert np.abs(changed - model.forward([3], second)).max() > 1e-4

    # neither looking, copying nor taking over from oneself loses anything
    view = first.edit().wkv
    copied = first.copy()
    view[...] = 0
    first.assign(first)
    assert np.abs(model.forward([3], first) - model.forward([3], copied)).max() > 1e-4
    now = first.wkv.copy()
    first.assign(first)
    np.testing.assert_array_equal(first.wkv, now)

    foreign = gv.load_model(DATA / "random-L2-D96-N16.bf16.pth").new_state()
    with pytest.raises(gv.StateError, match="same model"):
        first.assign(foreign)
    np.testing.assert_array_equal(first.wkv, now)
    with pytest.raises(gv.StateError, match="same model"):
        model.forward([1], gv.load_model(DATA / "random-L2-D96-N16.bf16.pth").new_state())


@only("sm_90")
def test_a_session(cuda, tiny, tmp_path):
    """Steps, going back, branching and snapshots are what they are elsewhere."""
    model = cuda(tiny)
    session = gv.Session(model, gv.Sampler(seed=5), gv.Probe({"decay", "wkv"}))
    session.feed([1, 2, 3, 4, 5])
    states = {}
    for step in session.run(4):
        states[step.position] = session.state.copy()
    tokens = session.tokens
    session.goto(6)
    np.testing.assert_array_equal(session.state.wkv, states[6].wkv)
    session.step()
    np.testing.assert_array_equal(session.state.wkv, states[7].wkv)
    session.branch(6, 11)
    assert session.tokens == [*tokens[:6], 11]
    gv.save_snapshot(tmp_path / "a.safetensors", session)
    snapshot = gv.load_snapshot(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(snapshot.state.wkv, session.state.wkv)
    session.state.save(tmp_path / "b.safetensors")
    loaded = gv.State.load(tmp_path / "b.safetensors")
    np.testing.assert_array_equal(loaded.att_shift, session.state.att_shift)


@only("sm_90", "driver")
def test_edits_and_frames(cuda, tiny, tmp_path):
    """An edit reaches the card and is repeated there; frames explain it as on the CPU."""
    model = cuda(tiny)
    session = gv.Session(model, gv.Sampler(seed=5))
    other = gv.Session(gv.load_model(tiny, device="cpu"), gv.Sampler(seed=5))
    for s in (session, other):
        s.feed([1, 2, 3, 4])
        s.feed([5])
        s.apply(gv.Forget(1, layer=1), again=1)
        s.apply(gv.Replace(2, 4, [7]))
        s.feed([6])
    close(session.state.wkv, other.state.wkv, 1e-5)
    close(session.logits, other.logits, 1e-5)
    after = session.state.copy()
    session.goto(2)
    session.goto(6)
    np.testing.assert_array_equal(session.state.wkv, after.wkv)
    found, expected = (
        ga.attribution(s.model, s.frames(), 3, 4, s.logits) for s in (session, other)
    )
    close(found.tokens, expected.tokens, 1e-4)
    assert abs(found.total - (session.logits[3] - session.logits[4])) < 1e-4
    gv.save_snapshot(tmp_path / "a.npz", session)
    back = gv.load_snapshot(tmp_path / "a.npz").resume(model)
    np.testing.assert_array_equal(back.state.wkv, after.wkv)
    session.undo()
    session.undo()
    assert session.position == 5
    assert not session.edits


@only("sm_90", "simulator", "driver")
def test_what_the_card_finds_is_what_the_host_would(cuda, tiny, monkeypatch):
    """Candidates behind each single token, and a session's text with them and without."""
    from goose_gpu.candidates import REACH

    model = cuda(tiny)
    state = model.new_state()
    for token in (1, 2, 3):
        found = Candidates()
        logits = model.forward([token], state, candidates=found)
        assert found.highest == logits.max()
        within = np.flatnonzero(logits >= np.float32(logits.max()) - REACH)
        np.testing.assert_array_equal(found.ids, within)
        total = np.exp(logits.astype(np.float64) - found.highest).sum()
        assert abs(found.total - total) <= 1e-12 * total
    found = Candidates()
    model.forward([1] * 8, state, candidates=found)  # a prompt
    assert found.ids is None
    texts = []
    for device_finds in (True, False):
        if not device_finds:
            monkeypatch.setattr(Candidates, "fill", lambda *_: None)
        session = gv.Session(model, gv.Sampler(seed=3, temperature=2.0))
        session.feed([1, 2])
        steps = [session.step() for _ in range(5)]
        assert (session._candidates.ids is not None) == device_finds
        texts.append([(s.token, s.top[:3]) for s in steps])
    assert [t for t, _ in texts[0]] == [t for t, _ in texts[1]]
    for (_, top), (_, host) in zip(*texts, strict=True):
        assert [t for t, _ in top] == [t for t, _ in host]
        np.testing.assert_allclose([p for _, p in top], [p for _, p in host], rtol=1e-6)


def test_greedy_choice_without_the_host(cuda, tiny):
    model = cuda(tiny)
    engine = model._engine.engine
    state = model.new_state()
    found = engine.greedy(4, 5, state.to_card())
    other, logits, expected = model.new_state(), None, []
    token = 4
    for _ in range(5):
        logits = model.forward([token], other)
        token = int(np.argmax(logits))
        expected.append(token)
    assert found.tolist() == expected
    state.advanced()
    np.testing.assert_array_equal(state.wkv, other.wkv)


@only("sm_90", "simulator")
def test_launches_of_a_token(cuda, tiny):
    """Five a layer, one each for the embedding and the head, two for what sampling needs."""
    model = cuda(tiny)
    queue, state = model._engine.engine.card.queue, model.new_state()
    before = queue.launches
    model.forward([1], state)
    assert queue.launches - before == 5 * model.config.n_layer + 4


@only("sm_90")
def test_head_sizes_that_do_not_fit(cuda, tmp_path):
    config = Config(1, 12, 1, 12, 8, 5, 2, 2, 0, 2, "safetensors")
    tensors = {n: np.ones(s, np.float32) for n, s in expected_shapes(config).items()}
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(gv.GooseError, match="heads of 12 channels"):
        cuda(tmp_path / "odd.safetensors")

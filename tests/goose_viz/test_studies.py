"""What is asked of heads, layers and runs, against plain float64 computations written out here."""

import sys

import numpy as np
import pytest

import goose_viz as gv
from goose_viz import analysis as ga
from goose_viz.analysis.comparison import comparing
from goose_viz.analysis.sensitivity import sensing
from goose_viz.analysis.steps import finish
from goose_viz.errors import Stopped
from goose_viz.reference import Layer, ReferenceEngine
from goose_viz.state import State
from tests.conftest import save_random, two_heads_of

TOKENS = np.random.default_rng(5).integers(0, 61, 24).tolist()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(session in float32, session in float64) behind the same tokens."""
    path = tmp_path_factory.mktemp("weights") / "n16.safetensors"
    save_random(path, two_heads_of(16))
    out = []
    for device in ("cpu", "reference"):
        model = gv.load_model(path, device=device, dtype="fp32" if device == "cpu" else "auto")
        session = gv.Session(model, gv.Sampler(seed=1), gv.Probe(gv.OBSERVABLES))
        session.feed(TOKENS[:15])
        for token in TOKENS[15:]:
            session.feed([token])
        out.append(session)
    return out


def close(found, expected, tolerance=1e-4):
    error = np.abs(np.asarray(found) - expected).max()
    assert error <= tolerance * max(np.abs(expected).max(), 1e-30), error


def chances(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def divergence(p, q):
    return (p * np.log(p / q)).sum()


# -- layers and heads --------------------------------------------------------------------------


def lens_by_hand(session):
    W, out = session.model._engine.weights, []
    for x in session.frame.residual:
        x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
        out.append(W["head.weight"] @ (x * W["ln_out.weight"] + W["ln_out.bias"]))
    return np.array(out)


def test_the_lens_and_when_it_was_decided(pair):
    logits = lens_by_hand(pair[1])
    p = chances(logits)
    close(logits[-1], pair[1].logits, 1e-12)
    for session, tolerance in zip(pair, (1e-4, 1e-12), strict=True):
        model, frame = session.model, session.frame
        for layer, said in enumerate(ga.lens(model, frame, 3)):
            best = np.argsort(-p[layer])[:3]
            assert [t for t, _ in said] == best.tolist()
            close([chance for _, chance in said], p[layer][best], tolerance)
        for token in (0, 17, 60):
            found = ga.decided(model, frame, token)
            close(found.probability, p[:, token], tolerance)
            ranks = [1 + int((row > row[token]).sum()) for row in logits]
            assert found.rank.tolist() == ranks
    with pytest.raises(ValueError, match="token 61 is outside"):
        ga.decided(pair[0].model, pair[0].frame, 61)


def test_equal_logits_rank_by_their_ids():
    from goose_viz.analysis.readout import pin

    row = np.array([[2.0, 5.0, 2.0, 2.0]])
    assert [int(pin(row, t).rank[0]) for t in range(4)] == [2, 1, 3, 4]


def test_what_a_head_promotes_adds_up(pair):
    session = pair[1]
    W, frame, c = session.model._engine.weights, session.frame, session.model.config
    x = frame.residual[-1]
    held = np.sqrt(x.var() + 1e-5)
    for layer, head in ((0, 1), (2, 0)):
        part = slice(16 * head, 16 * head + 16)
        y = frame.read[layer, head]
        y = (y - y.mean()) / np.sqrt(y.var() + c.group_norm_eps)
        at = f"blocks.{layer}.att."
        y = y * W[f"{at}ln_x.weight"][part] + W[f"{at}ln_x.bias"][part]
        y = y + frame.bonus[layer, head] * frame.value[layer, part]
        given = W[f"{at}output.weight"][:, part] @ (y * frame.gate[layer, part])
        gain = W["head.weight"] @ ((given - given.mean()) / held * W["ln_out.weight"])
        gain -= gain.mean()
        for each, tolerance in zip(pair, (1e-4, 1e-12), strict=True):
            up, down = ga.promoted(each.model, each.frame, layer, head, 4)
            assert [t for t, _ in up] == np.argsort(-gain)[:4].tolist()
            assert [t for t, _ in down] == np.argsort(gain)[:4].tolist()
            close([g for _, g in up], np.sort(gain)[::-1][:4], tolerance)
        # the same head in an attribution: past tokens, bonus and bias of the group norm
        of = [ga.attribution(session.model, session.frames(), t) for t in (3, 9)]
        mine = [(a.tokens.sum(-1) + a.bonus + a.norm_bias)[layer, head] for a in of]
        assert mine[0] - mine[1] == pytest.approx(gain[3] - gain[9], rel=1e-9)
    with pytest.raises(ValueError, match="layer 3 head 0 is not there"):
        ga.promoted(session.model, frame, 3, 0)


def test_a_pinned_word_over_the_tokens(pair):
    expected = [chances(logits) for _, logits in pair[1].expected()]
    for session, tolerance in zip(pair, (1e-4, 1e-12), strict=True):
        found = ga.pinned(session, 9)
        close(found.probability, [p[9] for p in expected], tolerance)
        assert found.rank.tolist() == [1 + int((p > p[9]).sum()) for p in expected]
    # what is expected behind the last token is what the session has, bit for bit
    ((_, last),) = session.expected(23)
    assert (last == session.logits).all()


def test_nothing_is_pinned_before_the_first_token(pair):
    found = ga.pinned(gv.Session(pair[0].model), 9)
    assert (len(found.probability), len(found.rank)) == (0, 0)


def test_a_memory_that_broke_is_said_and_not_ranked(pair):
    session = pair[0].twin()
    session.apply(gv.Scale(1e38), again=0)
    session.apply(gv.Scale(1e38))
    with np.errstate(all="ignore"):
        session.feed([3])
        assert all(np.isnan(p) for _, p in session.next_tokens(5))
        found = ga.health(session.frames(24, 25))
    assert "from token 24 on" in found.warnings()[0]


# -- health ------------------------------------------------------------------------------------


def test_health(pair):
    frames, L, H, N = pair[1].frames(), 3, 2, 16
    found = {s.model.device: ga.health(s.frames(), ranks_at=range(24)) for s in pair}
    S = np.zeros((L, H, N, N))
    for t in range(24):
        w, a, kappa, k, v = (
            frames.heads(n)[t] for n in ("decay", "iclr", "removal_key", "replacement_key", "value")
        )
        missed = np.linalg.norm(v - np.einsum("lhvk,lhk->lhv", S, kappa), axis=-1)
        G = w[..., None] * np.eye(N) - kappa[..., None] * (kappa * a)[..., None, :]
        S = S @ G + v[..., None] * k[..., None, :]
        least = np.linalg.eigvals(G).real.min(-1)
        singular = np.linalg.svd(S, compute_uv=False)
        share = singular / singular.sum(-1, keepdims=True)
        logs = np.where(share > 0, np.log(np.maximum(share, 1e-300)), 0)
        for device, tolerance in (("cpu", 1e-3), ("reference", 1e-10)):
            h = found[device]
            close(h.rms[t], np.sqrt((S * S).mean((-1, -2))), tolerance)
            close(h.surprise[t], missed, tolerance)
            close(h.value[t], np.linalg.norm(v, axis=-1), tolerance)
            close(h.least[t], least, tolerance)
            close(h.stable_rank[t], (singular**2).sum(-1) / singular[..., 0] ** 2, tolerance)
            close(h.effective_rank[t], np.exp(-(share * logs).sum(-1)), tolerance)
            close(h.largest[t], np.abs(S).max((-1, -2)), tolerance)
        close(np.sort(ga.spectrum(frames[t], 1, 1))[0], least[1, 1], 1e-10)
    assert found["cpu"].warnings() == []
    one = ga.health(frames, 1, 1)
    close(one.rms[:, 1, 1], found["reference"].rms[:, 1, 1], 1e-12)
    assert not one.rms[:, 0].any()
    assert one.at.tolist() == [23]
    part = ga.health(pair[1].frames(20, 24))
    close(part.surprise, found["reference"].surprise[20:], 1e-12)


def test_health_says_what_is_wrong(pair):
    session = pair[0].twin()
    session.apply(gv.Put(np.full((3, 2, 16, 16), 3e4, np.float32), 1, 0))
    session.step()
    # writing again what was edited: the figures are those of the memory that there is
    found = ga.health(session.frames())
    close(found.rms[-1], np.sqrt((session.state.wkv**2).mean((-1, -2))), 1e-3)
    (warning,) = found.warnings()
    assert warning.startswith("The memory of layer 1 head 0 saturates: its largest number is ")
    frames = session.frames(initial=False)
    numbers = frames.arrays["value"].copy()
    numbers[7, 2, 20] = np.nan
    frames.arrays["value"] = numbers
    assert ga.health(frames).warnings()[0] == (
        "The memory of layer 2 head 1 holds NaN or infinite numbers from token 7 on."
    )


@pytest.mark.parametrize("edit", [
    gv.Scale(0.5, 1), gv.Zero(), gv.Mute(27, 0), gv.Noise(0.3),
    gv.Steer(np.full((3, 2, 16, 16), 0.05), 1.0, 27),
], ids=lambda e: type(e).__name__)  # fmt: skip
def test_health_across_edits(pair, edit):
    session = pair[1].twin()
    session.apply(edit)
    session.feed([4])
    session.apply(gv.Scale(0.7))
    session.apply(gv.Add(np.full((3, 2, 16, 16), 0.1)))
    for _ in range(4):
        session.step()
    close(ga.health(session.frames()).rms[-1], np.sqrt((session.state.wkv**2).mean((-1, -2))))


def test_attention_on_the_average(pair):
    session = pair[1]
    frames = session.frames(observables=(*ga.memory.PAST, "receptance"))
    maps = [[np.abs(ga.attention_map(frames, i, h)) for h in range(2)] for i in range(3)]
    shares = np.array([[m / m.sum(-1, keepdims=True) for m in row] for row in maps])
    close(ga.attention_mean(frames), shares.mean((0, 1)), 1e-12)
    close(ga.attention_mean(frames, 2), shares[2].mean(0), 1e-12)
    assert ga.attention_mean(frames).sum(-1) == pytest.approx(1)


# -- which heads matter ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zero", "exchange", "noise"])
def test_sensitivity(pair, kind):
    sigmas = {"sigma": [0.5, 2.0]} if kind == "noise" else {}
    for session, tolerance in zip(pair, (1e-3, 1e-9), strict=True):
        reader = pair[1].model
        before = session.state_at(23)
        p = chances(reader.forward(TOKENS[-1:], before.copy()))
        wkv = before.wkv.astype(np.float64)
        rms = np.sqrt((wkv**2).mean((-1, -2)))
        rng = np.random.default_rng(7)
        noises = [rng.standard_normal(wkv.shape) for _ in range(3)]

        def moved(layer, changed, before=before, p=p, reader=reader):
            state = State(*(a.astype(np.float64) for a in before.arrays().values()))
            state.wkv[layer] = changed
            return divergence(p, chances(reader.forward(TOKENS[-1:], state)))

        expected = np.zeros((2, 3, 2))
        for layer, head in np.ndindex(3, 2):
            for row, size in enumerate((0.5, 2.0)):
                figures = []
                for noise in noises:
                    changed = wkv[layer].copy()
                    if kind == "zero":
                        changed[head] = 0
                    elif kind == "exchange":
                        changed[:] = changed[::-1]
                    else:
                        changed[head] += size * rms[layer, head] * noise[layer, head]
                    figures.append(moved(layer, changed))
                expected[row, layer, head] = np.mean(figures)
        found = ga.sensitivity(session, kind, draws=3, seed=7, **sigmas)
        close(found, expected if kind == "noise" else expected[0], tolerance)
        by_layer = ga.sensitivity(session, kind, by="layer", draws=3, seed=7)
        assert by_layer.shape == (3,)
        if kind != "noise":
            emptied = wkv[1] * 0 if kind == "zero" else wkv[1][::-1]
            assert by_layer[1] == pytest.approx(moved(1, emptied), rel=1e-2, abs=1e-9)
    assert session.position == 24


def test_sensitivity_tells_how_far_it_is(pair):
    shares = []
    found = ga.sensitivity(pair[0], progress=shares.append)
    assert shares == sorted(shares)
    assert (shares[0] > 0, shares[-1]) == (True, 1.0)
    assert (found == ga.sensitivity(pair[0])).all()
    with pytest.raises(Stopped):
        ga.sensitivity(pair[0], progress=lambda share: share < 0.5)
    # a session that went on meanwhile is none the wiser
    session = pair[0].twin()
    steps = sensing(session)
    next(steps)
    session.feed([1, 2, 3])
    assert (finish(steps) == found).all()


def test_sensitivity_says_what_will_not_do(pair, tmp_path):
    for words, options in (
        ("kind is 'zap'", {"kind": "zap"}),
        ("by is 'row'", {"by": "row"}),
        ("sigma is for noise", {"sigma": 1.0}),
        ("draws is 0", {"draws": 0}),
    ):
        with pytest.raises(ValueError, match=words):
            ga.sensitivity(pair[0], **options)
    with pytest.raises(gv.GooseError, match="nothing was read yet"):
        ga.sensitivity(gv.Session(pair[0].model))


# -- what a layer carries ----------------------------------------------------------------------


def one_run(engine, embedded, restore=None, right=None):
    """Probabilities behind the last token; (layer, token) is put right from another run's log."""
    W, c = engine.weights, engine.config
    state, log = State.zeros(c, np.float64), {}
    for t, row in enumerate(embedded):
        x, first = Layer(W, "blocks.0.").norm(row, "ln0", c.layer_norm_eps), np.zeros(0)
        for i in range(c.n_layer):
            block = Layer(W, f"blocks.{i}.")
            y, first, _ = engine.time_mix(i, block.norm(x, "ln1", 1e-5), first, state)
            x = x + y
            xx = block.norm(x, "ln2", c.layer_norm_eps)
            k = xx + (state.ffn_shift[i] - xx) * W[f"blocks.{i}.ffn.x_k"]
            state.ffn_shift[i] = xx
            k = np.maximum(W[f"blocks.{i}.ffn.key.weight"] @ k, 0) ** 2
            x = x + W[f"blocks.{i}.ffn.value.weight"] @ k
            if (i, t) == restore:
                x, *arrays = right[i, t]
                for mine, theirs in zip(state.arrays().values(), arrays, strict=True):
                    mine[i] = theirs
            log[i, t] = (x.copy(), *(a[i].copy() for a in state.arrays().values()))
    x = Layer(W, "").norm(x, "ln_out", c.layer_norm_eps)
    return chances(W["head.weight"] @ x), log


def test_causal_trace(pair, monkeypatch):
    tokens, spoiled, draws = TOKENS[:7], [1, 2], 3
    engine: ReferenceEngine = pair[1].model._engine
    table = engine.weights["emb.weight"]
    noise = np.random.default_rng(4).standard_normal((draws, 2, table.shape[1])) * 3 * table.std()
    plain = table[tokens]
    clean, right = one_run(engine, plain)
    target = int(clean.argmax())
    expected = np.zeros((3, 7))
    before = 0.0
    for drawn in noise:
        bad = plain.copy()
        bad[spoiled] += drawn
        p, _ = one_run(engine, bad)
        before += p[target] / draws
        for layer, t in np.ndindex(3, 7):
            restored, _ = one_run(engine, bad, (layer, t), right)
            expected[layer, t] += (restored[target] - p[target]) / draws
    for session in pair:
        found = ga.causal_trace(session.model, tokens, spoiled, target, draws=draws, seed=4)
        close(found, expected, 1e-3)
    # at the end of all layers everything is back
    assert found[-1, -1] == pytest.approx(clean[target] - before, rel=1e-3)
    # in little pieces it is the same
    module = sys.modules["goose_viz.analysis.causal_trace"]
    monkeypatch.setattr(module, "_BYTES", 20_000)
    shares = []
    small = ga.causal_trace(
        session.model, tokens, spoiled, target, draws=draws, seed=4, progress=shares.append
    )
    close(small, found, 1e-4)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    with pytest.raises(ValueError, match="expected indices from 0 to 6"):
        ga.causal_trace(session.model, tokens, [7], target)


# -- two runs ----------------------------------------------------------------------------------


def test_two_branches(pair):
    for session, tolerance in zip(pair, (1e-4, 1e-12), strict=True):
        session = session.twin()
        session.branch(10, (TOKENS[10] + 1) % 61)
        session.feed(TOKENS[11:20])
        one, two = session.twin(0), session.twin(1)
        assert (one.tokens, two.position) == (TOKENS, 20)
        assert (one.logits == pair[pair[1].model is session.model].logits).all()
        found = ga.compare(one, two)
        assert (found.parted, found.moved) == (10, 10)
        assert not found.tv[:10].any()
        for t in (9, 10, 15, 19):
            a, b = (pair[1].model.new_state() for _ in range(2))
            rows = []
            for state, tokens in ((a, one.tokens), (b, two.tokens)):
                rows.append(chances(pair[1].model.forward(tokens[: t + 1], state)))
            close(found.state_distance[t], np.linalg.norm(a.wkv - b.wkv, axis=(2, 3)), tolerance)
            close(found.state_norm[t], np.linalg.norm(a.wkv, axis=(2, 3)), tolerance)
            apart = 0.5 * np.abs(rows[0] - rows[1]).sum()
            assert found.tv[t] == pytest.approx(apart, abs=tolerance)
        close(found.relative[15], found.state_distance[15] / found.state_norm[15], 1e-12)
        # the twins are independent
        two.feed([1])
        assert session.recorded == 20
        session.close(0)
        assert one.goto(24).position == 24


def test_runs_of_two_models_and_of_edits(pair):
    found = ga.compare(*pair)
    assert found.parted is None
    assert 0 < found.relative.max() < 1e-4
    assert found.tv.max() < 1e-4
    session = pair[0].twin()
    session.goto(12)
    session.apply(gv.Scale(0.5, 1))
    session.feed(TOKENS[12:])
    found = ga.compare(pair[0], session)
    assert (found.parted, found.moved) == (None, 11)
    assert not found.state_distance[11, 0].any()
    close(found.relative[11, 1], 0.5, 1e-6)
    same = ga.compare(session, session.twin())
    assert same.moved is None
    assert not same.tv.any()
    assert ga.compare(session, pair[0]).moved == 11


def test_a_comparison_is_of_the_moment_when_it_was_asked_for(pair):
    one = pair[0].twin()
    one.branch(20, (TOKENS[20] + 1) % 61)
    one.feed(TOKENS[21:24])
    other = pair[0].twin()
    expected = ga.compare(one, other)
    steps = comparing(one, other)
    next(steps)
    other.goto(3)
    other.feed([1, 2])
    one.goto(2)
    one.feed([4])
    found = finish(steps)
    assert (found.parted, found.moved) == (20, 20)
    close(found.state_distance, expected.state_distance, 1e-9)
    close(found.tv, expected.tv, 1e-9)


def test_what_cannot_be_compared(pair, small):
    other = gv.Session(small)
    other.feed([1, 2])
    with pytest.raises(gv.GooseError, match="layers, heads and vocabulary are as many"):
        comparing(pair[0], other)
    with pytest.raises(gv.GooseError, match="read nothing yet"):
        ga.compare(pair[0], gv.Session(pair[0].model))


# -- steering ----------------------------------------------------------------------------------


def test_steering_at_every_token(pair):
    for session, tolerance in zip(pair, (1e-4, 1e-12), strict=True):
        model = session.model
        push = ga.mean_memory(model, [[1, 2, 3], [4, 5]]) - ga.mean_memory(model, [[6, 7]])
        expected = []
        for tokens in ([1, 2, 3], [4, 5], [6, 7]):
            state = pair[1].model.new_state()
            pair[1].model.forward(tokens, state)
            expected.append(state.wkv)
        close(push, (expected[0] + expected[1]) / 2 - expected[2], tolerance)
        steered = session.twin()
        steered.apply(gv.Steer(push, 0.3, 27, 1, 0))
        steered.feed([8, 9, 10, 11])
        state = pair[1].state_at(24)
        for i, token in enumerate((8, 9, 10, 11)):
            if i < 4:
                state.wkv[1, 0] += 0.3 * push[1, 0]
            pair[1].model.forward([token], state)
        close(steered.state.wkv, state.wkv, tolerance)
        frames = steered.frames()
        found = ga.attribution(model, frames, 5)
        assert found.total == pytest.approx(steered.logits[5], rel=1e-3)
        assert found.edits[1, 0] != 0
    with pytest.raises(gv.GooseError, match="one prompt or more"):
        ga.mean_memory(model, [])

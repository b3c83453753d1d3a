"""The analyses against formulas in float64 that are written out: no walk back, no shortcut."""

import numpy as np
import pytest

import goose_viz as gv
from goose_viz import analysis as ga
from tests.conftest import save_random, two_heads_of

T = 40


@pytest.fixture(scope="module", params=[(16, 1), (32, 2), (64, 1)], ids="N,c={}".format)
def pair(request, tmp_path_factory):
    """(session in float32, session in float64) behind the same 40 tokens."""
    N, removal_scale = request.param
    path = tmp_path_factory.mktemp("weights") / f"n{N}.safetensors"
    save_random(path, two_heads_of(N, removal_scale))
    tokens = np.random.default_rng(N).integers(0, 61, T).tolist()
    sessions = []
    for device in ("cpu", "reference"):
        model = gv.load_model(path, device=device, dtype="fp32" if device == "cpu" else "auto")
        session = gv.Session(model, gv.Sampler(seed=1), gv.Probe(gv.OBSERVABLES))
        session.feed(tokens[:25])
        session.feed(tokens[25:])
        sessions.append(session)
    return sessions


class Oracle:
    """All matrices of one head, from the frames of the reference."""

    def __init__(self, session, layer, head):
        N = session.model.config.head_size
        part = slice(head * N, head * N + N)
        frames = session.probe.frames
        names = ("decay", "iclr", "removal_key", "replacement_key", "value", "receptance")
        w, a, kappa, k, v, r = ([getattr(f, n)[layer, part] for f in frames] for n in names)
        c = session.model.config.removal_scale
        self.G = [np.diag(w[t]) - c * np.outer(kappa[t], kappa[t] * a[t]) for t in range(T)]
        self.writes = [np.outer(v[t], k[t]) for t in range(T)]
        self.k, self.v, self.r = k, v, r

    def onward(self, t, last=T - 1):
        """G_{t+1} … G_last."""
        product = np.eye(len(self.k[0]))
        for i in range(t + 1, last + 1):
            product = product @ self.G[i]
        return product


def close(found, expected, tolerance=1e-4):
    error = np.abs(np.asarray(found) - expected).max()
    assert error <= tolerance * max(np.abs(expected).max(), 1e-30), error


def test_attention_adds_up_to_the_read(pair):
    for session, tolerance in zip(pair, (1e-4, 1e-12), strict=True):
        frames = session.frames()
        for layer, head in ((0, 0), (1, 1), (2, 0)):
            oracle = Oracle(pair[1], layer, head)
            found = ga.attention(frames, layer, head)
            weights = [oracle.k[t] @ oracle.onward(t) @ oracle.r[-1] for t in range(T)]
            close(found.weights, weights, tolerance)
            close(found.read, pair[1].frame.read[layer, head], tolerance)
            assert not found.initial.any()
            assert found.bonus == pytest.approx(pair[1].frame.bonus[layer, head], rel=1e-4)
            from_a_probe = ga.attention(session.probe.frames, layer, head)
            close(from_a_probe.weights, found.weights, 1e-12)


def test_a_memory_ahead_of_the_first_frame_is_not_lost(pair):
    for session, tolerance in zip(pair, (1e-4, 1e-12), strict=True):
        frames = session.frames(11, T)
        assert frames.start == 11
        oracle = Oracle(pair[1], 2, 1)
        found = ga.attention(frames, 2, 1)
        close(found.read, pair[1].frame.read[2, 1], tolerance)
        before = pair[1].state_at(11).wkv[2, 1]
        close(found.initial, before @ oracle.onward(10) @ oracle.r[-1], tolerance)
        listed = ga.attention(frames[:], 2, 1, initial=session.state_at(11).wkv[2, 1])
        close(listed.initial, found.initial, 1e-6)


def test_the_map_has_every_row_of_attention(pair):
    for session in pair:
        found = ga.attention_map(session.frames(observables=[*gv.OBSERVABLES]), 1, 0)
        assert found.shape == (T, T)
        assert not np.triu(found, 1).any()
        oracle = Oracle(pair[1], 1, 0)
        for last in (0, 7, T - 1):
            row = [oracle.k[t] @ oracle.onward(t, last) @ oracle.r[last] for t in range(last + 1)]
            close(found[last, : last + 1], row)


def test_what_a_token_still_is(pair):
    for session in pair:
        frames, oracle = session.frames(), Oracle(pair[1], 1, 1)
        now = np.array([oracle.k[t] @ oracle.onward(t) for t in range(T)])
        lengths = np.linalg.norm(now, axis=1) / np.linalg.norm(oracle.k, axis=1)
        close(ga.retention(frames, 1, 1), lengths)
        for t in (0, 30, T - 1):
            close(ga.remains(frames, 1, 1, t), np.outer(oracle.v[t], now[t]))
        close(sum(ga.remains(frames, 1, 1, t) for t in range(T)), pair[1].state.wkv[1, 1])


def test_transport(pair):
    rng = np.random.default_rng(0)
    for session in pair:
        change = rng.standard_normal(session.state.wkv.shape)
        found = ga.transport(session.frames(), change, 17)
        for layer in range(3):
            for head in range(2):
                oracle = Oracle(pair[1], layer, head)
                close(found[layer, head], change[layer, head] @ oracle.onward(17))
        assert (ga.transport(session.frames(), change, T - 1) == change).all()
        with pytest.raises(ValueError, match="there is no frame 40"):
            ga.transport(session.frames(), change, T)


def parts_by_hand(session, target):
    """Everything that makes a logit, forwards: each part through the matrices it passes."""
    model, frame = session.model, session.frame
    c, W = model.config, lambda name: model.numbers(name)
    L, H, N = c.n_layer, c.n_head, c.head_size
    x = frame.residual[-1]
    sigma = np.sqrt(x.var() + c.layer_norm_eps)

    def through(part):
        """Of a part of the last residual: what it gives to the logit, the norm held."""
        return W("head.weight")[target] @ (W("ln_out.weight") * (part - part.mean()) / sigma)

    emb = W("emb.weight")[session.tokens[-1]]
    norm = (emb - emb.mean()) / np.sqrt(emb.var() + c.layer_norm_eps)
    x0 = norm * W("blocks.0.ln0.weight") + W("blocks.0.ln0.bias")
    parts = {"embedding": through(x0), "bias": W("head.weight")[target] @ W("ln_out.bias")}
    tokens, bonus, norm_bias = np.zeros((L, H, T)), np.zeros((L, H)), np.zeros((L, H))
    ffn, before = np.zeros(L), session.state_at(T - 1)
    x = x0
    for i in range(L):
        out = W(f"blocks.{i}.att.output.weight")
        added = np.zeros(c.n_embd)

        def head_part(head, y, i=i, out=out):
            whole = np.zeros(c.n_embd)
            whole[head * N : head * N + N] = y
            return out @ (whole * frame.gate[i])

        for h in range(H):
            part = slice(h * N, h * N + N)
            oracle, read = Oracle(session, i, h), frame.read[i, h]
            s = np.sqrt(read.var() + c.group_norm_eps)
            weight = W(f"blocks.{i}.att.ln_x.weight")[part]
            for t in range(T):
                y = oracle.v[t] * (oracle.k[t] @ oracle.onward(t) @ oracle.r[-1])
                y = head_part(h, weight * (y - y.mean()) / s)
                tokens[i, h, t] = through(y)
                added += y
            for into, y in (
                (norm_bias, W(f"blocks.{i}.att.ln_x.bias")[part]),
                (bonus, frame.bonus[i, h] * frame.value[i, part]),
            ):
                y = head_part(h, y)
                into[i, h] = through(y)
                added += y
        x = x + added
        xx = (x - x.mean()) / np.sqrt(x.var() + c.layer_norm_eps)
        xx = xx * W(f"blocks.{i}.ln2.weight") + W(f"blocks.{i}.ln2.bias")
        k = xx + (before.ffn_shift[i] - xx) * W(f"blocks.{i}.ffn.x_k")
        y = (
            W(f"blocks.{i}.ffn.value.weight")
            @ np.maximum(W(f"blocks.{i}.ffn.key.weight") @ k, 0) ** 2
        )
        ffn[i] = through(y)
        x = x + y
    return parts | {"tokens": tokens, "bonus": bonus, "norm_bias": norm_bias, "ffn": ffn}


def test_attribution(pair):
    target, other = (int(t) for t in np.argsort(-pair[1].logits)[:2])
    by_hand = {t: parts_by_hand(pair[1], t) for t in (target, other)}
    for session, tolerance in zip(pair, (1e-4, 1e-9), strict=True):
        frames = session.frames()
        for against in (None, other):
            found = ga.attribution(session.model, frames, target, against)
            size = np.abs(session.logits).max()
            logit = session.logits[target] - (0 if against is None else session.logits[other])
            assert abs(found.total - logit) <= tolerance * size
            for name, expected in by_hand[target].items():
                expected = expected - (0 if against is None else by_hand[other][name])
                assert np.abs(getattr(found, name) - expected).max() <= tolerance * size, name
            close(found.by_token, found.tokens.sum((0, 1)), 1e-12)
            assert found.by_head.shape == (3, 2)
    with pytest.raises(ValueError, match="expected all 3"):
        ga.attribution(session.model, session.frames(layers=[1]), target)
    with pytest.raises(ValueError, match="outside the vocabulary of 61"):
        ga.attribution(session.model, frames, 61)


def test_the_edit_of_a_token_adds_up(pair):
    for session in pair:
        before = session.state_at(T - 1).wkv[2, 0]
        found = ga.edit(before, session.frame, 2, 0)
        close(found.decayed - found.removed + found.written, found.result, 1e-12)
        close(found.result, pair[1].state.wkv[2, 0])
        assert found.removed_norm == pytest.approx(pair[1].frame.removed_norm[2, 0], rel=1e-4)
        assert found.written_norm == pytest.approx(pair[1].frame.written_norm[2, 0], rel=1e-4)
        assert np.linalg.matrix_rank(found.removed) == np.linalg.matrix_rank(found.written) == 1


def test_spectrum(pair):
    oracle = Oracle(pair[1], 1, 1)
    for session in pair:
        expected = np.sort(np.linalg.eigvals(oracle.G[-1]).real)
        close(ga.spectrum(session.frame, 1, 1), expected)
    with pytest.raises(ValueError, match="head 2 is not there"):
        ga.spectrum(session.frame, 1, 2)


def test_effective_rank():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((16, 16)))
    assert ga.effective_rank(q[None]) == pytest.approx([16])
    assert ga.effective_rank(np.outer(q[0], q[1])) == pytest.approx(1)
    assert ga.effective_rank(np.zeros((2, 4, 4))).tolist() == [0, 0]
    two = 3 * np.outer(q[0], q[1]) + np.outer(q[2], q[3])
    share = np.array([0.75, 0.25])
    assert ga.effective_rank(two) == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert np.isnan(ga.effective_rank(np.full((4, 4), np.nan)))


def test_lens_ends_in_the_distribution(pair):
    for session in pair:
        layers = ga.lens(session.model, session.frame, 4)
        assert len(layers) == 3
        expected = session.next_tokens(4)
        assert [t for t, _ in layers[-1]] == [t for t, _ in expected]
        assert [p for _, p in layers[-1]] == pytest.approx([p for _, p in expected], rel=1e-3)


def test_frames_are_those_of_the_first_time(demo):
    """Kept or replayed, in one piece or many, whatever the bound; and without a probe."""
    probed = gv.Session(demo, gv.Sampler(seed=3), gv.Probe(gv.OBSERVABLES))
    probed.feed("Once upon a time there was a cat. " * 20)
    list(probed.run(40))
    first = probed.probe.frames
    assert len(first) > 170
    for frames_bytes in (256 << 20, 2_000_000, 0):
        bare = gv.Session(demo, gv.Sampler(seed=3), frames_bytes=frames_bytes)
        bare.feed("Once upon a time there was a cat. " * 20)
        list(bare.run(40))
        assert bare.tokens == probed.tokens
        before = bare.state.wkv.copy()
        n = bare.position
        for start, stop in ((0, n), (100, 150), (130, n - 20), (n - 1, n), (0, 1)):
            found = bare.frames(start, stop)
            assert found.tokens == tuple(bare.tokens[start:stop])
            for name in ga.memory.PAST:
                expected = np.stack([getattr(f, name) for f in first[start:stop]])
                assert (found.arrays[name] == expected).all(), (name, start, stop)
        some = bare.frames(5, 9, {"written_norm"}, layers=[4, 1])
        assert (some[2].written_norm == first[7].written_norm[[4, 1]]).all()
        assert bare.position == n
        assert (bare.state.wkv == before).all()
        assert bare._past.store.nbytes <= frames_bytes
    with pytest.raises(gv.GooseError, match="are not on this branch"):
        bare.frames(5, 5)


def test_the_sentence(demo):
    """The moment of the sketch: figures of the design, on the embedded model."""
    session = gv.Session(demo, gv.Sampler(seed=1))
    session.feed("Tom had a red ball. Sue had a blue cup. Tom played with his red")
    ball, car = (demo.tokenizer.encode(w)[-1] for w in (" ball", " car"))
    found = ga.attribution(demo, session.frames(), ball, car, session.logits)
    assert found.sentence(demo.tokenizer) == (
        "“ ball” (63.7 %) leads “ car” (1.5 %) by 3.74. The earlier “ ball”, 12 tokens ago, gives "
        "+3.11 of it, nine tenths of that through layer 5 head 3."
    )
    alone = ga.attribution(demo, session.frames(), ball)
    assert alone.total == pytest.approx(10.97, abs=0.01)
    assert alone.by_token[5] == pytest.approx(3.84, abs=0.01)

"""Edits of the memory: against float64, and exact whatever way one comes back to them."""

import dataclasses

import numpy as np
import pytest

import goose_viz as gv
from goose_viz import analysis as ga
from goose_viz.history import Feed
from tests.conftest import save_random, two_heads_of

T = 40


@pytest.fixture(scope="module", params=[16, 32, 64], ids="N={}".format)
def models(request, tmp_path_factory):
    """The same random weights in float32 and in float64."""
    path = tmp_path_factory.mktemp("weights") / f"n{request.param}.safetensors"
    save_random(path, two_heads_of(request.param))
    return (
        gv.load_model(path, device="cpu", dtype="fp32"),
        gv.load_model(path, device="reference"),
    )


TOKENS = np.random.default_rng(5).integers(0, 61, T).tolist()


def begin(model, tokens=TOKENS):
    session = gv.Session(model, gv.Sampler(seed=1), gv.Probe({"decay", "wkv"}))
    for i in range(0, len(tokens), 15):
        session.feed(tokens[i : i + 15])
    return session


def moment(session):
    arrays = {k: v.copy() for k, v in session.state.arrays().items()}
    return session.tokens, arrays, session.logits.copy()


def same(a, b):
    return a[0] == b[0] and (a[2] == b[2]).all() and all((a[1][k] == b[1][k]).all() for k in a[1])


def close(found, expected, tolerance=1e-4):
    error = np.abs(np.asarray(found) - expected).max()
    assert error <= tolerance * max(np.abs(expected).max(), 1e-30), error


def transitions(session):
    """G of every token: (T, L, H, N, N), in float64."""
    c = session.model.config
    heads = (c.n_layer, c.n_head, c.head_size)
    out = []
    for f in session.frames():
        w, a, kappa = (
            getattr(f, n).reshape(heads).astype(np.float64)
            for n in ("decay", "iclr", "removal_key")
        )
        fade = w[..., None, :] * np.eye(heads[-1])
        out.append(fade - kappa[..., :, None] * (kappa * a)[..., None, :])
    return out


# -- what they do ------------------------------------------------------------------------------


def test_forget_takes_exactly_the_remains_out(models):
    reference = begin(models[1])
    G = transitions(reference)
    frame = reference.frames(12, 13)[0]
    v, k = (getattr(frame, n).reshape(3, 2, -1) for n in ("value", "replacement_key"))
    remains = v[..., :, None] * k[..., None, :]
    for g in G[13:]:
        remains = remains @ g
    for model in models:
        for layer, head in ((None, None), (2, None), (1, 0)):
            session = begin(model)
            before = session.state.wkv.copy()
            shifts = session.state.att_shift.copy()
            session.apply(gv.Forget(12, layer, head))
            expected = np.array(reference.state.wkv)
            scope = (slice(None) if layer is None else layer, slice(None) if head is None else head)
            expected[scope] -= remains[scope]
            close(session.state.wkv, expected)
            changed = (session.state.wkv != before).any((-1, -2))
            inside = np.zeros((3, 2), bool)
            inside[scope] = True
            assert (changed == inside).all()
            assert (session.state.att_shift == shifts).all()


def test_replace_carries_the_change(models):
    reference = begin(models[1])
    G = transitions(reference)
    other = [7, 3, 3, 9]
    start = reference.state_at(10)
    read = start.copy()
    models[1].forward(other, read)
    change = read.wkv - reference.state_at(13).wkv
    for g in G[13:]:
        change = change @ g
    for model in models:
        session = begin(model)
        session.apply(gv.Replace(10, 13, other))
        close(session.state.wkv, reference.state.wkv + change)
        session.undo()
        session.apply(gv.Replace(10, 13))  # never said
        gone = start.wkv - reference.state_at(13).wkv
        for g in G[13:]:
            gone = gone @ g
        close(session.state.wkv, reference.state.wkv + gone)


def test_a_span_that_ends_at_the_cursor_is_a_true_run(models):
    for model, tolerance in zip(models, (5e-6, 1e-13), strict=True):
        session, true = begin(model), begin(model, [*TOKENS[:33], 1, 2, 3])
        session.apply(gv.Replace(33, T, [1, 2, 3]))
        close(session.state.wkv, true.state.wkv, tolerance)


def test_the_plain_edits(models):
    model, _ = models
    other = begin(model, TOKENS[:20])
    change = np.random.default_rng(1).standard_normal(other.state.wkv.shape).astype(np.float32)
    before = begin(model).state.wkv.copy()
    size = np.sqrt((before.astype(np.float64) ** 2).mean((-1, -2)))
    for edit, expected in (
        (gv.Zero(1, 0), 0 * before[1, 0]),
        (gv.Scale(-0.5, 1, 0), np.float32(-0.5) * before[1, 0]),
        (gv.Put(other.state, 1, 0), other.state.wkv[1, 0]),
        (gv.Put(other.state.wkv, layer=1, head=0), other.state.wkv[1, 0]),
        (gv.Add(change, 2.0, 1, 0), before[1, 0] + 2 * change[1, 0]),
        (gv.Mute(None, 1, 0), 0 * before[1, 0]),
    ):
        session = begin(model)
        session.apply(edit)
        assert (session.state.wkv[1, 0] == expected).all(), edit
        rest = session.state.wkv.copy()
        rest[1, 0] = before[1, 0]
        assert (rest == before).all()
    a, b, c = begin(model), begin(model), begin(model)
    a.apply(gv.Noise(0.1, seed=3))
    b.apply(gv.Noise(0.1, seed=3))
    c.apply(gv.Noise(0.1, seed=4))
    assert (a.state.wkv == b.state.wkv).all()
    assert (a.state.wkv != c.state.wkv).any()
    noise = np.sqrt(((a.state.wkv - before) ** 2).mean((-1, -2)))
    np.testing.assert_allclose(noise / size, 0.1, rtol=0.3)


def test_a_mute_lasts_as_long_as_it_says(models):
    model, _ = models
    session = begin(model)
    session.apply(gv.Mute(T + 3, layer=2))
    for i in range(6):
        session.step()
        assert session.state.wkv[2].any() == (i >= 3)
        assert session.state.wkv[1].any()
    end = moment(session)
    session.goto(T + 2)
    assert not session.state.wkv[2].any()
    session.goto(T + 6)
    assert same(moment(session), end)
    muted = begin(model)
    muted.apply(gv.Mute())
    muted.feed([1] * 10)
    assert not muted.state.wkv.any()
    with pytest.raises(gv.GooseError, match="nothing of token 3 in the memory"):
        muted.apply(gv.Forget(3))


# -- they hold, whatever way one comes back ----------------------------------------------------

EDITS = (
    gv.Forget(12), gv.Forget(30, 1, 1), gv.Replace(10, 13, [7, 3]), gv.Zero(1), gv.Scale(0.5),
    gv.Noise(0.05, 7), gv.Add(np.full((3, 2, 16, 16), 0.01, np.float32)), gv.Mute(T + 4, head=1),
    gv.Steer(np.full((3, 2, 16, 16), 0.01, np.float32), 0.5, T + 4, 1),
)  # fmt: skip


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: type(e).__name__)
def test_ways_back(edit, tmp_path):
    path = tmp_path / "m.safetensors"
    save_random(path, two_heads_of(16))
    for device in ("cpu", "reference"):
        model = gv.load_model(path, device=device)
        for history_bytes in (256 << 20, 0):
            session = gv.Session(model, gv.Sampler(seed=1), history_bytes=history_bytes)
            session.feed(TOKENS)
            plain = moment(session)
            session.apply(edit)
            assert len(session.branches) == 1
            moments = {T: moment(session)}
            for step in session.run(12):
                moments[step.position] = moment(session)
            for position in (T + 5, T, T + 12, T + 1, 3, T):
                session.goto(position)
                if position in moments:
                    assert same(moment(session), moments[position])
            for suffix in (".npz", ".safetensors"):
                gv.save_snapshot(tmp_path / f"s{suffix}", session)
                back = gv.load_snapshot(tmp_path / f"s{suffix}").resume(model)
                assert same(moment(back), moments[T])
                kinds = [type(e.what) for e in back.edits]
                assert kinds == [type(edit)]
                back.segment.checkpoints.clear()  # not the file's state: made again from token 0
                back.goto(3)
                back.goto(T)
                assert same(moment(back), moments[T])
            session.branch(T, TOKENS[0])  # keeps the edit, though nothing was fed behind it
            assert len(session.branches) == 2
            session.goto(T)
            assert same(moment(session), moments[T])
            session.undo()
            assert same(moment(session), plain)
            session.redo()
            assert same(moment(session), moments[T])
            session.switch(0)
            assert same(moment(session), moments[T + 12])


def test_an_edit_in_mid_history_begins_a_branch(demo):
    session = gv.Session(demo, gv.Sampler(seed=2), gv.Probe({"decay"}))
    session.feed("Once upon a time, there was a little dog.")
    list(session.run(30))
    end = moment(session)
    session.goto(session.position - 10)
    before = moment(session)
    session.apply(gv.Zero(3))
    assert len(session.branches) == 2
    assert session.recorded == len(before[0])
    list(session.run(5))
    edited = moment(session)
    session.undo()
    assert same(moment(session), before)
    assert session.recorded == len(end[0])
    session.redo()
    assert same(moment(session), edited)
    session.switch(0)
    assert same(moment(session), end)
    session.switch(1)
    assert same(moment(session), edited)
    session.goto(5)  # inside the prompt, ahead of the edit
    session.apply(gv.Zero())
    assert not session.state.wkv.any()
    session.undo()
    assert session.state.wkv.any()


def test_what_would_it_have_said(demo):
    """The figures of the design on the embedded model; undo comes back to the very place."""
    session = gv.Session(demo, gv.Sampler(seed=1))
    session.feed("Tom had a red ball. Sue had a blue cup. Tom played with his red")
    ball, cup, car = (demo.tokenizer.encode(w)[-1] for w in (" ball", " cup", " car"))
    before = moment(session)

    def chances(edit):
        (step,) = session.apply(edit, again=1)
        assert step.text == " red"
        p = dict(session.next_tokens(4096))
        session.undo()
        assert same(moment(session), before)
        return p[ball], p[cup], p[car]

    def near(*expected):
        return pytest.approx(expected, abs=0.01)

    assert chances(gv.Forget(5, 5, 3))[:2] == near(0.031, 0.799)
    assert chances(gv.Forget(5))[:2] == near(0.031, 0.760)
    assert chances(gv.Forget(3))[0] == pytest.approx(0.619, abs=0.01)
    found = chances(gv.Replace(5, 6, " car"))
    assert (found[0], found[2]) == near(0.047, 0.689)
    session.step()
    assert session.branches == [session.segment], "what was only looked at is gone"
    assert session.history.segments == [session.segment]


@pytest.mark.parametrize(
    ("text", "old", "new", "figures"),
    [
        ("Lily went to the park with her mom. She saw a big tree. Her mom said, \"Look at the big",
         " tree", " car", (0.017, 0.438)),
        ("Ben had a big dog. Mia had a small cat. Ben liked to run with his", " dog", " cat",
         (0.054, 0.678)),
        ("Once upon a time, there was a little girl named Lily. She had a dog named Max. One day, "
         "Lily said to her dog,", " Max", " Sam", (0.059, 0.038)),
    ],
)  # fmt: skip
def test_replacing_a_word(demo, text, old, new, figures):
    session = gv.Session(demo, gv.Sampler(seed=1))
    session.feed(text)
    before, after = (demo.tokenizer.encode(w)[-1] for w in (old, new))
    at = session.tokens.index(before)
    session.apply(gv.Replace(at, at + 1, new), again=1)
    p = dict(session.next_tokens(4096))
    assert (p[before], p[after]) == pytest.approx(figures, abs=0.01)


# -- several, and frames around them -----------------------------------------------------------


@pytest.fixture
def random_model(tmp_path):
    save_random(tmp_path / "m.safetensors", two_heads_of(16))
    return gv.load_model(tmp_path / "m.safetensors", device="reference")


def test_edits_know_of_each_other(random_model):
    session = begin(random_model)
    session.apply(gv.Forget(12, 1))
    session.feed([4, 5])
    session.apply(gv.Forget(12))  # what is left of it: nothing in layer 1
    close(session.state.wkv[1], session.state_at(T + 2, edited=False).wkv[1], 1e-14)
    with pytest.raises(gv.GooseError, match="nothing of token 12 in the memory"):
        session.apply(gv.Forget(12, 1, 0))
    both = begin(random_model)
    both.apply(gv.Forget(12))
    both.apply(gv.Replace(10, 14, [9]))
    one = begin(random_model)
    one.apply(gv.Replace(10, 14, [9]))
    close(both.state.wkv, one.state.wkv, 1e-12)
    with pytest.raises(gv.GooseError, match="nothing of token 11"):
        one.apply(gv.Forget(11))
    with pytest.raises(gv.GooseError, match="cut through them"):
        one.apply(gv.Replace(13, 20, [1]))
    emptied = begin(random_model)
    emptied.apply(gv.Zero())
    other = emptied.state.copy()
    random_model.forward([8], other)
    emptied.feed([3, 4])
    change = other.wkv - emptied.state_at(T + 1).wkv
    expected = emptied.state.wkv + change @ transitions(emptied)[-1]
    emptied.apply(gv.Replace(T, T + 1, [8]))
    close(emptied.state.wkv, expected, 1e-12)
    with pytest.raises(gv.GooseError, match="nothing of token 5"):
        emptied.apply(gv.Forget(5))


def test_a_memory_to_begin_with_can_be_forgotten(random_model):
    given = np.random.default_rng(0).standard_normal((3, 2, 16, 16))
    session = gv.Session(random_model, gv.Sampler(seed=1))
    session.apply(gv.Put(given))
    assert (session.state.wkv == given).all()
    session.feed(TOKENS)
    found = ga.attribution(random_model, session.frames(), 5, 6, session.logits)
    assert found.initial.any()
    assert found.total == pytest.approx(session.logits[5] - session.logits[6], rel=1e-9)
    given_now = ga.transport(session.frames(), given, -1)
    before = session.state.wkv.copy()
    session.apply(gv.Forget(None))
    close(session.state.wkv, before - given_now, 1e-12)


@pytest.mark.parametrize("until", [None, 15])
def test_replacing_a_word_by_itself_changes_nothing_whatever_lasts(random_model, until):
    for lasting in (gv.Steer(np.full((3, 2, 16, 16), 0.05), 1.0, until), gv.Mute(until, 1)):
        session = begin(random_model, TOKENS[:8])
        session.apply(lasting)
        session.feed(TOKENS[8:20])
        before = session.state.wkv.copy()
        session.apply(gv.Replace(11, 13, session.tokens[11:13]))
        close(session.state.wkv, before, 1e-10)


def test_frames_around_edits_still_add_up(random_model):
    session = begin(random_model, TOKENS[:20])
    for edit in (
        gv.Forget(6), gv.Scale(0.7, 1), gv.Add(np.full((3, 2, 16, 16), 0.1)), gv.Zero(2, 0),
        gv.Noise(0.1), gv.Replace(8, 9, [2, 3]),
    ):  # fmt: skip
        session.apply(edit)
        session.feed([3, 1])
        session.apply(gv.Scale(0.9))
    session.apply(gv.Mute(session.position + 2, layer=0, head=1))
    session.feed([1, 2, 3, 4])
    session.apply(gv.Steer(np.full((3, 2, 16, 16), 0.02), 2.0, layer=1))
    session.feed([5, 6])
    session.apply(gv.Scale(0.5))
    session.feed([7])
    session.apply(gv.Mute(session.position + 2, layer=1, head=1))
    session.feed([8, 9, 1])
    frames = session.frames()
    for layer in range(3):
        for head in range(2):
            found = ga.attention(frames, layer, head)
            close(found.read, frames[-1].read[layer, head], 1e-10)
    found = ga.attribution(random_model, frames, 5)
    assert found.total == pytest.approx(session.logits[5], rel=1e-9)
    assert found.edits.any()
    assert np.abs(found.tokens[:, :, 6]).max() < 1e-9 * np.abs(found.tokens).max()


def test_an_edit_of_two_things_at_one_place(random_model):
    session = begin(random_model)
    before = session.state.wkv.copy()
    session.apply(gv.Zero(0))
    session.apply(gv.Scale(2.0, 1))
    assert [type(e.what) for e in session.edits] == [gv.Zero, gv.Scale]
    assert len(session.branches) == 1
    session.undo()
    assert (session.state.wkv[1] == before[1]).all()
    assert not session.state.wkv[0].any()
    session.undo()
    assert (session.state.wkv == before).all()
    with pytest.raises(gv.GooseError, match="nothing to undo"):
        session.undo()
    session.redo()
    session.redo()
    assert (session.state.wkv[1] == 2 * before[1]).all()
    with pytest.raises(gv.GooseError, match="nothing to redo"):
        session.redo()
    session.undo()
    session.feed([1])
    assert not session.can_redo
    assert len(session.branches) == 1, "an edit that was undone and never lived is gone"


def test_what_will_not_do(random_model):
    session = begin(random_model)
    before = moment(session)
    for edit, words in (
        (gv.Zero(3), "layer 3 is not there; the model has 0 to 2"),
        (gv.Zero(0, -1), "head -1 is not there"),
        (gv.Forget(T), "token 40 is not in the past; there are 0 to 39"),
        (gv.Forget(None), "nothing ahead of the first token"),
        (gv.Replace(3, 3), "expected a start before a stop"),
        (gv.Replace(3, T + 1), "are not in the past"),
        (gv.Replace(3, 5, [99]), "outside the model's vocabulary"),
        (
            gv.Put(np.zeros((1, 2, 3, 3))),
            r"shape \(1, 2, 3, 3\); this model needs \(3, 2, 16, 16\)",
        ),
        (gv.Add(np.full((3, 2, 16, 16), np.nan)), "NaN"),
    ):
        with pytest.raises(gv.GooseError, match=words):
            session.apply(edit)
        assert same(moment(session), before)
        assert session.branches == [session.segment]
    with pytest.raises(ValueError, match="finite"):
        gv.Scale(float("nan"))
    with pytest.raises(gv.GooseError, match="no 41 tokens to read again"):
        session.apply(gv.Zero(), again=41)
    fresh = gv.Session(random_model)
    with pytest.raises(gv.GooseError, match="feed a prompt first"):
        fresh.apply(gv.Forget(0))


def test_an_edit_that_fails_leaves_nothing(random_model, monkeypatch):
    session = begin(random_model)
    before = moment(session)

    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(gv.edits.Zero, "do", fail)
    with pytest.raises(MemoryError):
        session.apply(gv.Zero(), again=3)
    assert same(moment(session), before)
    assert len(session.history.segments) == 1
    assert not session.edits


def test_edits_in_files_are_plain(random_model, tmp_path):
    session = begin(random_model)
    session.apply(gv.Put(session.state_at(10), layer=1))
    session.apply(gv.Replace(np.int64(3), 5, np.array([1, 2])))
    session.apply(gv.Scale(np.float32(0.5), layer=np.int32(1)))
    gv.save_snapshot(tmp_path / "s.safetensors", session)
    snapshot = gv.load_snapshot(tmp_path / "s.safetensors")
    assert snapshot.metadata["edits"][1] == {
        "position": T, "kind": "Replace", "start": 3, "stop": 5, "tokens": [1, 2], "layer": None,
        "head": None,
    }  # fmt: skip
    assert snapshot.metadata["edits"][2]["factor"] == 0.5
    assert snapshot.metadata["edits"][2]["layer"] == 1
    assert snapshot.arrays["edit.0"].shape == (1, 2, 16, 16)
    broken = dataclasses.replace(
        snapshot, metadata=snapshot.metadata | {"edits": [{"position": T, "kind": "Dream"}]}
    )
    with pytest.raises(gv.StateError, match="is not known; it is from another version"):
        broken.resume(random_model)


# -- the tree ----------------------------------------------------------------------------------


def test_roots_names_and_closing(demo):
    session = gv.Session(demo, gv.Sampler(seed=2))
    session.feed("Once upon a time")
    list(session.run(10))
    first = moment(session)
    session.begin()
    assert session.position == session.recorded == 0
    assert session.logits is None
    session.feed("One day")
    list(session.run(4))
    assert len(session.branches) == 2
    session.branch(3, 42)
    session.branches[1].name = "the one"
    assert [b.name for b in session.branches] == ["", "the one", ""]
    with pytest.raises(gv.GooseError, match="the cursor is on this branch"):
        session.close(2)
    session.close(1)
    assert len(session.branches) == 2
    assert session.tokens[-1] == 42
    session.switch(0)
    assert same(moment(session), first)
    session.close(1)
    with pytest.raises(gv.GooseError, match="the only branch"):
        session.close(0)
    assert session.history.segments == [session.segment]


def test_closing_keeps_what_is_shared(demo):
    session = gv.Session(demo, gv.Sampler(seed=2))
    session.feed("Once upon a time")
    list(session.run(20))
    session.branch(15, 42)
    list(session.run(3))
    shared = moment(session)
    session.close(0)
    assert session.branches == [session.segment]
    session.goto(10)
    session.goto(len(shared[0]))
    assert same(moment(session), shared)
    assert session.history.segments[0].stop == 15


def test_closing_takes_everything_of_a_branch_with_it(demo):
    """What is written where a closed branch was is its own, and undo has somewhere to go."""
    session = gv.Session(demo, gv.Sampler(seed=2), gv.Probe(ga.memory.PAST))
    session.feed("Once upon a time")
    list(session.run(20))
    end = session.position
    session.goto(end - 6)
    session.apply(gv.Zero(2), again=1)
    session.switch(0)
    session.goto(end - 3)  # passes states that are kept for a while
    session.switch(1)
    session.close(0)
    session.undo()  # where the edit was made is no more: to where it stands
    assert session.position == session.recorded == end - 7
    session.feed([7, 8, 9, 10, 11, 12, 13])
    state, other = demo.new_state(), gv.Probe({"value"})
    for operation in session.path.operations(0, 0, session.position):
        tokens = session.tokens[operation.start : operation.stop]
        demo.forward(tokens, state, all_logits=True, probe=other)
    session.goto(end - 3)
    session.goto(end)
    np.testing.assert_array_equal(session.state.wkv, state.wkv)
    written = session.frames(0, end, {"value"}).arrays["value"]
    np.testing.assert_array_equal(written, np.stack([f.value for f in other.frames]))


def from_the_start(session):
    """The cursor's state and frames by repeating its whole past, with nothing that is stored."""
    state, path, model = session.model.new_state(), session.path, session.model
    probe = gv.Probe(ga.memory.PAST)
    for o in path.operations(0, 0, session.position):
        if isinstance(o, Feed):
            model.forward(path.tokens(o.start, o.stop), state, all_logits=True, probe=probe)
            for edit in path.lasting(o.stop - 1):
                edit.what.do(state.wkv[edit.what.scope(model.config)], edit.numbers)
        else:
            o.what.do(state.wkv[o.what.scope(model.config)], o.numbers)
    return state, probe.frames


@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_done_in_whatever_order(small, tmp_path, seed):
    rng = np.random.default_rng(seed)
    V = small.config.vocab_size
    budget = int(rng.choice([0, 60_000, 256 << 20]))
    frames_bytes = int(rng.choice([0, 150_000, 256 << 20]))
    session = gv.Session(
        small, gv.Sampler(seed=seed), gv.Probe(ga.memory.PAST), budget, frames_bytes
    )
    session.feed([1, 2, 3])
    given = []  # frames that somebody holds, and what they were when he got them

    def some(n):
        return rng.integers(0, V, n).tolist()

    def edit():
        n = session.position
        token = int(rng.integers(0, max(n, 1)))
        layer = [None, 0, 1][rng.integers(3)]
        return [
            gv.Forget(token, layer), gv.Zero(layer), gv.Scale(0.5, layer), gv.Noise(0.1, seed),
            gv.Replace(token, min(token + 2, n), some(2)), gv.Mute(n + 3, layer),
            gv.Steer(session.state_at(token), 0.01, n + 2, layer),
        ][rng.integers(7)]  # fmt: skip

    def resume():
        nonlocal session
        gv.save_snapshot(tmp_path / "s.npz", session)
        session = gv.load_snapshot(tmp_path / "s.npz").resume(small, probe=session.probe)

    for _ in range(120):
        n = session.recorded
        act = rng.choice(
            ["step", "step", "feed", "goto", "goto", "branch", "apply", "apply", "undo", "redo",
             "switch", "close", "begin", "resume"]
        )  # fmt: skip
        try:
            match act:
                case "step":
                    session.step()
                case "feed":
                    session.feed(some(rng.integers(1, 7)))
                case "goto":
                    session.goto(int(rng.integers(0, n + 1)))
                case "branch":
                    session.branch(int(rng.integers(0, n + 1)), some(1)[0])
                case "apply":
                    session.apply(edit(), again=int(rng.integers(0, min(session.position, 2) + 1)))
                case "undo":
                    session.undo()
                case "redo":
                    session.redo()
                case "switch":
                    session.switch(int(rng.integers(len(session.branches))))
                case "close":
                    session.close(int(rng.integers(len(session.branches))))
                case "begin":
                    session.begin()
                    session.feed(some(4))
                case "resume":
                    resume()
        except gv.GooseError:
            pass
        expected, seen = from_the_start(session)
        for name, array in session.state.arrays().items():
            np.testing.assert_array_equal(array, expected.arrays()[name], err_msg=act)
        assert session.segment in session.history.segments
        assert len(session.tokens) == session.position <= session.recorded
        if session.position:
            frames = session.frames()
            found = ga.attention(frames, 1, 0)
            scale = np.abs(frames[-1].read[1]).max()
            assert np.abs(found.read - frames[-1].read[1, 0]).max() <= 1e-3 * scale, act
            start, stop = sorted(rng.choice(session.position + 1, 2, replace=False).tolist())
            for part in (frames, session.frames(start, stop, ga.memory.PAST, initial=False)):
                for name in ga.memory.PAST:
                    numbers = np.stack([getattr(f, name) for f in seen[part.start :][: len(part)]])
                    np.testing.assert_allclose(
                        part.arrays[name], numbers, rtol=1e-3, atol=1e-4, err_msg=act
                    )
                    given.append((part.arrays[name], part.arrays[name].copy()))
    assert all((held == then).all() for held, then in given)


def test_frames_that_make_room_do_not_throw_out_what_is_asked_for(small):
    """A text's frames are stored when those of another have to go for it, within a small bound."""
    session = gv.Session(small, gv.Sampler(seed=0), history_bytes=1 << 20, frames_bytes=1 << 20)
    for _ in range(5):
        session.feed([0])
    session.apply(gv.Forget(0))
    session.goto(0)
    session.feed([0, 0])
    session.apply(gv.Forget(0))
    other = gv.Session(small)
    other.feed([0, 0])
    other.apply(gv.Forget(0))
    assert (session.state.wkv == other.state.wkv).all()

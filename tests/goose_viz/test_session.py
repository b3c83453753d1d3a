import tracemalloc

import numpy as np
import pytest

import goose_viz as gv
from goose_viz.history import Feed, Segment

PROMPT = "Once upon a time, there was a little dog."


def make(model, **options):
    return gv.Session(model, gv.Sampler(seed=7), gv.Probe({"decay", "wkv"}), **options)


def moment(session):
    arrays = {k: v.copy() for k, v in session.state.arrays().items()}
    return session.tokens, arrays, None if session.logits is None else session.logits.copy()


def same(a, b):
    if a[0] != b[0] or (a[2] is None) != (b[2] is None):
        return False
    logits = a[2] is None or bool((a[2] == b[2]).all())
    return logits and all((a[1][k] == b[1][k]).all() for k in a[1])


@pytest.fixture
def written(demo):
    """A session of 60 written tokens, and its moment behind every one."""
    session = make(demo)
    session.feed(PROMPT)
    moments = {session.position: moment(session)}
    for step in session.run(60):
        moments[step.position] = moment(session)
    return session, moments


def test_feed_and_step(demo):
    session = make(demo)
    ids = demo.tokenizer.encode(PROMPT)
    steps = session.feed(PROMPT)
    assert [s.token for s in steps] == [0, *ids]
    assert session.position == len(session.tokens) == len(ids) + 1
    assert session.text == PROMPT
    assert np.isnan(steps[0].probability)
    assert steps[0].top == []
    assert all(0 < s.probability < 1 for s in steps[1:])
    assert not any(s.generated for s in steps)
    expected = session.next_tokens(3)
    step = session.step()
    assert step.position == session.position == len(ids) + 2
    assert step.generated
    assert step.top[:3] == expected
    p = dict(expected).get(step.token)
    assert p is None or step.probability == pytest.approx(p, rel=1e-5)
    assert step.frame.decay.shape == (6, 256)
    assert (step.frame.wkv == session.state.wkv).all()
    assert len(session.probe.frames) == session.position


def test_next_tokens_are_the_softmax(demo):
    session = make(demo)
    session.feed(PROMPT)
    p = np.exp(session.logits.astype(np.float64))
    p /= p.sum()
    best = np.argsort(-p)[:5]
    found = session.next_tokens(5)
    assert [t for t, _ in found] == best.tolist()
    np.testing.assert_allclose([q for _, q in found], p[best], rtol=1e-5)


def test_there_and_back_is_bit_identical(written):
    session, moments = written
    rng = np.random.default_rng(0)
    frames = len(session.probe.frames)
    for position in [*rng.integers(min(moments), max(moments) + 1, 40).tolist(), max(moments)]:
        step = session.goto(int(position))
        assert same(moment(session), moments[position])
        assert step.position == session.position == position
        assert (step.frame.wkv == session.state.wkv).all()
    assert len(session.probe.frames) == frames  # replays add none
    start = min(moments)
    session.goto(start)
    for step in session.run(60):
        assert same(moment(session), moments[step.position])
    assert session.recorded == start + 60
    session.back(13)
    assert same(moment(session), moments[start + 47])
    tail = [session.step().token for _ in range(20)]
    assert len(tail) == 20
    assert same((session.tokens[: start + 60], *moments[start + 60][1:]), moments[start + 60])


def test_inside_a_prompt_and_out_again(written):
    session, moments = written
    n_prompt = min(moments)
    one_by_one = session.model.new_state()
    for token in session.tokens[:5]:
        session.model.forward([token], one_by_one)
    for arrival in (lambda: session.goto(5), lambda: (session.goto(2), session.goto(5))):
        session.goto(max(moments))
        arrival()
        assert (session.state.wkv == one_by_one.wkv).all()
        while session.position < n_prompt:
            session.step()
        assert same(moment(session), moments[n_prompt])
        for _ in range(5):
            session.step()
        assert same(moment(session), moments[n_prompt + 5])
    assert session.goto(0) is None
    assert session.logits is None
    assert not session.state.wkv.any()
    assert session.next_tokens() == []


def test_branches_keep_the_old_one(written):
    session, moments = written
    n = min(moments)
    old = session.tokens
    step = session.branch(n + 20, 42)
    assert step.token == 42
    assert not step.generated
    assert session.tokens == [*old[: n + 20], 42]
    other = [s.token for s in session.run(10)]
    assert session.tokens == [*old[: n + 20], 42, *other]
    after = moment(session)
    session.goto(n + 20)
    assert same(moment(session), moments[n + 20])
    session.goto(session.recorded)
    assert same(moment(session), after)
    assert len(session.branches) == 2
    session.switch(0)
    assert same(moment(session), moments[max(moments)])
    session.switch(1)
    assert same(moment(session), after)
    session.branch(4, 9)  # inside the prompt
    again = moment(session)
    session.goto(2)
    session.goto(5)
    assert same(moment(session), again)


def test_a_step_anew_writes_another_branch_from_the_middle(written):
    session, moments = written
    old, middle = session.tokens, session.position - 30
    session.goto(middle)
    assert session.step(anew=True).token == old[middle]  # the same sampling draws the same
    assert len(session.branches) == 2
    session.goto(middle)
    session.sampler = gv.Sampler(temperature=0)
    likeliest = session.next_tokens(1)[0][0]
    step = session.step(anew=True)
    assert (step.token, step.generated) == (likeliest, True)
    assert session.recorded == session.position == middle + 1
    session.switch(0)
    assert session.tokens == old
    assert same(moment(session), moments[session.position])


def test_feeding_in_mid_history_begins_a_branch(written):
    session, moments = written
    n = min(moments)
    session.goto(n + 7)
    session.feed(" Suddenly, a cat came.")
    assert len(session.branches) == 2
    assert session.text.endswith(" Suddenly, a cat came.")
    session.switch(0)
    assert same(moment(session), moments[max(moments)])


@pytest.mark.parametrize("budget", [0, 500_000, 3_000_000])
def test_history_is_bounded_in_bytes_and_still_exact(demo, budget):
    session = make(demo, history_bytes=budget)
    session.feed(PROMPT)
    moments = {session.position: moment(session)}
    for step in session.run(100):
        moments[step.position] = moment(session)
        kept = {id(c): c.nbytes for s in session.history.segments for c in s.checkpoints.values()}
        assert sum(kept.values()) <= budget
    for back in (3, 50, 100):
        session.goto(max(moments) - back)
        assert same(moment(session), moments[max(moments) - back])


def test_long_prompts_come_in_portions(demo):
    ids = (demo.tokenizer.encode(PROMPT) * 40)[:400]
    session = make(demo)
    session.feed(ids)
    assert [o.stop for o in session.path.operations(0, 0, 401)] == [128, 256, 384, 400, 401]
    last = moment(session)
    session.goto(200)
    session.goto(300)
    session.goto(401)
    assert same(moment(session), last)
    shares = []
    cut_short = make(demo)
    steps = cut_short.feed(ids, keep_going=lambda share: shares.append(share) or share < 0.8)
    assert len(steps) == cut_short.position == 256  # the third portion is given up half-way
    assert shares == sorted(shares)
    assert len(shares) > 10
    cut_short.feed(ids[255:])
    assert same(moment(cut_short), last)


def test_the_same_seed_writes_the_same(demo):
    texts = set()
    for _ in range(2):
        session = gv.Session(demo, gv.Sampler(seed=11))
        session.feed(PROMPT)
        list(session.run(30))
        texts.add(session.text)
    assert len(texts) == 1
    other = gv.Session(demo, gv.Sampler(seed=12))
    other.feed(PROMPT)
    list(other.run(30))
    assert other.text not in texts


def test_penalties_survive_a_way_back(demo):
    """Counts are those of the cursor's past, however one came there."""
    sampler = gv.Sampler(seed=3, temperature=0, presence=5.0)
    straight = gv.Session(demo, sampler)
    straight.feed(PROMPT)
    list(straight.run(40))
    detour = gv.Session(demo, sampler)
    detour.feed(PROMPT)
    list(detour.run(20))
    detour.back(15)
    list(detour.run(35))
    assert detour.tokens == straight.tokens


def test_stop_texts_and_tokens(demo):
    session = gv.Session(demo, gv.Sampler(seed=7, stop=(".",)))
    session.feed("Once upon a time")
    steps = list(session.run(200))
    assert len(steps) < 200
    assert session.text.endswith(".")
    assert "." not in session.text[:-1]


def test_a_session_can_begin_with_nothing(demo, small):
    session = gv.Session(demo, gv.Sampler(seed=1))
    assert session.step().token == 0
    assert session.step().generated
    with pytest.raises(gv.GooseError, match="feed a prompt first"):
        gv.Session(small).step()


def test_wrong_positions_and_tokens(written):
    session, _ = written
    before = moment(session)
    for call, words in (
        (lambda: session.goto(-1), "it has 0 to"),
        (lambda: session.goto(10_000), "it has 0 to"),
        (lambda: session.back(10_000), "it has 0 to"),
        (lambda: session.branch(3, 4096), "expected 0 to 4095"),
        (lambda: session.feed([1, 2, 99999]), "outside the model's vocabulary"),
        (lambda: session.switch(5), "there are 1"),
    ):
        with pytest.raises(gv.GooseError, match=words):
            call()
    assert same(moment(session), before)


def test_sessions_without_probe(demo):
    session = gv.Session(demo, gv.Sampler(seed=7))
    session.feed(PROMPT)
    step = session.step()
    assert step.frame is None
    after = moment(session)
    session.back()
    session.step()
    assert same(moment(session), after)


def test_reference_device_too(small):
    model = gv.load_model(small.source, device="reference")
    session = gv.Session(model, gv.Sampler(seed=1), gv.Probe({"iclr"}))
    session.feed("3 1 4 1 5")
    list(session.run(10))
    after = moment(session)
    assert session.state.wkv.dtype == np.float64
    session.goto(2)
    session.goto(15)
    assert same(moment(session), after)


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("where", ["forward", "best_of"])
def test_a_step_that_is_interrupted_never_was(demo, monkeypatch, failure, where):
    straight = make(demo)
    straight.feed(PROMPT)
    list(straight.run(20))
    session = make(demo)
    session.feed(PROMPT)
    list(session.run(9))
    with monkeypatch.context() as patch:
        forward = demo._engine.forward

        def advance_then_fail(*a):
            forward(*a)
            patch.undo()
            raise failure

        if where == "forward":
            patch.setattr(demo._engine, "forward", advance_then_fail)
        else:
            fail = [lambda *_: (patch.undo(), (_ for _ in ()).throw(failure))]
            patch.setattr("goose_viz.session.best_of", lambda *a: next(fail[0](*a)[1]))
        with pytest.raises(failure):
            session.step()
    list(session.run(11))
    assert same(moment(session), moment(straight))


def test_more_rows_than_tokens(small):
    """A model may have more rows than its vocabulary has tokens; they stand for no text."""
    model = gv.load_model(small.source, tokenizer="ids")
    model.tokenizer = gv.tokenizer.base.BytesTokenizer([bytes([b]) for b in range(20)])
    session = gv.Session(model, gv.Sampler(seed=1, temperature=3.0, top_p=1.0))
    session.feed([1, 2, 3])
    steps = list(session.run(30))
    assert max(s.token for s in steps) >= 20
    assert model.tokenizer.label(60) == "⟨60⟩"
    assert len(session.text) <= 33


def test_odd_probes_and_copies(demo):
    import copy

    session = gv.Session(demo, gv.Sampler(seed=1), gv.Probe([]))
    step = session.feed("Once")[-1]
    assert step.frame.arrays() == {}
    session.probe = gv.Probe({"decay"})
    twin = copy.deepcopy(session.step())
    assert twin.frame.decay.shape == (6, 256)


def test_a_stop_text_inside_a_token(demo):
    inside = demo.tokenizer.encode('."')
    assert len(inside) == 1
    session = gv.Session(demo, gv.Sampler(seed=7, stop=(".",)))
    session.feed('She said, "Yes')
    session._append(inside, generated=True)
    assert session.stopped()


def test_logits_that_are_not_numbers(demo):
    session = gv.Session(demo, gv.Sampler(seed=1, banned=range(4096)))
    session.feed("Once")
    with pytest.raises(gv.GooseError, match="all are banned"):
        session.step()


def test_replays_keep_states_so_the_next_is_short(demo, tmp_path, monkeypatch):
    session = make(demo)
    session.feed(PROMPT)
    list(session.run(300))
    gv.save_snapshot(tmp_path / "a.npz", session)
    resumed = gv.load_snapshot(tmp_path / "a.npz").resume(demo, probe=gv.Probe({"decay"}))
    calls = []
    forward = demo._engine.forward
    monkeypatch.setattr(demo._engine, "forward", lambda *a: (calls.append(1), forward(*a))[1])
    resumed.back()
    assert len(calls) > 200
    calls.clear()
    for _ in range(6):  # the states passed are there: a call for the frame, no more
        resumed.back()
    assert len(calls) == 6
    session.goto(resumed.position)
    assert (resumed.state.wkv == session.state.wkv).all()


# -- what fails or is ended leaves nothing behind ----------------------------------------------


def no_memory(*_, **__):
    raise MemoryError


def test_a_failed_branch_or_feed_leaves_no_branch(written, monkeypatch):
    session, moments = written
    session.goto(20)
    forward = session.model.forward
    for act in (
        lambda: session.branch(20, 5),
        lambda: session.feed([1, 2, 3]),
    ):
        monkeypatch.setattr(session.model, "forward", no_memory)
        with pytest.raises(MemoryError):
            act()
        monkeypatch.setattr(session.model, "forward", forward)
        assert len(session.branches) == 1
        assert session.segment is session.branches[0]
        session.goto(20)
        assert same(moment(session), moments[20])
        assert session.recorded == max(moments)
    assert session.feed([1] * 300, lambda share: False) == []
    assert len(session.branches) == 1
    session.goto(max(moments))
    assert same(moment(session), moments[max(moments)])


def test_feeding_nothing_begins_no_branch(written):
    session, moments = written
    session.goto(20)
    assert session.feed("") == []
    assert session.feed([]) == []
    assert len(session.branches) == 1
    assert same(moment(session), moments[20])
    session.branch(20, 5)
    assert [s.stop for s in session.branches] == [max(moments), 21]


def test_a_replay_can_be_ended(demo):
    session = make(demo, history_bytes=0)  # nothing is kept: going back replays everything
    session.feed(PROMPT)
    list(session.run(40))
    end = moment(session)
    asked = []

    def twice():
        asked.append(1)
        return len(asked) < 3

    step = session.goto(session.position - 1, twice)
    assert step.position == session.position == len(end[0])
    assert same(moment(session), end)
    assert len(asked) == 3
    session.goto(session.position - 1, lambda: True)
    assert session.position == len(end[0]) - 1
    session.branch(20, 5)
    there = moment(session)
    session.switch(0, lambda: False)
    assert session.segment is session.branches[1]
    assert same(moment(session), there)
    session.switch(0, lambda: True)
    assert same(moment(session), end)


def test_a_frame_holds_its_own_numbers_only(demo):
    """Not the whole portion of the prompt that it came from."""
    session = gv.Session(demo, gv.Sampler(seed=1), gv.Probe({"wkv"}))
    steps = session.feed([5] * 128)
    for frame in (session.frame, steps[-1].frame, session.probe.frames[3]):
        base = frame.wkv
        while base.base is not None:
            base = base.base
        assert base.nbytes == frame.wkv.nbytes


def test_a_million_tokens_take_little():
    """What a session remembers of its tokens, states and frames aside: they have bounds."""
    segment, texts = Segment(), [f" word{i}" for i in range(4096)]
    top = np.arange(10, dtype=np.int32), np.full(10, 0.1, np.float32)
    tracemalloc.start()
    for i in range(1_000_000):
        segment.append(i & 4095, texts[i & 4095], True, 0.5, top)
        segment.end_call(i)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 40e6
    assert segment.stop == 1_000_000
    assert segment.tops.get(999_999)[0].tolist() == top[0].tolist()
    assert segment.tops.get(5) is None
    assert segment.call(777_777) == Feed(777_777, 777_778)


def test_what_was_likely_is_found_again_when_it_is_not_kept(demo, monkeypatch):
    monkeypatch.setattr("goose_viz.history._TOPS", 16)
    session = make(demo)
    session.feed(PROMPT)
    steps = {s.position: s for s in session.run(60)}
    early = min(steps) + 2
    assert session.segment.tops.get(early - 1) is None
    step = session.goto(early)
    assert step.top == steps[early].top
    assert step.probability == steps[early].probability

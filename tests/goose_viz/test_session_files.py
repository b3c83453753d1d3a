"""A session as a file: reopened bit for bit, with its branches and edits."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import goose_viz as gv
from goose_viz.session_file import is_session

PROMPT = "Lily saw a bird — naïve 好. It was a big bird."


def busy(model, **options):
    """A session with branches, edits that last and edits that do not, names, another text."""
    session = gv.Session(model, gv.Sampler(seed=5, temperature=0.9), gv.Probe({"decay"}), **options)
    session.feed(PROMPT)
    list(session.run(12))
    session.branch(9, 300)  # inside the prompt
    list(session.run(5))
    session.segment.name = "other"
    session.apply(gv.Forget(2), again=1)
    list(session.run(4))
    session.apply(gv.Mute(until=session.position + 3, layer=1))
    list(session.run(6))
    session.begin()
    session.feed("Once upon a time")
    list(session.run(3))
    session.apply(gv.Noise(0.1, seed=2))
    session.switch(1)
    session.goto(session.recorded - 2)
    return session


def same(one, two):
    assert one.tokens == two.tokens
    assert one.text == two.text
    assert one.position == two.position
    for a, b in zip(one.state.arrays().values(), two.state.arrays().values(), strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(one.logits, two.logits)
    said = [[(e.position, e.what) for e in s.edits] for s in (one, two)]
    assert said[0] == said[1]


def test_all_of_it_comes_back(tmp_path, demo):
    session = busy(demo)
    gv.save_session(tmp_path / "a.goose", session, {"prompt": PROMPT, "docks": b"\x00\xff"})
    assert is_session(tmp_path / "a.goose")
    file = gv.load_session(tmp_path / "a.goose")
    assert file.window == {"prompt": PROMPT, "docks": b"\x00\xff"}
    assert file.differs(demo) == ""
    again = file.open(demo, gv.Probe({"decay"}))
    same(session, again)
    assert again.sampler == session.sampler
    assert [t for t, _ in session.goto(6).top] == [t for t, _ in again.goto(6).top] != []
    again.goto(file.metadata["position"])
    session.goto(file.metadata["position"])
    assert len(again.branches) == len(session.branches)
    assert [b.name for b in again.branches] == [b.name for b in session.branches]
    for i in range(len(session.branches)):
        session.switch(i)
        again.switch(i)
        same(session, again)
        texts = [s.path.texts(0, s.recorded) for s in (session, again)]
        assert texts[0] == texts[1]
        for position in (0, 4, 9, 11, 13):
            if position <= session.recorded:
                assert session.goto(position) == again.goto(position) or position
                same(session, again)
    session.switch(0)
    again.switch(0)
    assert [s.token for s in session.run(9)] == [s.token for s in again.run(9)]
    same(session, again)


def test_undo_goes_where_it_went(tmp_path, demo):
    session = busy(demo)
    ends = [len(s.path.edits(10**6)) for s in map(session.twin, range(len(session.branches)))]
    session.switch(int(np.argmax(ends)))
    assert len(session.edits) == 2
    gv.save_session(tmp_path / "a.goose", session)
    again = gv.load_session(tmp_path / "a.goose").open(demo)
    while session.edits:
        session.undo()
        again.undo()
        same(session, again)


@pytest.mark.parametrize("position", [0, 1, 6])
def test_a_cursor_anywhere(tmp_path, demo, position):
    session = busy(demo)
    session.goto(position)
    gv.save_session(tmp_path / "a.goose", session)
    again = gv.load_session(tmp_path / "a.goose").open(demo)
    same(session, again) if position else None
    assert again.position == position
    again.goto(again.recorded)
    session.goto(session.recorded)
    same(session, again)


def test_an_empty_session(tmp_path, demo):
    gv.save_session(tmp_path / "a.goose", gv.Session(demo))
    again = gv.load_session(tmp_path / "a.goose").open(demo)
    assert again.position == again.recorded == 0
    again.feed("Once")


def test_the_state_is_the_files_on_another_device(tmp_path, demo):
    session = busy(demo)
    gv.save_session(tmp_path / "a.goose", session)
    other = gv.load_model(demo.source, dtype="fp32")
    file = gv.load_session(tmp_path / "a.goose")
    assert file.differs(other) == "dtype bf16"
    assert (file.open(other).state.wkv == session.state.wkv).all()


def test_another_model_is_refused(tmp_path, demo, small):
    gv.save_session(tmp_path / "a.goose", busy(demo))
    with pytest.raises(gv.StateError, match=r"6 layers, width 256, 4096 tokens\); this one is L2"):
        gv.load_session(tmp_path / "a.goose").open(small)


def test_saving_again_replaces_whole(tmp_path, demo, monkeypatch):
    session = gv.Session(demo, gv.Sampler(seed=1))
    session.feed("Once")
    gv.save_session(tmp_path / "a.goose", session)
    before = (tmp_path / "a.goose").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    session.feed(" upon")
    with pytest.raises(OSError, match="No space"):
        gv.save_session(tmp_path / "a.goose", session)
    assert (tmp_path / "a.goose").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.goose"]


def altered(path, change):
    """The file with its description, or its arrays, changed."""
    with safe_open(path, framework="np") as file:
        arrays = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
        strings = file.metadata()
    about = json.loads(strings["session"])
    change(about, arrays)
    save_file(arrays, path, metadata=strings | {"session": json.dumps(about)})


def put(name, value):
    return lambda about, arrays: arrays.__setitem__(name, value)


@pytest.mark.parametrize(
    "change",
    [
        lambda about, arrays: about["segments"][1].update(parent=99),
        lambda about, arrays: about["segments"][1].update(parent=-1),
        lambda about, arrays: about["segments"][1].update(fork=5000),
        lambda about, arrays: about["segments"][0].update(fork=3),
        lambda about, arrays: about["segments"][1].update(again=-1),
        lambda about, arrays: about["segments"][0].pop("name"),
        lambda about, arrays: about.update(segments=[]),
        lambda about, arrays: about.update(segment=77),
        lambda about, arrays: about.update(position=-4),
        lambda about, arrays: about.update(position=10**6),
        lambda about, arrays: about.update(position="x"),
        lambda about, arrays: about.update(sampler={"temperature": "hot"}),
        lambda about, arrays: about.update(sampler={"unknown": 1}),
        lambda about, arrays: about.update(wkv="(L,H,N,N) = [key,value]"),
        lambda about, arrays: about["segments"][3].update(edit={"kind": "Explode"}),
        lambda about, arrays: arrays.pop(next(n for n in arrays if n.endswith(".edit"))),
        lambda about, arrays: arrays.update(
            {n: np.zeros(a.shape, np.int8) for n, a in arrays.items() if n.endswith(".edit")}
        ),
        put("logits", np.zeros(4096, np.int8)),
        lambda about, arrays: arrays.pop("logits"),
        lambda about, arrays: arrays.pop("wkv"),
        lambda about, arrays: arrays.pop("segment.0.tokens"),
        put("segment.0.tokens", np.full(3, 1, np.int32)),
        put("segment.0.tokens", np.array([1.5])),
        put("segment.0.calls", np.array([[0, 10**9]])),
        put("segment.0.calls", np.array([[3, 1]])),
        put("logits", np.zeros(7, np.float32)),
        put("wkv", np.zeros((6, 4, 64, 32), np.float32)),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit_are_said(tmp_path, demo, change):
    path = tmp_path / "a.goose"
    gv.save_session(path, busy(demo))
    altered(path, change)
    with pytest.raises(gv.GooseError) as caught:
        gv.load_session(path).open(demo)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x10" + bytes(40), b"{}" * 50])
def test_what_is_no_session_is_said(tmp_path, content):
    path = tmp_path / "a.goose"
    path.write_bytes(content)
    assert not is_session(path)
    with pytest.raises(gv.StateError, match=r"a\.goose"):
        gv.load_session(path)


def test_a_snapshot_is_no_session(tmp_path, demo):
    session = gv.Session(demo)
    session.feed("Once")
    gv.save_snapshot(tmp_path / "a.safetensors", session)
    with pytest.raises(gv.StateError, match="its format is 'goose-viz snapshot 1'"):
        gv.load_session(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", ["put", "add", "steer", "put, then scaled"])
def test_an_edit_ahead_of_the_first_token(tmp_path, demo, kind):
    other = gv.Session(demo, gv.Sampler(seed=1))
    other.feed("Tom had a red ball. Sue had a blue cup.")
    memory = other.state.wkv.copy()
    session = gv.Session(demo, gv.Sampler(seed=1))
    edits = {
        "put": [gv.Put(memory)], "add": [gv.Add(memory, 0.5)], "steer": [gv.Steer(memory, 0.1)],
        "put, then scaled": [gv.Put(memory), gv.Scale(0.5)],
    }[kind]  # fmt: skip
    for edit in edits:
        session.apply(edit)
    gv.save_session(tmp_path / "a.goose", session)
    again = gv.load_session(tmp_path / "a.goose").open(demo)
    assert (again.state.wkv == session.state.wkv).all()
    for s in (session, again):
        s.feed("Tom played with his red")
    assert (again.logits == session.logits).all()
    assert (again.state.wkv == session.state.wkv).all()


def test_a_twin_of_a_branch_inside_a_prompt_can_be_saved(tmp_path, small):
    """Of tokens that were read again one by one, it has those up to where its way leaves them."""
    session = gv.Session(small, gv.Sampler(seed=0))
    session.feed([0, 0, 0])
    session.goto(1)
    session.feed([0])
    session.goto(0)
    session.feed([0])
    twin = session.twin()
    gv.save_session(tmp_path / "a.goose", twin)
    same(gv.load_session(tmp_path / "a.goose").open(small), twin)
    assert all(0 <= s.again <= len(s.tokens) for s in twin.history.segments)

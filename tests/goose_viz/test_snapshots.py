import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import goose_viz as gv


@pytest.fixture
def session(demo):
    s = gv.Session(demo, gv.Sampler(seed=5), gv.Probe({"decay", "removed_norm"}))
    s.feed("Lily saw a bird — naïve 好.")
    list(s.run(20))
    return s


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_snapshot_goes_on_exactly(tmp_path, session, suffix):
    path = tmp_path / f"moment{suffix}"
    gv.save_snapshot(path, session)
    snapshot = gv.load_snapshot(path)
    assert snapshot.tokens == session.tokens
    assert snapshot.text == session.text
    assert snapshot.position == session.position
    assert snapshot.metadata["wkv"] == "(L,H,N,N) = [value,key]"
    assert snapshot.metadata["model"] == "stories-7M"
    assert snapshot.metadata["config"]["n_layer"] == 6
    assert (snapshot.arrays["frame.decay"] == session.frame.decay).all()
    resumed = snapshot.resume(session.model)
    assert resumed.text == session.text
    expected = [s.token for s in session.run(30)]
    assert [s.token for s in resumed.run(30)] == expected
    assert (resumed.state.wkv == session.state.wkv).all()
    resumed.goto(3)
    resumed.goto(snapshot.position)
    assert (resumed.state.wkv == snapshot.state.wkv).all()


def test_a_snapshot_in_mid_history_holds_only_the_past(tmp_path, session):
    session.back(10)
    gv.save_snapshot(tmp_path / "a.npz", session)
    snapshot = gv.load_snapshot(tmp_path / "a.npz")
    assert snapshot.position == len(snapshot.tokens) == session.position
    assert (snapshot.state.wkv == session.state.wkv).all()


def test_an_empty_session(tmp_path, demo):
    gv.save_snapshot(tmp_path / "a.safetensors", gv.Session(demo))
    assert gv.load_snapshot(tmp_path / "a.safetensors").resume(demo).position == 0


def test_states_alone(tmp_path, session):
    """State.load reads both kinds of file, and forward goes on from it exactly."""
    session.state.save(tmp_path / "state.safetensors")
    gv.save_snapshot(tmp_path / "snapshot.safetensors", session)
    token = session.tokens[-1]
    expected = session.model.forward([token], session.state.copy())
    for name in ("state", "snapshot"):
        state = gv.State.load(tmp_path / f"{name}.safetensors")
        assert (state.wkv == session.state.wkv).all()
        assert (session.model.forward([token], state) == expected).all()
    with safe_open(tmp_path / "state.safetensors", framework="np") as file:
        assert file.metadata()["wkv"] == "(L,H,N,N) = [value,key]"


def test_refused_files(tmp_path, session, small):
    def refused(load, path, words):
        with pytest.raises(gv.StateError, match=words):
            load(path)

    refused(gv.State.load, tmp_path / "nowhere", "no such file")
    refused(gv.load_snapshot, tmp_path / "nowhere", "no such file")
    (tmp_path / "text.safetensors").write_text("hello")
    refused(gv.State.load, tmp_path / "text.safetensors", "not readable")
    refused(gv.load_snapshot, tmp_path / "text.safetensors", "not readable")
    (tmp_path / "text.npz").write_text("hello")
    refused(gv.load_snapshot, tmp_path / "text.npz", "not readable")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    refused(gv.load_snapshot, tmp_path / "other.npz", "not readable")
    np.savez(tmp_path / "pickled.npz", metadata=np.array([{"a": 1}], dtype=object))
    refused(gv.load_snapshot, tmp_path / "pickled.npz", "not readable")
    save_file({"x": np.zeros(3)}, tmp_path / "x.safetensors")
    refused(gv.State.load, tmp_path / "x.safetensors", "no wkv and no att_shift")
    arrays = session.state.arrays()
    save_file(
        arrays, tmp_path / "key-value.safetensors", metadata={"wkv": "(L,H,N,N) = [key,value]"}
    )
    refused(gv.State.load, tmp_path / "key-value.safetensors", "transposed state")
    bent = arrays | {"att_shift": np.zeros((2, 3), np.float32)}
    save_file(bent, tmp_path / "bent.safetensors", metadata={"wkv": "(L,H,N,N) = [value,key]"})
    refused(gv.State.load, tmp_path / "bent.safetensors", "do not belong together")
    session.state.save(tmp_path / "state.safetensors")
    refused(gv.load_snapshot, tmp_path / "state.safetensors", r"read by State\.load")
    gv.save_snapshot(tmp_path / "good.npz", session)
    with pytest.raises(gv.StateError, match="use a state of the same model"):
        gv.load_snapshot(tmp_path / "good.npz").resume(small)
    with pytest.raises(ValueError, match=r"ends in \.safetensors or \.npz"):
        gv.save_snapshot(tmp_path / "moment.txt", session)


def test_a_failed_write_leaves_the_old_file(tmp_path, session, monkeypatch):
    path = tmp_path / "a.safetensors"
    path.write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        gv.save_snapshot(path, session)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_metadata_is_plain_json(tmp_path, session):
    gv.save_snapshot(tmp_path / "a.npz", session)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert json.loads(str(file["metadata"]))["sampler"]["seed"] == 5


def test_a_resumed_state_is_the_files_own(tmp_path, session):
    """Also where no replay could make it: an edited state goes on as it is."""
    session.state.wkv[2] *= 0.5
    gv.save_snapshot(tmp_path / "edited.npz", session)
    snapshot = gv.load_snapshot(tmp_path / "edited.npz")
    resumed = snapshot.resume(session.model, probe=gv.Probe({"decay"}))
    edited = resumed.state.wkv.copy()
    assert (edited == session.state.wkv).all()
    assert (resumed.frame.decay == session.frame.decay).all()
    resumed.goto(resumed.position)
    assert (resumed.state.wkv == edited).all()
    after = [s.token for s in resumed.run(12)]
    end = resumed.state.wkv.copy()
    resumed.goto(snapshot.position + 3)
    resumed.goto(snapshot.position)
    assert (resumed.state.wkv == edited).all()
    resumed.history_bytes = 0
    assert [s.token for s in resumed.run(12)] == after
    assert (resumed.state.wkv == end).all()
    assert snapshot.differs(session.model) == ""
    other = gv.load_model(dtype="fp32")
    assert snapshot.differs(other) == "dtype bf16"


def test_damaged_npz(tmp_path, session):
    path = tmp_path / "a.npz"
    gv.save_snapshot(path, session)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-100], whole[:300] + bytes([whole[300] ^ 255]) + whole[301:]):
        path.write_bytes(damaged)
        with pytest.raises(gv.StateError, match="not readable"):
            gv.load_snapshot(path)
    np.save(tmp_path / "b.npy", np.zeros(3))
    (tmp_path / "b.npy").rename(path)
    with pytest.raises(gv.StateError, match="not readable"):
        gv.load_snapshot(path)


@pytest.mark.parametrize("part", ["tokens", "ends", "generated"])
def test_parts_that_do_not_fit(tmp_path, session, part):
    gv.save_snapshot(tmp_path / "a.npz", session)
    with np.load(tmp_path / "a.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "b.npz", **{k: v[:-1] if k == part else v for k, v in arrays.items()})
    with pytest.raises(gv.StateError, match="do not fit each other"):
        gv.load_snapshot(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", **{k: v for k, v in arrays.items() if k != part})
    with pytest.raises(gv.StateError, match=f"no {part} inside"):
        gv.load_snapshot(tmp_path / "c.npz")

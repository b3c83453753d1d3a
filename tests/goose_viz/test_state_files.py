"""Memories to begin with: every layout in both orientations, and sessions that begin with one."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import goose_viz as gv
from goose_viz import cli
from goose_viz.analysis import attribution
from goose_viz.config import Config
from goose_viz.state_files import KEY_VALUE, STATE_LAYOUTS, VALUE_KEY
from tests.conftest import save_random

from .layout_files import bits
from .pth_writer import write_tensors

TEXT = "Once upon a time, there was a little girl named Lily. She had a red ball"


@pytest.fixture(scope="module")
def state(demo):
    session = gv.Session(demo)
    session.feed(TEXT)
    return session.state.copy()


def numbers_of(state):
    """(wkv, att, ffn), none of whose matrices is symmetric."""
    wkv, att, ffn = state.wkv, state.att_shift, state.ffn_shift
    assert (abs(wkv - wkv.swapaxes(-1, -2)).max((-1, -2)) > 1e-3).all()
    return wkv, att, ffn


def rwkv_cpp(state):
    """Element by element, as its graph takes views of the buffer."""
    wkv, att, ffn = numbers_of(state)
    L, H, N, _ = wkv.shape
    D = H * N
    out = np.empty(L * (2 + N) * D, np.float32)
    for i in range(L):
        at = i * (2 + N) * D
        out[at : at + D], out[at + D : at + 2 * D] = ffn[i], att[i]
        for h in range(H):
            for v in range(N):
                begin = at + 2 * D + h * N * N + v * N
                out[begin : begin + N] = wkv[i, h, v]
    return out


def web_rwkv(state):
    wkv, att, ffn = numbers_of(state)
    L, H, N, _ = wkv.shape
    out = np.empty((L, N + 2, H * N), np.float32)
    for i in range(L):
        out[i, 0], out[i, N + 1] = att[i], ffn[i]
        for k in range(N):
            for h in range(H):
                out[i, 1 + k, h * N : (h + 1) * N] = wkv[i, h, :, k]
    return out


def tuned(state, turned=False):
    return {
        f"blocks.{i}.att.time_state": np.ascontiguousarray(w.swapaxes(-1, -2) if turned else w)
        for i, w in enumerate(state.wkv)
    }


def fla(state, shifts):
    out = {}
    for i in range(len(state.wkv)):
        turned = np.ascontiguousarray(state.wkv[i].swapaxes(-1, -2))[None]  # with a batch
        out[f"layers.{i}.recurrent_state"] = turned
        if shifts:
            out[f"layers.{i}.conv_state"] = state.att_shift[i][None, None].copy()
            out[f"layers.{i}.ffn_state"] = state.ffn_shift[i][None, None].copy()
    return out


def same(found, state, shifts=True):
    assert (found.state.wkv == state.wkv).all()
    for name in ("att_shift", "ffn_shift"):
        expected = getattr(state, name) if shifts else 0
        assert (getattr(found.state, name) == expected).all()
    assert found.shifts == shifts
    assert ("are zero" in str(found)) != shifts


def test_ours_and_snapshots(demo, state, tmp_path):
    state.save(tmp_path / "a.safetensors")
    same(gv.load_state(tmp_path / "a.safetensors", demo.config), state)
    session = gv.Session(demo)
    session.feed(TEXT)
    for name in ("s.npz", "s.safetensors"):
        gv.save_snapshot(tmp_path / name, session)
        same(gv.load_state(tmp_path / name, demo.config), state)


def test_rwkv_cpp_buffers(demo, state, tmp_path):
    buffer = rwkv_cpp(state)
    buffer.tofile(tmp_path / "a.bin")
    np.save(tmp_path / "a.npy", buffer)
    save_file({"state": buffer}, tmp_path / "a.safetensors")
    for name in ("a.bin", "a.npy", "a.safetensors"):
        same(gv.load_state(tmp_path / name, demo.config, "rwkv.cpp"), state)
        with pytest.raises(gv.StateError, match="do not tell which way round"):
            gv.load_state(tmp_path / name, demo.config)


def test_web_rwkv_tensors(demo, state, tmp_path):
    whole = web_rwkv(state)
    np.save(tmp_path / "a.npy", whole)
    save_file({"state": whole[None]}, tmp_path / "a.st")
    for name in ("a.npy", "a.st"):
        same(gv.load_state(tmp_path / name, demo.config, "web-rwkv"), state)


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_state_tuned_files(demo, state, tmp_path, kind):
    """A .pth lies as RWKV-7 computes; a .st was turned by web-rwkv's converter."""
    exact = gv.State(state.wkv.astype(np.float32), state.att_shift, state.ffn_shift)
    exact.wkv.view(np.uint32)[...] &= 0xFFFF0000  # what 16 bits can say
    write_tensors(tmp_path / "a.pth", bits(tuned(exact), kind))
    found = gv.load_state(tmp_path / "a.pth", demo.config)
    same(found, exact, shifts=False)
    assert (found.layout, found.orientation) == ("time_state", VALUE_KEY)
    save_file(tuned(exact, turned=True), tmp_path / "a.st")
    found = gv.load_state(tmp_path / "a.st", demo.config)
    same(found, exact, shifts=False)
    assert found.orientation == KEY_VALUE
    save_file(tuned(exact), tmp_path / "a.safetensors")
    with pytest.raises(gv.StateError, match="name its orientation"):
        gv.load_state(tmp_path / "a.safetensors", demo.config)
    same(
        gv.load_state(tmp_path / "a.safetensors", demo.config, orientation=VALUE_KEY), exact, False
    )


@pytest.mark.parametrize("shifts", [False, True])
def test_fla_states(demo, state, tmp_path, shifts):
    save_file(fla(state, shifts), tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **fla(state, shifts))
    for name in ("a.safetensors", "a.npz"):
        same(gv.load_state(tmp_path / name, demo.config), state, shifts)


@pytest.mark.parametrize("layout", [n for n in STATE_LAYOUTS if n != "goose-viz"])
def test_the_other_orientation_is_the_transposed(demo, state, tmp_path, layout):
    write = {
        "rwkv.cpp": lambda p: np.save(p, rwkv_cpp(state)),
        "web-rwkv": lambda p: np.save(p, web_rwkv(state)),
        "fla": lambda p: save_file(fla(state, True), p),
        "time_state": lambda p: save_file(tuned(state), p),
    }
    path = tmp_path / ("a.npy" if "rwkv" in layout else "a.safetensors")
    write[layout](path)
    one, other = (
        gv.load_state(path, demo.config, layout, o).state.wkv for o in (VALUE_KEY, KEY_VALUE)
    )
    assert (one == other.swapaxes(-1, -2)).all()
    assert (one == state.wkv).all() != (other == state.wkv).all()


def test_what_will_not_do(demo, small, state, tmp_path):
    path = tmp_path / "a.npy"
    for content, options, sentence in (
        (rwkv_cpp(state)[:-1], {"layout": "rwkv.cpp"}, "does not hold a state of this model"),
        (rwkv_cpp(state).astype(int), {"layout": "rwkv.cpp"}, "numbers of the kind int64"),
        (rwkv_cpp(state) * np.nan, {"layout": "rwkv.cpp"}, "NaN or infinite"),
        (rwkv_cpp(state), {"layout": "fla"}, "recurrent_state of 0 layers"),
        (rwkv_cpp(state), {"layout": "rwkv"}, "there is no layout 'rwkv'"),
        (rwkv_cpp(state), {"orientation": "kv"}, "orientation 'kv'"),
        (np.array([{}]), {}, "cannot be read as a state"),
    ):
        np.save(path, content)
        with pytest.raises(gv.StateError, match=sentence):
            gv.load_state(path, demo.config, **options)
    (tmp_path / "a.bin").write_bytes(b"nothing of the kind" * 2 + b"!")
    with pytest.raises(gv.StateError, match="are no float32 numbers"):
        gv.load_state(tmp_path / "a.bin", demo.config)
    with pytest.raises(gv.StateError, match="there is no such file"):
        gv.load_state(tmp_path / "nowhere", demo.config)
    state.save(tmp_path / "a.safetensors")
    with pytest.raises(gv.StateError, match="use a state of the same model"):
        gv.load_state(tmp_path / "a.safetensors", small.config)


def test_a_state_is_no_model(state, tmp_path):
    save_file(tuned(state), tmp_path / "a.st")
    with pytest.raises(gv.GooseError, match=r"an initial state, no model; .* --state"):
        gv.load_model(tmp_path / "a.st")


# -- sessions that begin with one ------------------------------------------------------------------


def begun(demo, state, **options):
    return gv.Session(demo, gv.Sampler(seed=5), initial=state, **options)


def test_a_session_goes_on_from_a_memory(demo, state):
    """As if the text had been read here; every way back leads to it."""
    whole = gv.Session(demo, gv.Sampler(seed=5))
    whole.feed(TEXT)
    token = demo.tokenizer.encode(" and")
    whole.feed(token)
    session = begun(demo, state)
    session.feed(token)  # no start token between
    assert session.tokens == token
    assert (session.logits == whole.logits).all()
    state.wkv[...] *= 1  # the session has a copy
    first = session.logits.copy()
    texts = [step.text for step in session.run(5)]
    session.goto(1)
    assert (session.logits == first).all()
    session.goto(0)
    assert (session.state.wkv == state.wkv).all()
    assert (session.state.att_shift == state.att_shift).all()
    session.switch(0)
    assert session.text == " and" + "".join(texts)
    session.branch(1, 7)
    other = session.twin()
    assert (other.state_at(0).wkv == state.wkv).all()
    assert (other.logits == session.logits).all()
    session.begin()
    session.feed(token)
    assert (session.logits == first).all()


def test_files_and_traces_have_it(demo, state, tmp_path):
    session = begun(demo, state)
    session.feed(" and a cat")
    session.apply(gv.Scale(0.5, layer=2))
    list(session.run(3))
    gv.save_session(tmp_path / "a.goose", session)
    gv.save_snapshot(tmp_path / "a.npz", session)
    for other in (
        gv.load_session(tmp_path / "a.goose").open(demo),
        gv.load_snapshot(tmp_path / "a.npz").resume(demo),
    ):
        assert (other.logits == session.logits).all()
        other.goto(0)
        assert (other.state.wkv == state.wkv).all()
        other.goto(session.position)
        np.testing.assert_allclose(other.state.wkv, session.state.wkv, atol=1e-4)
    trace = gv.record(demo, " and a cat", 6, tmp_path / "a.zarr", initial=state)
    from goose_viz.trace.memory import Memories

    memories = Memories(trace, trace.way())
    again = begun(demo, state)
    again.feed(" and a cat")
    assert (memories.at(0) == state.wkv).all()
    np.testing.assert_allclose(memories.at(again.position), again.state.wkv, atol=1e-3)


def test_why_counts_what_was_there_ahead(demo, state):
    """A logit split over tokens and the memory that it began with adds up."""
    session = begun(demo, state)
    session.feed(" and a")
    frames = session.frames()
    assert (frames.initial == state.wkv).all()
    target = int(session.logits.argmax())
    found = attribution(demo, frames, target)
    np.testing.assert_allclose(found.total, session.logits[target], atol=2e-2)
    assert abs(found.initial).max() > 0.1


def test_a_memory_that_will_not_do(demo, small, state):
    with pytest.raises(gv.StateError, match="use a state of the same model"):
        gv.Session(small, initial=state)
    bad = state.copy()
    bad.wkv[0, 0, 0, 0] = np.inf
    with pytest.raises(gv.StateError, match="NaN or infinite"):
        gv.Session(demo, initial=bad)
    with pytest.raises(gv.GooseError, match="feed a prompt first"):
        gv.Session(demo, initial=state).step()


# -- the memory behind a text, kept ----------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GOOSE_VIZ_CACHE", str(tmp_path / "cache" / "weights"))
    return tmp_path / "cache" / "states"


def counted(monkeypatch):
    """Tokens that a model reads from now on."""
    read, plain = [], gv.Model.forward

    def forward(self, tokens, *rest, **options):
        read.extend(tokens)
        return plain(self, tokens, *rest, **options)

    monkeypatch.setattr(gv.Model, "forward", forward)
    return read


def test_a_text_is_read_once(demo, cache, monkeypatch):
    text = TEXT * 20
    session = gv.Session(demo)
    session.feed(text)
    read = counted(monkeypatch)
    first = gv.state_after(demo, text)
    assert len(read) == session.position > 256
    again = gv.state_after(demo, text)
    assert len(read) == session.position
    for state in (first, again):
        for name, array in session.state.arrays().items():
            assert (state.arrays()[name] == array).all()
    gv.state_after(demo, text + "!")
    assert len(read) > session.position
    assert len(list(cache.glob("*"))) == 2
    gv.state_after(gv.load_model(dtype="fp32"), text)
    assert len(list(cache.glob("*"))) == 3


def test_who_is_interrupted_goes_on_from_there(demo, cache, monkeypatch):
    text = TEXT * 20
    monkeypatch.setattr("goose_viz.state_cache._KEEP_EVERY", -1.0)

    def stop(share, words):
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gv.state_after(demo, text, stop)
    read = counted(monkeypatch)
    state = gv.state_after(demo, text)
    session = gv.Session(demo)
    session.feed(text)
    assert 0 < len(read) - session.position < 0.7 * session.position
    assert (state.wkv == session.state.wkv).all()


def test_damage_full_disks_and_no_cache_cost_only_time(demo, cache, monkeypatch):
    whole = gv.state_after(demo, TEXT)
    (path,) = cache.glob("*")
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-1000] ^= 1
    for damage in (b"", content[:-7], content[:60], b"\0" * len(content), bytes(flipped)):
        path.write_bytes(damage)
        assert (gv.state_after(demo, TEXT).wkv == whole.wkv).all()
        assert (gv.State.load(path).wkv == whole.wkv).all()
    path.unlink()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("goose_viz.state_cache.write_whole", full)
    assert (gv.state_after(demo, TEXT).wkv == whole.wkv).all()
    monkeypatch.setenv("GOOSE_VIZ_CACHE", "off")
    assert (gv.state_after(demo, TEXT).wkv == whole.wkv).all()
    assert list(cache.glob("*")) == []
    with pytest.raises(gv.GooseError, match="outside the model's vocabulary"):
        gv.state_after(demo, [1, 99999])


def test_the_folder_has_a_bound(demo, cache, monkeypatch):
    monkeypatch.setattr("goose_viz.state_cache._BOUND", 3 * 450_000)
    for n in range(5):
        gv.state_after(demo, f"{TEXT} {n}")
    assert len(list(cache.glob("*"))) <= 3


def test_the_commands_begin_with_a_memory(demo, state, cache, tmp_path, capfd):
    book, tuned_file = tmp_path / "book.txt", tmp_path / "a.st"
    book.write_text(TEXT)
    save_file(tuned(state, turned=True), tuned_file)
    words = ["generate", "--prompt", " and", "--tokens", "8", "--seed", "1"]
    said = []
    for options in (["--after", str(book)], ["--state", str(tuned_file)], []):
        assert cli.run([*words, *options]) == 0
        out = capfd.readouterr()
        said.append(out.out)
        assert ("time_state, [key,value], without token shifts" in out.err) == (
            "--state" in options
        )
    assert said[2] not in said[:2]
    session = begun(demo, gv.state_after(demo, TEXT))
    session.sampler = gv.Sampler(seed=1)
    session.feed(" and")
    text = " and" + "".join(step.text for step in session.run(8))
    assert said[0] == text + "\n"
    assert cli.run(["record", str(tmp_path / "a.zarr"), "--after", str(book), "-n", "3"]) == 0
    assert "initial" in gv.open_trace(tmp_path / "a.zarr").dataset
    assert cli.run(["export", str(tmp_path / "a.npz"), "--state", str(tuned_file)]) == 0
    assert "initial.wkv" in gv.load_snapshot(tmp_path / "a.npz").arrays
    capfd.readouterr()
    for wrong, sentence in (
        (["--state", str(tuned_file), "--after", str(book)], "give one"),
        (["--state", str(book)], "name its layout"),
        (["--state", str(tuned_file), "--state-layout", "x"], "there is no layout"),
        (["--after", str(tmp_path / "nowhere")], "cannot be read"),
    ):
        assert cli.run([*words, *wrong]) == 2
        assert sentence in capfd.readouterr().err


def test_weights_that_were_replaced_give_no_false_memory(cache, tmp_path):
    """What is kept is kept under the weights that made it, not under those that lie there now."""
    sizes = Config(2, 16, 2, 8, 40, 23, 5, 8, 3, 9, "safetensors")
    path = tmp_path / "m.safetensors"
    save_random(path, sizes)
    old = gv.load_model(path, device="reference")
    tensors = load_file(path)
    other = tmp_path / "other"
    save_file({n: a * np.float32(0.5) for n, a in tensors.items()}, other)
    other.replace(path)
    gv.state_after(old, [1, 2, 3])
    new = gv.load_model(path, device="reference")
    session = gv.Session(new)
    session.feed([1, 2, 3])
    assert (gv.state_after(new, [1, 2, 3]).wkv == session.state.wkv).all()
    trace = gv.record(old, [1, 2], 1, tmp_path / "a.zarr")
    assert trace.attributes["model_sha256"] == {}

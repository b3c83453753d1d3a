"""Recorded runs: the session's very numbers, for any reader of Zarr, whatever ends the process."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import xarray
import zarr

import goose_viz as gv
from goose_viz.ranking import softmax
from goose_viz.trace import TraceWriter, follow, growing, is_trace, layout, unfollow
from goose_viz.trace.cursor import TraceCursor
from goose_viz.trace.writing import wanted

ALL = tuple(gv.OBSERVABLES)
TEXT = "Lily saw a bird — naïve 好."


@pytest.fixture
def short_blocks(monkeypatch):
    """Chunks of four tokens, so that a short run has many."""
    monkeypatch.setattr(layout, "block_of", lambda config, found: 4)


def session_of(model, prompt, n, **options):
    session = gv.Session(model, gv.Sampler(seed=3), gv.Probe(ALL), **options)
    session.feed(prompt)
    for _ in session.run(n):
        pass
    return session


def same_numbers(dataset, frames, rows=slice(None)):
    for name in ALL:
        if name in dataset:
            expected = np.stack([getattr(f, name) for f in frames])[rows]
            assert (dataset[name].values == expected).all(), name


def test_a_trace_has_the_sessions_bits(tmp_path, demo, short_blocks):
    trace = gv.record(
        demo, TEXT, 21, tmp_path / "a.zarr", observables=ALL, sampler=gv.Sampler(seed=3)
    )
    session = session_of(demo, TEXT, 21)
    found = trace.dataset
    same_numbers(found, session.probe.frames)
    assert found.token_id.values.tolist() == session.tokens
    assert "".join(found.text.values) == session.text == trace.text
    assert found.generated.values.sum() == 21
    assert found.token.values.tolist() == list(range(session.position))
    assert set(found.data_vars) >= {*ALL, "probability", "logits_top"}
    assert found.sizes["layer"] == 6
    assert found.wkv.dims == ("token", "layer", "head", "value", "key")
    assert found.value.dims == ("token", "layer", "channel")
    assert found.read.dims == ("token", "layer", "head", "value")
    assert found.head_of_channel.values.tolist() == [c // 64 for c in range(256)]
    assert trace.complete
    assert trace.attributes["ended"] == "after as many tokens as were asked for"
    assert len(trace) == session.position
    assert "stories-7M" in repr(trace)
    assert "decay" in trace._repr_html_()


def test_what_was_expected_is_the_sessions(tmp_path, demo):
    trace = gv.record(demo, TEXT, 9, tmp_path / "a.zarr", sampler=gv.Sampler(seed=3))
    session = session_of(demo, TEXT, 9)
    found = trace.dataset
    given = session.path.probabilities(0, session.position)
    assert np.array_equal(found.probability, np.float32(given), equal_nan=True)
    for i, logits in session.expected():
        p = softmax(logits)
        best = np.argsort(-logits, kind="stable")[:10]
        assert found.token_top[i].values.tolist() == best.tolist()
        assert (found.logits_top[i].values == logits[best]).all()
        row = found.isel(token=i)
        assert np.allclose(np.exp(row.logits_top - row.logits_sum), p[best], rtol=2e-6)


def test_the_attributes_tell_where_it_comes_from(tmp_path, demo):
    trace = gv.record(demo, "Once", 2, tmp_path / "a.zarr", sampler=gv.Sampler(seed=8, top_p=0.5))
    about = xarray.open_zarr(tmp_path / "a.zarr").attrs
    (digest,) = [
        line.split()[0]
        for line in subprocess.run(
            ["sha256sum", demo.source / "model.safetensors"], capture_output=True, text=True
        ).stdout.splitlines()
    ]
    assert about["model_sha256"] == {"model.safetensors": digest}
    assert about["model"] == "stories-7M"
    assert about["sampler"]["seed"] == 8
    assert about["wkv"] == "(L,H,N,N) = [value,key]"
    assert about["version"] == gv.__version__
    assert about["device"] == "cpu"
    assert about["dtype"] == "bf16"
    assert about["edits"] == []
    assert trace.config == demo.config
    assert trace.dataset.decay.attrs["units"] == "1 per token"
    assert all(v.attrs["long_name"] for v in trace.dataset.variables.values())


def test_bare_xarray_opens_it(tmp_path, demo):
    """In a process that has none of this program."""
    gv.record(demo, "Once", 5, tmp_path / "a.zarr", observables=["wkv", "decay"])
    code = """
import sys
for name in ("goose_viz", "goose_gpu", "goose_app"):
    sys.modules[name] = None
import xarray
d = xarray.open_zarr(sys.argv[1])
assert d.wkv.dims == ("token", "layer", "head", "value", "key")
print(d.sizes["token"], "".join(d.text.values), float(d.decay.min()), float(abs(d.wkv).max()))
"""
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, tmp_path / "a.zarr"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert out.stdout.startswith("7 Once")


def test_layers_and_every(tmp_path, demo, short_blocks):
    trace = gv.record(
        demo, TEXT, 14, tmp_path / "a.zarr", observables=["decay", "wkv"], layers=[4, 1], every=3,
        sampler=gv.Sampler(seed=3),
    )  # fmt: skip
    session = session_of(demo, TEXT, 14)
    found, n = trace.dataset, session.position
    assert found.layer.values.tolist() == [4, 1]
    assert found.token.values.tolist() == list(range(0, n, 3))
    every = session.probe.frames[::3]
    assert (found.wkv.values == np.stack([f.wkv[[4, 1]] for f in every])).all()
    assert "".join(trace.texts()) == trace.text == session.text
    assert found.sizes["position"] == n
    assert trace.way(thinned=True).tolist() == list(range(len(range(0, n, 3))))
    assert trace.frames(np.arange(2)).layers == (4, 1)


def test_edits_are_made_where_they_are_due(tmp_path, demo):
    edits = [(9, gv.Zero(layer=2)), (4, gv.Forget(2)), (4, gv.Scale(0.5))]
    trace = gv.record(
        demo, TEXT, 6, tmp_path / "a.zarr", observables=ALL, edits=edits,
        sampler=gv.Sampler(seed=3),
    )  # fmt: skip
    tokens = [0, *demo.tokenizer.encode(TEXT)]
    session = gv.Session(demo, gv.Sampler(seed=3), gv.Probe(ALL))
    session.feed(tokens[:4])
    session.apply(gv.Forget(2))
    session.apply(gv.Scale(0.5))
    session.feed(tokens[4:9])
    session.apply(gv.Zero(layer=2))
    session.feed(tokens[9:])
    for _ in session.run(6):
        pass
    same_numbers(trace.dataset, session.probe.frames)
    said = [(e["position"], e["kind"]) for e in trace.attributes["edits"]]
    assert said == [(4, "Forget"), (4, "Scale"), (9, "Zero")]


def test_branches_are_told_apart(tmp_path, demo, short_blocks):
    session = gv.Session(demo, gv.Sampler(seed=3), gv.Probe(ALL))
    writer = TraceWriter(
        tmp_path / "a.zarr", demo, wanted(ALL, None, demo.config), 1, session.sampler
    )
    session.follower = writer.read
    session.feed(TEXT)
    for _ in session.run(7):
        pass
    first, known = session.tokens, list(session.probe.frames)
    session.branch(11, demo.tokenizer.encode(" cat")[0])
    for _ in session.run(5):
        pass
    session.apply(gv.Zero())
    for _ in session.run(3):
        pass
    second = session.tokens
    session.switch(0)
    session.step()
    writer.close()
    trace = gv.open_trace(tmp_path / "a.zarr")
    assert [b["parent"] for b in trace.branches] == [None, 0, 1]
    ids = trace.dataset.token_id.values
    assert ids[trace.way(0)].tolist() == session.tokens == [*first, session.tokens[-1]]
    assert ids[trace.way(2)].tolist() == second
    assert trace.dataset.token.values[trace.way(2)].tolist() == list(range(len(second)))
    frames = trace.frames(trace.way(2))
    later = session.probe.frames[len(known) : -1]
    assert (frames.arrays["wkv"][-len(later) :] == np.stack([f.wkv for f in later])).all()
    assert trace.attributes["edits"] == [
        {"branch": 2, "position": 17, "kind": "Zero", "layer": None, "head": None}
    ]
    for find in (trace.way, trace.lineage, trace.texts):
        for branch in (3, -1):
            with pytest.raises(gv.GooseError, match=f"no branch {branch}; there are 3"):
                find(branch)


def test_a_trace_that_has_lost_its_branches(tmp_path, demo):
    path = tmp_path / "run.zarr"
    gv.record(demo, "Once", 3, path, observables={"decay"})
    about = json.loads((path / "zarr.json").read_text())
    about["attributes"]["branches"] = []
    (path / "zarr.json").write_text(json.dumps(about))
    trace = gv.open_trace(path)
    assert trace.text == ""
    assert len(trace.way()) == 0
    with pytest.raises(gv.GooseError, match="no branch 0; there are 0"):
        trace.lineage(0)


def test_the_analyses_take_its_frames(tmp_path, demo):
    from goose_viz import analysis as ga

    trace = gv.record(demo, TEXT, 6, tmp_path / "a.zarr", sampler=gv.Sampler(seed=3))
    session = session_of(demo, TEXT, 6)
    found = ga.attention_map(trace.frames(trace.way()), 3, 2)
    assert (found == ga.attention_map(session.probe.frames, 3, 2)).all()
    with pytest.raises(gv.GooseError, match=r"has no wkv; record it with observables=\['"):
        trace.frames(trace.way(), ("wkv",))


def test_a_reference_keeps_float64(tmp_path, small):
    model = gv.load_model(small.source, device="reference")
    trace = gv.record(model, [1, 2, 3], 1, tmp_path / "a.zarr", observables=["read"])
    assert trace.dataset.read.dtype == np.float64


def test_it_can_be_read_while_it_is_written(tmp_path, demo, short_blocks):
    seen = []

    def progress(share, words):
        if share > 0.6 and not seen:
            for _ in range(1000):
                trace = gv.open_trace(tmp_path / "a.zarr")
                if len(trace) >= 12:
                    break
                time.sleep(0.02)
            seen.append((len(trace), trace.complete, trace.dataset.decay.values.copy()))

    trace = gv.record(demo, "Once upon a time", 26, tmp_path / "a.zarr", progress=progress)
    n, complete, decay = seen[0]
    assert n % 4 == 0
    assert not complete
    assert (decay == trace.dataset.decay.values[:n]).all()
    trace.refresh()
    assert len(trace) == 31


def length_of(path):
    return xarray.open_zarr(path).sizes["token"]


def until(done):
    for _ in range(1500):
        if done():
            return
        time.sleep(0.02)
    raise AssertionError("in vain")


def test_rows_do_not_wait_for_ever(tmp_path, demo, monkeypatch):
    """What there is is written after some seconds, though the model rests, and again with more."""
    monkeypatch.setattr("goose_viz.trace.writing._PATIENCE", 0.05)
    session = gv.Session(demo, gv.Sampler(seed=3), gv.Probe(ALL))
    writer = follow(session, tmp_path / "a.zarr", observables=ALL)
    session.feed(TEXT)
    until(lambda: length_of(tmp_path / "a.zarr") == session.position)
    list(session.run(5))
    until(lambda: length_of(tmp_path / "a.zarr") == session.position)
    list(session.run(6))
    unfollow(session, writer)
    found = xarray.open_zarr(tmp_path / "a.zarr")
    same_numbers(found, session_of(demo, TEXT, 11).probe.frames)


@pytest.mark.parametrize("every", [1, 3])
def test_a_block_is_written_once(tmp_path, demo, short_blocks, monkeypatch, every):
    written, plain = [], growing.GrowingArrays.write

    def write(self, begin, rows):
        written.append((begin, "token" in rows))
        plain(self, begin, rows)

    monkeypatch.setattr(growing.GrowingArrays, "write", write)
    gv.record(demo, TEXT, 30, tmp_path / "a.zarr", observables=["decay"], every=every)
    blocks = [begin for begin, is_token in written if is_token]
    assert blocks == sorted(blocks)
    assert len(blocks) <= len(set(blocks)) + 1  # the last may have been full when it ended


def test_rows_that_are_not_there_take_no_room(tmp_path, demo, short_blocks):
    """Behind the newest row of a block there is nothing, and not what the block before had."""
    gv.record(demo, TEXT, 6, tmp_path / "a.zarr", observables=["decay"])
    n = length_of(tmp_path / "a.zarr")
    assert n % 4
    array = zarr.open_array(tmp_path / "a.zarr" / "decay", mode="r+")
    array.resize((n + 4 - n % 4, *array.shape[1:]))
    assert array[n - 1].any()
    assert not array[n:].any()


def test_the_memory_is_made_again(tmp_path, demo):
    """From the five vectors: to 1e-6 of its largest number, as docs/traces.md says."""
    trace = gv.record(demo, TEXT, 300, tmp_path / "a.zarr", sampler=gv.Sampler(seed=3))
    cursor, session = TraceCursor(trace), session_of(demo, TEXT, 300)
    for position in (0, 1, 12, 33, 100, cursor.recorded):
        found, true = cursor.wkv_at(position), session.state_at(position).wkv
        np.testing.assert_allclose(found, true, rtol=0, atol=1e-6 * max(abs(true).max(), 1))


def test_a_disk_that_is_full_at_the_end(tmp_path, demo, monkeypatch):
    """The last write fails: nobody waits for ever."""

    def full(path, content):
        raise OSError(28, "No space left on device")

    def progress(share, words):
        if share == 1:
            monkeypatch.setattr(growing, "_write", full)

    with pytest.raises(OSError, match="No space left"):
        gv.record(demo, TEXT, 3, tmp_path / "a.zarr", progress=progress)


def whole(path, session):
    """A trace has all tokens of a session's branch, with its numbers."""
    trace = gv.open_trace(path)
    rows = trace.way()
    assert trace.dataset.token.values[rows].tolist() == list(range(session.position))
    assert trace.dataset.token_id.values[rows].tolist() == session.tokens
    last = trace.frames(rows[-1:]).arrays["wkv"][0]
    session.probe = gv.Probe(["wkv"])
    session.goto(session.position - 1)
    session.goto(session.recorded)
    assert (last == session.frame.wkv).all()


def test_recording_begins_behind_a_fork_in_the_prompt(tmp_path, demo):
    session = session_of(demo, TEXT, 2)
    session.goto(7)
    session.step(anew=True)
    session.step()
    unfollow(session, follow(session, tmp_path / "a.zarr", observables=ALL))
    whole(tmp_path / "a.zarr", session)


@pytest.mark.parametrize("again", [0, 1, 2])
def test_recording_begins_behind_an_edit(tmp_path, demo, again):
    session = session_of(demo, TEXT, 4)
    session.apply(gv.Scale(0.5), again=again)
    list(session.run(2))
    unfollow(session, follow(session, tmp_path / "a.zarr", observables=ALL))
    whole(tmp_path / "a.zarr", session)
    assert [e["kind"] for e in gv.open_trace(tmp_path / "a.zarr").attributes["edits"]] == ["Scale"]


def followed(model, path):
    """A session that has read a text while it was recorded."""
    session = gv.Session(model, gv.Sampler(seed=3))
    writer = follow(session, path, observables=ALL)
    session.probe = writer.probe
    session.feed(TEXT)
    return session, writer


def test_a_fork_in_the_prompt_while_it_is_recorded(tmp_path, demo):
    session, writer = followed(demo, tmp_path / "a.zarr")
    session.goto(7)
    session.step(anew=True)
    list(session.run(3))
    unfollow(session, writer)
    whole(tmp_path / "a.zarr", session)


def test_what_was_forgotten_and_written_anew(tmp_path, demo):
    session, writer = followed(demo, tmp_path / "a.zarr")
    session.step()
    session.apply(gv.Scale(0.5), again=1)
    session.close(0)
    session.undo()
    list(session.run(2))
    unfollow(session, writer)
    whole(tmp_path / "a.zarr", session)


def test_another_text_in_the_same_session(tmp_path, demo):
    session, writer = followed(demo, tmp_path / "a.zarr")
    session.begin()
    session.feed("Once upon a time")
    list(session.run(3))
    unfollow(session, writer)
    whole(tmp_path / "a.zarr", session)
    trace = gv.open_trace(tmp_path / "a.zarr")
    assert [b["parent"] for b in trace.branches] == [None, None]


def test_a_long_prompt_is_not_held(tmp_path, demo, monkeypatch):
    """Frames go as they come, and a full disk is noticed before the prompt's end."""
    most = []
    plain = TraceWriter.put

    def put(self, path, index, frame, best):
        most.append(len(self.probe.frames))
        plain(self, path, index, frame, best)

    monkeypatch.setattr(TraceWriter, "put", put)
    tokens = demo.tokenizer.encode("Lily had a red ball. " * 80)
    told = []
    gv.record(
        demo, tokens, 1, tmp_path / "a.zarr", observables=["decay"],
        progress=lambda share, words: told.append(share),
    )  # fmt: skip
    assert len(tokens) > 400
    assert max(most) <= 128
    assert len(told) >= len(tokens) // 128


def test_layers_that_are_asked_for(tmp_path, demo):
    trace = gv.record(demo, TEXT, 2, tmp_path / "a.zarr", layers=[4, 1])
    frames = trace.frames(trace.way(), ("decay",), layers=[1])
    assert frames.layers == (1,)
    assert (frames.arrays["decay"][:, 0] == trace.dataset.decay.values[:, 1]).all()
    with pytest.raises(gv.GooseError, match=r"has no layer 2; it has \(4, 1\)"):
        trace.frames(trace.way(), ("decay",), layers=[2])


def test_who_ends_it_early_has_what_was_read(tmp_path, demo, short_blocks):
    def progress(share, words):
        if share > 0.7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gv.record(demo, TEXT, 30, tmp_path / "a.zarr", progress=progress)
    trace = gv.open_trace(tmp_path / "a.zarr")
    assert not trace.complete
    assert trace.attributes["ended"] == "interrupted"
    assert len(trace) >= 0.7 * 41


def test_a_stop_of_the_sampler_is_said(tmp_path, demo):
    sampler = gv.Sampler(seed=3, stop=(" the", " a", "."))
    trace = gv.record(demo, TEXT, 200, tmp_path / "a.zarr", sampler=sampler)
    assert trace.attributes["ended"] == "at a stop of the sampler"
    assert trace.complete


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"observables": ["decoy"]}, "no observable is called decoy"),
        ({"layers": [6]}, "layer 6 is not there; the model has 0 to 5"),
        ({"layers": []}, "no layer is named"),
        ({"layers": [1, 1]}, "asks for a layer twice"),
        ({"every": 0}, "every 0: expected"),
        ({"edits": [(99, gv.Zero())]}, "behind 99 tokens, and there will be 4 at most"),
        ({"edits": [(4, gv.Zero())]}, "behind 4 tokens, and there will be 4 at most"),
        ({"edits": [(-1, gv.Zero())]}, "position -1; the first is 0"),
        ({"edits": [(1, gv.Zero(layer=7))]}, "layer 7 is not there"),
        ({"edits": [(1, gv.Forget(3))]}, "token 3 is not in the past"),
        ({"prompt": [5000]}, "token 5000 is outside the model's vocabulary"),
    ],
)
def test_what_will_not_do_leaves_nothing(tmp_path, demo, options, sentence):
    prompt = options.pop("prompt", "Once upon")
    with pytest.raises(gv.GooseError, match=sentence):
        gv.record(demo, prompt, 1, tmp_path / "a.zarr", **options)
    if "edits" not in options:
        assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path, demo):
    (tmp_path / "a.zarr").write_text("mine")
    with pytest.raises(FileExistsError, match=r"a\.zarr is there already; choose another name"):
        gv.record(demo, "Once", 1, tmp_path / "a.zarr")
    assert (tmp_path / "a.zarr").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="no such folder to write"):
        gv.record(demo, "Once", 1, tmp_path / "nowhere" / "b.zarr")


def test_a_full_disk_keeps_what_was_whole(tmp_path, demo, short_blocks, monkeypatch):
    written, plain = [], growing._write

    def fill(path, content):
        written.append(path)
        if len(written) > 900:
            raise OSError(28, "No space left on device")
        plain(path, content)

    monkeypatch.setattr(growing, "_write", fill)
    with pytest.raises(OSError, match=r"recording ended there: .*No space left"):
        gv.record(demo, TEXT, 400, tmp_path / "a.zarr", sampler=gv.Sampler(seed=3))
    found = xarray.open_zarr(tmp_path / "a.zarr")
    n = found.sizes["token"]
    assert 4 <= n < 400
    same_numbers(found, session_of(demo, TEXT, n).probe.frames, slice(n))


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda p: (p / "zarr.json").write_text("{"), "is no trace"),
        (lambda p: (p / "zarr.json").unlink(), "is no trace"),
        (lambda p: change(p, lambda a: a.update(format="goose-viz trace 9")), "its format is"),
        (lambda p: change(p, lambda a: a.pop("layers")), "no layers in its attributes"),
        (lambda p: change(p, lambda a: a["config"].pop("n_head")), "no config in its attributes"),
        (lambda p: change(p, lambda a: a.pop("sampler")), "no sampler in its attributes"),
        (lambda p: change(p, lambda a: a["branches"][0].update(parent=0)), "do not fit each other"),
        (lambda p: change(p, lambda a: a["branches"][0].update(fork="x")), "do not fit each other"),
        (lambda p: change(p, lambda a: a.update(layers=[0, 99])), "do not fit each other"),
        (lambda p: change(p, lambda a: a.update(layers=[])), "do not fit each other"),
        (lambda p: change(p, lambda a: a.update(every=0)), "do not fit each other"),
        (lambda p: change(p, lambda a: a.update(observables=["x"])), "do not fit each other"),
        (lambda p: change(p, lambda a: a.update(edits=[{}])), "do not fit each other"),
        (lambda p: change(p, lambda a: a["config"].update(n_layer=-1)), "do not fit each other"),
    ],
)
def test_what_is_no_trace_is_said(tmp_path, demo, break_it, sentence):
    gv.record(demo, "Once", 1, tmp_path / "a.zarr")
    assert is_trace(tmp_path / "a.zarr")
    break_it(tmp_path / "a.zarr")
    with pytest.raises(gv.GooseError, match=sentence):
        gv.open_trace(tmp_path / "a.zarr")
    assert not is_trace(tmp_path / "a.zarr")


def change(path, do):
    content = json.loads((path / "zarr.json").read_text())
    do(content["attributes"])
    (path / "zarr.json").write_text(json.dumps(content))


def test_a_damaged_chunk_is_said(tmp_path, demo):
    gv.record(demo, "Once", 1, tmp_path / "a.zarr")
    chunk = next((tmp_path / "a.zarr" / "decay" / "c").rglob("0"))
    next(p for p in [chunk, *chunk.rglob("*")] if p.is_file()).write_bytes(b"nothing")
    trace = gv.open_trace(tmp_path / "a.zarr")
    with pytest.raises(gv.GooseError, match="cannot be read"):
        trace.frames(trace.way())


KILLED = """
import sys
from pathlib import Path
import goose_viz as gv
from goose_viz.trace import layout
layout.block_of = lambda config, found: 8
model = gv.load_model("who-is-where")
prompt = [1 + i % 7 for i in range(5)]
n = 0
def progress(share, words):
    global n
    n += 1
    if n == 1:
        print("begun", flush=True)
gv.record(model, prompt, 10**6, Path(sys.argv[1]), observables=gv.OBSERVABLES,
          sampler=gv.Sampler(seed=3), progress=progress)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("part", range(2))
def test_a_killed_recording_is_whole_up_to_its_last_chunk(tmp_path, part):
    model = gv.load_model("who-is-where")
    prompt = [1 + i % 7 for i in range(5)]
    rng, lengths = random.Random(part), []
    for k in range(10):
        path = tmp_path / f"{k}.zarr"
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, path], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout.readline() == b"begun\n"
            time.sleep(rng.uniform(0, 0.4 + 0.2 * k))  # a busy machine has written little by then
            process.send_signal(signal.SIGKILL)
        with xarray.open_zarr(path) as found:
            n = found.sizes["token"]
            lengths.append(n)
            assert not found.attrs["complete"]
            assert n % 8 == 0
            if n:
                session = session_of(model, prompt, n)
                same_numbers(found, session.probe.frames, slice(n))
                assert found.token_id.values.tolist() == session.tokens[:n]
                assert found.probability.values[1:].min() > 0
    assert max(lengths) > 8


def test_what_else_lies_among_the_chunks_does_not_matter(tmp_path, demo):
    """Halves that a crash left, rows that do not count yet, what a file manager puts there."""
    whole = gv.record(demo, "Tom had a red ball.", 12, tmp_path / "run.zarr")
    text, decay = whole.text, whole.numbers("decay", np.arange(len(whole)))
    for folder in ("token/c", "text/c", "decay/c/0"):
        for stray in ("0.part", "1.part", ".DS_Store", "._0"):
            (whole.path / folder / stray).write_bytes(b"half")
        if folder != "decay/c/0":
            (whole.path / folder / "7").write_bytes(b"")
    again = gv.open_trace(whole.path)
    assert again.text == text
    np.testing.assert_array_equal(again.numbers("decay", np.arange(len(again))), decay)


def test_a_trace_that_was_written_anew_with_packed_numbers(tmp_path, demo):
    whole = gv.record(demo, "Tom had a red ball.", 12, tmp_path / "run.zarr")
    encoding = whole.dataset["decay"].encoding
    kept = {k: encoding[k] for k in ("chunks", "compressors")}
    packed = {"decay": {"dtype": "int16", "scale_factor": 1e-4, **kept}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Zarr, about texts and consolidated metadata
        whole.dataset.to_zarr(tmp_path / "packed.zarr", encoding=packed, consolidated=True)
    again = gv.open_trace(tmp_path / "packed.zarr")
    rows = np.arange(len(again))
    found, expected = again.numbers("decay", rows), whole.numbers("decay", rows)
    np.testing.assert_allclose(found, expected, atol=1e-4)

"""Runs recorded in the window, and played in it without their model."""

import numpy as np
import pytest
from PySide6.QtCore import Qt

import goose_viz as gv
from goose_app import messages as m
from goose_app.actions import ACTIONS
from goose_viz.trace import TraceWriter, open_trace

from .conftest import PROMPT, Driver, save_as


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run of 30 tokens behind the prompt, all but the state recorded, and the session."""
    model = gv.load_model()
    path = tmp_path_factory.mktemp("runs") / "dog.zarr"
    gv.record(model, PROMPT, 30, path, sampler=gv.Sampler(seed=4))
    session = gv.Session(model, gv.Sampler(seed=4), gv.Probe(gv.OBSERVABLES))
    session.feed(PROMPT)
    list(session.run(30))
    return path, session


@pytest.fixture
def replay(qtbot, recorded):
    driver = Driver(qtbot, m.Load(str(recorded[0])), "")
    window = driver.window
    driver.wait(lambda: window.picture.position == recorded[1].recorded and window.worker.at_rest)
    yield driver
    driver.window.close()


def covers(window):
    return {p.title: p.cover.text() for p in window.panels if p.cover.text()}


def test_a_recorded_run_is_shown_as_it_was(replay, recorded):
    w, session = replay.window, recorded[1]
    assert "dog.zarr, recorded" in w.windowTitle()
    assert "".join(w.run.cells.texts) == "".join(session.path.texts(0, 99))
    assert w.run.cells.tokens.tolist() == session.path.tokens(0, 99)
    for at in (session.recorded, 15, 1, 22):
        w.goto(at)
        replay.wait(lambda at=at: w.picture.position == at)
        session.goto(at)
        np.testing.assert_allclose(w.picture.wkv, session.state.wkv, atol=1e-3, rtol=1e-4)
        np.testing.assert_allclose(w.picture.observed("decay"), session.frame.decay, atol=1e-5)
        expected = session.next_tokens(10)
        assert [t for t, _, _ in w.picture.next_tokens] == [t for t, _ in expected]
        np.testing.assert_allclose(
            [p for _, _, p in w.picture.next_tokens], [p for _, p in expected], rtol=1e-5
        )
    label = session.model.tokenizer.label
    assert w.picture.next_tokens[0][1] == label(w.picture.next_tokens[0][0])


def test_its_lines_are_those_of_the_run(replay, recorded):
    from goose_app.series import summary

    first, rows = replay.window.run.series.window("decay", 0, 99)
    frames = recorded[1].frames(0, recorded[1].recorded, ("decay",), initial=False)
    assert first == 0
    assert (rows == np.stack([summary(f.decay) for f in frames])).all()


def test_space_plays_it_and_keys_step(replay):
    w = replay.window
    w.to_start()
    replay.wait(lambda: w.picture.position == 0)
    replay.qtbot.keyClick(w.text.view, Qt.Key.Key_Right)
    replay.wait(lambda: w.picture.position == 1)
    replay.qtbot.keyClick(w.text.view, Qt.Key.Key_Space)
    replay.wait(lambda: w.running)
    replay.wait(lambda: w.picture.position > 4)
    replay.qtbot.keyClick(w.text.view, Qt.Key.Key_Space)
    replay.wait(lambda: not w.running and w.worker.at_rest)
    at = w.picture.position
    replay.qtbot.keyClick(w.text.view, Qt.Key.Key_Left)
    replay.wait(lambda: w.picture.position == at - 1)
    replay.qtbot.keyClick(w.text.view, Qt.Key.Key_Space)
    replay.at(w.picture.recorded)


def test_docks_whose_observables_are_there_show_them(replay, recorded):
    w, session = replay.window, recorded[1]
    session.goto(session.recorded)
    asks = {"Why", "Logit lens", "Pinned words", "Sensitivity", "Causal trace", "Steer", "Compare",
            "State difference"}  # fmt: skip
    assert set(covers(w)) == asks
    assert "Open stories-7M to see it" in covers(w)["Why"]
    w.look_state()
    replay.wait(lambda: w.attention.answer is not None and w.health.answer is not None)
    layer, head = w.selection.layer, w.selection.head
    frames = session.frames(0, None, (*gv.analysis.memory.PAST, "receptance"), initial=False)
    expected = gv.analysis.attention_map(frames, layer, head)
    assert (w.attention.answer.result.weights == expected).all()
    assert w.attention.answer.failed == w.health.answer.failed == ""
    replay.wait(lambda: w.picture.head is not None and w.picture.head.edit is not None)
    edit = w.picture.head.edit
    np.testing.assert_allclose(
        edit.decayed - edit.removed + edit.written, session.state.wkv[layer, head], atol=2e-3
    )
    assert (w.picture.head.retention == gv.analysis.retention(frames, layer, head)).all()


def test_what_takes_a_model_is_off(replay):
    w = replay.window
    for action in ACTIONS:
        assert w.actions_by_name[action.name].isEnabled() or action.computes or (
            action.name in ("undo", "redo")
        ), action.name  # fmt: skip
    assert not w.actions_by_name["forget"].isEnabled()
    assert not w.text.box.isVisible()
    w.worker.send(m.Branch(3, 5))
    replay.wait(
        lambda: "is a recorded run, without its model: open stories-7M" in w.message_bar.text()
    )
    w.open_embedded()
    replay.wait(lambda: w.run.model.recorded is None and w.picture.position > 0)
    assert covers(w) == {}
    assert w.actions_by_name["forget"].isEnabled()
    assert w.text.box.isVisible()


def test_docks_say_what_they_want(qtbot, tmp_path, demo):
    path = tmp_path / "few.zarr"
    gv.record(demo, PROMPT, 6, path, observables=["decay", "written_norm"], layers=[2, 4])
    driver = Driver(qtbot, m.Load(str(path)), "")
    w = driver.window
    driver.wait(lambda: w.picture.position == 18)
    said = covers(w)
    assert said["In-context learning rate"] == (
        "Not in this recording: iclr.\ngoose-viz record … --probe iclr"
    )
    assert "wkv" in said["State"]
    assert "Decay" not in said
    decay = w.picture.observed("decay")
    assert np.isnan(decay[[0, 1, 3, 5]]).all()
    assert not np.isnan(decay[[2, 4]]).any()
    w.step()
    w.why()
    w.look_state()
    w.watch()
    driver.wait(lambda: w.worker.at_rest)
    assert [e for e in driver.events if isinstance(e, m.Failed)] == []
    w.close()


@pytest.mark.parametrize("options", [{"every": 3}, {"edits": [(9, gv.Zero())]}])
def test_rows_that_do_not_make_each_other(qtbot, tmp_path, demo, options):
    path = tmp_path / "some.zarr"
    trace = gv.record(demo, PROMPT, 12, path, sampler=gv.Sampler(seed=4), **options)
    driver = Driver(qtbot, m.Load(str(path)), "")
    w = driver.window
    driver.wait(lambda: w.picture.position == len(trace))
    assert "".join(w.run.cells.texts) == trace.text
    assert "wkv" in covers(w)["State"]
    w.look_state()
    driver.wait(lambda: w.worker.at_rest)
    assert "what goes from token to token is lost" in w.attention.answer.failed
    w.close()


def test_health_of_some_layers(qtbot, tmp_path, demo):
    path = tmp_path / "some.zarr"
    gv.record(demo, PROMPT, 6, path, sampler=gv.Sampler(seed=4), layers=[4, 1])
    driver = Driver(qtbot, m.Load(str(path)), "")
    w = driver.window
    driver.wait(lambda: w.picture.position == 18)
    w.look_state()
    w.selection.select(4, 2)
    session = gv.Session(demo, gv.Sampler(seed=4))
    session.feed(PROMPT)
    list(session.run(6))
    expected = gv.analysis.health(session.frames())
    driver.wait(lambda: w.health.found is not None and w.health.found.layer == 4)
    found = w.health.found
    np.testing.assert_allclose(found.now["RMS"][[1, 4]], expected.rms[-1][[1, 4]], rtol=1e-5)
    assert np.isnan(found.now["RMS"][[0, 2, 3, 5]]).all()
    np.testing.assert_allclose(found.lines["RMS"], expected.rms[:, 4], rtol=1e-5)
    w.selection.select(2, 0)
    driver.wait(lambda: "layer 2 was not probed" in w.health.warning.text())
    assert [e for e in driver.events if isinstance(e, m.Failed)] == []
    w.close()


def test_an_empty_recording_is_said(driver, tmp_path, demo):
    TraceWriter(tmp_path / "a.zarr", demo, gv.Probe(["decay"])).close()
    w = driver.window
    w.open_path(str(tmp_path / "a.zarr"))
    driver.wait(lambda: "nothing has been written in it yet" in w.message_bar.text())
    w.step()
    driver.at(13)


def test_record_in_the_window(driver, tmp_path, monkeypatch):
    """From the beginning on, with a branch, an edit and another text."""
    w = driver.window
    w.worker.send(m.Run(5))
    driver.at(17)
    save_as(monkeypatch, tmp_path / "run")
    w.actions_by_name["record"].trigger()
    driver.wait(lambda: w.recorded_in.text() == "● run.zarr")
    assert w.actions_by_name["record"].isChecked()
    w.worker.send(m.Run(4))
    driver.at(21)
    w.worker.send(m.Branch(8, 290))
    driver.at(9)
    w.worker.send(m.Run(3))
    driver.at(12)
    w.worker.send(m.Apply(gv.Zero(layer=1), "emptied"))
    driver.wait(lambda: bool(w.picture.edits))
    w.worker.send(m.Run(2))
    driver.wait(lambda: w.picture.position == 14 and not w.running)
    tokens = w.run.cells.tokens.tolist()
    w.actions_by_name["record"].trigger()
    driver.wait(lambda: not w.actions_by_name["record"].isChecked())
    driver.wait(
        lambda: any("recorded 2" in e.words for e in driver.events if isinstance(e, m.Told))
    )
    assert w.recorded_in.text() == ""
    trace = open_trace(tmp_path / "run.zarr")
    assert trace.complete
    assert "wkv" in trace.observables  # the demo's memory is small
    ids = trace.dataset.token_id.values
    assert len(ids[trace.way(0)]) == 21
    assert ids[trace.way()].tolist() == tokens
    assert [e["kind"] for e in trace.attributes["edits"]] == ["Zero"]
    last = trace.frames(trace.way()[-1:], ("wkv",)).arrays["wkv"][0]
    assert (last == w.picture.wkv).all()


def test_a_branch_from_before_is_recorded_when_it_is_taken(driver, tmp_path, monkeypatch):
    w = driver.window
    w.worker.send(m.Run(6))
    driver.at(18)
    first = w.run.cells.tokens.tolist()
    w.worker.send(m.Branch(5, 1500))
    driver.at(6)
    save_as(monkeypatch, tmp_path / "run.zarr")
    w.actions_by_name["record"].trigger()
    driver.wait(lambda: w.recorded_in.text() != "")
    w.worker.send(m.Switch(1))
    driver.at(18)
    w.actions_by_name["record"].trigger()
    driver.wait(lambda: not w.actions_by_name["record"].isChecked())
    driver.wait(lambda: w.worker.at_rest)
    trace = open_trace(tmp_path / "run.zarr")
    ids = trace.dataset.token_id.values
    ways = [ids[trace.way(i)].tolist() for i in range(len(trace.branches))]
    assert sorted(ways, key=len) == [[*first[:5], 1500], first]


def test_a_recording_that_fails_keeps_the_run(driver, tmp_path, monkeypatch):
    from goose_viz.trace import growing

    w = driver.window
    (tmp_path / "there.zarr").mkdir()
    save_as(monkeypatch, tmp_path / "there.zarr")
    w.actions_by_name["record"].trigger()
    driver.wait(lambda: "is there already" in w.message_bar.text())
    assert not w.actions_by_name["record"].isChecked()
    save_as(monkeypatch, tmp_path / "run.zarr")
    w.actions_by_name["record"].trigger()
    driver.wait(lambda: w.recorded_in.text() != "")

    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(growing, "_replace", full)
    monkeypatch.setattr("goose_viz.trace.writing._PATIENCE", 0.0)
    w.worker.send(m.Run(8))
    driver.wait(lambda: "No space left" in w.message_bar.text())
    driver.at(20)
    assert not w.actions_by_name["record"].isChecked()
    w.worker.send(m.Run(3))
    driver.at(23)


def test_a_disk_that_is_full_while_nothing_is_written_is_told(driver, tmp_path, monkeypatch):
    """The model rests; what waits is written by and by, and cannot be."""
    from goose_viz.trace import growing

    def full(path, content):
        raise OSError(28, "No space left on device")

    w = driver.window
    monkeypatch.setattr("goose_viz.trace.writing._PATIENCE", 0.5)
    save_as(monkeypatch, tmp_path / "run.zarr")
    w.actions_by_name["record"].trigger()
    driver.wait(lambda: w.recorded_in.text() != "")
    monkeypatch.setattr(growing, "_replace", full)
    w.step()
    driver.at(13)
    driver.wait(lambda: "No space left" in w.message_bar.text())
    assert not w.actions_by_name["record"].isChecked()
    assert w.recorded_in.text() == ""


def test_closing_the_window_ends_the_recording_whole(driver, tmp_path, monkeypatch):
    w = driver.window
    save_as(monkeypatch, tmp_path / "run.zarr")
    w.actions_by_name["record"].trigger()
    driver.wait(lambda: w.recorded_in.text() != "")
    w.worker.send(m.Run())
    driver.wait(lambda: w.picture.position > 30)
    w.close()
    trace = open_trace(tmp_path / "run.zarr")
    assert trace.complete
    assert len(trace) >= 30


def test_nothing_is_recorded_if_no_place_is_named(driver, monkeypatch):
    save_as(monkeypatch, "")
    action = driver.window.actions_by_name["record"]
    action.trigger()
    assert not action.isChecked()

"""The window is closed in the midst of what takes long: it goes at once and leaves nothing half."""

import os
import time

import pytest

import goose_viz as gv
from goose_app import messages as m
from goose_app.questions import SensitivityAsked
from goose_app.worker import Worker
from goose_viz.cpu import pack, store
from goose_viz.trace import open_trace
from tests.conftest import save_random, two_heads_of

SECONDS = 5.0  # a busy machine, and what cannot be interrupted: a layer, a token, a piece
LONG = "Lily had a big red ball. She loved it. " * 80


class Slow:
    """A model that would take minutes for what is asked, once it is told to; it counts layers."""

    def __init__(self, monkeypatch):
        self.layers, self._on = 0, False
        forward = gv.Model.forward

        def slowly(model, tokens, state, every=False, probe=None, progress=None, candidates=None):
            for layer in range(10 * self._on):
                self.layers += 1
                time.sleep(0.02 * min(len(tokens), 20))
                if progress is not None:
                    progress(layer / 10)
            return forward(model, tokens, state, every, probe, progress, candidates)

        monkeypatch.setattr(gv.Model, "forward", slowly)

    def down(self):
        self._on = True


@pytest.fixture
def slow(monkeypatch):
    return Slow(monkeypatch)


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "faults"))
    monkeypatch.setenv("GOOSE_VIZ_CACHE", str(tmp_path / "cache"))


def forget_states(driver):
    """Nothing that was read is kept, so that going back means reading it again."""
    session = driver.window.worker.run_of(0).session
    session.segment.checkpoints.clear()
    session._replay._recent.clear()
    session.history_bytes = session.frames_bytes = 0


def long_prompt(driver, tmp_path):
    return m.Restart(LONG, gv.Sampler(seed=1))


def behind_a_text(driver, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text(LONG)
    return m.BeginWith(path, text=True)


def replay(driver, tmp_path):
    driver.write(60)
    forget_states(driver)
    return m.Goto(65)


def another_branch(driver, tmp_path):
    driver.write(40)
    driver.window.worker.send(m.Branch(20, 300))
    driver.at(21)
    forget_states(driver)
    for segment in driver.window.worker.run_of(0).session.branches:
        segment.checkpoints.clear()
    return m.Switch(1)


def snapshot(driver, tmp_path):
    driver.write(40)
    driver.window.worker.send(m.Export(tmp_path / "a.safetensors"))
    driver.settle()
    return m.Resume(tmp_path / "a.safetensors")


def session(driver, tmp_path):
    driver.write(40)
    driver.window.worker.send(m.SaveSession(tmp_path / "a.goose", {}))
    driver.settle()
    return m.Reopen(tmp_path / "a.goose")


def recording_of_the_past(driver, tmp_path):
    driver.write(60)
    forget_states(driver)
    return m.Record(tmp_path / "late.zarr", state=True)


def sensitivity(driver, tmp_path):
    driver.write(20)
    return m.Study(SensitivityAsked())


def mean_of_prompts(driver, tmp_path):
    driver.write(20)
    return m.Apply(gv.Add(None, 0.5), "pushed", source=("Lily had a ball.",) * 40)


def where_to_stop(driver, tmp_path):
    driver.write(60)
    forget_states(driver)
    return m.StopAt("max(written_norm) > 1e9")


def writing(driver, tmp_path):
    return m.Run()


JOBS = [long_prompt, behind_a_text, replay, another_branch, snapshot, session,
        recording_of_the_past, sensitivity, mean_of_prompts, where_to_stop,
        writing]  # fmt: skip


def close(driver):
    """Close the window as a person does; the seconds that takes."""
    begin = time.monotonic()
    driver.window.close()
    assert not driver.window.worker._thread.is_alive()
    return time.monotonic() - begin


def left(folder):
    """Files that somebody began and did not finish."""
    files = [p for p in folder.rglob("*") if p.is_file()]
    return [p for p in files if p.suffix in (".part", ".tmp") or p.name.startswith("fault-")]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
def test_closing_in_the_midst_is_immediate(driver, tmp_path, slow, job):
    command = job(driver, tmp_path)
    driver.settle()
    slow.down()
    driver.window.worker.send(command)
    driver.wait(lambda: slow.layers >= 3)
    assert not driver.window.worker.at_rest
    assert close(driver) < SECONDS
    assert left(tmp_path) == []
    assert not [e for e in driver.events if isinstance(e, m.Failed)]
    if (late := tmp_path / "late.zarr").exists():
        assert len(open_trace(late)) >= 0


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "m.safetensors"
    save_random(path, two_heads_of(64))
    return path


def loading(driver, words):
    return [e for e in driver.events if isinstance(e, m.Loading) and words in e.words]


def test_closing_while_weights_are_converted(driver, checkpoint, tmp_path, monkeypatch):
    write = pack._Piece.write

    def slowly(piece, *rest):
        time.sleep(0.3)
        return write(piece, *rest)

    monkeypatch.setattr(pack._Piece, "write", slowly)
    driver.window.worker.send(m.Load(str(checkpoint), "cpu", "int8"))
    driver.wait(lambda: bool(loading(driver, "converting")))
    assert close(driver) < SECONDS
    assert left(tmp_path) == []
    assert not list((tmp_path / "cache").rglob("*.bin"))


def test_closing_while_converted_weights_are_kept(driver, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_PIECE", 64)
    monkeypatch.setattr(store, "_WORTH", 0)
    say = Worker.say

    def slowly(worker, ident, event):
        time.sleep(0.02 * (isinstance(event, m.Loading) and "keeping" in event.words))
        say(worker, ident, event)

    monkeypatch.setattr(Worker, "say", slowly)
    driver.window.worker.send(m.Load(str(checkpoint), "cpu", "int8"))
    driver.wait(lambda: bool(loading(driver, "keeping")))
    assert close(driver) < SECONDS
    assert [p for p in (tmp_path / "cache").rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz", "a.goose"])
def test_closing_while_something_is_saved_saves_it_whole(driver, demo, tmp_path, name, monkeypatch):
    path, sync, begun = tmp_path / name, os.fsync, []

    def slowly(handle):
        begun.append(handle)
        time.sleep(0.5)
        sync(handle)

    tokens = driver.window.worker.run_of(0).session.tokens
    monkeypatch.setattr(os, "fsync", slowly)
    driver.window.worker.send(m.SaveSession(path, {}) if name == "a.goose" else m.Export(path))
    driver.wait(lambda: bool(begun))
    close(driver)
    opened = gv.load_session(path).open(demo) if name == "a.goose" else (
        gv.load_snapshot(path).resume(demo))  # fmt: skip
    assert opened.tokens == tokens
    assert left(tmp_path) == []


def test_another_window_begins_clean(open_window, slow, tmp_path):
    """What was being done is not remembered, what was arranged is."""
    driver = open_window()
    slow.down()
    driver.window.worker.send(m.Restart(LONG, gv.Sampler(seed=77)))
    driver.wait(lambda: slow.layers >= 3)
    assert close(driver) < SECONDS
    slow._on = False
    again = open_window()
    again.settle()
    assert again.window.text.seed.value() == 77
    assert again.window.message_bar.isHidden()

"""Runs that nobody saved are there again: after a crash, a slip, a window that was closed."""

import signal
import subprocess
import sys
import time

import pytest
from PySide6.QtWidgets import QInputDialog

import goose_viz as gv
from goose_app import kept_runs, worker
from goose_app import messages as m
from goose_app.kept_runs import Keeper, kept_folder

from .conftest import PROMPT, Driver


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return kept_folder()


@pytest.fixture
def keeping(qtbot, folder):
    """Windows that keep runs, as the application's does."""
    drivers = []

    def make():
        driver = Driver(qtbot, m.Load(None), PROMPT, folder)
        drivers.append(driver)
        driver.wait(lambda: driver.began() and driver.window.picture.position > 0)
        return driver

    yield make
    for driver in drivers:
        driver.window.close()


def kept(folder):
    return sorted(folder.glob("*")) if folder.exists() else []


def as_written(session, n):
    """What a session of the same text and sampler has after n tokens."""
    again = gv.Session(session.model, session.sampler)
    again.feed(PROMPT)
    list(again.run(n - again.position))
    return again


def opened(driver, monkeypatch, index=0):
    """Open an earlier run by the menu; the list that was shown."""
    lists = []

    def item(_self, _title, _label, items, *_rest):
        lists.extend(items)
        return items[index], True

    monkeypatch.setattr(QInputDialog, "getItem", item)
    driver.window.actions_by_name["open_kept"].trigger()
    return lists


def test_what_is_kept_and_what_is_not(demo, folder):
    session = gv.Session(demo, gv.Sampler(seed=1))
    keeper = Keeper(session, folder)
    session.feed(PROMPT)
    keeper.keep()
    assert kept(folder) == []  # a prompt alone is nobody's loss
    list(session.run(3))
    keeper.keep()
    (path,) = kept(folder)
    assert gv.load_session(path).open(demo).tokens == session.tokens
    path.unlink()
    keeper.keep()
    assert kept(folder) == []  # nothing came to it
    list(session.run(1))
    keeper.keep()
    assert kept(folder) == [path]
    keeper.saved(folder / "mine.goose")
    assert kept(folder) == []
    session.apply(gv.Zero())
    keeper.keep()
    (path,) = kept(folder)
    session.undo()
    session.apply(gv.Scale(factor=0.5))
    keeper.keep()
    branch = gv.load_session(path).open(demo).segment
    assert branch.edit.what == gv.Scale(factor=0.5)
    keeper.saved(path)  # somebody chose that very name
    assert kept(folder) == [path]
    nowhere = Keeper(session, None)
    list(session.run(1))
    nowhere.keep()


def test_the_last_ten_are_kept(demo, folder, monkeypatch):
    monkeypatch.setattr(kept_runs, "KEPT", 3)
    for n in range(5):
        session = gv.Session(demo, gv.Sampler(seed=n))
        keeper = Keeper(session, folder)
        session.feed(f"Tom has {n + 1} cats.")
        list(session.run(2))
        keeper.keep()
        time.sleep(0.02)
    (folder / "run-of-nothing.goose").write_bytes(b"half")
    runs = kept_runs.kept_runs(folder)
    assert [f"Tom has {n} cats." in r.words for n, r in zip((5, 4, 3), runs, strict=True)]
    assert f"stories-7M · token {session.position} · Tom" in runs[0].words


def test_a_closed_window_s_run_is_opened_by_the_next(keeping, folder, monkeypatch):
    driver = keeping()
    assert opened(driver, monkeypatch) == []
    assert "no earlier run" in driver.window.message_bar.text()
    driver.write(20)
    tokens = driver.window.worker.run_of(0).session.tokens
    driver.window.close()
    again = keeping()
    (words,) = opened(again, monkeypatch)
    assert f"token {len(tokens)} · " in words
    assert "Once upon a time" in words
    again.at(len(tokens))
    session = again.window.worker.run_of(0).session
    assert session.tokens == tokens
    assert (session.state.wkv == as_written(session, len(tokens)).state.wkv).all()
    again.window.close()
    assert len(kept(folder)) == 1  # nothing came to it


def test_a_run_that_another_takes_the_place_of(keeping, folder, demo, tmp_path, monkeypatch):
    driver = keeping()
    driver.write(12)
    tokens = driver.window.worker.run_of(0).session.tokens
    driver.window.worker.run_of(0).session.state.save(tmp_path / "a.safetensors")
    driver.window.worker.send(m.BeginWith(tmp_path / "a.safetensors"))
    driver.at(0)
    assert gv.load_session(*kept(folder)).open(demo).tokens == tokens
    opened(driver, monkeypatch)
    driver.at(len(tokens))
    driver.write(5)
    driver.window.worker.send(m.Load(None))
    driver.wait(lambda: len(kept(folder)) == 2)
    longer = [gv.load_session(p).open(demo).tokens for p in kept(folder)]
    assert sorted(map(len, longer)) == [len(tokens), len(tokens) + 5]


def test_a_run_that_was_saved_is_not_kept_twice(keeping, folder, tmp_path):
    driver = keeping()
    driver.write(5)
    driver.window.worker.send(m.SaveSession(tmp_path / "mine.goose", {}))
    driver.settle()
    driver.window.close()
    assert kept(folder) == []


def test_while_it_writes_and_when_it_has_written(keeping, folder, demo, monkeypatch):
    monkeypatch.setattr(worker, "SECONDS", 0.2)
    driver = keeping()
    driver.window.worker.send(m.Run())
    driver.wait(lambda: len(kept(folder)) == 1)
    driver.window.worker.send(m.Pause())
    driver.settle()
    tokens = driver.window.worker.run_of(0).session.tokens
    driver.wait(lambda: gv.load_session(*kept(folder)).metadata["position"] == len(tokens))
    assert gv.load_session(*kept(folder)).open(demo).tokens == tokens


def test_a_folder_that_cannot_be_written_is_told_once(keeping, folder, monkeypatch):
    monkeypatch.setattr(worker, "SECONDS", 0.1)
    folder.parent.mkdir(parents=True)
    folder.write_text("a file in the way")
    driver = keeping()

    def told():
        return [e.words for e in driver.events if isinstance(e, m.Told) and "not kept" in e.words]

    for n in range(3):
        driver.write(5)
        driver.wait(lambda n=n: not driver.window.worker.run_of(0).unkept)
    assert len(told()) == 1
    assert str(folder) in told()[0]


WRITER = """
import sys, time
from pathlib import Path
import goose_viz as gv
from goose_app import messages as m, worker
worker.SECONDS = 0.05
w = worker.Worker(Path(sys.argv[1]))
w.start()
w.send(m.Load(None))
w.send(m.Restart(sys.argv[2], gv.Sampler(seed=5)))
w.send(m.Run())
time.sleep(600)
"""


def test_a_process_that_is_killed(folder, demo):
    """Kill -9 while it writes: what there was at the last look is there, bit for bit."""
    for pause in (0.0, 0.13, 0.31):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder), PROMPT])
        try:
            until = time.monotonic() + 120
            while not list(folder.glob("run-*.goose")) and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(pause)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        (run,) = kept_runs.kept_runs(folder)
        session = gv.load_session(run.path).open(demo)
        again = as_written(session, session.position)
        assert session.tokens == again.tokens
        assert (session.state.wkv == again.state.wkv).all()
        run.path.unlink()

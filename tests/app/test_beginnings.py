"""Texts that begin with a memory: from a file, or behind a text that is read first."""

import numpy as np
import pytest
from PySide6.QtWidgets import QFileDialog, QInputDialog

import goose_viz as gv
from goose_app import messages as m

from .conftest import PROMPT, Driver

TEXT = "Lily had a big red ball. She loved it."


def told(driver):
    return [e.words for e in driver.events if isinstance(e, m.Told)]


@pytest.fixture
def state(demo):
    session = gv.Session(demo)
    session.feed(TEXT)
    return session.state


def begins(driver):
    """What the window says of the memory that texts begin with."""
    label = driver.window.text.memory
    return None if label.isHidden() else label.text()


def restart(driver, prompt=" and"):
    driver.window.worker.send(m.Restart(prompt, gv.Sampler(seed=4)))
    driver.wait(lambda: driver.window.picture.position > 0)


def as_a_session_would(driver, demo, state, prompt=" and"):
    session = gv.Session(demo, gv.Sampler(seed=4), initial=state)
    session.feed(prompt)
    list(session.run(5))
    driver.window.worker.send(m.Run(5))
    driver.at(session.position)
    driver.wait(lambda: driver.window.worker.at_rest)
    run = driver.window.worker.run_of(0)
    assert run.session.tokens == session.tokens
    assert (run.session.state.wkv == session.state.wkv).all()


def chosen(monkeypatch, path, way="as its names tell"):
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, **k: (str(path), ""))

    def item(_self, _title, _label, items, *_rest):
        return next(i for i in items if i.startswith(way)), True

    monkeypatch.setattr(QInputDialog, "getItem", item)


def test_a_memory_of_a_file(driver, demo, state, tmp_path, monkeypatch):
    state.save(tmp_path / "a.safetensors")
    chosen(monkeypatch, tmp_path / "a.safetensors")
    driver.window.actions_by_name["begin_with"].trigger()
    driver.wait(lambda: any("texts begin with a.safetensors" in w for w in told(driver)))
    driver.wait(lambda: driver.window.picture.position == 0)
    restart(driver)
    as_a_session_would(driver, demo, state)
    restart(driver, " but")  # another text begins with it too
    as_a_session_would(driver, demo, state, " but")
    assert begins(driver) == "begins with a.safetensors (goose-viz, [value,key], with token shifts)"
    driver.window.goto(0)
    driver.at(0)
    np.testing.assert_array_equal(driver.window.worker.run_of(0).session.state.wkv, state.wkv)
    driver.window.worker.send(m.Restart("", gv.Sampler(seed=4)))  # nothing to go on from: no fault
    driver.wait(lambda: driver.window.worker.at_rest and driver.window.picture.position == 0)
    assert driver.window.message_bar.isHidden()


def test_how_a_file_has_it_is_asked(driver, demo, state, tmp_path, monkeypatch):
    L, H, N, _ = state.wkv.shape
    rows = np.zeros((L, N + 2, H * N), np.float32)
    rows[:, 1:-1] = state.wkv.transpose(0, 3, 1, 2).reshape(L, N, H * N)
    rows[:, 0], rows[:, -1] = state.att_shift, state.ffn_shift
    np.save(tmp_path / "a.npy", rows)
    chosen(monkeypatch, tmp_path / "a.npy")
    driver.window.actions_by_name["begin_with"].trigger()
    driver.wait(lambda: "name its layout" in driver.window.message_bar.text())
    assert driver.window.picture.position > 0  # the run stays
    chosen(monkeypatch, tmp_path / "a.npy", "web-rwkv, a head's matrix [key,value]")
    driver.window.actions_by_name["begin_with"].trigger()
    driver.wait(lambda: any("web-rwkv, [key,value]" in w for w in told(driver)))
    restart(driver)
    as_a_session_would(driver, demo, state)


@pytest.mark.parametrize("how", ["menu", "argument"])
def test_behind_a_text(driver, qtbot, demo, tmp_path, monkeypatch, how):
    book = tmp_path / "book.txt"
    book.write_text(TEXT)
    monkeypatch.setenv("GOOSE_VIZ_CACHE", str(tmp_path / "cache" / "weights"))
    if how == "menu":
        chosen(monkeypatch, book)
        driver.window.actions_by_name["begin_after"].trigger()
        driver.wait(lambda: any("behind book.txt" in w for w in told(driver)))
        restart(driver)
    else:
        driver = Driver(qtbot, m.Load(None, begin=m.BeginWith(book, True)), PROMPT)
        driver.wait(lambda: driver.began() and driver.window.worker.at_rest)
        restart(driver)
    assert list((tmp_path / "cache" / "states").glob("*.safetensors"))
    session = gv.Session(demo)
    session.feed(TEXT)
    as_a_session_would(driver, demo, session.state)


def test_with_an_empty_memory_again(driver, demo, state, tmp_path):
    empty = driver.window.actions_by_name["begin_empty"]
    tokens = driver.window.worker.run_of(0).session.tokens
    assert tokens
    assert begins(driver) is None
    empty.trigger()
    driver.wait(lambda: "texts begin with an empty memory already" in told(driver))
    assert driver.window.worker.run_of(0).session.tokens == tokens
    state.save(tmp_path / "a.safetensors")
    driver.window.worker.send(m.BeginWith(tmp_path / "a.safetensors"))
    driver.wait(lambda: begins(driver) is not None)
    empty.trigger()
    driver.wait(lambda: begins(driver) is None)
    restart(driver)
    as_a_session_would(driver, demo, None)


@pytest.mark.parametrize("name", ["a.goose", "b.safetensors"])
def test_a_file_brings_the_memory_with_it(driver, state, tmp_path, name):
    state.save(tmp_path / "a.safetensors")
    driver.window.worker.send(m.BeginWith(tmp_path / "a.safetensors"))
    driver.wait(lambda: begins(driver) is not None)
    restart(driver)
    saved = tmp_path / name
    driver.window.worker.send(m.SaveSession(saved, {}) if name == "a.goose" else m.Export(saved))
    driver.settle()
    driver.window.actions_by_name["begin_empty"].trigger()
    driver.wait(lambda: begins(driver) is None)
    driver.window.worker.send(m.Reopen(saved) if name == "a.goose" else m.Resume(saved))
    driver.wait(lambda: begins(driver) == f"begins with the memory with which {name} begins")

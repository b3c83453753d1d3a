"""A session saved in the window and opened again, in this window or another."""

import numpy as np
import pytest

import goose_viz as gv
from goose_app import messages as m

from .conftest import PROMPT, Driver, save_as


def save(driver, monkeypatch, path):
    save_as(monkeypatch, path)
    driver.window.actions_by_name["save_session"].trigger()
    driver.wait(lambda: any("saved the session" in e.words for e in told(driver)))


def told(driver):
    return [e for e in driver.events if isinstance(e, m.Told)]


def lines(window):
    return [window.run.series.window(n, 0, 99) for n in ("decay", "removed_norm")]


@pytest.fixture
def busy(driver):
    """A run with a branch and an edit, looked at in a way of its own."""
    w = driver.window
    w.worker.send(m.Run(7))
    driver.at(19)
    w.worker.send(m.Branch(14, 1500))
    driver.at(15)
    w.worker.send(m.Run(4))
    driver.at(19)
    w.worker.send(m.NameBranch(0, "first"))
    w.worker.send(m.Apply(gv.Zero(layer=2), "emptied"))
    driver.wait(lambda: bool(w.picture.edits))
    w.goto(16)
    driver.at(16)
    w.look_state()
    w.selection.select(4, 2)
    w.text.prompt.setPlainText("what comes next")
    w.pin_token(290)
    driver.wait(lambda: bool(w.picture.pins) and w.worker.at_rest)
    return driver


@pytest.mark.parametrize("how", ["argument", "dropped"])
def test_a_session_comes_back(busy, qtbot, tmp_path, monkeypatch, how):
    save(busy, monkeypatch, tmp_path / "dog")
    path, w = tmp_path / "dog.goose", busy.window
    load = m.Load(str(path)) if how == "argument" else m.Load(None)
    other = Driver(qtbot, load, PROMPT)
    o = other.window
    if how == "dropped":
        other.wait(lambda: other.began() and o.worker.at_rest)
        o.open_path(str(path))
    other.wait(lambda: any("opened dog.goose at token 16" in e.words for e in told(other)))
    other.wait(lambda: o.run.series is not None and o.run.series.first == 0)
    other.wait(lambda: o.picture.position == 16 and o.worker.at_rest and bool(o.picture.pins))
    assert o.run.cells.tokens.tolist() == w.run.cells.tokens.tolist()
    assert o.run.cells.texts == w.run.cells.texts
    assert (o.picture.wkv == w.picture.wkv).all()
    assert o.picture.next_tokens == w.picture.next_tokens
    for (a, one), (b, two) in zip(lines(w), lines(o), strict=True):
        assert a == b == 0
        n = min(len(one), len(two))
        np.testing.assert_array_equal(one[:n], two[:n])
        assert n >= 16
    assert o.perspective == "state"
    assert (o.selection.layer, o.selection.head) == (4, 2)
    assert o.text.prompt.toPlainText() == "what comes next"
    assert [p.token for p in o.picture.pins] == [290]
    assert "dog.goose" in o.windowTitle()
    rows = [b.list.item(i).text() for b in (o.branches,) for i in range(b.list.count())]
    assert len(rows) == w.branches.list.count()
    assert "first" in rows[0]
    o.to_end()
    w.to_end()
    for each in (busy, other):
        each.wait(lambda each=each: each.window.picture.position == each.window.picture.recorded)
    assert (o.picture.wkv == w.picture.wkv).all()
    assert [e.edit for e in o.picture.edits] == [e.edit for e in w.picture.edits]
    o.next_branch()
    other.wait(lambda: o.picture.branch == 0 and o.worker.at_rest)
    assert o.run.series.first == 0
    o.close()


def test_what_is_no_session_is_said_and_nothing_lost(driver, tmp_path):
    path = tmp_path / "bad.goose"
    path.write_bytes(b"nothing")
    w, tokens = driver.window, driver.window.run.cells.tokens.tolist()
    w.worker.send(m.Reopen(path))
    driver.wait(lambda: "bad.goose: not readable as a session" in w.message_bar.text())
    assert w.run.cells.tokens.tolist() == tokens
    w.step()
    driver.at(13)


def test_a_resumed_snapshot_has_its_past_lines_again(driver, tmp_path):
    w = driver.window
    w.worker.send(m.Run(6))
    driver.at(18)
    before = lines(w)
    w.worker.send(m.Export(tmp_path / "a.safetensors"))
    w.restart()
    driver.at(12)
    w.worker.send(m.Resume(tmp_path / "a.safetensors"))
    driver.wait(lambda: w.picture.position == 18 and w.worker.at_rest)
    for (a, one), (b, two) in zip(before, lines(w), strict=True):
        assert a == b == 0
        np.testing.assert_array_equal(one, two)
    assert any(
        isinstance(e, m.Loading) and "reading the past again" in e.words for e in driver.events
    )


def test_reading_the_past_again_can_be_cancelled(driver, tmp_path, monkeypatch):
    w = driver.window
    w.worker.send(m.Run(6))
    driver.at(18)
    w.worker.send(m.Export(tmp_path / "a.safetensors"))
    driver.wait(lambda: w.worker.at_rest)
    again = gv.Session.again

    def cancelling(self, *args, **options):
        for found in again(self, *args, **options):
            w.worker.cancel()
            yield found

    monkeypatch.setattr(gv.Session, "again", cancelling)
    w.worker.send(m.Resume(tmp_path / "a.safetensors"))
    driver.wait(lambda: any("the lines begin at token 18" in e.words for e in told(driver)))
    driver.at(18)
    w.step()
    driver.at(19)
    assert w.run.series.first == 18

"""The dialog that edits the memory: each edit by hand, beside the same one from Python."""

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog

import goose_viz as gv
from goose_app import messages as m
from goose_app.edit_dialog import KINDS

TOM = "Tom had a red ball. Sue had a blue cup. Tom played with his red"


@pytest.fixture
def dialog(open_window):
    driver = open_window(prompt=TOM)
    driver.qtbot.keyClick(driver.window.text.view, Qt.Key.Key_E)
    driver.dialog = driver.window.edit_dialog
    assert driver.dialog.isVisible()
    return driver


def alone(edit):
    session = gv.Session(gv.load_model())
    session.feed(TOM)
    session.apply(edit, again=1)
    return session.state.wkv


def press_apply(driver):
    driver.qtbot.mouseClick(driver.dialog.apply, Qt.MouseButton.LeftButton)
    driver.wait(lambda: driver.window.picture.comparison is not None)


def choose(box, words):
    box.setCurrentIndex(next(i for i in range(box.count()) if words in box.itemText(i)))
    box.activated.emit(box.currentIndex())


@pytest.mark.parametrize(
    ("name", "where", "edit", "words"),
    [
        ("Empty", 0, gv.Zero(3, 1), "emptied, in layer 3 head 1"),
        ("Scale", 1, gv.Scale(-0.5, 3), "scaled by -0.5, in layer 3"),
        ("Noise", 2, gv.Noise(0.7, 5), "noise of 0.7 × RMS, everywhere"),
        ("Mute", 0, gv.Mute(None, 3, 1), "muted, in layer 3 head 1"),
    ],
)
def test_each_edit_by_hand(dialog, name, where, edit, words):
    w, d = dialog.window, dialog.dialog
    before = w.picture
    choose(d.kind, name)
    assert d.what.text() == next(k.help for k in KINDS if k.name == name)
    shown = {n for n, (_, box) in d._fields.items() if not box.isHidden()}
    assert shown == set(next(k.fields for k in KINDS if k.name == name))
    d.where.button(where).setChecked(True)
    d.factor.setValue(-0.5)
    d.sigma.setValue(0.7)
    d.seed.setValue(5)
    press_apply(dialog)
    assert w.picture.comparison.words == words
    np.testing.assert_allclose(w.picture.wkv, alone(edit), atol=2e-4)
    assert d.bars.picture.comparison is w.picture.comparison, "before and after in the dialog"
    dialog.qtbot.mouseClick(d.undo, Qt.MouseButton.LeftButton)
    dialog.wait(lambda: w.picture.comparison is None)
    assert (w.picture.wkv == before.wkv).all()
    assert not d.undo.isEnabled()


def test_memories_of_files_and_branches(dialog, tmp_path, monkeypatch):
    w, d = dialog.window, dialog.dialog
    other = gv.Session(gv.load_model())
    other.feed("Ben had a big dog.")
    path = tmp_path / "ben.npz"
    gv.save_snapshot(path, other)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(path), ""))
    choose(d.kind, "Put")
    d.where.button(2).setChecked(True)
    choose(d.source, "a snapshot…")
    assert d.source.currentText() == "ben.npz"
    press_apply(dialog)
    np.testing.assert_allclose(w.picture.wkv, alone(gv.Put(other.state)), atol=2e-4)
    assert w.picture.edits[0].source == path
    w.undo()
    dialog.wait(lambda: w.picture.comparison is None)
    w.worker.send(m.Step())
    dialog.wait(lambda: w.picture.position == 19)
    here = w.picture.wkv
    w.worker.send(m.Restart("Mia had a small cat.", gv.Sampler(seed=1)))
    dialog.wait(lambda: w.picture.recorded < 10)
    choose(d.kind, "Add")
    d.factor.setValue(0.25)
    choose(d.source, "Tom had a red ball")
    choose(d.minus, "ben.npz")
    press_apply(dialog)
    session = gv.Session(gv.load_model())
    session.feed("Mia had a small cat.")
    session.apply(gv.Add(here - other.state.wkv, 0.25), again=1)
    np.testing.assert_allclose(w.picture.wkv, session.state.wkv, atol=5e-4)
    assert w.picture.comparison.words.startswith("added 0.25 × the memory of the end of “Tom")


def test_what_cannot_be_is_said(dialog, tmp_path, monkeypatch):
    w, d = dialog.window, dialog.dialog
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"nothing of the kind")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(bad), ""))
    choose(d.kind, "Put")
    choose(d.source, "a snapshot…")
    dialog.qtbot.mouseClick(d.apply, Qt.MouseButton.LeftButton)
    dialog.wait(lambda: "bad.npz" in w.message_bar.text())
    assert w.picture.position == 18
    assert not w.picture.can_undo
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: ("", ""))
    choose(d.source, "a snapshot…")
    assert d.source.source() is not None, "nothing was chosen: what was there first is"
    dialog.qtbot.keyClick(d, Qt.Key.Key_Escape)
    assert not d.isVisible()

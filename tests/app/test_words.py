"""Words come as they are: in the message bar, in menus and tooltips, in the prompt, in names."""

import numpy as np
import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent, QGuiApplication
from PySide6.QtWidgets import QFileDialog, QLabel, QMessageBox, QToolTip

import goose_viz as gv
from goose_app import messages as m
from goose_app.plain import item, tip, title
from goose_app.saving import PICTURES, SNAPSHOTS, ask_where, with_ending
from goose_viz.snapshot import is_snapshot


def test_no_label_takes_its_words_for_html(driver):
    w = driver.window
    labels = [x for x in w.findChildren(QLabel) if not x.objectName().startswith("qt_")]
    assert len(labels) > 20
    assert {x.textFormat() for x in labels} == {Qt.TextFormat.PlainText}


def test_what_looks_like_html_is_shown_as_it_is(driver):
    assert tip("<s> & \n<b>x") == "<span>&lt;s&gt; &amp; <br>&lt;b&gt;x</span>"
    assert tip("&lt; b\nc") == "<span>&amp;lt; b<br>c</span>"
    assert tip("a, b\nc") == "a, b\nc"
    assert item("R&D <b>") == "R&&D <b>"
    assert title("x[*].pth") == "x[*][*].pth"
    w = driver.window
    token = next(t for t in range(4096) if "&" in w.run.model.label(t))
    end = w.picture.position
    w.worker.send(m.Branch(end, token))
    w.step()
    driver.at(end + 2)
    words = [a.text() for a in w.token_menu.menu(len(w.run.cells) - 2).actions()]
    assert any("&&" in text for text in words)


def test_a_message_takes_the_lines_it_needs_and_goes_when_something_works(driver, qtbot):
    w = driver.window
    height, top = w.docks["State"].height(), w.docks["State"].y()
    w.open_model("no<b>such</b>file.pth")
    driver.wait(w.message_bar.isVisible)
    assert "no<b>such</b>file.pth" in w.message_bar.text()
    line = w.fontMetrics().height()
    qtbot.waitUntil(lambda: w.message_bar.height() <= 1.6 * line)
    w.step()
    driver.wait(lambda: not w.message_bar.isVisible())
    qtbot.waitUntil(lambda: w.docks["State"].y() == top)
    assert abs(w.docks["State"].height() - height) < 8, "no band is left"
    w.message_bar.say("a long sentence about what is wrong with a file " * 12)
    qtbot.waitUntil(lambda: w.message_bar.height() > 3 * line)
    w.resize(1000, 800)
    tall = w.message_bar.height()
    qtbot.waitUntil(lambda: w.message_bar.height() > tall - 1)
    w.message_bar.say("a note", error=False)
    w.step()
    qtbot.wait(300)
    assert w.message_bar.isVisible(), "a note stays until it is dismissed"


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("a", 0, "a.safetensors"), ("a", 1, "a.npz"), ("a.npz", 0, "a.npz"), ("A.NPZ", 0, "A.NPZ"),
        ("a.txt", 1, "a.txt.npz"), ("a.", 0, "a.safetensors"), ("v1.5", 0, "v1.5.safetensors"),
        ("a.SafeTensors", 1, "a.SafeTensors"),
    ],
)  # fmt: skip
def test_a_name_gets_the_ending_of_its_kind(name, kind, expected):
    assert with_ending(name, list(SNAPSHOTS)[kind], SNAPSHOTS).name == expected


def test_saving_under_any_name_works(driver, tmp_path, monkeypatch):
    w = driver.window
    chosen = tmp_path / "moment", list(SNAPSHOTS)[1]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(chosen[0]), chosen[1]))
    w.export_snapshot()
    driver.wait((tmp_path / "moment.npz").exists)
    chosen = tmp_path / "BIG.NPZ", ""
    w.export_snapshot()
    driver.wait((tmp_path / "BIG.NPZ").exists)
    assert gv.load_snapshot(tmp_path / "BIG.NPZ").position == w.picture.position
    chosen = tmp_path / "look", list(PICTURES)[1]
    w.save_picture()
    assert (tmp_path / "look.svg").read_text().startswith("<?xml")
    # the name with its ending is there: asked once more, and left alone if one says no
    asked = []
    monkeypatch.setattr(QMessageBox, "question", lambda *a: asked.append(a[2]))
    assert ask_where(w, "", "", SNAPSHOTS) == tmp_path / "look.safetensors"
    (tmp_path / "look.safetensors").write_bytes(b"x")
    assert ask_where(w, "", "", SNAPSHOTS) is None
    assert len(asked) == 1
    chosen = tmp_path / "nowhere" / "x", ""
    w.export_snapshot()
    driver.wait(w.message_bar.isVisible)
    assert "nowhere" in w.message_bar.text()


@pytest.mark.parametrize(
    "text",
    ["5\u00a0km", "a\r\nb\r\n", "a\rb\nc", "\ufeffa\u2028b\u2029c", "tab\tand\x0bmore ␍"],
)
def test_the_prompt_keeps_every_character(driver, text):
    prompt = driver.window.text.prompt
    prompt.setPlainText(text)
    assert prompt.toPlainText() == text


def test_the_prompt_keeps_them_when_pasted_edited_and_copied(driver, qtbot):
    prompt = driver.window.text.prompt
    prompt.setPlainText("")
    QGuiApplication.clipboard().setText("5\u00a0km\r\nfar")
    prompt.paste()
    assert prompt.toPlainText() == "5\u00a0km\r\nfar"
    qtbot.keyClicks(prompt, " off")
    assert prompt.toPlainText() == "5\u00a0km\r\nfar off"
    prompt.selectAll()
    prompt.cut()
    assert QGuiApplication.clipboard().text() == "5\u00a0km\r\nfar off"
    assert prompt.toPlainText() == ""


def test_a_no_break_space_reaches_the_model(open_window, world_model):
    driver = open_window(str(world_model), prompt="5\u00a0km")
    assert driver.window.run.cells.tokens.tolist()[-3:] == [54, 2430, 1995]


@pytest.mark.parametrize("name", ["moment.safetensors", "moment.npz", "MOMENT.NPZ"])
def test_a_dropped_snapshot_resumes(driver, tmp_path, name):
    w, path = driver.window, tmp_path / name
    w.worker.send(m.Export(path))
    driver.wait(path.exists)
    position = w.picture.position
    w.worker.send(m.Run(5))
    driver.at(position + 5)
    assert is_snapshot(path)
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    w.dropEvent(QDropEvent(QPointF(9, 9), Qt.DropAction.CopyAction, data, buttons, keys))
    driver.wait(lambda: w.picture.recorded == position)
    assert f"resumed {name}" in w.statusBar().currentMessage()


def test_numpys_advice_reaches_nobody(tmp_path):
    objects, text, other = (tmp_path / f"{n}.npz" for n in ("objects", "text", "other"))
    np.savez(objects, metadata=np.array([{}], object))
    text.write_text("no archive")
    np.savez(other, a=np.zeros(3))
    for path in (objects, text, other):
        with pytest.raises(gv.StateError) as failed:
            gv.load_snapshot(path)
        words = str(failed.value)
        assert path.name in words
        assert "allow_pickle" not in words
        assert "unsafe" not in words
        assert not is_snapshot(path) or path == objects
    assert "no metadata inside" in words
    assert not is_snapshot(tmp_path / "none.npz")
    assert not is_snapshot(tmp_path)


def test_the_hint_stays_and_progress_covers_nothing(driver):
    w = driver.window
    assert w.hint.isVisible()
    assert w.hint.text().startswith("Space writes on")
    w.say("something")
    assert not w.hint.isVisible(), "a message takes its place for a while"
    w._handle(w.run, m.Loading(0.3, "reading the prompt"))
    assert w.statusBar().currentMessage() == "something"
    for widget in (w._doing, w._progress, w.summary):
        assert widget.isVisible()
    boxes = [x.geometry() for x in (w._doing, w._progress, w.summary)]
    assert not any(a.intersects(b) for a in boxes for b in boxes if a is not b)
    assert w._doing.width() >= w._doing.sizeHint().width()
    w._handle(w.run, m.Loading(1.0, ""))
    w.statusBar().clearMessage()
    assert w.hint.isVisible()


def test_while_it_opens_it_says_so(qtbot, open_window, tmp_path):
    driver = open_window(str(tmp_path / "none.pth"), wait=False)
    w = driver.window
    assert "opening" in w.windowTitle()
    assert w.summary.text() == w.state.map._blank == "opening…"
    driver.wait(w.message_bar.isVisible)
    assert w.summary.text() == w.state.map._blank == w.decay.map._blank == "no model is open"
    assert QToolTip.text() == ""

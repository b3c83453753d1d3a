"""The window offscreen: what is done in one place shows in all others."""

import json
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent, QImage
from PySide6.QtWidgets import QFileDialog

import goose_viz as gv
from goose_app import messages as m
from goose_app.help_page import HelpPage

from .conftest import PROMPT

DATA = Path(__file__).parents[1] / "data"


def image_of(widget):
    picture = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    raw = np.frombuffer(picture.constBits(), np.uint8)
    return raw.reshape(picture.height(), picture.bytesPerLine() // 4, 4)[
        :, : picture.width()
    ].copy()


def click(driver, widget, point):
    driver.qtbot.mouseClick(widget, Qt.MouseButton.LeftButton, pos=point.toPoint())


def run_to(driver, position):
    driver.window.worker.send(m.Run(position - driver.window.picture.position))
    driver.wait(lambda: driver.window.picture.position >= position)
    driver.at(position)


def test_the_prompt_is_read_at_once(driver):
    assert driver.text == PROMPT
    w = driver.window
    assert w.picture.position == w.picture.recorded == len(w.run.cells)
    assert w.text.view.cursor_position == w.picture.position
    assert "stories-7M" in w.windowTitle()
    assert w.model_panel.values["parameters"].text() == "7.3 million"


def test_run_pause_step_back_by_keys(driver):
    w, bot = driver.window, driver.qtbot
    start = w.picture.position
    w.text.view.setFocus()
    bot.keyClick(w.text.view, Qt.Key.Key_Space)
    driver.wait(lambda: w.picture.position > start + 5)
    assert w.running
    assert w.actions_by_name["run_or_pause"].text().endswith("Pause")
    bot.keyClick(w.text.view, Qt.Key.Key_Space)
    driver.wait(lambda: not w.running)
    driver.wait(lambda: w.picture.position == len(w.run.cells))
    end = w.picture.position
    state = w.picture.wkv
    bot.keyClick(w.text.view, Qt.Key.Key_Left)
    driver.at(end - 1)
    assert not (w.picture.wkv == state).all()
    assert w.picture.recorded == end
    bot.keyClick(w.text.view, Qt.Key.Key_Right)
    driver.at(end)
    assert (w.picture.wkv == state).all()
    bot.keyClick(w.text.view, Qt.Key.Key_Right)
    driver.at(end + 1)
    bot.keyClick(w.text.view, Qt.Key.Key_Home)
    driver.at(0)
    assert not w.picture.wkv.any()
    bot.keyClick(w.text.view, Qt.Key.Key_End)
    driver.at(end + 1)


def test_the_text_is_the_sessions(driver):
    w = driver.window
    run_to(driver, 150)
    session = gv.Session(gv.load_model(), w.text.sampler())
    session.feed(PROMPT)
    list(session.run(150 - session.position))
    assert driver.text == session.text
    assert (w.picture.wkv == session.state.wkv).all()


def test_clicks_on_tokens_heads_and_next_tokens(driver):
    w = driver.window
    run_to(driver, 60)
    click(driver, w.text.view.viewport(), w.text.view.cell_rect(29).center())
    driver.at(30)
    w.heads.refresh()
    rect = w.heads.map.image_rect()
    click(
        driver, w.heads.map, QPointF(rect.x() + rect.width() * 0.9, rect.y() + rect.height() * 0.05)
    )
    assert (w.selection.layer, w.selection.head) == (0, 3)
    assert w.state.layer_box.currentText() == "layer 0"
    assert w.state.head_box.currentText() == "head 3"
    token, label, _ = w.picture.next_tokens[2]
    click(driver, w.next_token, w.next_token.row_rect(2).center())
    driver.at(31)
    assert w.picture.branches == 2
    assert w.run.cells.tokens[-1] == token
    assert len(w.run.cells) == 31
    assert driver.text.endswith(label)
    assert "branch 2" in w.transport.place.text()


def test_layer_and_head_keys(driver):
    w, bot = driver.window, driver.qtbot
    w.selection.select(2, 1)
    w.text.view.setFocus()
    for key, expected in (
        (Qt.Key.Key_Down, (3, 1)), (Qt.Key.Key_Up, (2, 1)), (Qt.Key.Key_BracketRight, (2, 2)),
        (Qt.Key.Key_BracketLeft, (2, 1)),
    ):  # fmt: skip
        bot.keyClick(w.text.view, key)
        assert (w.selection.layer, w.selection.head) == expected


def test_keys_in_the_prompt_are_letters(driver):
    w, bot = driver.window, driver.qtbot
    before = w.picture.position
    w.edit_prompt()
    bot.keyClicks(w.text.prompt, "A cat [sat]")
    bot.keyClick(w.text.prompt, Qt.Key.Key_Left)
    assert w.text.prompt.toPlainText() == "A cat [sat]"
    assert w.picture.position == before
    assert not w.running
    bot.keyClick(w.text.prompt, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    driver.wait(lambda: driver.text == "A cat [sat]")
    assert w.text.view.hasFocus()


def test_the_slider_goes_anywhere(driver):
    w = driver.window
    run_to(driver, 80)
    for value in (70, 20, 33, 5):
        w.transport.slider.setValue(value)
    driver.at(5)
    w.transport.slider.setValue(64)
    driver.at(64)


def test_the_panels_show_the_numbers(driver):
    w = driver.window
    run_to(driver, 40)
    S = w.picture.wkv[w.selection.layer, w.selection.head]
    assert f"{S[3, 5]:+.5f}" in w.state._describe(3, 5)
    assert "value 3 · key 5" in w.state._describe(3, 5)
    value = float(w.picture.frame.decay[2, 17])
    assert f"{value:.4f}" in w.decay._describe(2, 17)
    assert "half-life" in w.decay._describe(2, 17)
    assert f"{float(w.picture.frame.iclr[1, 3]):.4f}" in w.iclr._describe(1, 3)
    tip = w.text.view.describe(20)
    assert "surprisal" in tip
    assert "written" in tip
    # the pixel of one cell of the state has the colour of its number
    picture = image_of(w.state.map)
    rect = w.state.map.image_rect()
    row, column = np.unravel_index(S.argmax(), S.shape)
    x = int(rect.x() + (column + 0.5) * rect.width() / 64)
    y = int(rect.y() + (row + 0.5) * rect.height() / 64)
    blue, _, red = picture[y, x, :3].astype(int)
    assert red > blue + 20
    row, column = np.unravel_index(S.argmin(), S.shape)
    x = int(rect.x() + (column + 0.5) * rect.width() / 64)
    y = int(rect.y() + (row + 0.5) * rect.height() / 64)
    blue, _, red = picture[y, x, :3].astype(int)
    assert blue > red + 20


def test_pictures_change_with_the_cursor_and_hidden_docks_do_no_work(driver):
    w = driver.window
    shown = {p.title: image_of(p) for p in w.panels if p.isVisible()}
    calls = []
    w.docks["Decay"].hide()
    original = w.decay.show_picture
    w.decay.show_picture = lambda p: (calls.append(p), original(p))
    run_to(driver, 60)
    assert calls == []
    for title in ("Text", "Next token", "State", "All heads", "In-context learning rate"):
        panel = next(p for p in w.panels if p.title == title)
        assert not np.array_equal(image_of(panel), shown[title]), title
    w.docks["Decay"].show()
    assert calls[-1].position == 60


def test_sorting_channels_and_locking_the_scale(driver):
    w = driver.window
    w.decay.sort.setChecked(True)
    rows = w.decay.map._indices.astype(int)
    assert (np.diff(rows, axis=1) <= 0).all()
    channel = int(w.decay._order[1, 0])
    assert f"channel {channel}" in w.decay._describe(1, 0)
    w.state.lock.setChecked(True)
    level = w.state._level
    run_to(driver, 100)
    assert w.state._level == level


def test_colouring(driver):
    w = driver.window
    run_to(driver, 50)
    seen = [image_of(w.text.view.viewport())]
    for i in (1, 2, 3):
        w.text.colouring.setCurrentIndex(i)
        seen.append(image_of(w.text.view.viewport()))
    for i in range(4):
        for j in range(i):
            assert not np.array_equal(seen[i], seen[j])


def test_export_and_resume(driver, tmp_path, monkeypatch):
    w = driver.window
    run_to(driver, 40)
    path = tmp_path / "moment.safetensors"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: (str(path), ""))
    w.actions_by_name["export_snapshot"].trigger()
    driver.wait(path.exists)
    snapshot = gv.load_snapshot(path)
    assert snapshot.position == 40
    assert (snapshot.state.wkv == w.picture.wkv).all()
    w.text.prompt.setPlainText("Another story.")
    w.restart()
    driver.wait(lambda: driver.text == "Another story.")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(path), ""))
    w.open_snapshot()
    driver.wait(lambda: driver.text == snapshot.text)
    driver.at(40)
    assert (w.picture.wkv == snapshot.state.wkv).all()
    w.step()
    driver.at(41)


def test_errors_in_words_keep_the_run(driver, tmp_path, monkeypatch):
    w = driver.window
    run_to(driver, 30)
    text = driver.text
    bad = tmp_path / "model.pth"
    bad.write_bytes(b"<html>not found</html>")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a: (str(bad), ""))
    w.open_file()
    driver.wait(w.message_bar.isVisible)
    assert "a web page saved under a model's name" in w.message_bar.text()
    assert driver.text == text
    w.step()
    driver.at(31)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *a: ("/nowhere/x.npz", ""))
    w.export_snapshot()
    driver.wait(lambda: "/nowhere" in w.message_bar.text())


def test_open_another_model_by_drop_and_recent(driver, tmp_path):
    w = driver.window
    path = DATA / "random-L3-D128-N64.bf16.pth"
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    event = QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
                       Qt.KeyboardModifier.NoModifier)  # fmt: skip
    w.dropEvent(event)
    driver.wait(lambda: w.picture.wkv.shape == (3, 2, 64, 64) and w.picture.position > 0)
    assert w.state.layer_box.count() == 3
    assert "vocabulary is unknown" in w.message_bar.text()
    assert w.text.prompt.toPlainText() == "0"
    w._fill_recent()
    assert [a.text() for a in w.recent_menu.actions()] == [str(path.resolve())]
    run_to(driver, 20)
    assert len(driver.text.split()) == 20
    w.open_embedded()
    driver.wait(lambda: w.picture.wkv.shape == (6, 4, 64, 64))


def test_a_prompt_the_tokenizer_refuses(open_window):
    driver = open_window(str(DATA / "random-L3-D128-N64.bf16.pth"))
    w = driver.window
    w.text.prompt.setPlainText("5 hello")
    w.restart()
    driver.wait(lambda: "'hello' is no token id" in w.message_bar.text())
    assert w.picture.position == 1  # the run from before is still there


def test_changed_sampling_counts_from_the_next_token(driver):
    w = driver.window
    w.text.temperature.setValue(0.0)
    run_to(driver, 40)
    session = gv.Session(gv.load_model(), gv.Sampler(temperature=0, top_p=0.85, seed=1))
    session.feed(PROMPT)
    list(session.run(40 - session.position))
    assert driver.text == session.text


def test_settings_are_remembered(open_window):
    first = open_window()
    first.window.text.seed.setValue(77)
    first.window.text.colouring.setCurrentIndex(2)
    first.window.docks["Decay"].hide()
    first.window.close()
    second = open_window()
    assert second.window.text.seed.value() == 77
    assert second.window.text.colouring.currentIndex() == 2
    assert not second.window.docks["Decay"].isVisible()
    second.window.reset_docks()
    assert second.window.docks["Decay"].isVisible()


def test_every_action_has_its_method_and_help_opens(driver):
    w = driver.window
    for name in w.actions_by_name:
        assert callable(getattr(w, name))
    w.show_help()
    (page,) = w.findChildren(HelpPage)
    words = page.page.toPlainText()
    assert "Space" in words
    assert w.decay.help in words
    page.resize(500, 300)
    assert page.page.verticalScrollBar().maximum() > 1000, "it scrolls"
    page.close()


def test_both_themes(driver):
    from goose_app.theme import DARK, LIGHT

    w = driver.window
    dark = image_of(w).mean()
    w.set_theme(LIGHT)
    light = image_of(w).mean()
    assert light > dark + 50
    w.set_theme(DARK)
    assert abs(image_of(w).mean() - dark) < 2


def test_closing_while_running(open_window):
    driver = open_window()
    driver.window.run_or_pause()
    driver.wait(lambda: driver.window.running)
    driver.window.close()
    assert not driver.window.worker._thread.is_alive()


def test_speed_slows_the_writing(driver):
    w = driver.window
    w.transport.speed.setCurrentText("20 tokens/s")
    start = w.picture.position
    w.run_or_pause()
    driver.qtbot.wait(600)
    w.run_or_pause()
    driver.wait(lambda: not w.running)
    assert 3 <= w.picture.position - start <= 14


def test_metadata_of_a_window_export_is_complete(driver, tmp_path):
    path = tmp_path / "a.npz"
    driver.window.worker.send(m.Export(path))
    driver.wait(path.exists)
    with np.load(path) as file:
        metadata = json.loads(str(file["metadata"]))
        assert file["frame.decay"].shape == (6, 256)
    assert metadata["text"] == PROMPT


def test_another_model_under_the_mouse(driver):
    """The cell under the mouse is gone in a smaller model."""
    w = driver.window
    rect = w.state.map.image_rect()
    driver.qtbot.mouseMove(w.state.map, (rect.bottomRight() - QPointF(4, 4)).toPoint())
    driver.wait(lambda: w.state.map._hover is not None)
    w.open_model(str(DATA / "random-L2-D96-N16.bf16.pth"))
    driver.wait(lambda: w.picture.wkv.shape == (2, 6, 16, 16))
    image_of(w)
    assert w.state.map._hover is None


@pytest.mark.parametrize("share", [0.0, 0.02], ids=["at once", "later"])
def test_a_long_prompt_can_be_cancelled(driver, share):
    w = driver.window
    w.text.prompt.setPlainText("Lily saw a big dog. " * 4000)
    w.restart()
    driver.wait(
        lambda: any(
            isinstance(e, m.Loading) and "prompt" in e.words and e.fraction >= share
            for e in driver.events
        )
    )
    w.cancel()
    driver.wait(
        lambda: any(isinstance(e, m.Told) and "cancelled" in e.words for e in driver.events)
    )
    driver.wait(lambda: w.picture.position == w.picture.recorded == len(w.run.cells))
    position = w.picture.position
    assert position < 20_000
    assert position > 0 or share == 0
    w.step()
    driver.at(position + 1)


def test_resumed_sampling_is_kept_whole(driver, tmp_path):
    w = driver.window
    session = gv.Session(gv.load_model(), gv.Sampler(seed=2**40, top_k=7, banned=(5,), top_p=0.5))
    session.feed("Once")
    gv.save_snapshot(tmp_path / "a.npz", session)
    w.worker.send(m.Resume(tmp_path / "a.npz"))
    driver.wait(lambda: driver.text == "Once")
    assert w.text.top_p.value() == 0.5
    w.text.temperature.setValue(0.7)
    sampler = w.text.sampler()
    assert (sampler.top_k, sampler.banned, sampler.temperature) == (7, (5,), 0.7)
    assert not w.text.seed.signalsBlocked()


def test_a_start_that_fails_leaves_a_window_that_works(open_window):
    driver = open_window("/nowhere/model.pth", wait=False)
    w = driver.window
    driver.wait(w.message_bar.isVisible)
    assert "no such file" in w.message_bar.text()
    for action in ("back", "step", "run_or_pause", "to_end"):
        w.actions_by_name[action].trigger()
    w.open_embedded()
    driver.wait(lambda: driver.text == PROMPT)
    driver.qtbot.wait(200)
    assert w.picture.position == w.picture.recorded > 0


def test_an_empty_prompt_shows_an_empty_run(open_window):
    driver = open_window(str(DATA / "random-L3-D128-N64.bf16.pth"))
    w = driver.window
    run_to(driver, 5)
    w.text.prompt.setPlainText("")
    w.restart()
    driver.at(0)
    assert w.picture.recorded == 0
    assert driver.text == ""
    w.step()
    driver.wait(lambda: "feed a prompt first" in w.message_bar.text())


def test_files_are_offered_in_the_last_folder(driver, monkeypatch, tmp_path):
    w = driver.window
    offered = []
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *a: (offered.append(a[2]), ("", ""))[1]
    )
    w.settings["folder"] = str(tmp_path)
    w.export_snapshot()
    w.save_picture()
    assert offered[0] == str(tmp_path / f"token-{w.picture.position}.safetensors")
    assert offered[1] == str(tmp_path / "goose-viz.pdf")


def test_branches_stay_and_can_be_returned_to(driver):
    w = driver.window
    run_to(driver, 50)
    first, state = driver.text, w.picture.wkv
    w.goto(30)
    driver.at(30)
    recorded = w.run.cells.tokens[30]
    w.worker.send(m.Branch(30, recorded))  # what came anyway: no new branch
    driver.at(31)
    assert w.picture.branches == 1
    assert w.picture.recorded == 50
    w.worker.send(m.Branch(31, 77))
    driver.at(32)
    assert "branch 2 of 2" in w.transport.place.text()
    other = driver.text
    _, rows = w.decay.series.window("decay", 0, 40)
    assert len(rows) == 32
    w.next_branch()
    driver.at(50)
    assert driver.text == first
    assert (w.picture.wkv == state).all()
    _, rows = w.decay.series.window("decay", 0, 60)
    assert len(rows) == 50
    w.next_branch()
    driver.at(32)
    assert driver.text == other


def test_the_text_follows_the_cursor(driver):
    w = driver.window
    run_to(driver, 900)
    view = w.text.view

    def in_sight(position):
        rect = view.cell_rect(max(position - 1, 0))
        return rect.top() >= 0 and rect.bottom() <= view.viewport().height()

    for position in (0, 400, 145, 900, 20):
        w.goto(position)
        driver.at(position)
        assert in_sight(position), position


def test_numbers_give_the_keys_back(driver):
    w, bot = driver.window, driver.qtbot
    for key in (Qt.Key.Key_Return, Qt.Key.Key_Escape):
        w.text.seed.setFocus()
        bot.keyClick(w.text.seed, Qt.Key.Key_7)
        bot.keyClick(w.text.seed, key)
        assert w.text.view.hasFocus()
    w.text.seed.setFocus()
    click(driver, w.state.map, w.state.map.image_rect().center())
    assert not w.text.seed.hasFocus()


def test_a_prompt_survives_a_model_of_ids(driver):
    w = driver.window
    w.text.prompt.setPlainText("My own words.")
    w.open_model(str(DATA / "random-L3-D128-N64.bf16.pth"))
    driver.wait(lambda: w.picture.wkv.shape[0] == 3 and w.picture.position == 1)
    assert w.text.prompt.toPlainText() == "0"
    w.open_embedded()
    driver.wait(lambda: driver.text == "My own words.")
    assert w.text.prompt.toPlainText() == "My own words."


def test_sorting_outlives_another_model(driver):
    w = driver.window
    w.decay.sort.setChecked(True)
    w.open_model(str(DATA / "random-L3-D128-N64.bf16.pth"))
    driver.wait(lambda: w.picture.wkv.shape[0] == 3 and w.picture.position == 1)
    assert (np.diff(w.decay.map._indices.astype(int), axis=1) <= 0).all()


def test_a_link_is_remembered_as_a_link(driver, tmp_path):
    """Hugging Face's cache keeps files as links into a folder of blobs without names."""
    from goose_viz.model import open_model
    from goose_viz.writing import write_folder

    snapshot = tmp_path / "models--a--goose" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    opened = open_model(DATA / "random-L2-D96-N16.bf16.pth", None)
    write_folder(opened.weights, opened.tokenizer, snapshot, "hf", "auto", lambda *_: None)
    (snapshot / "model.safetensors").rename(tmp_path / "blobs" / "sha")
    (snapshot / "model.safetensors").symlink_to(tmp_path / "blobs" / "sha")
    w = driver.window
    w.open_model(str(snapshot / "model.safetensors"))
    driver.wait(lambda: w.picture.wkv.shape == (2, 6, 16, 16))
    assert w.settings["recent"][0] == str(snapshot / "model.safetensors")
    assert w.settings["folder"] == str(snapshot)
    assert w.windowTitle().startswith("goose")
    assert "Transformers" in w.model_panel.values["file"].text()

"""The Welcome page: it comes by itself once, and each of its presets shows what it says."""

import numpy as np
import pytest
from PySide6.QtCore import Qt

import goose_viz as gv
from goose_app import messages as m
from goose_app.application import open_window as open_for_a_person
from goose_app.presets import PRESETS
from goose_app.welcome import Welcome
from tests.conftest import save_random, two_heads_of


def page_of(window):
    pages = [p for p in window.findChildren(Welcome) if p.isVisible()]
    return pages[0] if pages else None


def test_it_comes_by_itself_once_and_only_without_a_prompt_of_ones_own(qtbot, monkeypatch):
    from goose_app import application
    from goose_viz.model import DEFAULT_PROMPT

    seen = []

    class App:
        def exec(self):
            w = seen[-1]
            qtbot.waitUntil(lambda: w.picture.position > 0, timeout=60_000)
            page = page_of(w)
            seen.append(page is not None)
            if page is not None:
                page.close()
            w.close()
            return 0

    class Watched(application.Window):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            seen.append(self)
            qtbot.addWidget(self)

    monkeypatch.setattr(application, "make_application", App)
    monkeypatch.setattr(application, "Window", Watched)
    monkeypatch.setattr(application.signal, "signal", lambda *_: None)
    for prompt in ("My own", DEFAULT_PROMPT, DEFAULT_PROMPT):
        open_for_a_person(m.Load(None), prompt, "dark", None, None)
    assert [s for s in seen if isinstance(s, bool)] == [False, True, False]


def press(driver, button):
    driver.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def test_the_tour_and_the_way_out(driver, monkeypatch):
    w = driver.window
    w.actions_by_name["show_welcome"].trigger()
    press(driver, page_of(w).tour)
    driver.wait(lambda: w.tour.step == 0 and page_of(w) is None)
    w.tour.end()
    driver.wait(lambda: not w.running)
    asked = []
    monkeypatch.setattr(w, "open_file", lambda: asked.append(True))
    w.show_welcome()
    driver.qtbot.keyClick(page_of(w), Qt.Key.Key_Escape)
    assert page_of(w) is None
    w.show_welcome()
    press(driver, page_of(w).own)
    assert asked == [True]


def open_preset(driver, preset):
    """From the page, and wait until all is on the screen."""
    w = driver.window
    w.show_welcome()
    press(driver, page_of(w).presets[preset.title])
    driver.wait(lambda: w.run.model.name == preset.model and w.tour.isVisible())
    driver.wait(lambda: driver.text == preset.prompt)
    driver.settle()


@pytest.mark.parametrize("size", [(1600, 1000), (800, 600)], ids="{0[0]}".format)
def test_every_preset_opens_from_the_page(driver, size):
    w = driver.window
    w.resize(*size)
    driver.qtbot.wait(100)
    for preset in PRESETS:
        open_preset(driver, preset)
        assert w.perspective == preset.perspective
        assert (w.selection.layer, w.selection.head) == (preset.layer, preset.head)
        assert w.tour.words.text() == preset.words
        assert 3 <= preset.words.count(".") <= 5, "three sentences"
        assert w.docks[preset.dock].isVisible()
        card = w.tour.geometry()
        assert w.rect().contains(card)
        if size[0] > 1000:
            assert not card.intersects(w.docks[preset.dock].geometry())
        corner = w.text.view.mapTo(w, w.text.view.rect().topLeft())
        assert card.top() > corner.y() + 40 or card.left() > corner.x() + 280, "the words are free"
        assert not w.message_bar.isVisible()
        press(driver, w.tour.onward)
        assert not w.tour.isVisible()
    assert w.settings["recent"] == [], "what is inside is always there"
    assert {p.model for p in PRESETS} == set(gv.embedded_models())


def preset(model):
    return next(p for p in PRESETS if p.model == model)


def likeliest(window):
    return window.picture.next_tokens[0][1]


def edit_of(driver):
    """The four matrices on the screen."""
    picture = driver.window.picture
    driver.wait(lambda: picture.why is not None and not driver.window.picture.stale)
    driver.settle()
    return driver.window.picture.head.edit


def forget(driver, word):
    """X with the mouse on it."""
    w = driver.window
    w.text.view.mark(range(w.run.cells.texts.index(word), w.run.cells.texts.index(word) + 1))
    w.actions_by_name["forget"].trigger()
    driver.settle()


def test_what_the_card_of_who_is_where_says(driver):
    w = driver.window
    open_preset(driver, preset("who-is-where"))
    assert likeliest(w) == " hall"
    driver.wait(lambda: w.picture.why is not None and not w.picture.stale)
    assert "The earlier “ hall”, 2 tokens ago" in w.picture.why.sentence
    forget(driver, " hall")
    assert likeliest(w) == " nowhere"
    w.undo()
    driver.settle()
    assert likeliest(w) == " hall"
    forget(driver, " kitchen")
    assert likeliest(w) == " hall"
    w.undo()
    driver.settle()
    w.goto(1 + w.run.cells.texts.index(" hall"))
    driver.settle()
    edit = edit_of(driver)
    removed, written = (np.abs(m).sum(0) for m in (edit.removed, edit.written))
    assert int(removed.argmax()) == int(written.argmax()), "one column"


def test_what_the_card_of_the_shell_game_says(driver):
    w = driver.window
    open_preset(driver, preset("shell-game"))
    columns = []
    for position in range(4, w.picture.position + 1):
        w.goto(position)
        driver.settle()
        edit = edit_of(driver)
        columns.append(int(np.linalg.norm(edit.result, axis=0).argmax()))
        assert edit.written_norm < 0.1 * edit.result_norm
        assert w.spectrum.values[0] == pytest.approx(-1, abs=0.05)
    # ball 3, swap 2 4, swap 1 3, swap 4 1: under 3, 1, 4
    assert len(set(columns)) == 3


def test_what_the_card_of_recall_says(driver):
    w = driver.window
    open_preset(driver, preset("recall"))
    assert likeliest(w) == " blue"
    driver.wait(lambda: w.picture.why is not None and not w.picture.stale)
    assert "The earlier “ blue”" in w.picture.why.sentence
    forget(driver, " blue")
    assert likeliest(w) == " nothing"


def test_a_preset_that_fails_to_load_leaves_nothing_behind(driver, monkeypatch, tmp_path):
    """Its card does not come over the next model."""
    w = driver.window
    broken = tmp_path / "m.safetensors"
    broken.write_bytes(b"nothing")
    monkeypatch.setattr(type(w), "open_model", lambda self, source: send(str(broken)))

    def send(source):
        w._requested_source = source
        w.worker.send(m.Load(source))

    w.open_preset(preset("who-is-where"))
    driver.wait(lambda: w.message_bar.isVisible())
    monkeypatch.undo()
    w.open_model("shell-game")
    driver.wait(lambda: w.run.model.name == "shell-game")
    driver.settle()
    assert not w.tour.isVisible()


def test_a_preset_after_a_model_that_reads_ids(driver, tmp_path):
    """The text that was set aside for that model does not come back over the preset's."""
    w = driver.window
    path = tmp_path / "ids.safetensors"
    save_random(path, two_heads_of(16))
    w.open_model(str(path))
    driver.wait(lambda: w.run.model.tokenizer == "token ids")
    driver.settle()
    open_preset(driver, preset("who-is-where"))
    assert w.text.prompt.toPlainText() == preset("who-is-where").prompt
    assert not w.message_bar.isVisible()

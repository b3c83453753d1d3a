"""A conversation, a turn at a time; stopping at the end of a text; searching in it."""

import pytest
from PySide6.QtCore import Qt

import goose_viz as gv
from goose_app import messages as m
from goose_app.cells import Cells
from goose_app.find import find_all
from goose_viz.templates import TURN_END

SHIFT = Qt.KeyboardModifier.ShiftModifier


@pytest.fixture
def scripted(driver, monkeypatch):
    """A window on a model that writes what a test wants it to."""
    tokens = []

    def choose(self, logits, counts, position, candidates=None):
        return tokens.pop(0) if tokens else int(logits.argmax())

    monkeypatch.setattr(gv.Sampler, "choose", choose)

    def script(text, *more):
        tokens[:] = [*driver.window.worker._runs[0].model.tokenizer.encode(text), *more]

    driver.script = script
    return driver


def say(driver, words):
    edit = driver.window.text.prompt
    driver.qtbot.keyClicks(edit, words)
    driver.qtbot.keyClick(edit, Qt.Key.Key_Return)
    driver.settle()


def test_a_conversation_goes_on_turn_by_turn(scripted, qtbot):
    w = scripted.window
    qtbot.keyClick(w, Qt.Key.Key_T, Qt.KeyboardModifier.ControlModifier)
    box = w.text.box
    assert box.button.text() == "Say"
    assert box.edit.hasFocus()
    assert box.edit.toPlainText() == ""
    box.template.setCurrentIndex(0)
    box.system.setText("You are a dog.")
    scripted.script(" Woof.\n\nIt rained.\n\nUser: never")
    say(scripted, "Hello")
    expected = "System: You are a dog.\n\nUser: Hello\n\nAssistant: Woof.\n\nIt rained.\n\nUser:"
    assert scripted.text == expected, "an empty line ends no turn; what comes next does"
    assert box.edit.toPlainText() == ""
    first = w.picture.position
    session = w.worker._runs[0].session
    state = session.state.wkv.copy()
    scripted.script(" Yes.\n\nUser:")
    say(scripted, "Did it rain?")
    assert scripted.text == expected + " Did it rain?\n\nAssistant: Yes.\n\nUser:"
    assert (session.state_at(first).wkv == state).all(), "the memory goes on"
    assert w.picture.branches == 1
    w.goto(first)  # every token steps, explains and forgets
    scripted.at(first)
    w.why()
    scripted.wait(lambda: w.picture.why is not None and not w.picture.stale)
    assert w.picture.why.position == first
    w.token_menu.forget(6)
    scripted.settle()
    assert isinstance(w.picture.edits[-1].edit, gv.Forget)
    scripted.script(" No.\n\nUser:")
    say(scripted, "And now?")  # from the middle, with another memory: another branch
    assert scripted.text.endswith("User: And now?\n\nAssistant: No.\n\nUser:")
    assert w.picture.branches >= 2
    w.restart()
    scripted.settle()
    box.system.setText("")
    scripted.script(" Hi.", 0)
    say(scripted, "Hello")
    assert scripted.text == "User: Hello\n\nAssistant: Hi.", "another conversation"
    assert w.run.cells.tokens[-1] == 0, "the end of a text ends a turn too"
    scripted.script(" Hi.\n\nUser:")
    say(scripted, "Again")
    assert scripted.text.endswith("Assistant: Hi.User: Again\n\nAssistant: Hi.\n\nUser:")


def test_both_forms_of_skipped_thinking_and_lines_of_a_message(scripted, qtbot):
    w = scripted.window
    w.actions_by_name["chat"].trigger()
    box = w.text.box
    for name, begin in (("fake", "<think></think"), ("fast", "<think>\n</think")):
        box.template.setCurrentIndex(box.template.findData(name))
        w.restart()
        scripted.settle()
        scripted.script(">Hi." + TURN_END)
        qtbot.keyClicks(box.edit, "one")
        qtbot.keyClick(box.edit, Qt.Key.Key_Return, SHIFT)
        say(scripted, "two")
        assert scripted.text == f"User: one\ntwo\n\nAssistant: {begin}>Hi.{TURN_END}"
    box.suggest("RWKV7-G1a-0.1B")
    assert box.template.currentData() == "fake"
    box.suggest("rwkv7-world-0.1B")
    assert box.template.currentData() == "chat"


def test_leaving_the_conversation_gives_the_prompt_back(scripted):
    w = scripted.window
    prompt = w.text.prompt.toPlainText()
    chat = w.actions_by_name["chat"]
    chat.trigger()
    w.text.prompt.setPlainText("half a sen")
    assert TURN_END in w.text.sampler().stop
    chat.trigger()
    assert w.text.prompt.toPlainText() == prompt
    assert w.text.sampler().stop == ()
    assert w.text.begin.text() == "Begin anew"
    chat.trigger()
    assert w.text.prompt.toPlainText() == "half a sen"


def test_the_end_of_a_text_is_told_and_can_stop_the_run(scripted):
    w = scripted.window
    assert w.run.cells.tokens[0] == 0
    assert "ends a text" in w.text.view.describe(0)
    assert "ends a text" not in w.text.view.describe(1)
    scripted.script(" big", 0, *([300] * 20))
    w.worker.send(m.Run(12))
    scripted.settle()
    assert w.run.cells.tokens[-1] == 300, "by itself it writes the next text"
    w.actions_by_name["stop_at_end"].trigger()
    scripted.script(" big", 0, *([300] * 20))
    w.worker.send(m.Run(12))
    scripted.settle()
    assert w.run.cells.tokens[-1] == 0
    w.close()
    assert w.settings["stop at end"] is True


def cells(*texts):
    out = Cells()
    for text in texts:
        out.append(1, text, 0.5, True)
    return out


def test_words_are_found_across_tokens():
    text = cells("Once", " up", "on a", " ti", "", "me, ONCE", " more", " once")
    assert find_all(text, "once") == [range(0, 1), range(5, 6), range(7, 8)]
    assert find_all(text, "ONCE") == [range(5, 6)]
    assert find_all(text, "upon") == [range(1, 3)]
    assert find_all(text, "time") == [range(3, 6)]
    assert find_all(text, "e, o") == [range(5, 6)]
    assert find_all(text, "never") == find_all(text, "") == find_all(cells(), "x") == []
    assert find_all(text, ".*") == []


def test_searching_a_long_run_by_keys(driver, qtbot):
    w = driver.window
    driver.write(600)
    end = w.picture.position
    view, bar = w.text.view, w.text.find_bar
    qtbot.keyClick(w, Qt.Key.Key_F, Qt.KeyboardModifier.ControlModifier)
    assert bar.words.hasFocus()
    view.verticalScrollBar().setValue(0)
    qtbot.keyClicks(bar.words, "was")
    places = find_all(w.run.cells, "was")
    assert len(places) > 5
    assert bar.count.text() == f"1 of {len(places)}"
    assert view.marked == places[0]
    for _ in range(len(places) - 1):
        qtbot.keyClick(bar.words, Qt.Key.Key_Return)
    assert bar.count.text() == f"{len(places)} of {len(places)}"
    assert view.viewport().rect().contains(view.cell_rect(places[-1].start).toRect())
    qtbot.keyClick(bar.words, Qt.Key.Key_Return)
    assert view.marked == places[0], "around the end"
    qtbot.keyClick(bar.words, Qt.Key.Key_Return, SHIFT)
    assert view.marked == places[-1]
    qtbot.keyClicks(bar.words, "xyz")
    assert bar.count.text() == "nowhere"
    assert not view.marked
    bar.words.clear()
    qtbot.keyClicks(bar.words, "was")
    found = view.marked
    qtbot.keyClick(bar.words, Qt.Key.Key_Escape)
    assert not bar.isVisible()
    assert view.hasFocus()
    assert view.marked == found, "Forget, Replace and Why act on it"
    assert w.picture.position == end


def test_words_that_are_refused_come_back(scripted, monkeypatch):
    w = scripted.window
    w.actions_by_name["chat"].trigger()
    tokenizer = w.worker._runs[0].model.tokenizer

    def refuse(text):
        raise gv.GooseError("no such words")

    monkeypatch.setattr(type(tokenizer), "encode", lambda self, text: refuse(text))
    w.text.prompt.setPlainText("Hello")
    w.converse()
    scripted.wait(w.message_bar.isVisible)
    assert w.text.prompt.toPlainText() == "Hello"
    assert w._fresh


def test_a_resumed_conversation_goes_on(scripted, tmp_path):
    w = scripted.window
    w.actions_by_name["chat"].trigger()
    w.text.box.template.setCurrentIndex(0)
    scripted.script(" Hi.\n\nUser:")
    say(scripted, "Hello")
    w.worker.send(m.Export(tmp_path / "talk.npz"))
    scripted.settle()
    w.actions_by_name["chat"].trigger()
    w.restart()
    scripted.settle()
    w.open_path(str(tmp_path / "talk.npz"))
    scripted.settle()
    w.actions_by_name["chat"].trigger()
    scripted.script(" Yes.\n\nUser:")
    say(scripted, "And?")
    assert scripted.text.endswith("Hi.\n\nUser: And?\n\nAssistant: Yes.\n\nUser:")


def test_search_looks_again_where_the_text_is_another(driver, qtbot):
    w = driver.window
    view, bar = w.text.view, w.text.find_bar
    w.find()
    word = w.run.cells.texts[-1].strip() or w.run.cells.texts[-2].strip()
    bar.words.setText(word)
    bar.go(1)
    count = len(bar._places)
    end = w.picture.position
    w.goto(end - 1)
    driver.settle()
    token = w.picture.next_tokens[5][0]
    w.worker.send(m.Branch(end - 1, token))
    driver.settle()
    assert len(w.run.cells) == end, "as long as before"
    bar.go(1)
    assert len(bar._places) == len(find_all(w.run.cells, word))
    assert count >= 1
    assert view.text_version > 0

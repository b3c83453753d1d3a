"""The Why perspective: what a person asks of a word, and what is done to the memory."""

import time
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPointF, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QInputDialog

import goose_viz as gv
from goose_app import messages as m
from goose_app.colouring import HELD, READ, levels
from goose_app.python_lines import edit_code
from goose_viz import analysis as ga

TOM = "Tom had a red ball. Sue had a blue cup. Tom played with his red"


@pytest.fixture
def asked(open_window):
    """A window in the Why perspective behind the text of the sketch."""
    driver = open_window(prompt=TOM)
    w = driver.window
    driver.qtbot.keyClick(w.text.view, Qt.Key.Key_F6)
    explained(driver)
    return driver


def explained(driver):
    w = driver.window
    driver.wait(lambda: w.picture.why is not None and not w.picture.stale)
    assert w.picture.why.position == w.picture.position


def chance(driver, word):
    return {label: p for _, label, p in driver.window.picture.next_tokens}.get(word)


def compared(driver):
    driver.wait(lambda: driver.window.picture.comparison is not None)
    explained(driver)


def test_one_sentence_and_what_stands_behind_it(asked):
    w = asked.window
    why = w.picture.why
    assert why.sentence == (
        "“ ball” (63.7 %) leads “ cup” (24.4 %) by 0.96. The earlier “ ball”, 12 tokens ago, gives "
        "+3.36 of it, nine tenths of that through layer 5 head 3. “ cup”, 6 tokens ago, speaks "
        "against it: -7.82."
    )
    assert "12 tokens ago" in w.why_panel.sentence.text()
    bars = w.why_panel.words.bars
    assert (bars[0].name, bars[0].note, bars[0].key) == ("␣cup", "−6", 11)
    assert (bars[1].name, bars[1].note, bars[1].key) == ("␣ball", "−12", 5)
    assert sum(b.value for b in bars) == pytest.approx(dict(why.parts)["past words, together"])
    parts = w.why_panel.parts.bars
    assert parts[-1].total
    assert sum(b.value for b in parts[:-1]) == pytest.approx(parts[-1].value)
    assert w.why_panel.grid.values.shape == (6, 4)
    assert w.why_panel.grid.values.sum() == pytest.approx(why.tokens.sum())


def test_hovering_a_word_shows_its_heads_and_a_click_selects_one(asked):
    w = asked.window
    row = w.why_panel.words.row_rect(1).center().toPoint()
    asked.qtbot.mouseMove(w.why_panel.words, row)
    asked.wait(lambda: "ball" in w.why_panel.grid_title.text())
    assert (w.why_panel.grid.values == w.picture.why.tokens[:, :, 5]).all()
    cell = w.why_panel.grid.cell_rect(5, 3).center().toPoint()
    asked.qtbot.mouseClick(w.why_panel.grid, Qt.MouseButton.LeftButton, pos=cell)
    assert (w.selection.layer, w.selection.head) == (5, 3)
    asked.wait(lambda: (w.picture.head.layer, w.picture.head.head) == (5, 3))
    assert w.picture.head.retention.shape == (18,)


def test_another_word_can_be_asked_about(asked):
    w = asked.window
    box = w.why_panel.target
    cup = next(i for i in range(box.count()) if "cup" in box.itemText(i))
    box.setCurrentIndex(cup)
    box.activated.emit(cup)
    asked.wait(lambda: w.picture.why.sentence.startswith("“ cup”"))
    assert "is behind “" in w.picture.why.sentence
    none = w.why_panel.against
    none.setCurrentIndex(none.count() - 1)
    none.activated.emit(none.count() - 1)
    asked.wait(lambda: "has the logit" in w.picture.why.sentence)
    assert w.why_panel.parts.bars[-1].name == "= the logit"


def test_it_follows_the_cursor_and_the_run(asked):
    w = asked.window
    for _ in range(3):
        asked.qtbot.keyClick(w.text.view, Qt.Key.Key_Right)
    asked.at(21)
    explained(asked)
    asked.qtbot.keyClick(w.text.view, Qt.Key.Key_Left)
    asked.at(20)
    explained(asked)
    asked.qtbot.keyClick(w.text.view, Qt.Key.Key_Space)
    asked.wait(lambda: w.picture.position > 120)
    asked.wait(lambda: w.picture.why.position > 20 and w.running)
    asked.qtbot.keyClick(w.text.view, Qt.Key.Key_Space)
    asked.wait(lambda: not w.running)
    explained(asked)
    assert w.picture.why.tokens.shape[2] == w.picture.position


def test_forget_in_the_head_that_said_most(asked):
    w = asked.window
    state, text = w.picture.wkv, asked.text
    menu = w.token_menu.menu(5)
    forget = next(a for a in menu.actions() if a.text().startswith("Forget")).menu()
    assert [a.text() for a in forget.actions()][::3] == ["in layer 5 head 3 (most)", "everywhere"]
    forget.actions()[0].trigger()
    compared(asked)
    assert asked.text == text
    assert chance(asked, " ball") == pytest.approx(0.031, abs=0.01)
    assert w.picture.next_tokens[0][1] == " cup"
    comparison = w.picture.comparison
    assert comparison.words == "forgot “␣ball” in layer 5 head 3"
    assert comparison.before[0][1:] == (" ball", pytest.approx(0.637, abs=0.01))
    assert w.picture.branches == 2
    assert w.branches.list.count() == 2
    assert "forgot “ ball” (layer 5 head 3)" in w.branches.list.item(1).text()
    # the rows of the right column are clicked, those of the left are only looked at
    assert w.next_token.row_rect(0).x() > w.next_token.width() / 2 - 10
    asked.qtbot.keyClick(w.text.view, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    asked.wait(lambda: w.picture.comparison is None and w.picture.can_redo)
    assert (w.picture.wkv == state).all()
    assert chance(asked, " ball") == pytest.approx(0.637, abs=0.01)
    assert not w.actions_by_name["undo"].isEnabled()
    w.redo()
    compared(asked)
    assert w.picture.next_tokens[0][1] == " cup"
    # the run goes on from there
    w.worker.send(m.Run(5))
    asked.wait(lambda: w.picture.position == 23)
    assert w.picture.comparison is None
    _, rows = w.decay.series.window("decay", 0, 40)
    assert len(rows) == 23


def test_replace_by_asking(asked, monkeypatch):
    w = asked.window
    monkeypatch.setattr(QInputDialog, "getText", lambda *a, **k: (" car", True))
    w.token_menu.replace(5)
    compared(asked)
    assert chance(asked, " car") == pytest.approx(0.689, abs=0.01)
    assert chance(asked, " ball") == pytest.approx(0.047, abs=0.01)
    assert w.picture.comparison.words == "“␣car” in place of “␣ball”"
    assert "What was edited into the memory gives +4.81" in w.picture.why.sentence
    assert w.picture.why.by_token[5] == 0


def test_keys_act_on_the_word_under_the_mouse(asked, monkeypatch):
    w = asked.window
    monkeypatch.setattr(w.text.view, "hovered_index", lambda: 5)
    asked.qtbot.keyClick(w.text.view, Qt.Key.Key_X)
    compared(asked)
    assert chance(asked, " ball") == pytest.approx(0.031, abs=0.01)
    monkeypatch.setattr(w.text.view, "hovered_index", lambda: None)
    before = w.picture
    asked.qtbot.keyClick(w.text.view, Qt.Key.Key_X)
    assert "before the cursor" in w.statusBar().currentMessage()
    assert w.picture.position == before.position


def test_what_cannot_be_edited_is_said(asked):
    w = asked.window
    w.token_menu.forget(5)
    compared(asked)
    w.token_menu.forget(5)
    asked.wait(lambda: "nothing of token 5" in w.message_bar.text())
    assert w.picture.position == 18


def test_colours_tell_what_each_word_gives(asked):
    w = asked.window
    view = w.text.view
    assert view.colouring == "what it gives to the next word"
    found = levels(view.colouring, w.run, w.selection, 0, 18).places
    assert (found.argmax(), found.argmin()) == (5, 11), "“ ball” for it, “ cup” against"
    assert found.min() < 16
    assert 160 < found.max() < 240
    for name in (HELD, READ):
        found = levels(name, w.run, w.selection, 0, 18).places
        assert found.shape == (18,)
        assert abs(found - 128).max() > 110
    assert levels("nothing", w.run, w.selection, 0, 18) is None
    surprise = levels("surprisal", w.run, w.selection, 0, 18).places
    assert surprise[0] == 0, "nothing was expected yet"
    assert surprise.max() > 60
    rect = view.cell_rect(5).center()
    assert view.index_at(QPointF(rect)) == 5


def test_the_edit_of_the_token_adds_up(asked):
    w = asked.window
    asked.wait(lambda: w.picture.head.edit is not None)
    edit = w.picture.head.edit
    S = w.picture.wkv[w.selection.layer, w.selection.head]
    np.testing.assert_allclose(edit.decayed - edit.removed + edit.written, S, atol=1e-4)
    asked.wait(lambda: "norm" in w.edit.titles["written"].text())
    assert w.edit.maps["written"]._indices.shape == (64, 64)
    w.edit.one_scale.setChecked(True)
    ends = {view._ends for view in w.edit.maps.values()}
    assert len(ends) == 1


def test_perspectives_are_remembered_apart(asked, open_window):
    w = asked.window
    assert w.perspective == "why"
    assert w.why_panel.isVisible()
    assert not w.decay.isVisible()
    w.docks["Branches"].hide()
    asked.qtbot.keyClick(w.text.view, Qt.Key.Key_F5)
    assert w.decay.isVisible()
    assert not w.why_panel.isVisible()
    assert w.text.view.colouring == "surprisal"
    asked.wait(lambda: not w.worker._runs[0]._explain.on)
    asked.qtbot.keyClick(w.text.view, Qt.Key.Key_W)
    assert not w.docks["Branches"].isVisible()
    assert w.docks["Why"].isVisible()
    w.close()
    again = open_window()
    assert again.window.perspective == "why"
    assert not again.window.docks["Branches"].isVisible()


def test_branches_can_be_named_closed_and_returned_to(asked, monkeypatch):
    w = asked.window
    w.worker.send(m.Run(6))
    asked.wait(lambda: w.picture.position == 24)
    asked.at(24)
    first = asked.text
    w.worker.send(m.Branch(20, 42))
    asked.at(21)
    asked.wait(lambda: w.branches.list.count() == 2)
    w.branches.named.emit(0, "the first")
    asked.wait(lambda: w.branches.list.item(0).text().startswith("the first"))
    w.branches.chosen.emit(0)
    asked.at(24)
    assert asked.text == first
    w.branches.closed.emit(0)
    asked.wait(lambda: "cursor is on this branch" in w.message_bar.text())
    w.branches.closed.emit(1)
    asked.wait(lambda: w.branches.list.count() == 1)
    w.restart()
    asked.wait(lambda: w.branches.list.count() == 2)
    assert w.picture.position == 18
    w.restart()  # nothing was written there: it does not stay
    asked.wait(lambda: w.picture.position == 18)
    assert w.branches.list.count() == 2


def test_copy_as_python_gives_these_numbers(asked, capsys):
    """What every panel gives, behind edits and written tokens, in a process that has only that."""
    w = asked.window
    w.worker.send(m.Run(3))
    asked.wait(lambda: w.picture.position == 21 and not w.running)
    w.token_menu.put(5, " car")
    compared(asked)
    w.worker.send(m.Step())
    asked.wait(lambda: w.picture.position == 22)
    explained(asked)
    why, now, (layer, head) = w.picture.why, w.picture.head, (w.selection.layer, w.selection.head)
    for panel in w.panels:
        if panel.python() is None:
            continue
        w.copy_python(panel.python())
        names = {}
        exec(compile(QGuiApplication.clipboard().text(), panel.title, "exec"), names)
        session, out = names["session"], capsys.readouterr().out
        assert session.tokens == w.run.cells.tokens[:22].tolist()
        np.testing.assert_allclose(session.state.wkv, w.picture.wkv, atol=2e-4)
        match panel.title:
            case "Why":
                assert why.sentence in out
                np.testing.assert_allclose(names["found"].by_token, why.by_token, atol=1e-3)
            case "The edit of this token":
                edit = names["edit"]
                np.testing.assert_allclose(edit.written, now.edit.written, atol=1e-4)
            case "Remember":
                held = ga.retention(session.frames(), layer, head)
                np.testing.assert_allclose(held, now.retention, atol=1e-4)
                assert "0." in out
            case "Next token":
                assert str(w.picture.next_tokens[0][0]) in out
    menu = w.token_menu.menu(5)
    next(a for a in menu.actions() if a.text() == "Copy as Python").trigger()
    code = QGuiApplication.clipboard().text()
    assert "gv.Replace(start=5, stop=6, tokens=' car')" in code
    assert "gv.Forget(5, " in code


def test_copied_edits_name_the_memories_they_were_made_from():
    put = m.Made(3, gv.Put(None, 1, 2), Path("a.npz"))
    assert edit_code(put) == "gv.Put(gv.load_snapshot('a.npz').state.wkv, layer=1, head=2)"
    add = m.Made(3, gv.Add(None, 0.5), Path("a.npz"), 1)
    assert edit_code(add) == (
        "gv.Add(gv.load_snapshot('a.npz').state.wkv - "
        "gv.load_snapshot('branch-1.safetensors').state.wkv, factor=0.5)"
    )
    assert edit_code(m.Made(3, gv.Zero(), None)) == "gv.Zero()"
    assert edit_code(m.Made(3, gv.Noise(0.5, 7, head=1))) == "gv.Noise(sigma=0.5, seed=7, head=1)"


def test_looking_back_over_what_nobody_watched_can_be_interrupted(open_window, monkeypatch):
    driver = open_window()
    w = driver.window
    w.worker.send(m.Run(300))
    driver.wait(lambda: w.picture.position > 300 and not w.running)
    session = w.worker._runs[0].session
    forward = session.model.forward
    calls = []

    def slowly(*a, **k):
        calls.append(1)
        time.sleep(0.02)
        return forward(*a, **k)

    monkeypatch.setattr(session.model, "forward", slowly)
    w.why()
    driver.wait(lambda: len(calls) > 20)
    assert w.picture.stale
    begin = time.perf_counter()
    w.goto(290)
    driver.wait(lambda: w.picture.position == 290)
    assert time.perf_counter() - begin < 2
    driver.wait(lambda: w.picture.why is not None and not w.picture.stale)
    assert len(calls) < 450, "what was read again before is not read once more"
    assert w.picture.why.tokens.shape[2] == 290


def test_hovering_a_word_of_the_text_shows_its_heads(asked):
    w = asked.window
    for view in (w.text.view, w.remember.view):
        asked.qtbot.mouseMove(view.viewport(), view.cell_rect(7).center().toPoint())
        asked.wait(lambda: "Sue" in w.why_panel.grid_title.text())
        assert (w.why_panel.grid.values == w.picture.why.tokens[:, :, 7]).all()
        view.hovered.emit(None)
        assert w.why_panel.grid_title.text() == "layer × head, all past words"


def test_why_a_candidate_or_a_word_that_was_said(asked):
    """The token is asked about where it stood or would stand, and only there."""
    w = asked.window
    cup = next(t for t, label, _ in w.picture.next_tokens if label == " cup")
    next(a for a in w.next_token.menu(cup).actions() if a.text().startswith("Why")).trigger()
    asked.wait(lambda: w.picture.why.target == cup)
    assert w.picture.why.sentence.startswith("“ cup” (24.4 %) is behind “ ball”")
    w.goto(17)
    asked.wait(lambda: w.picture.position == 17 and not w.picture.stale)
    asked.wait(lambda: w.picture.why.target != cup)
    said = w.run.cells.tokens[9]
    menu = w.token_menu.menu(9)
    next(a for a in menu.actions() if a.text() == "Why this word").trigger()
    asked.wait(lambda: w.picture.position == 9 and not w.picture.stale)
    asked.wait(lambda: w.picture.why.target == said)
    assert w.picture.why.position == 9
    w.why_of(said, 0)
    assert "nothing was read before" in w.statusBar().currentMessage()


def test_a_replacement_beside_a_true_run(asked):
    w = asked.window
    w.token_menu.put(5, " car")
    compared(asked)
    assert w.next_token.truth.isVisible()
    asked.qtbot.mouseClick(w.next_token.truth, Qt.MouseButton.LeftButton)
    asked.wait(lambda: w.picture.comparison.truth is not None)
    assert not w.next_token.truth.isVisible()
    (token, label, p), *_ = w.picture.comparison.truth
    assert label == " car"
    session = gv.Session(gv.load_model())
    session.feed(TOM.replace("ball", "car"))
    assert p == pytest.approx(dict(session.next_tokens(1))[token], abs=1e-4)
    assert w.picture.comparison.are[token] == pytest.approx(0.689, abs=0.01)
    w.token_menu.forget(3)  # behind another edit there is nothing to read truly
    asked.wait(lambda: w.picture.comparison.words.startswith("forgot"))
    assert not w.next_token.truth.isVisible()

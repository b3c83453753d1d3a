"""Heads, layers and runs: what a person presses to ask of them, and whether answers are true."""

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QContextMenuEvent, QGuiApplication
from PySide6.QtWidgets import QFileDialog, QFrame, QInputDialog

import goose_viz as gv
from goose_app import messages as m
from goose_app.help_page import HelpPage
from goose_app.palette import Palette, score
from goose_app.questions import HEALTH
from goose_viz import analysis as ga

TOM = "Tom had a red ball. Sue had a blue cup. Tom played with his red"
Key, Shift = Qt.Key, Qt.KeyboardModifier.ShiftModifier
Control = Qt.KeyboardModifier.ControlModifier


@pytest.fixture
def tom(open_window):
    driver = open_window(prompt=TOM)
    driver.window.selection.select(5, 3)
    driver.settle()
    return driver


@pytest.fixture(scope="module")
def session(demo):
    """The same run, beside the window."""
    session = gv.Session(demo, gv.Sampler(seed=1), gv.Probe(gv.OBSERVABLES))
    session.feed(TOM)
    return session


def press(driver, key, modifiers=Qt.KeyboardModifier.NoModifier):
    driver.qtbot.keyClick(driver.window.text.view, key, modifiers)
    driver.settle()


def tap(driver, key):
    """Without waiting for what comes of it."""
    driver.qtbot.keyClick(driver.window.text.view, key)


def click(driver, widget, at=None):
    at = widget.rect().center() if at is None else at
    driver.qtbot.mouseClick(widget, Qt.MouseButton.LeftButton, pos=at)
    driver.settle()


def choose(driver, box, words):
    place = next(i for i in range(box.count()) if words in box.itemText(i))
    box.setCurrentIndex(place)
    box.activated.emit(place)
    driver.settle()


def close(found, expected, tolerance=1e-4):
    error = np.abs(np.asarray(found) - expected).max()
    assert error <= tolerance * max(np.abs(expected).max(), 1e-30), error


def run_python(panel, window, capsys):
    window.copy_panel(panel)
    names = {}
    exec(compile(QGuiApplication.clipboard().text(), panel.title, "exec"), names)
    return names, capsys.readouterr().out


# -- State -------------------------------------------------------------------------------------


def test_the_attention_map(tom, session, capsys):
    w = tom.window
    press(tom, Key.Key_F7)
    panel = w.attention
    frames = session.frames(observables=(*ga.memory.PAST, "receptance"))
    close(panel.found.weights, ga.attention_map(frames, 5, 3), 1e-3)
    assert panel.place.text() == "layer 5 head 3"
    box = panel.map.image_rect()
    n = len(panel.found.weights)

    def cell(row, column):
        x, y = (column + 0.5) / n * box.width(), (row + 0.5) / n * box.height()
        return (box.topLeft() + QPointF(x, y)).toPoint()

    tom.qtbot.mouseMove(panel.map, cell(17, 5))
    assert "“␣red” reads “␣ball”, 12 before: " in panel._describe(17, 5)
    assert panel._describe(5, 17) == "it was not there yet"
    choose(tom, panel.mean, "layer")
    close(panel.found.weights, ga.attention_mean(frames, 5), 1e-3)
    close(w.attention.numbers()["attention"], panel.found.weights, 1e-9)
    _, out = run_python(panel, w, capsys)
    assert "[[1. " in out
    choose(tom, panel.mean, "model")
    close(panel.found.weights, ga.attention_mean(frames), 1e-3)
    choose(tom, panel.mean, "this head")
    click(tom, panel.map, cell(9, 5))
    tom.at(10)
    assert len(panel.found.weights) == 10, "a click goes to the token of the row"
    press(tom, Key.Key_BracketLeft)
    assert panel.place.text() == "layer 5 head 2"


def test_a_long_map_shows_the_last_tokens(tom):
    w = tom.window
    w.worker.send(m.Run(420))
    tom.at(438)
    press(tom, Key.Key_F7)
    assert w.attention.found.start == 438 - 384
    assert w.attention.found.weights.shape == (384, 384)
    assert w.attention.place.text() == "layer 5 head 3 · the last 384 tokens"
    names = {}
    exec(w.attention.python().replace("print", "found = "), {
        "session": w.worker._runs[0].session.twin(), "ga": ga}, names)  # fmt: skip
    close(names["found"], w.attention.found.weights, 1e-3)


def test_health(tom, session, capsys):
    w = tom.window
    press(tom, Key.Key_F7)
    panel = w.health
    whole = ga.health(session.frames(), ranks_at=range(18))
    for name, read in HEALTH.items():
        choose(tom, panel.figure, name)
        close(panel.grid.values, read(whole)[-1], 1e-3)
        found = panel.found.lines[name]
        at = panel.found.at if "rank" in name else range(18)
        close(found, read(whole)[np.array(at), 5], 1e-3)
    click(tom, panel.grid, panel.grid.cell_rect(4, 0).center().toPoint())
    assert (w.selection.layer, w.selection.head) == (4, 0)
    assert panel.found.layer == 4
    assert panel.warning.isHidden()
    panel._hover(9)
    rank = ga.health(session.frames()[:10]).effective_rank[-1, 4, 0]
    assert panel.what.text() == f"token 10, layer 4 head 0: {rank:.4g}"
    _, out = run_python(panel, w, capsys)
    assert f"{panel.grid.values[4, 0]:.4f}"[:5] in out
    # a memory that is far too large is told of
    big = np.zeros((6, 4, 64, 64), np.float32)
    big[2, 1] = 2e4
    w.worker._runs[0].session.apply(gv.Add(big))
    w.worker.send(m.Step())
    tom.settle()
    assert "layer 2 head 1 saturates" in panel.warning.text()
    assert panel.warning.isVisible()


def test_the_lines_of_health_follow_the_writing(tom):
    w = tom.window
    press(tom, Key.Key_F7)
    tap(tom, Key.Key_Space)
    tom.wait(lambda: w.picture.position > 150 and w.health.answer.position > 60)
    press(tom, Key.Key_Space)
    assert w.health.answer.position == w.attention.answer.position == w.picture.position


def test_the_spectrum(tom, session, capsys):
    press(tom, Key.Key_F7)
    panel = tom.window.spectrum
    expected = ga.spectrum(session.frames()[-1], 5, 3)
    close(panel.values, expected, 1e-5)
    close(panel.numbers()["eigenvalues"], expected, 1e-5)
    _, out = run_python(panel, tom.window, capsys)
    assert f"{expected[0]:.4f}"[:5] in out


def test_the_edit_is_there_whatever_was_asked_meanwhile(tom):
    press(tom, Key.Key_F7)
    w = tom.window
    assert w.picture.head.edit is not None
    assert not w.picture.stale
    assert "norm" in w.edit.titles["written"].text()


# -- Study -------------------------------------------------------------------------------------


def test_the_lens(tom, session, demo, capsys):
    w = tom.window
    press(tom, Key.Key_F9)
    found, frame = w.lens.found, session.frame
    for mine, theirs in zip(found.layers, ga.lens(demo, frame, 5), strict=True):
        assert [t for t, _, _ in mine] == [t for t, _ in theirs]
        close([p for *_, p in mine], [p for _, p in theirs], 1e-3)
    up, down = ga.promoted(demo, frame, 5, 3, 5)
    assert [t for t, *_ in found.promoted] == [t for t, _ in up]
    assert [t for t, *_ in found.demoted] == [t for t, _ in down]
    assert found.promoted[0][1] == " cup"
    press(tom, Key.Key_BracketLeft)
    assert w.lens.found.head == 2
    rect, word, _ = w.lens.rows.cells()[0]
    assert w.lens.rows.word_at(rect.center()) == word
    _, out = run_python(w.lens, w, capsys)
    assert str(found.layers[-1][0][0]) in out


def test_pinning_a_word_by_key_and_by_menu(tom, session, demo, capsys):
    w = tom.window
    press(tom, Key.Key_F9)
    (ball,) = demo.tokenizer.encode(" ball")
    (cup,) = demo.tokenizer.encode(" cup")
    for _ in range(13):
        press(tom, Key.Key_Comma)
    assert w.text.view.marked == range(5, 6)
    press(tom, Key.Key_P)
    (pinned,) = w.picture.pins
    expected = ga.pinned(session, ball)
    close(pinned.rows[:, 0], expected.probability, 1e-3)
    assert (pinned.rows[:, 1] == expected.rank).all()
    label, over_layers = w.lens.found.pinned[0]
    decided = ga.decided(demo, session.frame, ball)
    assert label == " ball"
    close(over_layers.probability, decided.probability, 1e-3)
    assert (over_layers.rank == decided.rank).all()
    row = next(i for i, (t, *_) in enumerate(w.picture.next_tokens) if t == cup)
    next_menu = w.next_token.menu(w.picture.next_tokens[row][0])
    next(a for a in next_menu.actions() if a.text() == "Pin this word").trigger()
    tom.settle()
    assert [p.token for p in w.picture.pins] == [ball, cup]
    assert "“␣ball” 63.7 % (rank 1), “␣cup” 24.4 % (rank 2)" in w.pinned.figures.text()
    # words that are watched are known of every token that comes, at once
    tap(tom, Key.Key_Space)
    tom.wait(lambda: w.picture.position > 60)
    press(tom, Key.Key_Space)
    rows = w.picture.pins[0].rows
    assert np.isfinite(rows).all()
    mine = w.worker._runs[0].session
    close(rows[:, 0], ga.pinned(mine.twin(), ball).probability, 1e-3)
    w.pinned.ranks.setChecked(True)
    assert w.pinned.plot._words == "rank"
    close(w.pinned.numbers()["probability"][:, 0], rows[:, 0], 1e-9)
    _, out = run_python(w.pinned, w, capsys)
    assert "array" in out or "[" in out
    # a click into the lines goes there
    w.pinned.plot.click(8 - w.picture.position)
    tom.settle()
    assert w.picture.position == 8
    press(tom, Key.Key_P)  # the mark is on “ball” still: not pinned any more
    assert [p.token for p in w.picture.pins] == [cup]
    click(tom, w.pinned.clear)
    assert w.picture.pins == ()
    w.text.view.mark(range(0))
    press(tom, Key.Key_P)
    assert "to pin it" in w.statusBar().currentMessage()


def test_pinned_words_of_a_branch(tom, demo):
    w = tom.window
    (ball,) = demo.tokenizer.encode(" ball")
    w.pin_token(ball)
    tom.settle()
    w.worker.send(m.Run(6))
    tom.at(24)
    w.goto(18)
    tom.settle()
    w.branch(w.picture.next_tokens[2][0])
    tom.settle()
    tap(tom, Key.Key_Space)
    tom.wait(lambda: w.picture.position > 40)
    press(tom, Key.Key_Space)
    w.worker.send(m.GoToBranch(0))
    tom.settle()
    rows = w.picture.pins[0].rows
    assert len(rows) == 24
    assert np.isfinite(rows).all()
    w.worker.send(m.GoToBranch(1))
    tom.settle()
    mine = w.worker._runs[0].session
    close(w.picture.pins[0].rows[:, 0], ga.pinned(mine.twin(), ball).probability, 1e-3)


def test_the_word_that_came_is_marked_with_its_rank(tom):
    w = tom.window
    assert w.picture.came is None
    for _ in range(3):
        press(tom, Key.Key_Right)
    press(tom, Key.Key_Left)
    came = w.picture.came
    session = w.worker._runs[0].session
    assert came.token == session.path.tokens(20, 21)[0]
    above = int((session.logits > session.logits[came.token]).sum())
    assert came.rank == above + 1
    assert came.probability == pytest.approx(session.path.probabilities(20, 21)[0], rel=1e-4)
    # the line at the bottom is painted in the accent's colour, and is gone at the end
    strip = w.next_token.grab().toImage().copy(8, w.next_token.height() - 16, 60, 12)
    inks = {strip.pixelColor(x, y).name() for x in range(60) for y in range(12)}
    assert w.next_token.theme.accent in inks
    press(tom, Key.Key_End)
    assert w.picture.came is None


def test_sensitivity_with_progress_cancel_and_results_that_stay(tom, session, capsys):
    w = tom.window
    press(tom, Key.Key_F9)
    panel, shares = w.sensitivity, []
    click(tom, panel.begin)
    close(panel.grid.values, ga.sensitivity(session), 1e-2)
    assert panel.note.text().startswith("most: layer 5 head 3, 1.34")
    click(tom, panel.grid, panel.grid.cell_rect(4, 3).center().toPoint())
    assert (w.selection.layer, w.selection.head) == (4, 3)
    choose(tom, panel.how, "noise")
    assert panel.sigma.isVisible()
    panel.sigma.setValue(0.5)
    progressed = panel.progressed
    panel.progressed = lambda p: (shares.append(p.share), progressed(p))
    click(tom, panel.begin)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    expected = ga.sensitivity(session, "noise", sigma=0.5)
    close(panel.grid.values, expected, 2e-2)
    assert panel.results.count() == 2
    assert "given noise σ 0.5, heads · token 18" in panel.results.itemText(0)
    # it belongs to the place where it was asked, and stays when one goes elsewhere
    press(tom, Key.Key_Left)
    close(panel.grid.values, expected, 2e-2)
    panel.results.setCurrentIndex(1)
    close(panel.grid.values, ga.sensitivity(session), 1e-2)
    close(panel.numbers()["KL in nats"], panel.grid.values, 1e-9)
    press(tom, Key.Key_Right)
    _, out = run_python(panel, w, capsys)
    assert "1.3" in out
    press(tom, Key.Key_Home)  # the lines lead to the place where it was asked
    names, out = run_python(panel, w, capsys)
    assert "1.3" in out
    assert names["session"].position == 18
    press(tom, Key.Key_End)
    choose(tom, panel.by, "layer")
    click(tom, panel.begin)
    assert panel.grid.values.shape == (6, 1)


def test_a_study_gets_on_while_the_model_writes(tom):
    w = tom.window
    press(tom, Key.Key_F9)
    choose(tom, w.sensitivity.how, "noise")
    tap(tom, Key.Key_Space)
    tom.wait(lambda: w.picture.position > 40)
    tom.qtbot.mouseClick(w.sensitivity.begin, Qt.MouseButton.LeftButton)
    tom.wait(lambda: w.sensitivity.bar.value() >= 10)
    assert w.running
    press(tom, Key.Key_Space)
    assert w.sensitivity.results.count() == 1


def test_a_study_is_given_up_and_holds_nobody_up(tom):
    w = tom.window
    press(tom, Key.Key_F9)
    panel = w.sensitivity
    choose(tom, panel.how, "noise")
    tom.qtbot.mouseClick(panel.begin, Qt.MouseButton.LeftButton)
    tom.wait(lambda: panel.running is not None and panel.bar.value() > 2)
    assert panel.begin.text() == "Cancel"
    position = w.picture.position
    tom.qtbot.keyClick(w.text.view, Key.Key_Right)  # keys are answered meanwhile
    tom.wait(lambda: w.picture.position == position + 1)
    assert panel.running is not None
    tom.qtbot.mouseClick(panel.begin, Qt.MouseButton.LeftButton)
    tom.wait(lambda: panel.running is None)
    tom.settle()
    assert panel.results.count() == 0
    assert panel.begin.text() == "Measure"
    tom.qtbot.mouseClick(panel.begin, Qt.MouseButton.LeftButton)
    tom.wait(lambda: panel.running is not None)
    w.cancel()
    tom.wait(lambda: panel.running is None)
    tom.settle()
    assert panel.results.count() == 0


def test_a_causal_trace_of_the_marked_word(tom, session, demo, capsys):
    w = tom.window
    press(tom, Key.Key_F9)
    w._bring(w.trace)
    for _ in range(13):
        press(tom, Key.Key_Comma)
    panel = w.trace
    assert (panel.first.value(), panel.last.value()) == (5, 5)
    click(tom, panel.begin)
    found = panel.found
    (ball,) = demo.tokenizer.encode(" ball")
    expected = ga.causal_trace(demo, session.tokens, [5], ball)
    close(found.trace.restored, expected, 1e-3)
    assert found.trace.clean == pytest.approx(0.637, abs=2e-3)
    assert panel.note.text().startswith("“␣ball”: 63.7 % as it is, ")
    layer, token = np.unravel_index(int(expected.argmax()), expected.shape)
    assert layer == 5
    assert f"layer {layer} put right at “" in panel._describe(layer, token)
    close(panel.numbers()["restored probability"], expected, 1e-3)
    names, _ = run_python(panel, w, capsys)
    close(names["restored"], expected, 1e-3)
    panel.first.setValue(40)
    panel.last.setValue(41)
    click(tom, panel.begin)
    assert "token 41 is not before the cursor, at 18" in panel.note.text()
    # by the word's menu
    menu = w.token_menu.menu(2)
    next(a for a in menu.actions() if "causal trace" in a.text()).trigger()
    assert (panel.first.value(), panel.last.value()) == (2, 2)


def test_steering_by_prompts(tom, session, demo, capsys):
    w = tom.window
    press(tom, Key.Key_F9)
    panel = w.steer
    prompts = ["Sue had a blue cup.", "She likes her cup."]
    panel.plus.field.setText(" | ".join(prompts))
    panel.plus.field.editingFinished.emit()
    tom.settle()
    panel.factor.setFocus()
    for _ in range(8):
        tom.qtbot.keyClick(panel.factor, Key.Key_PageUp)
    tom.settle()
    assert panel.amount == pytest.approx(0.8)
    push = ga.mean_memory(demo, prompts)
    state = session.state_at(17)
    state.wkv += np.float32(0.8) * push
    logits = demo.forward(session.tokens[-1:], state)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    found = panel.answer.result
    for token, chance in found.are.items():
        assert chance == pytest.approx(float(p[token]), abs=1e-3)
    labels = {b.name: b.value for b in panel.bars.bars}
    assert labels["␣cup"] > 10 > 0 > labels["␣ball"]
    choose(tom, panel.where, "this layer")
    assert panel.answer.question.layer == 5
    choose(tom, panel.where, "everywhere")
    click(tom, panel.push)
    assert w.picture.comparison.words == "pushed by +0.80 everywhere"
    after = {t: q for t, _, q in w.picture.next_tokens}
    for token, chance in after.items():
        assert chance == pytest.approx(float(p[token]), abs=1e-3)
    run_python(panel, w, capsys)
    assert "ga.mean_memory(model, ['Sue had a blue cup.'" in QGuiApplication.clipboard().text()
    press(tom, Key.Key_Z, Control)
    assert w.picture.next_tokens[0][1] == " ball"
    choose(tom, panel.when, "at every token")
    click(tom, panel.push)
    assert isinstance(w.worker._runs[0].session.edits[-1].what, gv.Steer)
    assert "steered by another memory" in w.branches.list.item(w.branches.list.count() - 1).text()
    w.worker.send(m.Run(3))
    tom.at(21)
    other = gv.Session(demo)
    other.feed(session.tokens[:17])
    other.apply(gv.Steer(push, 0.8))
    for token in w.run.cells.tokens[17:21].tolist():
        other.feed([token])
    close(w.picture.wkv, other.state.wkv, 1e-3)


def test_steering_by_a_branch_and_what_will_not_do(tom, tmp_path, monkeypatch):
    w = tom.window
    press(tom, Key.Key_F9)
    panel = w.steer
    assert "Say what to push towards" in panel.note.text()
    click(tom, panel.push)
    assert not w.picture.can_undo
    choose(tom, panel.plus, "the end of")
    panel.factor.setValue(50)
    tom.settle()
    assert panel.answer.result is not None
    broken = tmp_path / "x.npz"
    broken.write_bytes(b"nothing")
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *a, **k: (str(broken), ""))
    choose(tom, panel.minus, "a snapshot…")
    assert "x.npz" in panel.note.text()
    choose(tom, panel.minus, "nothing")
    assert panel.answer.result is not None


def test_a_chosen_branch_stays_the_one_whatever_becomes_of_others(tom):
    w = tom.window
    press(tom, Key.Key_F9)
    w.worker.send(m.Run(3))
    tom.at(21)
    for rank in (1, 2):
        w.goto(18)
        tom.settle()
        w.branch(w.picture.next_tokens[rank][0])
        tom.settle()
    last = w.steer.plus.itemText(w.steer.plus.findData(2))
    for box in (w.steer.plus, w.edit_dialog.source):
        choose(tom, box, last)
        assert box.source() == 2
    w.worker.send(m.GoToBranch(2))
    tom.settle()
    w.worker.send(m.CloseBranch(0))  # an earlier one: rows move up
    tom.settle()
    for box in (w.steer.plus, w.edit_dialog.source):
        assert (box.currentText(), box.source()) == (last, 1)
    assert w.steer.answer.question.direction.plus == 1


# -- Compare -----------------------------------------------------------------------------------


def test_two_branches_side_by_side(tom, demo, capsys):
    w = tom.window
    w.worker.send(m.Run(12))
    tom.at(30)
    w.goto(18)
    tom.at(18)
    press(tom, Key.Key_2)  # the second likeliest: another branch
    w.worker.send(m.Run(6))
    tom.at(25)
    press(tom, Key.Key_F8)
    panel = w.compare
    choose(tom, panel.partner, "ball")
    mine = w.worker._runs[0].session
    expected = ga.compare(mine.twin(), mine.twin(0))
    c = panel.found.comparison
    assert (c.parted, c.moved) == (expected.parted, expected.moved) == (18, 18)
    close(c.tv, expected.tv, 1e-3)
    close(c.state_distance, expected.state_distance, 1e-3)
    assert panel.note.text().startswith("They part at token 19: “␣cup” here, “␣ball” in the other.")
    other = w.companion.run
    assert "".join(other.cells.texts[18:20]).startswith(" ball")
    assert other.picture.position == 25, "the cursors move together"
    close(panel.grid.values, c.relative[24], 1e-9)
    difference = mine.state.wkv[5, 3] - mine.twin(0).state_at(25).wkv[5, 3]
    close(w.difference.difference(), difference, 1e-3)
    shown = {t: p for t, _, p in other.picture.next_tokens}
    assert w.next_token.marks == shown
    w.goto(20)
    tom.settle()
    assert other.picture.position == 20
    close(panel.grid.values, c.relative[19], 1e-9)
    cell = w.other_text.view.cell_rect(10).center().toPoint()
    click(tom, w.other_text.view.viewport(), cell)
    assert (w.picture.position, other.picture.position) == (11, 11)
    assert not w.difference.difference().any()
    press(tom, Key.Key_End)
    names, _ = run_python(panel, w, capsys)
    close(names["comparison"].tv, c.tv[:25], 5e-3)
    _, out = run_python(w.difference, w, capsys)
    assert "[[" in out
    assert list(panel.numbers()) == ["total variation", "layer 5 head 3"]
    press(tom, Key.Key_Left)
    press(tom, Key.Key_Right)
    assert panel.note.text().startswith("They part at token 19"), "nothing has changed"
    # going on in the other is nothing to this run
    text = tom.text
    came = other.picture.came.token
    w.other_next.branch.emit(next(t for t, *_ in other.picture.next_tokens if t != came))
    tom.settle()
    assert len(other.cells) == 26
    assert tom.text == text
    assert panel.note.text().startswith("They part at token 19"), "what was compared is as it was"
    w.worker.send(m.GoToBranch(0))
    tom.settle()
    assert "press Compare again" in panel.note.text()
    w.worker.send(m.GoToBranch(1))
    tom.settle()
    assert panel.note.text().startswith("They part at token 19")


def test_a_steered_branch_can_be_copied_as_python(tom, capsys):
    w = tom.window
    push = m.Apply(gv.Steer(None, 0.5), "pushed", ("Sue had a blue cup.",))
    w.apply(push)
    tom.settle()
    w.worker.send(m.Run(3))
    tom.at(21)
    w.worker.send(m.GoToBranch(0))
    tom.settle()
    press(tom, Key.Key_F8)
    w.companion.branch(1)
    tom.settle()
    names, _ = run_python(w.compare, w, capsys)
    close(names["comparison"].tv, w.compare.found.comparison.tv[:18], 5e-3)
    names, _ = run_python(w.difference, w, capsys)
    assert "ga.mean_memory(model, ['Sue had a blue cup.'])" in QGuiApplication.clipboard().text()


def test_a_model_that_does_not_open_is_not_compared(tom, tmp_path):
    w = tom.window
    press(tom, Key.Key_F8)
    missing = m.Load(str(tmp_path / "none.pth"))
    w.companion.begin(missing, "Once", gv.Sampler(seed=1), 3)
    tom.settle()
    assert "none.pth" in w.message_bar.text()
    assert w.compare.found is None
    w.companion.begin(None, TOM, gv.Sampler(seed=5), 200)
    tom.wait(lambda: w.companion.run.running)
    w.companion.begin(None, TOM, gv.Sampler(seed=6), 4)  # while the other still writes
    tom.settle()
    assert len(w.companion.run.cells) == 22
    assert len(w.compare.found.comparison.tv) == 18


def test_another_run_of_another_prompt_and_seed(tom, demo):
    w = tom.window
    w.worker.send(m.Run(10))
    tom.at(28)
    press(tom, Key.Key_F8)
    click(tom, w.compare.another)
    dialog = w.companion.dialog
    assert dialog.prompt.toPlainText() == TOM
    assert (dialog.tokens.value(), dialog.seed.value()) == (10, 2)
    dialog.prompt.setPlainText(TOM.replace("ball", "car"))
    dialog.temperature.setValue(0.0)
    dialog._accept()
    tom.wait(lambda: w.compare.found is not None)
    tom.settle()
    other = gv.Session(demo, gv.Sampler(seed=2, temperature=0.0, top_p=0.85))
    other.feed(TOM.replace("ball", "car"))
    list(other.run(10))
    assert w.companion.run.cells.tokens.tolist() == other.tokens
    assert w.compare.found.comparison.parted == 5
    assert "“␣ball” here, “␣car” in the other" in w.compare.note.text()
    assert w.compare.found.comparison.tv[17] > 0.3


def test_another_run_of_other_numbers_and_one_that_does_not_fit(tom, tmp_path, small):
    w = tom.window
    press(tom, Key.Key_F8)
    w.companion.ask()
    dialog = w.companion.dialog
    dialog.tokens.setValue(0)
    dialog.dtype.setCurrentText("int8")
    dialog._accept()
    tom.wait(lambda: w.compare.found is not None)
    c = w.compare.found.comparison
    assert c.parted is None
    assert 0 < c.relative.max() < 0.5
    assert "the memories differ from token 1 on" in w.compare.note.text()
    w.companion.begin(m.Load(str(small.source)), "0 1 2", gv.Sampler(seed=1), 0)
    tom.wait(lambda: "compared where layers, heads and vocabulary are as many" in
             w.compare.note.text())  # fmt: skip
    assert w.difference.difference() is None
    # and back to a branch of this run: its own model again
    w.branch(w.picture.next_tokens[3][0])
    tom.settle()
    w.companion.branch(0)
    tom.settle()
    assert w.compare.found.comparison.parted is None or w.compare.found.comparison.tv.max() > 0


def test_compare_with_a_snapshot(tom, tmp_path):
    w = tom.window
    path = tmp_path / "then.npz"
    w.worker.send(m.Export(path))
    w.token_menu.forget(5)
    tom.settle()
    press(tom, Key.Key_F8)
    w.companion.resume(path)
    tom.settle()
    assert w.compare.found.comparison.parted is None
    assert w.compare.found.comparison.moved == 16
    assert "The same tokens as far as both go; the memories differ from token 17 on" in (
        w.compare.note.text()
    )
    assert w.compare.found.comparison.tv[-1] > 0.3


# -- stops -------------------------------------------------------------------------------------


def test_stopping_where_something_is_so(tom, demo):
    w = tom.window
    press(tom, Key.Key_B, Control)
    assert w.focusWidget() is w.transport.stop
    tom.qtbot.keyClicks(w.transport.stop, "entropy < 1.5")
    tom.qtbot.keyClick(w.transport.stop, Key.Key_Return)
    tom.settle()
    mine = w.worker._runs[0].session
    expected = list(mine.twin().find("entropy < 1.5"))
    assert w.transport.slider.marks == expected
    assert f"“entropy < 1.5” holds behind {len(expected)} token" in w.transport.slider.toolTip()
    tap(tom, Key.Key_Space)
    tom.wait(lambda: not w.running and w.picture.position > 18)
    tom.settle()
    at = w.picture.position
    assert list(mine.twin().find("entropy < 1.5", 18)) == [at]
    assert w.transport.slider.marks == [*expected, at]
    assert f"stopped at token {at}: entropy < 1.5" in w.statusBar().currentMessage()
    marked = w.transport.slider.grab().toImage()
    x = w.transport.slider.mark_x(at)
    ink = marked.pixelColor(x, marked.height() - 3).name()
    assert ink == w.transport.theme.accent
    # a replay stops there as well, and keys go from one to the next
    w.goto(10)
    tom.settle()
    tap(tom, Key.Key_Space)
    tom.wait(lambda: not w.running)
    tom.settle()
    later = [p for p in [*expected, at] if p > 10]
    assert w.picture.position == later[0]
    press(tom, Key.Key_End)
    press(tom, Key.Key_Left, Control)
    assert w.picture.position == [p for p in w.transport.slider.marks if p < at][-1]
    press(tom, Key.Key_Right, Control)
    assert w.picture.position == at
    press(tom, Key.Key_Right, Control)
    assert "nowhere after this token" in w.statusBar().currentMessage()
    w.transport.stop.clear()
    tom.settle()
    assert w.transport.slider.marks == []
    press(tom, Key.Key_Right, Control)
    assert "no stop is set" in w.statusBar().currentMessage()


def test_stops_on_what_nobody_watches(tom):
    w = tom.window
    for words in ("gate[0,3] > 1000", "rms[0,1] > 1000"):
        w.stop_at(words)
        tap(tom, Key.Key_Space)
        start = w.picture.position
        tom.wait(lambda n=start: w.picture.position > n + 20)
        press(tom, Key.Key_Space)
        assert not w.message_bar.isVisible()
    w.stop_at("rms[0,1] > 0.5")
    tom.settle()
    marks = w.transport.slider.marks
    assert marks == list(w.worker._runs[0].session.twin().find("rms[0,1] > 0.5"))
    w.stop_at("rms[0,1] > 0.5")  # once more: they stay
    tom.settle()
    assert w.transport.slider.marks == marks
    w.stop_at("position == 5")
    w.previous_stop()  # before anybody has searched
    tom.settle()
    assert w.picture.position == 5


def test_a_memory_that_broke_holds_nobody_up(tom):
    w = tom.window
    press(tom, Key.Key_F6)
    with np.errstate(all="ignore"):
        for _ in range(2):
            w.apply(m.Apply(gv.Scale(3e38), "scaled"))
            tom.settle()
        press(tom, Key.Key_F7)
        assert "NaN or infinite" in w.health.warning.text()
        events = len(tom.events)
        tom.qtbot.wait(300)
        assert len(tom.events) - events < 5
        press(tom, Key.Key_Z, Control)
        press(tom, Key.Key_Z, Control)
    assert w.picture.next_tokens[0][1] == " ball"
    assert w.health.warning.isHidden()


def test_stops_on_text_tokens_and_heads(tom):
    w = tom.window

    def marks(words):
        w.transport.stop.setText(words)
        w.transport.stop.returnPressed.emit()
        tom.settle()
        return w.transport.slider.marks

    assert marks('"red ball"') == [6]
    assert marks('token == " red"') == [5, 18]
    mine = w.worker._runs[0].session
    found = marks("max(removed_norm[5]) > 5 and position > 3")
    assert found == list(mine.twin().find("max(removed_norm[5]) > 5 and position > 3"))
    before = w.picture
    assert marks("removed_norm[9,0] > 1") == found, "the last one that could be read stays"
    assert "there is no layer 9; the model has 0 to 5" in w.message_bar.text()
    assert marks("import os") == found
    assert w.picture.position == before.position
    # another branch has places of its own
    marks('token == " cup" and position > 12')
    assert w.transport.slider.marks == []
    press(tom, Key.Key_2)
    assert w.transport.slider.marks == [19]


# -- perspectives, commands, help --------------------------------------------------------------


def test_a_layout_of_ones_own(tom, monkeypatch):
    w = tom.window
    monkeypatch.setattr(QInputDialog, "getText", lambda *a, **k: ("mine", True))
    w.docks["Health"].show()
    w.docks["Decay"].close()
    w.actions_by_name["save_layout"].trigger()
    assert w.perspective == "mine"
    press(tom, Key.Key_F8)
    assert not w.docks["Health"].isVisible()
    w.fill_layouts()
    names = [a.text() for a in w.layouts_menu.actions()]
    assert names[0] == "mine"
    w.layouts_menu.actions()[0].trigger()
    tom.settle()
    assert w.perspective == "mine"
    assert w.docks["Health"].isVisible()
    assert not w.docks["Decay"].isVisible()
    monkeypatch.setattr(QInputDialog, "getText", lambda *a, **k: ("Watch", True))
    w.save_layout()
    assert "always there" in w.statusBar().currentMessage()
    w.arrangement.remove("mine")
    assert w.perspective == "watch"
    assert w.arrangement.own == []


def test_the_command_palette(tom):
    w = tom.window
    press(tom, Key.Key_P, Control | Shift)
    palette = w.findChild(Palette)
    tom.qtbot.keyClicks(palette.field, "logit lens")
    assert palette.list.item(0).text() == "Show: Logit lens"
    tom.qtbot.keyClick(palette.field, Key.Key_Return)
    tom.settle()
    assert w.lens.isVisible()
    w.command_palette()
    palette = w.findChildren(Palette)[-1]
    tom.qtbot.keyClicks(palette.field, "next head")
    assert "State: Next head" in palette.list.item(0).text()
    first = palette.list.currentRow()
    tom.qtbot.keyClick(palette.field, Key.Key_Down)
    assert palette.list.currentRow() == first + 1
    tom.qtbot.keyClick(palette.field, Key.Key_Up)
    w.selection.select(0, 0)
    tom.qtbot.keyClick(palette.field, Key.Key_Return)
    assert (w.selection.layer, w.selection.head) == (0, 1)
    assert score("nxhd", "Next head") is not None
    assert score("zz", "Next head") is None
    assert score("head", "Next head") < score("hd", "Next head")


def test_every_dock_says_what_it_shows(tom):
    w = tom.window
    for panel in w.panels:
        if panel is not w.transport:
            assert len(panel.help) > 50, panel.title
    press(tom, Key.Key_F7)
    title = w.docks["Health"].titleBarWidget()
    tom.qtbot.mouseClick(title.ask, Qt.MouseButton.LeftButton)
    card = w.findChild(QFrame, "help card")
    words = "\n".join(c.text() for c in card.children() if hasattr(c, "text"))
    assert w.health.help in words
    assert w.health.formula in words
    assert card.height() >= card.layout().heightForWidth(card.width())
    tom.qtbot.keyClick(card, Key.Key_Escape)
    tom.wait(lambda: w.findChild(QFrame, "help card") is None)
    w.spectrum.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    w.spectrum.setFocus()
    press(tom, Key.Key_F1, Shift)
    w.show_help()
    page = w.findChild(HelpPage).page.toPlainText()
    assert w.attention.formula in page


def test_numbers_go_to_the_clipboard_and_to_files(tom, tmp_path, monkeypatch):
    w = tom.window
    press(tom, Key.Key_F7)
    w.copy_numbers(w.spectrum)
    lines = QGuiApplication.clipboard().text().splitlines()
    assert lines[0] == "eigenvalues"
    close([float(x) for x in lines[1:]], w.spectrum.values, 1e-6)
    path = tmp_path / "map.csv"
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", lambda *a, **k: (str(path), "Table (*.csv)")
    )
    w._save_numbers(w.attention)
    table = np.loadtxt(path, delimiter=",", skiprows=1)
    close(table, w.attention.found.weights, 1e-6)
    path = tmp_path / "map.npz"
    w._save_numbers(w.attention)
    close(np.load(path)["attention"], w.attention.found.weights, 1e-9)
    w.copy_numbers(w.sensitivity)
    assert "no numbers to copy yet" in w.statusBar().currentMessage()


def test_menus_of_words_in_the_lens(tom):
    w = tom.window
    press(tom, Key.Key_F9)
    rect, word, _ = w.lens.rows.cells()[0]
    at = rect.center().toPoint()
    assert w.lens.rows.word_at(QPointF(at)) == word
    w.lens.pinned.emit(word[0])
    tom.settle()
    assert [p.token for p in w.picture.pins] == [word[0]]
    event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, QPoint(-5, -5), QPoint(0, 0))
    w.lens.rows.contextMenuEvent(event)  # beside all words: no menu


def test_every_panel_of_a_run_gives_its_python(tom, capsys):
    w = tom.window
    press(tom, Key.Key_F8)
    w.branch(w.picture.next_tokens[1][0])
    tom.settle()
    w.companion.begin(None, TOM, gv.Sampler(seed=4), 2)
    tom.settle()
    w.steer.plus.field.setText("Once.")
    w.pin_token(w.picture.next_tokens[0][0])
    tom.settle()
    without = [p.title for p in w.panels if p is not w.transport and p.python() is None]
    assert without == ["Why"], "it asks nothing here"
    names, out = run_python(w.other_text, w, capsys)
    assert names["session"].tokens == w.companion.run.cells.tokens[:19].tolist()
    _, out = run_python(w.other_next, w, capsys)
    assert str(w.companion.run.picture.next_tokens[0][0]) in out
    _, out = run_python(w.model_panel, w, capsys)
    assert "stories-7M" in out

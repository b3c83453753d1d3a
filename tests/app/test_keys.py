"""Every key counts, in order, whatever the speed; and controls keep the keys that they need."""

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QContextMenuEvent, QMouseEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QInputDialog,
    QLineEdit,
    QRadioButton,
    QSlider,
    QToolButton,
)

import goose_viz as gv
from goose_app import messages as m

KEYS = {
    "End": Qt.Key.Key_End, "←": Qt.Key.Key_Left, "→": Qt.Key.Key_Right, "Home": Qt.Key.Key_Home,
    "Space": Qt.Key.Key_Space,
}  # fmt: skip


_NO_BUTTONS = (
    Qt.MouseButton.NoButton, Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier,
)  # fmt: skip


@pytest.fixture
def written(driver):
    """A window behind a prompt and thirty written tokens."""
    driver.write(30)
    return driver


def press(driver, *names):
    """Press keys one right after the other: nothing is answered in between."""
    for name in names:
        driver.qtbot.keyClick(driver.window, KEYS[name])


def test_keys_that_come_faster_than_they_are_answered_all_count(written):
    w, end = written.window, written.window.picture.recorded
    press(written, "End", *("←", "←", "→") * 8)
    written.at(end - 8)
    press(written, *("→",) * 11)  # three of them write
    written.at(end + 3)
    assert w.picture.recorded == len(w.run.cells) == end + 3
    press(written, "Home", "→", "→", "→", "←")
    written.at(2)
    press(written, "←", "←", "←", "→")
    written.at(1)


def test_moves_that_wait_are_made_at_once(written, monkeypatch):
    session, gone = written.window.worker._runs[0].session, []
    goto = session.goto
    monkeypatch.setattr(session, "goto", lambda *a: gone.append(a[0]) or goto(*a))
    end = session.position
    written.window.worker.hold()
    press(written, *("←",) * 12)
    written.at(end - 12)
    assert len(gone) <= 3


def test_space_twice_at_once_stops_again(written):
    w = written.window
    press(written, "Space", "Space")
    written.settle()
    assert not w.running


def test_an_edit_can_be_undone_before_a_picture_tells_of_it(written):
    w = written.window
    before = w.picture.next_tokens
    w.token_menu.forget(3)
    w.actions_by_name["undo"].trigger()  # it is greyed when there is nothing to undo
    w.actions_by_name["redo"].trigger()
    w.actions_by_name["undo"].trigger()
    written.settle()
    assert w.picture.next_tokens == before
    assert not w.actions_by_name["undo"].isEnabled()
    assert w.actions_by_name["redo"].isEnabled()


def test_space_says_that_it_replays_and_shift_space_writes_on_differently(written):
    w, end = written.window, written.window.picture.recorded
    button = w.actions_by_name["run_or_pause"]
    assert button.text() == "▶ Run"
    w.goto(end - 20)
    written.at(end - 20)
    assert button.text() == "▶ Replay"
    old = list(w.run.cells.tokens)
    w.text.temperature.setValue(0.0)
    assert "Shift+Space writes on differently" in w.statusBar().currentMessage()
    w.actions_by_name["diverge"].trigger()
    written.wait(lambda: w.picture.position > end - 10)
    w.run_or_pause()
    written.settle()
    assert w.picture.branches == 2
    new = list(w.run.cells.tokens)
    assert new[: end - 20] == old[: end - 20]
    assert new[end - 20 : end - 10] != old[end - 20 : end - 10]
    assert w.picture.rate == 0
    session = w.worker._runs[0].session
    assert all(session.path.generated(end - 20, end - 10))
    first = session.branches[0]
    assert first.tokens[-20:].tolist() == old[-20:]


def test_the_same_sampling_takes_another_seed_to_write_differently(written):
    w, end = written.window, written.window.picture.recorded
    old, seed = list(w.run.cells.tokens), w.text.seed.value()
    w.goto(end - 20)
    written.at(end - 20)
    w.actions_by_name["diverge"].trigger()
    written.wait(lambda: w.picture.position > end - 5)
    w.worker.send(m.Pause())
    written.wait(lambda: not w.running)
    assert w.text.seed.value() == seed + 1
    assert w.run.cells.tokens[end - 20 : end - 5].tolist() != old[end - 20 : end - 5]


def test_controls_keep_the_keys_that_they_need(written, qtbot):
    w, end = written.window, written.window.picture.position
    sort, colouring, seed = w.decay.sort, w.text.colouring, w.text.seed
    sort.setFocus()
    qtbot.keyClick(sort, Qt.Key.Key_Space)
    assert sort.isChecked()
    colouring.setFocus()
    qtbot.keyClick(colouring, Qt.Key.Key_Down)
    assert colouring.currentIndex() == 1
    qtbot.keyClick(colouring, Qt.Key.Key_Up)
    seed.setFocus()
    value = seed.value()
    qtbot.keyClick(seed, Qt.Key.Key_Up)
    assert seed.value() == value + 1
    w.transport.slider.setFocus()
    qtbot.keyClick(w.transport.slider, Qt.Key.Key_Home)
    written.at(0)
    layer = w.selection.layer
    w.text.view.setFocus()
    qtbot.keyClick(w.text.view, Qt.Key.Key_End)
    qtbot.keyClick(w.text.view, Qt.Key.Key_Up)
    written.at(end)
    assert w.selection.layer == layer - 1
    sort.setFocus()
    qtbot.keyClick(sort, Qt.Key.Key_Left)  # a box to tick needs no arrows: the run does
    written.at(end - 1)
    assert not w.running


def test_a_click_leaves_the_keys_to_the_run(written, qtbot):
    w = written.window
    w.text.view.setFocus()
    for control in (w.decay.sort, w.state.lock):
        qtbot.mouseClick(control, Qt.MouseButton.LeftButton, pos=control.rect().center() / 4)
        assert w.focusWidget() is w.text.view
    for kind in (QCheckBox, QComboBox, QSlider, QToolButton, QRadioButton):
        controls = w.transport.findChildren(kind) + w.state.findChildren(kind)
        for control in (c for c in controls if not isinstance(c.parent(), QLineEdit)):
            assert control.focusPolicy() == Qt.FocusPolicy.TabFocus, "Tab comes here all the same"


def test_next_tokens_by_keys_alone(written, qtbot):
    w, end = written.window, written.window.picture.position
    third = w.picture.next_tokens[2][0]
    qtbot.keyClick(w, Qt.Key.Key_3)
    written.settle()
    assert (w.picture.position, w.run.cells.tokens[-1]) == (end + 1, third)
    for _ in range(4):  # faster than the window: the likeliest, four times
        qtbot.keyClick(w, Qt.Key.Key_1)
    written.settle()
    assert w.picture.position == end + 5
    session = w.worker._runs[0].session
    for i in range(end + 1, end + 5):
        assert session.path.top(i)[0][0] == session.tokens[i]
    qtbot.keyClick(w, Qt.Key.Key_N)
    assert w.focusWidget() is w.next_token
    qtbot.keyClick(w.next_token, Qt.Key.Key_Down)
    second = w.picture.next_tokens[1][0]
    qtbot.keyClick(w.next_token, Qt.Key.Key_Return)
    written.settle()
    assert w.run.cells.tokens[-1] == second
    w.text.seed.setFocus()
    w.text.seed.selectAll()
    qtbot.keyClick(w.text.seed, Qt.Key.Key_7)  # a number is typed where numbers are
    written.settle()
    assert w.text.seed.value() == 7
    assert w.picture.position == end + 6


def test_words_by_keys_alone(written, qtbot):
    w = written.window
    view = w.text.view
    for _ in range(3):
        qtbot.keyClick(view, Qt.Key.Key_Comma)
    qtbot.keyClick(view, Qt.Key.Key_Period)
    index = w.picture.position - 2
    assert view.marked == range(index, index + 1)
    assert view.target() == index
    asked = []
    view.menu_wanted.disconnect()
    view.menu_wanted.connect(lambda i, at: asked.append(i))
    view.contextMenuEvent(
        QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(0, 0), QPoint(0, 0))
    )
    assert asked == [index]
    qtbot.keyClick(view, Qt.Key.Key_X)
    written.settle()
    assert isinstance(w.picture.edits[-1].edit, gv.Forget)
    assert w.picture.edits[-1].edit.token == index


def test_heads_have_keys_that_need_no_altgr(driver, qtbot):
    w = driver.window
    w.selection.select(2, 1)
    qtbot.keyClick(w, Qt.Key.Key_Right, Qt.KeyboardModifier.ShiftModifier)
    assert (w.selection.layer, w.selection.head) == (2, 2)
    qtbot.keyClick(w, Qt.Key.Key_Left, Qt.KeyboardModifier.ShiftModifier)
    assert (w.selection.layer, w.selection.head) == (2, 1)


def test_menus_have_letters_and_no_two_the_same(driver):
    w = driver.window

    def letters(actions):
        texts = [a.text().replace("&&", "") for a in actions if not a.isSeparator()]
        return [t[t.index("&") + 1].lower() if "&" in t else "" for t in texts]

    bar = letters(w.menuBar().actions())
    assert "" not in bar
    assert len(set(bar)) == len(bar)
    for action in w.menuBar().actions():
        found = [x for x in letters(action.menu().actions()) if x]
        assert len(set(found)) == len(found) >= 2
    assert [a.text().replace("&", "") for a in w.menuBar().actions()[0].menu().actions()][
        -1
    ] == "Quit"
    assert w.actions_by_name["run_or_pause"].text() == "▶ Run", "where it changes it has none"


def test_the_newer_of_mark_and_mouse_is_meant(written, monkeypatch):
    view = written.window.text.view
    under = {"mouse": 7}
    monkeypatch.setattr(view, "hovered_index", lambda: under["mouse"])
    assert view.target() == 7
    view.mark(range(3, 4))
    assert view.target() == 3, "a mouse that rests says nothing"
    written.qtbot.mouseMove(view.viewport(), QPoint(30, 10))
    view.mouseMoveEvent(
        QMouseEvent(QMouseEvent.Type.MouseMove, QPointF(9, 9), QPointF(9, 9), *_NO_BUTTONS)
    )
    assert view.target() == 7
    under["mouse"] = None
    assert view.target() == 3
    written.qtbot.keyClick(written.window, Qt.Key.Key_Escape)
    assert view.target() is None


def test_return_and_arrows_count_however_fast(written, qtbot):
    w, end = written.window, written.window.picture.position
    w.focus_next_token()
    for _ in range(3):
        qtbot.keyClick(w.next_token, Qt.Key.Key_Return)
    written.settle()
    assert w.picture.position == end + 3
    slider = w.transport.slider
    slider.setFocus()
    qtbot.keyClick(slider, Qt.Key.Key_Home)
    for _ in range(6):
        qtbot.keyClick(slider, Qt.Key.Key_Right)
        qtbot.wait(3)  # pictures of before come in between
    written.settle()
    assert w.picture.position == 6
    w.text.view.setFocus()
    qtbot.keyClick(w.text.view, Qt.Key.Key_End)
    qtbot.keyClick(w.text.view, Qt.Key.Key_Left)
    qtbot.keyClick(w.text.view, Qt.Key.Key_Space, Qt.KeyboardModifier.ShiftModifier)
    written.wait(lambda: w.running and w.picture.position > end + 5)
    w.worker.send(m.Pause())
    written.settle()
    assert w.worker._runs[0].session.path.segments[-1].fork == end + 2


def test_sampling_that_differs_in_its_end_only_would_write_the_same(written):
    w, end, seed = written.window, written.window.picture.position, written.window.text.seed.value()
    w.actions_by_name["stop_at_end"].trigger()
    w.goto(end - 20)
    w.diverge()
    written.wait(lambda: w.running)
    w.worker.send(m.Pause())
    written.settle()
    assert w.text.seed.value() == seed + 1


def test_branches_by_keys(written, qtbot, monkeypatch):
    w, end = written.window, written.window.picture.position
    w.why()
    w.goto(end - 5)
    w.choose(3)
    written.settle()
    rows = w.branches.list
    assert rows.count() == 2
    rows.setFocus()
    rows.setCurrentRow(0)
    qtbot.keyClick(rows, Qt.Key.Key_Space)
    written.settle()
    assert w.picture.position == end
    monkeypatch.setattr(QInputDialog, "getText", lambda *a: ("mine", True))
    rows.setCurrentRow(1)
    qtbot.keyClick(rows, Qt.Key.Key_F2)
    written.settle()
    qtbot.waitUntil(lambda: rows.item(1).text().startswith("mine:"))
    rows.setCurrentRow(1)
    qtbot.keyClick(rows, Qt.Key.Key_Delete)
    written.settle()
    qtbot.waitUntil(lambda: rows.count() == 1)


def test_asking_why_while_it_writes_stays_there(written):
    w = written.window
    w.run_or_pause()
    written.wait(lambda: w.running and w.picture.position > 60)
    at, token = w.picture.position, w.picture.next_tokens[1][0]
    w.why_of(token)
    written.settle()
    assert w.picture.position == at
    written.wait(lambda: w.picture.why is not None and not w.picture.stale)
    assert w.picture.why.target == token


def test_what_does_not_work_does_not_stop_the_writing(written, tmp_path):
    w = written.window
    w.run_or_pause()
    written.wait(lambda: w.running)
    w.worker.send(m.Export(tmp_path / "nowhere" / "x.npz"))
    written.wait(w.message_bar.isVisible)
    assert w.running
    w.run_or_pause()
    written.settle()

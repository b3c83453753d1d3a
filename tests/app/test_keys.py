"""Every key counts, in order, whatever the speed; and controls keep the keys that they need."""

import pytest
from PySide6.QtCore import Qt

from goose_app import messages as m

KEYS = {
    "End": Qt.Key.Key_End, "←": Qt.Key.Key_Left, "→": Qt.Key.Key_Right, "Home": Qt.Key.Key_Home,
    "Space": Qt.Key.Key_Space,
}  # fmt: skip


@pytest.fixture
def written(driver):
    """A window behind a prompt and thirty written tokens."""
    w = driver.window
    stop = w.picture.position + 30
    w.worker.send(m.Run(30))
    driver.at(stop)
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
    assert not w.actions_by_name["diverge"].isEnabled()
    w.goto(end - 20)
    written.at(end - 20)
    assert button.text() == "▶ Replay"
    old = list(w.run.cells.tokens)
    w.text.temperature.setValue(0.0)
    assert "Shift+Space writes on differently" in w.statusBar().currentMessage()
    w.actions_by_name["diverge"].trigger()
    written.wait(lambda: w.picture.position > end - 10)
    w.run_or_pause()
    written.wait(lambda: not w.running and w.picture.branches == 2)
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

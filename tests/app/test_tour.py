"""The five steps of the tour: each does what it says, to the figures that it names."""

import pytest
from PySide6.QtCore import Qt

from goose_app.tour import STEPS


@pytest.fixture
def toured(driver):
    w = driver.window
    w.show_tour()
    driver.wait(lambda: w.tour.step == 0)
    return driver


def press_next(driver):
    driver.qtbot.mouseClick(driver.window.tour.onward, Qt.MouseButton.LeftButton)


def test_five_steps_end_in_forget_and_replace(toured):
    w = toured.window
    frame = w.tour._frame
    assert w.tour.title.text() == "A memory of fixed size"
    toured.wait(lambda: w.picture.position > 60 and not w.running)
    assert frame.geometry() == w.docks["State"].geometry()
    press_next(toured)
    toured.at(30)
    assert frame.geometry() == w.docks["Text"].geometry()
    press_next(toured)
    toured.wait(lambda: w.picture.why is not None and w.picture.position == 18)
    toured.wait(lambda: not w.picture.stale)
    assert w.picture.why.sentence.startswith("“ ball” (63.7 %) leads")
    assert "12 tokens ago" in w.picture.why.sentence
    press_next(toured)
    toured.wait(lambda: w.picture.comparison is not None)
    first, second = w.picture.next_tokens[:2]
    assert (first[1], second[1]) == (" cup", " ball")
    assert second[2] == pytest.approx(0.031, abs=0.005)
    press_next(toured)
    toured.wait(lambda: bool(w.picture.comparison and w.picture.comparison.truth))
    assert w.picture.next_tokens[0][1] == w.picture.comparison.truth[0][1] == " car"
    assert w.picture.comparison.truth[0][2] == pytest.approx(0.716, abs=0.01)
    assert w.next_token.row_rect(0).width() < w.next_token.width() / 2.9, "three columns"
    assert w.tour.onward.text() == "Done"
    press_next(toured)
    assert not w.tour.isVisible()
    assert not frame.isVisible()


def test_the_card_never_covers_what_it_speaks_of(toured):
    w = toured.window
    for size in ((1600, 1000), (1280, 800)):
        w.resize(*size)
        for i, step in enumerate(STEPS):
            w.tour.step = i - 1
            w.tour.go_on()
            toured.qtbot.wait(30)
            assert not w.tour.geometry().intersects(w.docks[step.dock].geometry()), (size, i)
            assert w.rect().contains(w.tour.geometry())
    toured.wait(lambda: not w.running)

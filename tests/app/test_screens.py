"""The window on screens of any size: everything can be reached, nothing lies over anything."""

from itertools import combinations, pairwise

import pytest
from PySide6.QtCore import QPoint, QSize
from PySide6.QtGui import QHelpEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QLabel,
    QScrollArea,
    QToolTip,
)

from goose_app import messages as m
from goose_app.heatmap import _apart
from goose_app.perspectives import PERSPECTIVES, SMALL
from goose_app.readout import Readout
from goose_app.room import fitting
from goose_app.tour import STEPS
from goose_app.window import Window

SIZES = [(800, 600), (1280, 800), (1366, 720), (1600, 1000), (2560, 1440), (640, 400)]


def test_the_first_window_fits_the_screen(qtbot):
    window = Window(m.Load(None), "Once", "dark")
    qtbot.addWidget(window)
    free = window.screen().availableSize()
    assert free.width() <= 1600, "the screen of these tests is small"
    window.show()
    assert window.frameGeometry().width() <= free.width()
    assert window.frameGeometry().height() <= free.height()
    window.close()
    assert fitting(QSize(1600, 1000), QSize(1366, 728)) == QSize(1350, 680)
    assert fitting(QSize(1600, 1000), QSize(2560, 1440)) == QSize(1600, 1000)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("perspective", list(PERSPECTIVES))
def test_nothing_lies_over_anything_and_all_can_be_reached(driver, qtbot, size, perspective):
    w = driver.window
    w._arrange(perspective)
    w.resize(*size)
    small = size[0] < 1150 or size[1] < 660
    qtbot.waitUntil(lambda: w.arrangement.small == small)
    driver.settle()
    qtbot.wait(100)
    assert (w.width(), w.height()) == size
    shown = (SMALL if small else PERSPECTIVES)[perspective].titles()
    assert {t for t, d in w.docks.items() if d.isVisibleTo(w) or w.tabifiedDockWidgets(d)} >= shown
    seen = 0
    for panel in w.panels:
        if panel.isVisible() and not panel.visibleRegion().isEmpty():
            children = [c for c in panel.children() if c.isWidgetType() and c.isVisible()]
            for a, b in combinations(children, 2):
                assert not a.geometry().intersects(b.geometry()), (panel.title, a, b)
            for c in children:
                assert panel.rect().contains(c.geometry()), (panel.title, c)
                if isinstance(c, QAbstractButton | QComboBox | QLabel):
                    assert c.width() >= c.minimumSizeHint().width(), (panel.title, c)
            seen += 1
    assert seen >= 4
    for title in shown - {"Transport"}:  # what has less room than it needs scrolls
        area = w.docks[title].widget()
        assert isinstance(area, QScrollArea)
        if area.isVisible() and area.viewport().width() < area.widget().minimumSizeHint().width():
            assert area.horizontalScrollBar().maximum() > 0


def test_a_window_that_changes_its_size_gets_its_arrangement_back(driver, qtbot):
    w = driver.window
    w.docks["Model"].close()
    w.resize(800, 600)
    qtbot.waitUntil(lambda: w.arrangement.small)
    assert len(w.tabifiedDockWidgets(w.docks["State"])) == 3
    w.resize(1600, 1000)
    qtbot.waitUntil(lambda: not w.arrangement.small)
    assert w.tabifiedDockWidgets(w.docks["State"]) == []
    assert w.docks["Model"].isHidden()
    w.reset_docks()
    assert not w.docks["Model"].isHidden()


def test_columns_of_next_tokens_scroll_instead_of_lying_over_each_other(driver, qtbot):
    w = driver.window
    w.why()
    w.resize(800, 600)
    qtbot.waitUntil(lambda: w.arrangement.small)
    w.token_menu.put(3, " cat")
    driver.settle()
    w.worker.send(m.ReadTruly())
    driver.wait(lambda: bool(w.picture.comparison and w.picture.comparison.truth))
    rects = [w.next_token.row_rect(0, column) for column in range(3)]
    assert all(r.width() >= 160 for r in rects)
    assert not any(a.adjusted(1, 1, -1, -1).intersects(b) for a, b in combinations(rects, 2))
    area = w.docks["Next token"].widget()
    assert area.horizontalScrollBar().maximum() > 100
    w.undo()
    driver.settle()
    qtbot.waitUntil(lambda: area.horizontalScrollBar().maximum() == 0)


def test_the_tour_fits_a_small_window(driver, qtbot):
    w = driver.window
    w.resize(800, 600)
    qtbot.waitUntil(lambda: w.arrangement.small)
    w.tour.begin()
    for step in STEPS:
        driver.wait(lambda: not w.worker.said and w.worker.answered)
        qtbot.wait(200)
        w.tour.place()
        assert w.rect().contains(w.tour.geometry())
        assert w.tour.width() >= w.tour.title.sizeHint().width()
        assert not w.docks[step.dock].visibleRegion().isEmpty(), "what it speaks of is seen"
        w.tour.go_on()


def test_ticks_keep_apart():
    ticks = [(i + 0.5, str(i)) for i in range(32)]
    kept = _apart(ticks, 9.0, lambda words: 8.0 * len(words))
    places = [9.0 * at for at, _ in kept]
    assert kept[0] == ticks[0]
    assert all(b - a >= 16 for a, b in pairwise(places))
    assert _apart(ticks[:1], 9.0, len) == ticks[:1]


def test_what_is_cut_short_is_told_whole(qtbot, monkeypatch):
    told = []
    monkeypatch.setattr(QToolTip, "showText", lambda at, words: told.append(words))
    readout = Readout("")
    qtbot.addWidget(readout)
    readout.setText("a long line <b> of figures")
    readout.resize(40, 20)
    ask = QHelpEvent(QHelpEvent.Type.ToolTip, QPoint(5, 5), QPoint(5, 5))
    QApplication.sendEvent(readout, ask)
    readout.resize(600, 20)
    QApplication.sendEvent(readout, ask)
    assert told == ["<span>a long line &lt;b&gt; of figures</span>", ""]

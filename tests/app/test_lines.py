"""Lines over tokens by the mouse: zoomed, dragged, asked, followed; maps and slider by clicks."""

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from goose_app.lines import Lines
from goose_app.token_plot import AFTER, BEFORE, thinned

NONE = Qt.KeyboardModifier.NoModifier
LEFT = Qt.MouseButton.LeftButton


@pytest.fixture
def long(driver):
    """A window on three hundred written tokens."""
    driver.write(300)
    return driver


def place(plot, x):
    """Where a token of the plot lies on its viewport."""
    y = sum(plot.box.viewRange()[1]) / 2
    at = plot.plot.mapFromScene(plot.box.mapViewToScene(QPointF(x, y)))
    return QPoint(round(at.x()), round(at.y()))


def wheel(plot, x, notches):
    viewport, at = plot.plot.viewport(), place(plot, x)
    event = QWheelEvent(
        QPointF(at), QPointF(viewport.mapToGlobal(at)), QPoint(), QPoint(0, 120 * notches),
        Qt.MouseButton.NoButton, NONE, Qt.ScrollPhase.NoScrollPhase, False,
    )  # fmt: skip
    QApplication.sendEvent(viewport, event)


def double_click(plot, at):
    """As a hand does it: over there, press, release, press, release."""
    viewport = plot.plot.viewport()
    QTest.mouseMove(viewport, at - QPoint(2, 2))
    QTest.qWait(50)
    QTest.mouseMove(viewport, at)
    QTest.qWait(50)
    QTest.mouseClick(viewport, LEFT, NONE, at)
    QTest.mouseDClick(viewport, LEFT, NONE, at)
    QTest.mouseRelease(viewport, LEFT, NONE, at)


def test_the_wheel_zooms_around_the_mouse_and_a_drag_moves(long, qtbot):
    plot = long.window.decay.plot
    assert plot.span == (-BEFORE, AFTER)
    before = place(plot, -60)
    wheel(plot, -60, 3)
    low, high = plot.span
    assert high - low == pytest.approx((BEFORE + AFTER) / 1.25**3)
    assert abs(place(plot, -60).x() - before.x()) <= 2
    viewport, at = plot.plot.viewport(), place(plot, -60)
    QTest.mousePress(viewport, LEFT, NONE, at)
    for step in range(1, 6):
        QTest.mouseMove(viewport, at + QPoint(12 * step, 0))
        qtbot.wait(30)
    QTest.mouseRelease(viewport, LEFT, NONE, at + QPoint(60, 0))
    assert plot.span[0] < low - 5
    assert plot.span[1] - plot.span[0] == pytest.approx(high - low)
    for _ in range(40):
        wheel(plot, plot.span[0], -1)
    for _ in range(40):
        plot.pan(10_000)
    assert plot.span[0] <= AFTER, "some of the run stays in sight"


def test_a_token_under_the_mouse_is_told_and_a_click_goes_there(long, qtbot):
    w = long.window
    panel, end = w.iclr, w.picture.position
    QTest.mouseMove(panel.plot.plot.viewport(), place(panel.plot, -100))
    qtbot.waitUntil(lambda: panel.figures.text().startswith(f"token {end - 100}, layer"))
    _, rows = w.run.series.window("iclr", end - 101, end - 100)
    assert f"{rows[0, w.selection.layer, 0]:.4f}" in panel.figures.text()
    QTest.mouseClick(panel.plot.plot.viewport(), LEFT, NONE, place(panel.plot, -100))
    long.at(end - 100)
    QTest.mouseMove(w.text.view.viewport(), QPoint(5, 5))
    qtbot.waitUntil(lambda: panel.figures.text().startswith("layer"))


def test_a_double_click_shows_all_again(long, qtbot):
    w = long.window
    plot, end = w.decay.plot, w.picture.position
    wheel(plot, -50, 5)
    double_click(plot, place(plot, -60))
    qtbot.waitUntil(lambda: plot.span == (-BEFORE, AFTER))
    long.settle()
    assert w.picture.position == end, "the first of the two clicks is taken back"
    double_click(plot, place(plot, -20))
    qtbot.waitUntil(lambda: plot.span[0] == -end)


def test_many_tokens_keep_their_highest_and_lowest():
    values = np.random.default_rng(0).standard_normal((10_000, 3))
    values[1234, 1], values[8000, 2] = 50, -50
    x, rows = thinned(np.arange(10_000.0), values, 600)
    assert len(x) == len(rows) <= 1200
    assert rows[:, 1].max() == 50
    assert rows[:, 2].min() == -50
    assert (np.diff(x) >= 0).all()
    few = thinned(np.arange(100.0), values[:100], 600)
    assert (few[1] == values[:100]).all()


def test_a_click_on_a_channel_chooses_layer_and_head(long):
    w = long.window
    w.selection.select(0, 0)
    map_ = w.decay.map
    rect = map_.image_rect()
    at = QPointF(rect.x() + rect.width() * 0.6, rect.y() + rect.height() * 0.75)
    QTest.mouseClick(map_, LEFT, NONE, at.toPoint())
    assert (w.selection.layer, w.selection.head) == (4, 2)
    w.decay.sort.setChecked(True)
    row, column = map_.cell_at(at)
    channel = int(w.decay._order[row, column])
    QTest.mouseClick(map_, LEFT, NONE, at.toPoint())
    assert w.selection.head == channel // 64
    assert f"head {channel // 64} · channel {channel}" in w.decay._describe(row, column)


def test_maps_of_channels_have_a_line_between_heads(long):
    map_ = long.window.decay.map
    rect = map_.image_rect()
    with_lines = map_.grab().toImage()
    map_.set_grid(0)
    without = map_.grab().toImage()
    y = round(rect.y() + rect.height() / 12)  # in the first layer
    differ = [
        x for x in range(int(rect.left()), int(rect.right()))
        if with_lines.pixel(x, y) != without.pixel(x, y)
    ]  # fmt: skip
    expected = [rect.x() + rect.width() * h / 4 for h in (1, 2, 3)]
    assert len(differ) >= 3
    assert all(min(abs(x - e) for e in expected) < 3 for x in differ)


@pytest.mark.parametrize("size", [(300, 500), (700, 300)])
def test_thumbnails_are_square(long, size):
    map_ = long.window.heads.map
    map_.resize(*size)
    rows, columns = map_._indices.shape
    rect = map_.image_rect()
    assert rect.width() / columns == pytest.approx(rect.height() / rows)


def test_a_click_into_the_groove_goes_there(long):
    w = long.window
    slider, end = w.transport.slider, w.picture.recorded
    at = QPoint(slider.width() // 4, slider.height() // 2)
    QTest.mouseClick(slider, LEFT, NONE, at)
    long.wait(lambda: abs(w.picture.position - end / 4) < end / 40)
    w.to_end()
    long.at(end)
    QTest.mousePress(slider, LEFT, NONE, at)
    QTest.mouseMove(slider, QPoint(slider.width() // 2, at.y()))
    QTest.mouseRelease(slider, LEFT, NONE, QPoint(slider.width() // 2, at.y()))
    long.wait(lambda: abs(w.picture.position - end / 2) < end / 20)


def test_no_points_are_no_line(qtbot):
    lines = Lines()
    lines.set_data(np.zeros(2), [np.zeros(2), np.ones(2)])
    lines.set_data(np.zeros(0), [np.zeros(0), np.zeros(0)])
    assert lines._polygons == []


def test_a_probability_that_is_there_is_never_nothing():
    from goose_app.panels.next_token import percent

    words = [percent(p) for p in (0.5, 0.0012, 0.0004, 0.0)]
    assert words == ["50.0 %", "0.1 %", "<0.1 %", "0.0 %"]


def test_a_click_in_lines_that_were_moved_keeps_them_in_sight(long, qtbot):
    w = long.window
    plot, end = w.decay.plot, w.picture.position
    plot.zoom(0.25, 0)
    plot.pan(-200)
    low = end + plot.span[0]
    viewport, at = plot.plot.viewport(), place(plot, sum(plot.span) / 2)
    QTest.mouseMove(viewport, at)
    qtbot.wait(50)
    QTest.mouseClick(viewport, LEFT, NONE, at)
    long.settle()
    position = w.picture.position
    assert position < end - 150
    assert position + plot.span[0] == pytest.approx(low, abs=1.5), "the same tokens are in sight"
    start, stop = plot.tokens(position, end)
    assert start < position - 1 < stop
    w.to_start()
    long.settle()
    start, stop = plot.tokens(0, end)
    assert stop > start, "some of the run stays in sight wherever the cursor goes"

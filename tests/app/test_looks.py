"""What can be read, and what can be seen of controls: by the theme table, and as painted."""

from itertools import product

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QImage
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QRadioButton,
    QSpinBox,
)

from goose_app.colouring import COLOURINGS
from goose_app.contrast import CONTROL, TEXT, contrast, readable
from goose_app.style import OutlinedStyle
from goose_app.theme import DARK, LIGHT, gradient, palette

THEMES = pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda t: t.name)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("#000000", "#ffffff", 21.0), ("#777777", "#ffffff", 4.48), ("#ff0000", "#ffffff", 4.0)],
)
def test_contrast_is_that_of_the_standard(a, b, expected):
    assert contrast(QColor(a), QColor(b)) == pytest.approx(expected, abs=0.01)
    assert contrast(QColor(b), QColor(a)) == contrast(QColor(a), QColor(b))


@THEMES
def test_writing_can_be_read(theme):
    t = theme
    pairs = [
        *product((t.text, t.given, t.dim, t.future), (t.panel,)),
        *product((t.text, t.given, t.dim), (t.window,)),
        (t.text, t.line),  # a row under the mouse, a note in the message bar
        ("#ffffff", t.warning),
        (t.accent, t.window),  # the tour's title
        (t.accent, t.panel),  # words of the sentence in Why
        (t.window, t.accent),  # what is chosen in a list
    ]
    low = {p: contrast(*map(QColor, p)) for p in pairs if contrast(*map(QColor, p)) < TEXT}
    assert low == {}


@THEMES
def test_writing_on_every_colour_of_a_cell_can_be_read(theme):
    for stops in (theme.heat, theme.diverging):
        for row in gradient(stops).tolist():
            for ink in (theme.text, theme.given, theme.future):
                ground = QColor(*row)
                assert contrast(readable(QColor(ink), ground), ground) >= TEXT
    kept = readable(QColor(theme.text), QColor(theme.panel))
    assert kept == QColor(theme.text), "what can be read stays as it is"


@THEMES
def test_controls_and_marks_can_be_seen(theme):
    t = theme
    for mark in (t.outline, t.accent, t.diverging[1], t.diverging[5]):
        for ground in (t.panel, t.window):
            assert contrast(QColor(mark), QColor(ground)) >= CONTROL, (mark, ground)


@pytest.fixture
def styled(qapp):
    before = qapp.palette(), qapp.style().name()
    style = OutlinedStyle()
    qapp.setStyle(style)
    yield qapp
    qapp.setStyle(before[1])
    qapp.setPalette(before[0])


@THEMES
@pytest.mark.parametrize(
    "kind",
    [QCheckBox, QRadioButton, QComboBox, QSpinBox, QLineEdit, QPlainTextEdit, QPushButton],
)
def test_a_control_has_an_outline_as_it_is_painted(styled, qtbot, theme, kind):
    styled.setPalette(palette(theme))
    widget = kind()
    qtbot.addWidget(widget)
    widget.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    widget.resize(120, 26)
    image = widget.grab().toImage()
    middle = image.height() // 2
    seen = [contrast(QColor(image.pixel(x, middle)), QColor(theme.window)) for x in range(20)]
    assert max(seen) >= CONTROL


def colours(image: QImage, rect) -> set[str]:
    xs, ys = (
        range(int(rect.left()) + 1, int(rect.right())),
        range(int(rect.top()) + 1, int(rect.bottom())),
    )
    return {QColor(image.pixel(x, y)).name() for x in xs for y in ys}


def test_the_prompt_can_be_read_where_it_surprised(driver):
    """The writing that was found at 1.7 : 1: the prompt's, on the colour of full surprise."""
    view = driver.window.text.view
    view.verticalScrollBar().setValue(0)
    cells = driver.window.run.cells
    words = [i for i in range(1, len(cells)) if len(cells.texts[i]) > 3]  # a dot is all edge
    place = min(words, key=lambda i: cells.probabilities[i])
    image = view.viewport().grab().toImage()
    found = colours(image, view.cell_rect(place))
    assert max(contrast(QColor(a), QColor(b)) for a, b in product(found, repeat=2)) >= TEXT


def test_the_texts_colours_have_a_scale_in_their_unit(driver, qtbot):
    text = driver.window.text
    expected = {
        "surprisal": "0 to 10 bits", "removed by the head": "norm", "nothing": "",
        "written by the head": "norm", "what it gives to the next word": "logits",
        "still held by the head": "of its key", "read now by the head": "weight",
    }  # fmt: skip
    assert expected.keys() == COLOURINGS.keys()
    for name, words in expected.items():
        text.colouring.setCurrentText(f"colour: {name}")
        assert text.view.colouring == name
        qtbot.waitUntil(
            lambda w=words: text.scale.text().endswith(w) and bool(text.scale.text()) == bool(w)
        )
        assert "grey: the prompt" in text.legend.text()


def test_the_theme_is_chosen_in_the_menu_and_remembered(driver, qtbot):
    from PySide6.QtGui import QAction

    w = driver.window
    menu = next(a for a in w.findChildren(QAction) if a.text() == "Light")
    menu.trigger()
    assert w.text.theme is LIGHT
    assert w.settings["theme"] == "light"
    assert QApplication.instance().palette() == palette(LIGHT)
    w.choose_theme("dark")
    assert w.text.theme is DARK

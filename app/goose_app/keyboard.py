"""Which keys the control that has the focus keeps for itself, and letters for menus."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QRadioButton,
    QScrollBar,
    QTabBar,
    QWidget,
)

_K = Qt.Key
_UP_DOWN = frozenset((_K.Key_Up, _K.Key_Down))
_SIDES = frozenset((_K.Key_Left, _K.Key_Right))
_ENDS = frozenset((_K.Key_Home, _K.Key_End))
_SPACE = frozenset((_K.Key_Space,))

#: Kinds of controls and the keys they need; everywhere else these step through the run.
_NEEDS: tuple[tuple[type[QWidget], frozenset[Qt.Key]], ...] = (
    (QRadioButton, _SPACE | _UP_DOWN | _SIDES),
    (QAbstractButton, _SPACE),
    (QComboBox, _SPACE | _UP_DOWN | _ENDS),
    (QAbstractSpinBox, _UP_DOWN | _SIDES | _ENDS),
    (QScrollBar, frozenset()),
    (QAbstractSlider, _UP_DOWN | _SIDES | _ENDS),
    (QTabBar, _SIDES | _ENDS),
    (QAbstractItemView, _SPACE | _UP_DOWN | _ENDS),
)


def keeps(widget: QWidget | None, event: QKeyEvent) -> bool:
    """Whether a key is for the widget that has the focus, and no shortcut."""
    plain = event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier
    if widget is None or plain != Qt.KeyboardModifier.NoModifier:
        return False
    own = getattr(widget, "KEYS", None)  # of a widget of ours
    if own is None:
        own = next((keys for kind, keys in _NEEDS if isinstance(widget, kind)), frozenset())
    return event.key() in own


def with_letters(texts: Iterable[str]) -> list[str]:
    """Texts of a menu, each with an ``&`` ahead of a letter that no other has."""
    out, taken = [], set()
    for text in texts:
        marked = text
        begins = [i for i in range(len(text)) if i == 0 or text[i - 1] == " "]
        for i in [*begins, *range(len(text))]:  # first letters of words are found first
            letter = text[i].lower()
            if letter.isascii() and letter.isalpha() and letter not in taken:
                taken.add(letter)
                marked = f"{text[:i]}&{text[i:]}"
                break
        out.append(marked)
    return out

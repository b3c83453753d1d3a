"""The command palette: everything a person can do, found by typing a part of its words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QDialog,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QVBoxLayout,
    QWidget,
)


@dataclass(frozen=True)
class Entry:
    """One thing to do.

    Attributes
    ----------
    words, keys, tip : str
    do : callable
    """

    words: str
    keys: str
    tip: str
    do: Callable[[], object]


def score(wanted: str, words: str, loosely: bool = True) -> int | None:
    """How well words answer to what was typed, less is better; None if they do not.

    Every part that was typed has to occur, or its letters in order if ``loosely``.
    """
    total, text = 0, words.lower()
    for part in wanted.lower().split():
        at = text.find(part)
        if at >= 0:
            total += at + (0 if at == 0 or not text[at - 1].isalnum() else 20)
            continue
        if not loosely:
            return None
        at, spread = -1, 0
        for letter in part:
            found = text.find(letter, at + 1)
            if found < 0:
                return None
            spread += found - at - 1 if at >= 0 else found
            at = found
        total += 100 + spread
    return total


class Palette(QDialog):
    """A line to type into, and what answers to it.

    Parameters
    ----------
    parent : QWidget
    entries : list of Entry
    """

    def __init__(self, parent: QWidget, entries: list[Entry]) -> None:
        super().__init__(parent)
        self.setWindowTitle("Commands")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._entries = entries
        self.field, self.list = QLineEdit(), QListWidget()
        self.field.setPlaceholderText("Type a part of what you want to do")
        self.field.installEventFilter(self)
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        layout = QVBoxLayout(self)
        layout.addWidget(self.field)
        layout.addWidget(self.list)
        self.field.textChanged.connect(self._fill)
        self.list.itemClicked.connect(lambda _: self.choose())
        self.resize(560, 420)
        self._fill("")

    def _fill(self, wanted: str) -> None:
        scored = []
        for i, entry in enumerate(self._entries):
            of_words, of_tip = score(wanted, entry.words), score(wanted, entry.tip, loosely=False)
            points = of_words if of_words is not None else None if of_tip is None else of_tip + 500
            if points is not None:
                scored.append((points, i))
        self.list.clear()
        for _, i in sorted(scored):
            entry = self._entries[i]
            keys = f"    {entry.keys}" if entry.keys else ""
            row = QListWidgetItem(f"{entry.words}{keys}")
            row.setToolTip(entry.tip)
            row.setData(Qt.ItemDataRole.UserRole, i)
            self.list.addItem(row)
        self.list.setCurrentRow(0)

    def choose(self) -> None:
        """Do what is chosen."""
        row = self.list.currentItem()
        self.close()
        if row is not None:
            self._entries[row.data(Qt.ItemDataRole.UserRole)].do()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Up and down move in the list while one types; Return chooses."""
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            step = {Qt.Key.Key_Up: -1, Qt.Key.Key_Down: 1}.get(Qt.Key(event.key()))
            if step is not None:
                at = self.list.currentRow() + step
                self.list.setCurrentRow(min(max(at, 0), self.list.count() - 1))
                return True
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self.choose()
                return True
        return super().eventFilter(watched, event)

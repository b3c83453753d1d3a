"""Search in the text: a line below it that comes with Ctrl+F and goes with Escape."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QHideEvent, QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QToolButton, QWidget

from goose_app.find import find_all
from goose_app.panels.token_view import TokenView
from goose_app.readout import Readout


class FindBar(QWidget):
    """Return goes to the next place, Shift+Return to the one before; they are marked in the text.

    Parameters
    ----------
    view : TokenView
    """

    left = Signal()

    def __init__(self, view: TokenView) -> None:
        super().__init__()
        self._view = view
        self._places: list[range] = []
        self._at = -1
        self._known: tuple[object, ...] = ()  # words and text that were searched
        self.words = QLineEdit()
        self.words.setPlaceholderText("find in the text")
        self.words.setClearButtonEnabled(True)
        self.count = Readout("10000 of 10000", Qt.AlignmentFlag.AlignLeft)
        self.back, self.on = QToolButton(), QToolButton()
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.words, 1)
        row.addWidget(self.count)
        for button, sign, tip, by in (
            (self.back, "▲", "Before (Shift+Return)", -1), (self.on, "▼", "Next (Return)", 1)
        ):  # fmt: skip
            button.setText(sign)
            button.setToolTip(tip)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.clicked.connect(lambda _=False, by=by: self.go(by))
            row.addWidget(button)
        self.words.textEdited.connect(self._edited)
        self.hide()

    def minimumSizeHint(self) -> QSize:
        """It may be narrow."""
        return QSize(160, super().minimumSizeHint().height())

    def open(self) -> None:
        """Show it, ready for words."""
        self.show()
        self.words.setFocus()
        self.words.selectAll()

    def go(self, by: int) -> None:
        """To the next place, or the one before; around the ends."""
        self._search()
        if self._places:
            self._at = (self._at + by) % len(self._places) if self._at >= 0 else self._first(by)
            self._view.mark(self._places[self._at])
        self._tell()

    def _edited(self) -> None:
        """Other words: the first place from the one that is marked on."""
        self._search()
        self._at = self._first(1) if self._places else -1
        self._view.mark(self._places[self._at] if self._places else range(0))
        self._tell()

    def _search(self) -> None:
        """Look for the places, if the words or the text are others than the last time."""
        words, cells = self.words.text(), self._view.run.cells
        known = words, len(cells), self._view.text_version
        if known != self._known:
            here = self._places[self._at] if self._at >= 0 else None
            self._known = known
            self._places = find_all(cells, words)
            self._at = self._places.index(here) if here in self._places else -1

    def _first(self, by: int) -> int:
        """The place that is nearest to what is in sight."""
        marked = self._view.marked
        begin = marked.start if marked else self._view.first_in_sight()
        later = [i for i, place in enumerate(self._places) if place.start >= begin]
        if by > 0:
            return later[0] if later else 0
        return (later[0] if later else len(self._places)) - 1

    def _tell(self) -> None:
        if not self.words.text():
            self.count.setText("")
        elif not self._places:
            self.count.setText("nowhere")
        else:
            self.count.setText(f"{self._at + 1} of {len(self._places)}")

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Return, Shift+Return, Escape."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            back = event.modifiers() & Qt.KeyboardModifier.ShiftModifier
            self.go(-1 if back else 1)
        elif event.key() == Qt.Key.Key_Escape:
            self.hide()
            self.left.emit()
        else:
            super().keyPressEvent(event)

    def hideEvent(self, event: QHideEvent) -> None:
        """The mark stays: Forget, Replace and Why act on it."""
        self._known = ()

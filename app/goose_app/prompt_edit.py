"""A field for text that keeps every character of it."""

from __future__ import annotations

from PySide6.QtCore import QMimeData, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QPlainTextEdit

_RETURN = "\u240d"  # ␍ stands for a carriage return: Qt would make it the end of a line
_LINE = "\u2029"  # what Qt puts between lines


class PromptEdit(QPlainTextEdit):
    """The prompt; Ctrl+Return begins with it, Escape leaves it.

    Attributes
    ----------
    return_submits : bool
        Whether Return does so too; Shift+Return makes a new line then.

    Qt's own `toPlainText` makes blanks of no-break spaces, which are other tokens, and ends lines
    its own way.
    """

    submitted = Signal()
    left = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._given = self._shown = ""
        self.return_submits = False

    def setPlainText(self, text: str) -> None:
        """Show another text."""
        super().setPlainText(text.replace("\r", _RETURN))
        self._given, self._shown = text, self.document().toRawText()

    def toPlainText(self) -> str:
        """The text as it was given, or as it was edited since."""
        raw = self.document().toRawText()
        return self._given if raw == self._shown else _text(raw)

    def insertFromMimeData(self, source: QMimeData) -> None:
        """Paste, drop."""
        if source.hasText():
            self.textCursor().insertText(source.text().replace("\r", _RETURN))
            self.ensureCursorVisible()

    def createMimeDataFromSelection(self) -> QMimeData:
        """Copy, cut, drag."""
        data = QMimeData()
        data.setText(_text(self.textCursor().selectedText()))
        return data

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Two keys of its own."""
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        control = bool(event.modifiers() & Qt.KeyboardModifier.ControlModifier)
        shift = bool(event.modifiers() & Qt.KeyboardModifier.ShiftModifier)
        if enter and (control or (self.return_submits and not shift)):
            self.submitted.emit()
        elif enter and shift:
            self.textCursor().insertBlock()  # Qt would put a separator, which is another token
        elif event.key() == Qt.Key.Key_Escape:
            self.left.emit()
        else:
            super().keyPressEvent(event)


def _text(raw: str) -> str:
    return raw.replace(_LINE, "\n").replace(_RETURN, "\r")

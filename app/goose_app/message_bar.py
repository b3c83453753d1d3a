"""A line at the top of the window for what did not work."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QToolBar, QToolButton

from goose_app.theme import DARK, Theme


class MessageBar(QToolBar):
    """Words that stay until they are dismissed, and can be copied."""

    def __init__(self) -> None:
        super().__init__("Messages")
        self.setObjectName("messages")
        self.setMovable(False)
        self._theme, self._error = DARK, True
        self.toggleViewAction().setVisible(False)
        self._words = QLabel()
        self._words.setWordWrap(True)
        self._words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        dismiss = QToolButton()
        dismiss.setText("✕")
        dismiss.setToolTip("Dismiss")
        dismiss.clicked.connect(self.hide)
        frame = QFrame()
        row = QHBoxLayout(frame)
        row.setContentsMargins(10, 4, 6, 4)
        row.addWidget(self._words, 1)
        row.addWidget(dismiss)
        self.addWidget(frame)
        self.hide()

    def text(self) -> str:
        """What it says."""
        return self._words.text()

    def say(self, words: str, error: bool = True) -> None:
        """Say something until it is dismissed; what is no error looks like none."""
        self._words.setText(words)
        self._error = error
        self._dress()
        self.show()

    def set_theme(self, theme: Theme) -> None:
        """Take over a theme."""
        self._theme = theme
        self._dress()

    def _dress(self) -> None:
        ground = self._theme.warning if self._error else self._theme.line
        text = "white" if self._error else self._theme.text
        self.setStyleSheet(f"QFrame {{ background: {ground}; }} QLabel {{ color: {text}; }}")

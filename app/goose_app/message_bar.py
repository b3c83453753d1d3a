"""A line at the top of the window for what did not work."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QToolBar, QToolButton

from goose_app.theme import Theme


class MessageBar(QToolBar):
    """Words that stay until they are dismissed, and can be copied."""

    def __init__(self) -> None:
        super().__init__("Messages")
        self.setObjectName("messages")
        self.setMovable(False)
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

    def say(self, words: str) -> None:
        """Say something until it is dismissed."""
        self._words.setText(words)
        self.show()

    def set_theme(self, theme: Theme) -> None:
        """Dress in the colour of errors."""
        self.setStyleSheet(f"QFrame {{ background: {theme.warning}; }} QLabel {{ color: white; }}")

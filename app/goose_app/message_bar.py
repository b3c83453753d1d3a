"""A line at the top of the window for what did not work."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QSizePolicy, QToolBar, QToolButton

from goose_app.plain import Label
from goose_app.theme import DARK, Theme


class MessageBar(QToolBar):
    """Words that can be copied: an error's stay until something works, a note's until dismissed."""

    def __init__(self) -> None:
        super().__init__("Messages")
        self.setObjectName("messages")
        self.setMovable(False)
        self._theme, self._error = DARK, True
        self.toggleViewAction().setVisible(False)
        self._words = Label()
        self._words.setWordWrap(True)
        self._words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._words.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._dismiss = QToolButton()
        self._dismiss.setText("✕")
        self._dismiss.setAutoRaise(True)
        self._dismiss.setFixedHeight(self.fontMetrics().height() + 2)
        self._dismiss.setToolTip("Dismiss (Escape)")
        self._dismiss.clicked.connect(self.hide)
        frame = QFrame()
        self._row = QHBoxLayout(frame)
        self._row.setContentsMargins(10, 2, 6, 2)
        self._row.addWidget(self._words, 1)
        self._row.addWidget(self._dismiss, 0, Qt.AlignmentFlag.AlignTop)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.addWidget(frame)
        self.hide()

    def text(self) -> str:
        """What it says."""
        return self._words.text()

    def say(self, words: str, error: bool = True) -> None:
        """Say something; what is no error looks like none."""
        self._words.setText(words)
        self._error = error
        self._dress()
        self._fit()
        self.show()

    def worked(self) -> None:
        """Something succeeded: what did not work before is old news."""
        if self._error and self.isVisible():
            self.hide()

    def set_theme(self, theme: Theme) -> None:
        """Take over a theme."""
        self._theme = theme
        self._dress()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Words take more lines, or fewer."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        """As many lines as the words take at this width: a toolbar would ask for two at least."""
        margins = self._row.contentsMargins()
        parent = self.parentWidget()
        width = parent.width() if parent is not None else self.width()
        width -= margins.left() + margins.right() + self._dismiss.sizeHint().width() + 16
        self._words.setFixedHeight(max(self._words.heightForWidth(width), 1))

    def _dress(self) -> None:
        ground = self._theme.warning if self._error else self._theme.line
        text = "white" if self._error else self._theme.text
        self.setStyleSheet(
            f"QToolBar {{ border: 0; padding: 0; margin: 0; spacing: 0; }}"
            f"QFrame {{ background: {ground}; }} QLabel, QToolButton {{ color: {text}; }}"
        )

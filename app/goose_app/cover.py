"""Words over a panel that cannot show what it is for."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtWidgets import QWidget

from goose_app.plain import Label


class Cover(Label):
    """Hides what a panel would show, and says why, until there are no words."""

    def __init__(self, panel: QWidget) -> None:
        super().__init__("")
        self.setParent(panel)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setWordWrap(True)
        self.setMargin(16)
        self.setAutoFillBackground(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.hide()
        panel.installEventFilter(self)

    def say(self, words: str) -> None:
        """Cover the panel with these; with none, let it be seen."""
        self.setText(words)
        self._fit()
        self.setVisible(bool(words))
        self.raise_()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Stay as large as the panel."""
        if event.type() == QEvent.Type.Resize:
            self._fit()
        return False

    def _fit(self) -> None:
        panel = self.parentWidget()
        if panel is not None:
            self.setGeometry(panel.rect())

"""A dock's title: its name, a question mark that says what it is, and its usual buttons."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QSize, Qt
from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent
from PySide6.QtWidgets import (
    QDockWidget,
    QFrame,
    QHBoxLayout,
    QStyle,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from goose_app.panels.panel import Panel
from goose_app.plain import Label, tip
from goose_app.readout import Readout
from goose_app.theme import Theme

_WIDTH = 380  # pixels of the card


class DockTitle(QWidget):
    """What stands above a panel.

    Parameters
    ----------
    dock : QDockWidget
    panel : Panel
    """

    def __init__(self, dock: QDockWidget, panel: Panel) -> None:
        super().__init__()
        self._dock, self._panel = dock, panel
        self.setToolTip(tip(panel.help))
        name = Readout("", Qt.AlignmentFlag.AlignLeft)
        name.setText(panel.title)
        name.setToolTip(tip(panel.help))
        self.ask = _button("What is this?")
        self.ask.setText("?")
        self.ask.clicked.connect(self.explain)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 2, 2, 2)
        row.setSpacing(0)
        row.addWidget(name, 1)
        row.addWidget(self.ask)
        style, icon = self.style(), QStyle.StandardPixmap
        for picture, words, act in (
            (icon.SP_TitleBarNormalButton, "A window of its own, or back", self._float),
            (icon.SP_TitleBarCloseButton, "Close; the View menu brings it back", dock.close),
        ):
            button = _button(words)
            button.setIcon(style.standardIcon(picture))
            button.setIconSize(QSize(10, 10))
            button.clicked.connect(act)
            row.addWidget(button)

    def _float(self) -> None:
        self._dock.setFloating(not self._dock.isFloating())

    def explain(self) -> HelpCard:
        """Say what the panel shows."""
        card = HelpCard(self._panel, self._panel.theme)
        window = self._panel.window()
        at = self.ask.mapTo(window, QPoint(self.ask.width() - _WIDTH, self.height()))
        least, most = window.rect().topLeft(), window.rect().bottomRight()
        x = max(least.x(), min(at.x(), most.x() - card.width()))
        card.move(x, max(least.y(), min(at.y(), most.y() - card.height())))
        card.show()
        card.raise_()
        card.setFocus()
        return card


def _button(words: str) -> QToolButton:
    button = QToolButton()
    button.setAutoRaise(True)
    button.setToolTip(words)
    button.setFixedSize(18, 18)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    return button


class HelpCard(QFrame):
    """What a panel is, how it is read, and its formula; a click anywhere else closes it."""

    def __init__(self, panel: Panel, theme: Theme) -> None:
        super().__init__(panel.window())
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setObjectName("help card")
        self.setStyleSheet(
            f"#help\\ card {{ background: {theme.panel}; border: 1px solid {theme.outline} }}"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(14, 10, 14, 12)
        heading, words = Label(panel.title), Label(panel.help)
        font = heading.font()
        font.setBold(True)
        heading.setFont(font)
        for label in (heading, words):
            label.setWordWrap(True)
            layout.addWidget(label)
        if panel.formula:
            formula = Label(panel.formula)
            formula.setWordWrap(True)
            formula.setStyleSheet(f"color: {theme.accent}")
            layout.addWidget(formula)
        self.setFixedSize(_WIDTH, layout.heightForWidth(_WIDTH))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape, and every other key, closes it."""
        self.close()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """So does a click."""
        self.close()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """And going elsewhere."""
        self.close()

"""All branches of the run: what each says where it parts, and the edits that made it."""

from __future__ import annotations

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtWidgets import QInputDialog, QListWidget, QListWidgetItem, QMenu, QVBoxLayout

from goose_app.messages import BranchRow
from goose_app.panels.panel import Panel
from goose_app.selection import Selection
from goose_app.theme import Theme
from goose_viz import Model


class BranchesPanel(Panel):
    """A row a branch; a click returns to it."""

    title = "Branches"
    help = (
        "Every text that was written, with the words where it parts from the one above and the "
        "edits that made it. Click one to return to it; right-click to name or close it."
    )
    chosen = Signal(int)
    named = Signal(int, str)
    closed = Signal(int)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.list = QListWidget()
        self.list.setObjectName("branches")
        self.list.setWordWrap(True)
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.list)
        self.list.itemClicked.connect(lambda item: self.chosen.emit(self.list.row(item)))
        self.list.customContextMenuRequested.connect(self._menu)

    def set_theme(self, theme: Theme) -> None:
        """A quiet ground for the row that is current: its writing is bold."""
        super().set_theme(theme)
        self.list.setStyleSheet(
            f"QListWidget {{ background: {theme.panel}; border: none }}"
            f"QListWidget::item {{ padding: 4px }}"
            f"QListWidget::item:selected {{ background: {theme.line}; color: {theme.text} }}"
        )

    def set_model(self, model: Model) -> None:
        """No run yet."""
        super().set_model(model)
        self.list.clear()

    def set_rows(self, rows: list[BranchRow]) -> None:
        """The branches in their order."""
        self.list.clear()
        for row in rows:
            words = f"{row.name}:  {row.words}" if row.name else row.words
            item = QListWidgetItem(words + (f"\n{row.edits}" if row.edits else ""))
            item.setToolTip(f"parts behind token {row.fork}, {row.stop} tokens")
            font = item.font()
            font.setBold(row.current)
            item.setFont(font)
            self.list.addItem(item)
            if row.current:
                self.list.setCurrentItem(item)

    def _menu(self, at: QPoint) -> None:
        item = self.list.itemAt(at)
        if item is None:
            return
        row, menu = self.list.row(item), QMenu(self)
        menu.addAction("Go there", lambda: self.chosen.emit(row))
        menu.addAction("Name…", lambda: self._name(row))
        menu.addAction("Close", lambda: self.closed.emit(row))
        menu.popup(self.list.mapToGlobal(at) + QPoint(12, 12))

    def _name(self, row: int) -> None:
        name, sure = QInputDialog.getText(self, "Name a branch", "Its name:")
        if sure:
            self.named.emit(row, name)

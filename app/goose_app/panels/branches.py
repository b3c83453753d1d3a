"""All branches of the run as a tree: what each says where it parts, and the edits that made it."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QPoint, QPointF, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent, QPainter, QPen
from PySide6.QtWidgets import (
    QInputDialog,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
)

from goose_app.messages import BranchRow
from goose_app.panels.panel import Panel
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import DARK, Theme

_INDENT, _TOP = 18, 13  # pixels a generation; from a row's top to where its line meets it
_ROW, _GUIDES = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1


def tree_order(rows: list[BranchRow]) -> list[tuple[int, tuple[bool, ...]]]:
    """(row, guides) from the roots down: a branch stands behind the one that it parts from.

    A guide a generation: whether the line of that generation goes on below the row.
    """
    out: list[tuple[int, tuple[bool, ...]]] = []

    def visit(row: int, guides: tuple[bool, ...]) -> None:
        out.append((row, guides))
        children = [i for i, r in enumerate(rows) if r.parent == row]
        for child in children:
            visit(child, (*guides, child != children[-1]))

    for root in [i for i, r in enumerate(rows) if r.parent is None]:
        visit(root, ())
    return out


class _TreeRows(QStyledItemDelegate):
    """Draws the lines of the tree in front of a row's words."""

    theme: Theme = DARK

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        """The lines, then the words further right."""
        guides = index.data(_GUIDES)
        rect = option.rect
        painter.setPen(QPen(QColor(self.theme.dim), 1))
        for depth, goes_on in enumerate(guides):
            x = rect.x() + (depth + 0.5) * _INDENT
            last = depth == len(guides) - 1
            if last or goes_on:
                end = rect.bottom() + 1 if goes_on else rect.y() + _TOP
                painter.drawLine(QPointF(x, rect.y()), QPointF(x, end))
            if last:
                y = rect.y() + _TOP
                painter.drawLine(QPointF(x, y), QPointF(x + 0.5 * _INDENT, y))
        rect.setX(rect.x() + len(guides) * _INDENT)
        super().paint(painter, option, index)


class BranchList(QListWidget):
    """Return and Space go to a branch, F2 names it, Delete closes it."""

    gone_to = Signal(int)
    renamed = Signal(int)
    deleted = Signal(int)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """What is done with the row that has the keys."""
        key, item = Qt.Key(event.key()), self.currentItem()
        told = {
            Qt.Key.Key_Return: self.gone_to, Qt.Key.Key_Enter: self.gone_to,
            Qt.Key.Key_Space: self.gone_to, Qt.Key.Key_F2: self.renamed,
            Qt.Key.Key_Delete: self.deleted,
        }.get(key)  # fmt: skip
        if told is not None and item is not None:
            told.emit(item.data(_ROW))
        else:
            super().keyPressEvent(event)


class BranchesPanel(Panel):
    """A row a branch; a click returns to it."""

    title = "Branches"
    help = (
        "Every text that was written, below the one that it parts from, with the words there and "
        "the edits that made it. Click one to return to it; right-click to name or close it; by "
        "keys, Return, F2 and Delete."
    )
    chosen = Signal(int)
    named = Signal(int, str)
    closed = Signal(int)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.list = BranchList()
        self.list.setObjectName("branches")
        self.list.setWordWrap(True)
        self.list.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self._delegate = _TreeRows(self.list)
        self.list.setItemDelegate(self._delegate)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.addWidget(self.list)
        self.list.itemClicked.connect(lambda item: self.chosen.emit(item.data(_ROW)))
        self.list.gone_to.connect(self.chosen)
        self.list.renamed.connect(self._name)
        self.list.deleted.connect(self.closed)
        self.list.customContextMenuRequested.connect(self._menu)

    def set_theme(self, theme: Theme) -> None:
        """A quiet ground for the row that is current: its writing is bold."""
        super().set_theme(theme)
        self._delegate.theme = theme
        self.list.setStyleSheet(
            f"QListWidget {{ background: {theme.panel}; border: none }}"
            f"QListWidget::item {{ padding: 4px }}"
            f"QListWidget::item:selected {{ background: {theme.line}; color: {theme.text} }}"
        )

    def set_run(self, run: Viewed) -> None:
        """No text yet."""
        super().set_run(run)
        self.list.clear()

    def set_rows(self, rows: list[BranchRow]) -> None:
        """The branches in their order."""
        self.list.clear()
        for number, guides in tree_order(rows):
            row = rows[number]
            words = f"{row.name}:  {row.words}" if row.name else row.words
            item = QListWidgetItem(words + (f"\n{row.edits}" if row.edits else ""))
            item.setToolTip(f"parts after token {row.fork}, {row.stop} tokens")
            item.setData(_ROW, number)
            item.setData(_GUIDES, guides)
            font = item.font()
            font.setBold(row.current)
            item.setFont(font)
            self.list.addItem(item)
            if row.current:
                self.list.setCurrentItem(item)

    def python(self) -> str | None:
        """The text of the branch."""
        return "print(session.text)\n"

    def _menu(self, at: QPoint) -> None:
        item = self.list.itemAt(at)
        if item is None:
            return
        row, menu = item.data(_ROW), QMenu(self)
        menu.addAction("Go there", lambda: self.chosen.emit(row))
        menu.addAction("Name…", lambda: self._name(row))
        menu.addAction("Close", lambda: self.closed.emit(row))
        menu.popup(self.list.mapToGlobal(at) + QPoint(12, 12))

    def _name(self, row: int) -> None:
        name, sure = QInputDialog.getText(self, "Name a branch", "Its name:")
        if sure:
            self.named.emit(row, name)

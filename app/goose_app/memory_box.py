"""Whose memory: a branch's end, a snapshot's, or the mean of some prompts'."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QFileDialog, QLineEdit

from goose_app.messages import Source

_FILE, _PROMPTS = "a snapshot…", "the prompts"


class MemoryBox(QComboBox):
    """Memories to choose from; a snapshot is asked for when it is chosen.

    Parameters
    ----------
    none : str or None
        What no memory is called, if there may be none.
    prompts : bool
        Whether the mean of some prompts' is offered.

    Attributes
    ----------
    field : QLineEdit
        Where the prompts are written; it shows itself where they are chosen.
    """

    opened = Signal(object)  # the path of a snapshot
    changed = Signal()  # it is another memory

    def __init__(self, none: str | None, prompts: bool = False) -> None:
        super().__init__()
        self._none, self._prompts, self._files = none, prompts, list[Path]()
        self.field = QLineEdit()
        self.field.setPlaceholderText("I am happy. | What a lovely day!")
        self.field.setToolTip("Prompts with | between them: the mean of their memories is taken")
        self.field.editingFinished.connect(self.changed)
        self.activated.connect(self._chosen)
        self.offer([])

    def offer(self, branches: list[str]) -> None:
        """The branches there are, by their words."""
        before, words = self.currentData(), self.currentText()
        self.clear()
        if self._none is not None:
            self.addItem(self._none, None)
        if self._prompts:
            self.addItem(_PROMPTS, _PROMPTS)
        for row, said in enumerate(branches):
            self.addItem(f"the end of “{said}”", row)
        for path in self._files:
            self.addItem(path.name, path)
        self.addItem(_FILE, _FILE)
        if isinstance(before, int):  # its row may be another's now, its words tell
            self._choose_row(self.findText(words))
        else:
            self._choose(before)
        if isinstance(before, int) and self.currentData() != before:
            self.changed.emit()

    def source(self) -> Source | None:
        """What is chosen; None for nothing, or if it is not said yet."""
        chosen = self.currentData()
        if chosen == _PROMPTS:
            return tuple(p.strip() for p in self.field.text().split("|") if p.strip()) or None
        return None if chosen == _FILE else chosen

    def add_file(self, path: Path) -> None:
        """Offer a snapshot."""
        if path not in self._files:
            self._files.append(path)
            self.insertItem(self.count() - 1, path.name, path)

    def _choose(self, data: object) -> None:
        """Choose what has some data; Qt's own search does not compare paths."""
        rows = (i for i in range(self.count()) if self.itemData(i) == data)
        self._choose_row(next(rows, 0))

    def _choose_row(self, row: int) -> None:
        self.setCurrentIndex(max(row, 0))
        self.field.setVisible(self.currentData() == _PROMPTS)

    def _chosen(self, index: int) -> None:
        if self.itemData(index) == _FILE:
            name, _ = QFileDialog.getOpenFileName(
                self, "Memory of a snapshot", "", "Snapshots (*.safetensors *.npz)"
            )
            if name:
                self.add_file(Path(name))
                self.opened.emit(Path(name))
            self._choose(Path(name) if name else None)
        else:
            self._choose_row(index)
        self.changed.emit()

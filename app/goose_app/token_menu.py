"""What can be done with an earlier word: go there, forget it, put another in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QInputDialog, QLineEdit, QMenu

import goose_viz as gv
from goose_app import messages as m
from goose_app.panels.next_token import visible
from goose_app.plain import item, rich

if TYPE_CHECKING:
    from goose_app.window import Window


Head = tuple[int | None, int | None]


class TokenMenu:
    """The menu of a token, and the same by keys.

    Parameters
    ----------
    window : Window
    """

    def __init__(self, window: Window) -> None:
        self._window = window

    def show(self, index: int, at: QPoint) -> None:
        """Open the menu of a token beside the mouse, so that it covers nothing of it."""
        menu = self.menu(index)
        menu.popup(at + QPoint(14, 18))

    def menu(self, index: int) -> QMenu:
        """The menu of a token by its index."""
        w = self._window
        menu = QMenu(w)
        word = item(f"“{visible(self._label(index))}”")
        menu.addAction("Go to this token", lambda: w.goto(index + 1))
        menu.addAction("Why this word", lambda: w.why_of(w.run.cells.tokens[index], index))
        menu.addAction(f"Pin {word}", lambda: w.pin_token(w.run.cells.tokens[index]))
        if index + 1 < self._position():
            forget = menu.addMenu(f"Forget {word}")
            for words, layer, head in self._scopes(index):
                forget.addAction(words, lambda la=layer, h=head: self.forget(index, la, h))
            menu.addAction(f"Replace {word} by …", lambda: self.replace(index))
            menu.addAction(f"Spoil {word} in a causal trace", lambda: self._spoil(index))
            menu.addSeparator()
            menu.addAction("Copy as Python", lambda: self._copy(index, self._scopes(index)[0][1:]))
        return menu

    def _scopes(self, index: int) -> list[tuple[str, int | None, int | None]]:
        """(words, layer, head): where it can be forgotten, the head that says most first."""
        why, selection = self._window.why_panel.explanation, self._window.selection
        scopes: list[tuple[str, int | None, int | None]] = []
        if why is not None and not self._window.picture.stale and index < why.position:
            layer, head = why.best_head(index)
            scopes.append((f"in layer {layer} head {head} (most)", layer, head))
        else:
            layer, head = selection.layer, selection.head
        if (layer, head) != (selection.layer, selection.head) or not scopes:
            words = f"in layer {selection.layer} head {selection.head} (selected)"
            scopes.append((words, selection.layer, selection.head))
        return [*scopes, (f"in layer {layer}", layer, None), ("everywhere", None, None)]

    def forget(self, index: int | None, layer: int | None = None, head: int | None = None) -> None:
        """Take a token's remains out of the memory ahead of the cursor's token."""
        if self._in_the_past(index) and index is not None:
            edit = gv.Forget(index, layer, head)
            words = f"forgot “{visible(self._label(index))}” {_in(edit)}"
            self._window.apply(m.Apply(edit, words))

    def replace(self, index: int | None) -> None:
        """Ask for other words and put them in a token's place."""
        if not self._in_the_past(index) or index is None:
            return
        label = self._label(index)
        words, sure = QInputDialog.getText(
            self._window,
            "Replace in the memory",
            rich(
                f"Have the memory as if, instead of “{visible(label)}”, it had read\n"
                "(a leading blank belongs to the word; nothing: as if it had never been said):"
            ),
            QLineEdit.EchoMode.Normal,
            label,
        )
        if sure:
            self.put(index, words)

    def put(self, index: int, words: str) -> None:
        """Put other words in a token's place."""
        label, edit = self._label(index), gv.Replace(index, index + 1, words)
        done = f"“{visible(words)}” in place of “{visible(label)}”" if words else (
            f"“{visible(label)}” never said"
        )  # fmt: skip
        self._window.apply(m.Apply(edit, done))

    def _in_the_past(self, index: int | None) -> bool:
        """Whether it can be edited; if not, say what to do."""
        if index is not None and index + 1 < self._position():
            return True
        self._window.say(
            "Mark a word before the cursor, by the mouse or by comma and period: what it left in "
            "the memory can be forgotten or replaced"
        )
        return False

    def _spoil(self, index: int) -> None:
        """Have a causal trace begin with this word, and show where."""
        self._window.trace.spoil(range(index, index + 1))
        self._window._bring(self._window.trace)

    def _copy(self, index: int, head: Head) -> None:
        """The lines that forget it as the menu would."""
        layer, h = head
        self._window.copy_python(
            f"session.apply(gv.Forget({index}, {layer}, {h}), again=1)\n"
            "print(session.next_tokens(12))\n"
        )

    def _label(self, index: int) -> str:
        run = self._window.run
        return run.model.label(run.cells.tokens[index]) if run.model is not None else ""

    def _position(self) -> int:
        return self._window.picture.position


def _in(edit: gv.Forget) -> str:
    where = edit.where()
    return where if where == "everywhere" else f"in {where}"

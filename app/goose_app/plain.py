"""Words as they are: Qt takes what looks like HTML for HTML, and an ``&`` for a key's mark."""

from __future__ import annotations

import html

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel


class Label(QLabel):
    """A label that shows its text letter by letter, whatever is in it."""

    def __init__(self, words: str = "") -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(words)


def tip(words: str) -> str:
    """For tooltips and Qt's own dialogs, which guess what a text is."""
    return rich(words) if "<" in words or "&" in words else words


def rich(words: str) -> str:
    """As HTML that shows them letter by letter."""
    return f"<span>{html.escape(words)}</span>".replace("\n", "<br>")


def item(words: str) -> str:
    """For menus and buttons."""
    return words.replace("&", "&&")


def title(words: str) -> str:
    """For windows: Qt looks for a place to mark what is unsaved."""
    return words.replace("[*]", "[*][*]")

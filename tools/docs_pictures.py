"""The pictures of the documentation, from the window itself.

python tools/docs_pictures.py [folder]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["QT_QPA_PLATFORM"] = "offscreen"

from PySide6.QtCore import QSettings
from PySide6.QtWidgets import QWidget

from goose_app import messages as m
from goose_app.application import make_application
from goose_app.pictures import save_widget
from goose_app.window import Window

PROMPT = "Once upon a time, there was a little girl named Lily."
TOM = "Tom had a red ball. Sue had a blue cup. Tom played with his red"
BALL = 5  # the token that the pictures speak of
HEAD = 5, 3  # where most of it is


class Shown:
    """A window that nobody sees, and its pictures."""

    def __init__(self, folder: Path, prompt: str, perspective: str, theme: str = "dark") -> None:
        self._folder = folder
        self.window = Window(m.Load(None), prompt, theme, perspective)
        self.window.resize(1600, 1000)
        self.window.show()
        self.wait(lambda: self.window.picture.position > 1)

    def wait(self, done: Callable[[], bool]) -> None:
        """Run the window until something is so, and half a second on."""
        end = time.monotonic() + 60
        while not done():
            app.processEvents()
            time.sleep(0.005)
            if time.monotonic() > end:
                sys.exit("waited a minute in vain")
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            app.processEvents()
            time.sleep(0.005)

    def explained(self) -> bool:
        return self.window.picture.why is not None and not self.window.picture.stale

    def save(self, name: str) -> None:
        self.part(name, self.window)

    def part(self, name: str, widget: QWidget) -> None:
        save_widget(widget, self._folder / name)
        print(self._folder / name)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
    for name, theme, size in (
        ("window.png", "dark", (1600, 1000)), ("window-light.png", "light", (1280, 800))
    ):  # fmt: skip
        shown = Shown(folder, PROMPT, "watch", theme)
        shown.window.resize(*size)
        shown.window.worker.send(m.Run(90))
        shown.wait(lambda w=shown.window: w.picture.position > 100 and not w.running)
        shown.save(name)
        shown.window.close()
    chat_picture(folder)
    why_pictures(folder)


def chat_picture(folder: Path) -> None:
    """A turn of a conversation, as far as a model that knows stories only can have one."""
    shown = Shown(folder, PROMPT, "watch")
    w = shown.window
    w.actions_by_name["chat"].trigger()
    w.text.prompt.setPlainText("Tell me about a little dog named Max.")
    w.converse()
    shown.wait(lambda: w.picture.position > 60)
    w.worker.send(m.Pause())
    shown.wait(lambda: not w.running)
    w.text.prompt.setPlainText("And then?")
    w.find()
    w.text.find.words.setText("dog")
    w.text.find.go(1)
    shown.wait(lambda: True)
    shown.part("chat.png", w.docks["Text"])
    w.close()


def why_pictures(folder: Path) -> None:
    """The Why perspective, step by step."""
    shown = Shown(folder, TOM, "why")
    w = shown.window

    def done(what: Callable[[], None]) -> None:
        """Do something to the memory and wait for its bars and its explanation."""
        what()
        shown.wait(lambda: w.picture.comparison is not None and shown.explained())

    def undo() -> None:
        w.undo()
        shown.wait(lambda: w.picture.comparison is None and shown.explained())

    w.selection.select(*HEAD)
    shown.wait(lambda: shown.explained() and (w.picture.why.layer, w.picture.why.head) == HEAD)
    w.why_panel.words._set_hover(0)
    shown.wait(shown.explained)
    shown.save("why.png")
    shown.part("token-edit.png", w.docks["The edit of this token"])
    shown.part("remember.png", w.docks["Remember"])
    w.why_panel.words._set_hover(-1)
    done(lambda: w.token_menu.forget(BALL, *HEAD))
    shown.save("forget.png")
    undo()
    done(lambda: w.token_menu.put(BALL, " car"))
    w.worker.send(m.ReadTruly())
    shown.wait(lambda: bool(w.picture.comparison and w.picture.comparison.truth))
    shown.save("replace.png")
    w.worker.send(m.Run(12))
    shown.wait(lambda: w.picture.position == 30 and not w.running)
    w.worker.send(m.GoToBranch(0))
    shown.wait(lambda: w.picture.position == 18)
    w.worker.send(m.Run(12))
    shown.wait(lambda: w.picture.position == 30 and not w.running)
    w.goto(24)
    shown.wait(lambda: w.picture.position == 24)
    w.branch(w.picture.next_tokens[1][0])
    shown.wait(lambda: w.picture.position == 25)
    w.worker.send(m.Run(8))
    shown.wait(lambda: w.picture.position == 33 and not w.running)
    shown.part("branches.png", w.docks["Branches"])
    w.worker.send(m.GoToBranch(0))
    w.goto(18)
    shown.wait(lambda: w.picture.position == 18 and shown.explained())
    w.edit_memory()
    w.edit_dialog.kind.setCurrentIndex(1)
    w.edit_dialog.where.button(1).setChecked(True)
    done(w.edit_dialog.apply.click)
    shown.part("edit-memory.png", w.edit_dialog)
    w.edit_dialog.close()
    w.show_tour()
    for _ in range(3):
        w.tour.go_on()
        shown.wait(lambda: True)
    shown.wait(lambda: w.picture.comparison is not None and shown.explained())
    shown.save("tour.png")
    w.close()


app = make_application()

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as settings:  # a person's layout has no say in it
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, settings)
        main()

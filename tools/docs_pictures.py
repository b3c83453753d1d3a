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
        save_widget(self.window, self._folder / name)
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
    shown = Shown(folder, TOM, "why")
    w = shown.window
    w.selection.select(*HEAD)
    shown.wait(lambda: shown.explained() and (w.picture.why.layer, w.picture.why.head) == HEAD)
    w.why_panel.words._set_hover(0)
    shown.wait(shown.explained)
    shown.save("why.png")
    w.why_panel.words._set_hover(-1)
    w.token_menu.forget(BALL, *HEAD)
    shown.wait(lambda: w.picture.comparison is not None and shown.explained())
    shown.save("forget.png")
    w.undo()
    shown.wait(lambda: w.picture.comparison is None and shown.explained())
    w.token_menu.put(BALL, " car")
    shown.wait(lambda: w.picture.comparison is not None and shown.explained())
    shown.save("replace.png")
    w.undo()
    shown.wait(lambda: w.picture.comparison is None and shown.explained())
    w.text.colouring.setCurrentIndex(4)
    shown.wait(shown.explained)
    save_widget(w.text, folder / "held.png")
    w.close()


app = make_application()

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as settings:  # a person's layout has no say in it
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, settings)
        main()

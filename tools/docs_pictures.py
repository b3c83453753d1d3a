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

import goose_viz as gv
from goose_app import messages as m
from goose_app.application import make_application
from goose_app.filming import Filming, Plan
from goose_app.palette import Palette
from goose_app.pictures import save_widget
from goose_app.presets import PRESETS
from goose_app.welcome import Welcome
from goose_app.window import Window

PROMPT = "Once upon a time, there was a little girl named Lily."
TOM = "Tom had a red ball. Sue had a blue cup. Tom played with his red"
STORY = (
    "Lily had a yellow cat. Tom had a big brown dog. They lived in a small house near the sea. "
    "One day it rained, so they stayed inside and drew pictures. Tom drew his"
)
SWAPS = "ball 3 swap 2 4 swap 1 3 swap 4 1 swap 4 5 swap 5 2 swap 2 3"
BALL = 5  # the token that the pictures speak of
HEAD = 5, 3  # where most of it is


class Shown:
    """A window that nobody sees, and its pictures."""

    def __init__(
        self,
        folder: Path,
        prompt: str,
        perspective: str,
        theme: str = "dark",
        source: str | None = None,
    ) -> None:
        self._folder = folder
        self.window = Window(m.Load(source), prompt, theme, perspective)
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

    def answered(self) -> bool:
        """Whether all that was asked is on the screen."""
        return self.window.worker.at_rest

    def save(self, name: str) -> None:
        self.part(name, self.window)

    def part(self, name: str, widget: QWidget) -> None:
        save_widget(widget, self._folder / name)
        print(self._folder / name)

    def film(self, name: str, widget: QWidget, plan: Plan) -> None:
        """An animation of a part."""
        path = self._folder / name
        self.window.filming = Filming(self.window, widget, plan, path)
        self.wait(lambda: self.window.filming is None)
        print(path)


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
    state_pictures(folder)
    study_pictures(folder)
    compare_pictures(folder)
    welcome_pictures(folder)
    recorded_picture(folder)


def recorded_picture(folder: Path) -> None:
    """A recorded run, played without its model; the learning rates were not recorded."""
    observables = set(gv.OBSERVABLES) - {"iclr"}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "tom.zarr"
        gv.record(
            gv.load_model(), PROMPT, 60, path, observables=observables, sampler=gv.Sampler(seed=1)
        )
        shown = Shown(folder, "", "watch", source=str(path))
        shown.window.resize(1280, 800)
        shown.wait(lambda: shown.window.picture.position > 60 and shown.answered())
        shown.window.goto(45)
        shown.wait(lambda: shown.window.picture.position == 45 and shown.answered())
        shown.save("recorded.png")
        shown.window.close()


def welcome_pictures(folder: Path) -> None:
    """The Welcome page, and what its presets show."""
    shown = Shown(folder, PROMPT, "watch")
    w = shown.window
    w.show_welcome()
    page = w.findChild(Welcome)
    shown.wait(lambda: page.isVisible())
    shown.part("welcome.png", page)
    page.close()
    for preset in PRESETS[1:]:
        w.open_preset(preset)
        shown.wait(lambda p=preset: w.tour.isVisible() and "".join(w.run.cells.texts) == p.prompt)
        shown.wait(lambda: shown.explained() and shown.answered())
        shown.save(f"{preset.model}.png")
        w.tour.end()
        if preset.model == "shell-game":
            w.tour.end()
            w.text.prompt.setPlainText(SWAPS)
            w.restart()
            shown.wait(lambda: "".join(w.run.cells.texts) == SWAPS and shown.answered())
            plan = Plan(2, w.picture.recorded, rate=1)
            shown.film("shell-game.gif", w.docks["The edit of this token"], plan)
        if preset.model == "who-is-where":
            w.goto(1 + w.run.cells.texts.index(" hall"))
            shown.wait(lambda: shown.explained() and shown.answered())
            shown.part("who-is-where-move.png", w.docks["The edit of this token"])
    w.close()


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
    w.text.find_bar.words.setText("dog")
    w.text.find_bar.go(1)
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
    shown.wait(lambda: shown.explained() and (w.picture.head.layer, w.picture.head.head) == HEAD)
    w.why_panel.words._set_hover([b.key for b in w.why_panel.words.bars].index(BALL))
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


def state_pictures(folder: Path) -> None:
    """One head closely, and which earlier words it remembers."""
    shown = Shown(folder, TOM, "state")
    w = shown.window
    w.selection.select(*HEAD)
    w.worker.send(m.Run(60))
    shown.wait(lambda: w.picture.position == 78 and not w.running)
    shown.wait(lambda: shown.explained() and shown.answered())
    shown.save("state.png")
    for name, title in (
        ("attention-map", "Attention map"), ("health", "Health"), ("spectrum", "Spectrum")
    ):  # fmt: skip
        shown.part(f"{name}.png", w.docks[title])
    card = w.docks["Health"].titleBarWidget().explain()  # type: ignore[attr-defined]
    shown.part("help-card.png", card)
    card.close()
    w.close()
    shown = Shown(folder, STORY, "state")
    w = shown.window
    w.selection.select(*HEAD)
    w._bring(w.remember)
    shown.wait(lambda: shown.explained() and shown.answered())
    shown.part("remember-story.png", w.docks["Remember"])
    shown.part("attention-story.png", w.docks["Attention map"])
    w.close()


def study_pictures(folder: Path) -> None:
    """Layers, words, and what happens if."""
    shown = Shown(folder, TOM, "study")
    w = shown.window
    w.selection.select(*HEAD)
    w.worker.send(m.Run(60))
    shown.wait(lambda: w.picture.position == 78 and not w.running)
    w.goto(18)
    shown.wait(lambda: w.picture.position == 18)
    for token, label, _ in w.picture.next_tokens[:3]:
        if label in (" ball", " cup"):
            w.pin_token(token)
            shown.wait(shown.answered)
    w.sensitivity.begin_or_cancel()
    w.trace.spoil(range(BALL, BALL + 1))
    w.trace.begin_or_cancel()
    w.steer.plus.field.setText("Sue had a blue cup. | She likes her cup.")
    w.steer.factor.setValue(80)
    w.steer.ask_anew()
    shown.wait(shown.answered)
    shown.save("study.png")
    for name, title in (
        ("lens", "Logit lens"), ("pinned", "Pinned words"), ("sensitivity", "Sensitivity"),
        ("steer", "Steer"), ("next-token", "Next token"),
    ):  # fmt: skip
        shown.part(f"{name}.png", w.docks[title])
    w._bring(w.trace)
    shown.wait(shown.answered)
    shown.part("causal-trace.png", w.docks["Causal trace"])
    w.transport.stop.setText("entropy < 1.5")
    w.stop_at("entropy < 1.5")
    shown.wait(shown.answered)
    shown.part("stops.png", w.docks["Transport"])
    w.command_palette()
    palette = w.findChild(Palette)
    palette.field.setText("head")
    shown.wait(lambda: True)
    shown.part("commands.png", palette)
    palette.close()
    w.close()


def compare_pictures(folder: Path) -> None:
    """Where two runs part."""
    shown = Shown(folder, TOM, "compare")
    w = shown.window
    w.selection.select(*HEAD)
    w.worker.send(m.Run(24))
    shown.wait(lambda: w.picture.position == 42 and not w.running)
    load, sampler = None, w.text.sampler()
    w.companion.begin(load, TOM.replace("blue cup", "blue car"), sampler, 24)
    shown.wait(lambda: w.compare.found is not None and shown.answered())
    w.goto(18)
    shown.wait(shown.answered)
    shown.save("compare.png")
    shown.part("compare-lines.png", w.docks["Compare"])
    w.close()


app = make_application()

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as settings:  # a person's layout has no say in it
        QSettings.setDefaultFormat(QSettings.Format.IniFormat)
        QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, settings)
        main()

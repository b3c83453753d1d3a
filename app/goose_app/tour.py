"""A card that says what to look at: five steps on the demo model, or what a preset shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QDockWidget, QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

import goose_viz as gv
from goose_app import messages as m
from goose_app.plain import Label
from goose_app.presets import Preset
from goose_app.theme import Theme

if TYPE_CHECKING:
    from goose_app.window import Window

TOM = "Tom had a red ball. Sue had a blue cup. Tom played with his red"
_BALL, _LAYER, _HEAD = 5, 5, 3  # the token that the steps speak of, and where most of it is
_WIDTH = 420
_NARROWEST = 300  # the card's least width


@dataclass(frozen=True)
class Step:
    """What is said, of which dock, over which other one, and what happens before.

    Attributes
    ----------
    title, words : str
    dock : str
        The dock that it is about: it gets a frame.
    beside : str
        The dock over which the card lies: never the one that it is about.
    do : callable Window -> None
    """

    title: str
    words: str
    dock: str
    beside: str
    do: Callable[[Window], None]


def _watch(window: Window) -> None:
    window.watch()
    window.text.prompt.setPlainText("Once upon a time, there was a little girl named Lily.")
    window.restart()
    window.worker.send(m.Run(60))


def _go_back(window: Window) -> None:
    window.watch()
    window.worker.send(m.Pause())
    window.worker.send(m.Goto(30))


def _why(window: Window) -> None:
    window.text.prompt.setPlainText(TOM)
    window.restart()
    window.selection.select(_LAYER, _HEAD)
    window.why()


def _unedited(window: Window) -> None:
    """The text of the third step as it was read, whatever was done since."""
    picture = window.picture
    if "".join(window.run.cells.texts) != TOM or picture.position != picture.recorded:
        _why(window)
    for _ in picture.edits:
        window.worker.send(m.Undo())


def _forget(window: Window) -> None:
    _unedited(window)
    window.worker.send(
        m.Apply(gv.Forget(_BALL, _LAYER, _HEAD), f"forgot “␣ball” in layer {_LAYER} head {_HEAD}")
    )


def _replace(window: Window) -> None:
    _unedited(window)
    window.worker.send(m.Apply(gv.Replace(_BALL, _BALL + 1, " car"), "“␣car” in place of “␣ball”"))
    window.worker.send(m.ReadTruly())


STEPS = (
    Step("A memory of fixed size", "The model writes, and this is all it knows of the text: one "
         "matrix per head. Every token fades it, erases under one key and writes a value under "
         "another. Below are all heads at once; click one to look at it.",
         "State", "Text", _watch),
    Step("Every token can be returned to", "← and → step through the run, Space writes on, a click "
         "on a word goes there: bit for bit, as if it had never gone on. The colour tells how "
         "little each word was expected.", "Text", "State", _go_back),
    Step("Why this word?", "Ask it (F6). The memory is a sum over all earlier words, so the next "
         "word's lead splits exactly over them. Here “ ball” leads “ cup”: the “ ball” that was "
         "read twelve tokens ago speaks for it, through one head, and the nearer “ cup” against.",
         "Why", "Branches", _why),
    Step("What if it forgets it?", "Right-click a word, or put the mouse on it and press X. What "
         "was left of “ ball” in layer 5 head 3 is taken out of the memory, and nothing else: "
         "“ ball” falls from 64 to 3 %, and “ cup” comes first. Ctrl+Z takes it back.",
         "Next token", "Branches", _forget),
    Step("What if it had read another?", "R replaces it: the memory becomes what it would be had "
         "“ car” stood there, without reading the text again. The third column is a model that "
         "really read that text. Now try it on words of your own.",
         "Next token", "Branches", _replace),
)  # fmt: skip


def _step_of(preset: Preset) -> Step:
    """What a preset says, and the look that it takes."""

    def look(window: Window) -> None:
        window._arrange(preset.perspective)
        window.selection.select(preset.layer, preset.head)

    return Step(preset.title, preset.words, preset.dock, preset.beside, look)


class Tour(QFrame):
    """A card beside what it speaks of, and a frame around that."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._window = window
        self.steps: tuple[Step, ...] = STEPS
        self.step = -1
        self.setObjectName("tour")
        self.title, self.words, self.count = Label(), Label(), Label()
        self.words.setWordWrap(True)
        self.leave, self.onward = QPushButton("Close"), QPushButton("Next")
        for button in (self.leave, self.onward):
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        row = QHBoxLayout()
        row.addWidget(self.count)
        row.addStretch()
        row.addWidget(self.leave)
        row.addWidget(self.onward)
        layout = QVBoxLayout(self)
        layout.addWidget(self.title)
        layout.addWidget(self.words)
        layout.addLayout(row)
        self._frame = QWidget(window)
        self._frame.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._frame.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.leave.clicked.connect(self.end)
        self.onward.clicked.connect(self.go_on)
        self.hide()
        self._frame.hide()

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        self.setStyleSheet(
            f"#tour {{ background: {theme.window}; border: 1px solid {theme.accent};"
            " border-radius: 6px }"
        )
        self.title.setStyleSheet(f"font-size: 12pt; font-weight: bold; color: {theme.accent}")
        self.count.setStyleSheet(f"color: {theme.dim}")
        self._frame.setStyleSheet(f"border: 2px solid {theme.accent}; background: transparent")

    def begin(self, steps: tuple[Step, ...] = STEPS) -> None:
        """The first step."""
        self.steps, self.step = steps, -1
        self.leave.setVisible(len(steps) > 1)
        self.count.setVisible(len(steps) > 1)
        self.go_on()

    def begin_preset(self, preset: Preset) -> None:
        """The one step of a preset, whose model is open and whose text is being read."""
        self.begin((_step_of(preset),))

    def go_on(self) -> None:
        """The next step; behind the last one it ends."""
        if self.step + 1 == len(self.steps):
            self.end()
            return
        self.step += 1
        step = self.steps[self.step]
        step.do(self._window)
        self._window.docks[step.dock].show()
        self._window.docks[step.dock].raise_()  # it may be behind another
        self.title.setText(step.title)
        self.words.setText(step.words)
        self.count.setText(f"{self.step + 1} of {len(self.steps)}")
        self.onward.setText("Done" if self.step + 1 == len(self.steps) else "Next")
        self.show()
        self._frame.show()
        self.place()

    def end(self) -> None:
        """Enough."""
        self.step = -1
        self.hide()
        self._frame.hide()

    def place(self) -> None:
        """Beside what it speaks of, wherever the docks are."""
        if not self.isVisible():
            return
        step, window = self.steps[self.step], self._window
        dock, beside = window.docks[step.dock], window.docks[step.beside]
        self._frame.setGeometry(dock.geometry())
        self._frame.setVisible(dock.isVisible())
        hidden = _behind(beside)
        if hidden:  # a tab: then over the largest of the others that are seen
            others = [d for d in window.docks.values() if d is not dock and not _behind(d)]
            beside = max(others, key=lambda d: d.width() * d.height(), default=dock)
        spot = beside.geometry()
        width = min(_WIDTH, max(spot.width() - 8, _NARROWEST))
        if len(self.steps) == 1 and hidden:  # a small screen: what is asked is seen elsewhere
            spot, width = dock.geometry(), dock.width() - 16
        height = max(self.layout().heightForWidth(width), self.sizeHint().height())
        self.setFixedSize(width, height)
        x, y = spot.center().x() - width // 2, spot.bottom() - height - 16
        free = window.rect().adjusted(4, 30, -4 - width, -30 - height)
        self.move(QPoint(min(max(x, free.left()), free.right()),
                         min(max(y, free.top()), free.bottom())))  # fmt: skip
        self._frame.raise_()
        self.raise_()


def _behind(dock: QDockWidget) -> bool:
    """Whether a dock cannot be seen: put away, or behind another."""
    return not dock.isVisible() or dock.visibleRegion().isEmpty()

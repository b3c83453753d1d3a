"""Run, pause, step and go back, as in a debugger."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QMouseEvent
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QSlider,
    QStyle,
    QStyleOptionSlider,
    QToolButton,
)

from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.readout import Readout
from goose_app.selection import Selection

#: Words -> seconds to wait between tokens.
SPEEDS = {"full speed": 0.0, "20 tokens/s": 0.05, "5 tokens/s": 0.2, "1 token/s": 1.0}


class Slider(QSlider):
    """A click into the groove goes there, and can be dragged on."""

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Put the handle under the mouse, and take hold of it."""
        if event.button() == Qt.MouseButton.LeftButton:
            option = QStyleOptionSlider()
            self.initStyleOption(option)
            slider, style = QStyle.ComplexControl.CC_Slider, self.style()
            handle = style.subControlRect(slider, option, QStyle.SubControl.SC_SliderHandle, self)
            if not handle.contains(event.position().toPoint()):
                at = round(event.position().x() - handle.width() / 2)
                room = self.width() - handle.width()
                self.setValue(
                    QStyle.sliderValueFromPosition(self.minimum(), self.maximum(), at, room)
                )
        super().mousePressEvent(event)


class TransportPanel(Panel):
    """Buttons, a slider over the whole run, and where the cursor is."""

    title = "Transport"
    help = "Run and pause, step forwards and back; the slider goes to any token of the run."
    goto = Signal(int)
    speed_changed = Signal(float)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(8, 4, 8, 6)
        self.setMaximumHeight(48)
        self.slider = Slider(Qt.Orientation.Horizontal)
        self.slider.setToolTip("Click or drag to any token of the run")
        self.slider.setMinimumWidth(90)
        self.slider.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.place = Readout(
            "token 10000 / 10000 · branch 10 of 10 · 1000 tokens/s", Qt.AlignmentFlag.AlignLeft
        )
        self.place.setText("no token yet")
        self.speed = QComboBox()
        self.speed.addItems(list(SPEEDS))
        self.speed.setToolTip("How fast to write")
        self.speed.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        for widget, stretch in ((self.slider, 1), (self.place, 0), (self.speed, 0)):
            self._row.addWidget(widget, stretch)
        self.slider.valueChanged.connect(self._dragged)
        self.speed.currentIndexChanged.connect(
            lambda i: self.speed_changed.emit(list(SPEEDS.values())[i])
        )
        self._following = False
        self.asked = 0  # the number of the last command that sent the cursor somewhere

    def add_actions(self, actions: list[QAction]) -> None:
        """Put buttons for actions before the slider."""
        for i, action in enumerate(actions):
            button = QToolButton()
            button.setDefaultAction(action)
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # a click leaves the keys where they are
            if action.objectName() == "run_or_pause":
                button.setMinimumWidth(86)  # its text changes, the slider should not move
            button.setObjectName(f"button_{action.objectName()}")
            self._row.insertWidget(i, button)

    def show_picture(self, picture: Picture) -> None:
        """Follow the cursor."""
        self._following = True
        self.slider.setRange(0, picture.recorded)
        if not self.slider.isSliderDown() and picture.serial >= self.asked:
            self.slider.setValue(picture.position)
        self._following = False
        words = f"token {picture.position} / {picture.recorded}"
        if picture.branches > 1:
            words += f" · branch {picture.branch + 1} of {picture.branches}"
        if picture.rate:
            words += f" · {picture.rate:.0f} tokens/s"
        self.place.setText(words)

    def _dragged(self, value: int) -> None:
        if not self._following:
            self.goto.emit(value)

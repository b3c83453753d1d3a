"""Run, pause, step and go back, as in a debugger."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QAction, QColor, QMouseEvent, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLineEdit,
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


_STOP_TIP = (
    "Stop writing where something is so (Return sets it, Ctrl+→ and Ctrl+← go to such places):\n"
    "    removed_norm[3,1] > 5      an observable: layer, then head or channel\n"
    "    max(written_norm) > 10 and entropy < 0.1\n"
    '    token == " dog"\n'
    '    "the end"                  the text has just come to hold this'
)


class Slider(QSlider):
    """A click into the groove goes there, and can be dragged on; some places may be marked."""

    def __init__(self, orientation: Qt.Orientation) -> None:
        super().__init__(orientation)
        self.marks: list[int] = []
        self._known, self._xs = (0, 0, 0), list[int]()  # for which they lie where
        self._ink = ""

    def set_marks(self, positions: list[int], ink: str) -> None:
        """Mark these values."""
        self.marks, self._ink, self._known = positions, ink, (0, 0, 0)
        self.update()

    def mark_x(self, value: int) -> int:
        """Where a value lies, in pixels."""
        return self._marks_x([value])[0]

    def _marks_x(self, values: list[int]) -> list[int]:
        option = QStyleOptionSlider()
        self.initStyleOption(option)
        slider, style = QStyle.ComplexControl.CC_Slider, self.style()
        handle = style.subControlRect(slider, option, QStyle.SubControl.SC_SliderHandle, self)
        room = self.width() - handle.width()
        place, low, high = QStyle.sliderPositionFromValue, self.minimum(), self.maximum()
        return [place(low, high, v, room) + handle.width() // 2 for v in values]

    def paintEvent(self, event: QPaintEvent) -> None:
        """The slider, and a tick for each pixel with a marked value."""
        super().paintEvent(event)
        if self.marks:
            painter = QPainter(self)
            painter.setPen(QPen(QColor(self._ink), 2))
            known = self.width(), self.minimum(), self.maximum()
            if known != self._known:
                self._known, self._xs = known, sorted(set(self._marks_x(self.marks)))
            for x in self._xs:
                painter.drawLine(x, self.height() - 6, x, self.height() - 1)

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
    help = (
        "Run and pause, step forwards and back; the slider goes to any token of the run. Say in "
        "“stop at” where the run is to stop: a text in quotes, a token, a condition on what is "
        "observed; the places where it holds are marked on the slider."
    )
    goto = Signal(int)
    speed_changed = Signal(float)
    stop_wanted = Signal(str)  # a condition

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
        self.stop = QLineEdit()
        self.stop.setPlaceholderText("stop at …")
        self.stop.setClearButtonEnabled(True)
        self.stop.setMinimumWidth(70)
        self.stop.setMaximumWidth(260)
        self.stop.setToolTip(_STOP_TIP)
        for widget, stretch in (
            (self.slider, 2), (self.place, 0), (self.stop, 1), (self.speed, 0)
        ):  # fmt: skip
            self._row.addWidget(widget, stretch)
        self.slider.valueChanged.connect(self._dragged)
        self.stop.returnPressed.connect(lambda: self.stop_wanted.emit(self.stop.text()))
        self.stop.textChanged.connect(lambda words: words or self.stop_wanted.emit(""))
        self.speed.currentIndexChanged.connect(
            lambda i: self.speed_changed.emit(list(SPEEDS.values())[i])
        )
        self._following = False
        self.asked = 0  # the number of the last command that sent the cursor somewhere

    def show_stops(self, positions: list[int], words: str) -> None:
        """Where the condition holds: marks on the slider."""
        self.slider.set_marks(positions, self.theme.accent)
        many = len(positions)
        told = f"“{words}” holds behind {many} token{'' if many == 1 else 's'}; " if words else ""
        self.slider.setToolTip(f"{told}click or drag to any token of the run")

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

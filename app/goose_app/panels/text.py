"""The prompt, the sampling, and the text as it is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QSpinBox,
    QVBoxLayout,
)

from goose_app.colour_scale import ColourScale
from goose_app.colouring import COLOURINGS, surprisal
from goose_app.find_bar import FindBar
from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.panels.token_view import TokenView
from goose_app.plain import Label
from goose_app.prompt_box import PromptBox
from goose_app.readout import Readout
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme
from goose_viz import Sampler
from goose_viz.templates import TURN_END


class TextPanel(Panel):
    """Prompt on top, stream below."""

    title = "Text"
    help = (
        "Grey: the prompt; bright: what the model wrote. Click a token to go back to it; hover for "
        "its probability."
    )
    restart = Signal()
    said = Signal()  # a turn of a conversation
    sampling_changed = Signal()
    goto = Signal(int)
    recorded = frozenset(c.recorded for c in COLOURINGS.values() if c.recorded is not None)

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self._sampler = Sampler(seed=1)
        self.box = PromptBox()
        self.prompt, self.begin = self.box.edit, self.box.button
        self.end_token: int | None = None  # what ends a text, in this vocabulary
        self.stop_at_end = False
        self.temperature = _spin(0.0, 5.0, 0.1, 1.0, "Temperature: 0 takes the likeliest token")
        self.top_p = _spin(0.0, 1.0, 0.05, 0.85, "top-p: keep the likeliest tokens up to this sum")
        self.seed = QSpinBox()
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setValue(1)
        self.seed.setMinimumWidth(72)
        self.seed.setToolTip("Seed: the same seed and prompt give the same text")
        row = QHBoxLayout()
        for word, widget in (("T", self.temperature), ("top-p", self.top_p), ("seed", self.seed)):
            row.addWidget(Label(word))
            row.addWidget(widget)
        row.addStretch()
        self.colouring = QComboBox()
        self.colouring.addItems([f"colour: {name}" for name in COLOURINGS])
        self.colouring.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.colouring.setMinimumContentsLength(16)
        self.colouring.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.memory = Readout("", Qt.AlignmentFlag.AlignLeft)
        self.memory.hide()
        self.view = TokenView(selection)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.addWidget(self.box)
        layout.addLayout(row)
        layout.addWidget(self.memory)
        layout.addWidget(self.view, 1)
        self.find_bar = FindBar(self.view)
        layout.addWidget(self.find_bar)
        self.scale = ColourScale(self.view)
        self.legend = Readout("strong: the model", Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.colouring)
        bottom = QHBoxLayout()
        bottom.addWidget(self.scale)
        bottom.addWidget(self.legend, 1)
        layout.addLayout(bottom)
        self.box.begun.connect(self.restart)
        self.box.said.connect(self.said)
        for box in (self.box, self.find_bar):
            box.left.connect(self.view.setFocus)
        self.view.clicked.connect(self.goto)
        self.colouring.currentIndexChanged.connect(self._recolour)
        self._recolour(0)
        for box in (self.temperature, self.top_p, self.seed):
            box.valueChanged.connect(self.sampling_changed)
            box.lineEdit().returnPressed.connect(self.view.setFocus)
            box.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Escape leaves a box of numbers, as it leaves the prompt."""
        pressed = isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress
        if pressed and event.key() == Qt.Key.Key_Escape:
            self.view.setFocus()
            return True
        return super().eventFilter(watched, event)

    def sampler(self) -> Sampler:
        """The sampling that the boxes say."""
        chat, end = self.box.chat, self.end_token
        stops = {TURN_END, end}
        kept = (s for s in self._sampler.stop if s not in stops)
        ends = (end,) if end is not None and (chat or self.stop_at_end) else ()
        return replace(
            self._sampler,
            stop=(*kept, *ends, *((TURN_END,) if chat else ())),
            temperature=self.temperature.value(),
            top_p=self.top_p.value(),
            seed=self.seed.value(),
        )

    def show_sampler(self, sampler: Sampler) -> None:
        """Take over a run's sampling; what has no box of its own is kept as well."""
        self._sampler = sampler
        for box in (self.temperature, self.top_p, self.seed):
            box.blockSignals(True)
        self.temperature.setValue(sampler.temperature)
        self.top_p.setValue(sampler.top_p)
        self.seed.setValue(min(sampler.seed or 0, self.seed.maximum()))
        for box in (self.temperature, self.top_p, self.seed):
            box.blockSignals(False)

    def show_memory(self, words: str) -> None:
        """What texts begin with; nothing to show of an empty memory."""
        self.memory.setText(f"begins with {words}")
        self.memory.setVisible(bool(words))

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.view.set_theme(theme)

    def set_run(self, run: Viewed) -> None:
        """Another text."""
        super().set_run(run)
        self.view.set_run(run)
        if run.model is not None:
            self.end_token = run.model.end_token
            self.box.suggest(run.model.name)

    def may_compute(self, may: bool) -> None:
        """Whether there is a model to prompt; a recorded run is only looked at."""
        for box in (self.box, self.temperature, self.top_p, self.seed):
            box.setEnabled(may)

    def series_changed(self) -> None:
        """Other figures colour the cells."""
        self.view.redraw()

    def text_changed(self, start: int) -> None:
        """Other tokens from an index on."""
        self.view.text_changed(start)

    def show_picture(self, picture: Picture) -> None:
        """Move the cursor."""
        self.view.set_cursor(picture.position)

    def numbers(self) -> dict[str, NDArray[Any]]:
        """A row a token: what it is, how likely it was, and its figures in the selected head."""
        cells, series, s = self.run.cells, self.run.series, self.selection
        if not len(cells):
            return {}
        chances = np.array(cells.probabilities, np.float64)
        out: dict[str, NDArray[Any]] = {
            "token": np.arange(len(cells)), "id": np.array(cells.tokens),
            "text": np.array(cells.texts, object),
            "generated": np.frombuffer(bytes(cells.generated), np.bool_),
            "probability": chances, "surprisal": surprisal(chances),
        }  # fmt: skip
        for name in sorted(self.recorded) if series is not None else ():
            assert series is not None
            column = np.full(len(cells), np.nan)
            first, rows = series.window(name, 0, len(cells))
            column[first : first + len(rows)] = rows[:, s.layer, s.head]
            out[f"{name}, layer {s.layer} head {s.head}"] = column
        return out

    def python(self) -> str | None:
        """The text up to the cursor."""
        return "print(session.text)\n"

    @property
    def asks(self) -> bool:  # type: ignore[override]
        """Whether the colours tell of an explanation."""
        return COLOURINGS[self.view.colouring].explained is not None

    def _selection_changed(self) -> None:
        self.view.redraw()

    def _recolour(self, index: int) -> None:
        name = list(COLOURINGS)[index]
        self.view.colouring = name
        words = COLOURINGS[name].legend
        self.legend.setText(f"{words} · grey: the prompt" if words else "grey: the prompt")
        self.view.redraw()
        self.seen.emit()


def _spin(low: float, high: float, step: float, value: float, tip: str) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setRange(low, high)
    box.setSingleStep(step)
    box.setValue(value)
    box.setToolTip(tip)
    box.setMinimumWidth(52)
    return box

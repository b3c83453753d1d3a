"""Which other run to compare with: another prompt, other sampling, another model or device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QPlainTextEdit,
    QSpinBox,
    QWidget,
)

from goose_app import messages as m
from goose_app.model_facts import ModelFacts
from goose_app.plain import Label
from goose_viz import Sampler
from goose_viz.model import DTYPES

_FILE = "a file…"
_SAME, _DEMO = "the same", "the demo model"


class OtherRun(QDialog):
    """Asks for everything that may be other; what is left as it is, is as in the run."""

    chosen = Signal(object, str, object, int)  # Load or None, prompt, sampler, tokens to write
    resumed = Signal(object)  # a snapshot's path

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Another run to compare with")
        self.prompt = QPlainTextEdit()
        self.prompt.setTabChangesFocus(True)
        self.prompt.setMaximumHeight(90)
        self.tokens, self.seed = QSpinBox(), QSpinBox()
        self.tokens.setRange(0, 100_000)
        self.seed.setRange(0, 2**31 - 1)
        self.temperature, self.top_p = QDoubleSpinBox(), QDoubleSpinBox()
        for box, most in ((self.temperature, 5.0), (self.top_p, 1.0)):
            box.setRange(0, most)
            box.setSingleStep(0.1)
        self.model, self.device, self.dtype = QComboBox(), QComboBox(), QComboBox()
        self.model.addItem(_SAME, None)
        self.model.addItem(_DEMO, "")
        self.model.addItem(_FILE, _FILE)
        self.device.addItems([_SAME, "cpu", "cuda", "reference"])
        self.dtype.addItems([_SAME, *DTYPES])
        rows = QFormLayout(self)
        for words, box in (
            ("prompt", self.prompt), ("then write", self.tokens), ("temperature", self.temperature),
            ("top-p", self.top_p), ("seed", self.seed), ("model", self.model),
            ("device", self.device), ("numbers", self.dtype),
        ):  # fmt: skip
            rows.addRow(Label(words), box)
        self.tokens.setSuffix(" tokens")
        buttons = QDialogButtonBox()
        run = buttons.addButton("Run it", QDialogButtonBox.ButtonRole.AcceptRole)
        run.setDefault(True)
        snapshot = buttons.addButton("A snapshot…", QDialogButtonBox.ButtonRole.ActionRole)
        buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        rows.addRow(buttons)
        self._sampler = Sampler(seed=1)
        self._facts: ModelFacts | None = None
        self.model.activated.connect(self._choose_model)
        buttons.accepted.connect(self._accept)
        buttons.rejected.connect(self.reject)
        snapshot.clicked.connect(self._resume)
        self.resize(520, 420)

    def offer(self, prompt: str, sampler: Sampler, tokens: int, facts: ModelFacts) -> None:
        """As the run is; the next seed, so that it is another."""
        self._sampler, self._facts = sampler, facts
        self.prompt.setPlainText(prompt)
        self.tokens.setValue(tokens)
        self.temperature.setValue(sampler.temperature)
        self.top_p.setValue(sampler.top_p)
        self.seed.setValue(((sampler.seed or 0) + 1) % 2**31)

    def _choose_model(self, _index: int) -> None:
        if self.model.currentData() == _FILE:
            name, _ = QFileDialog.getOpenFileName(
                self, "A model of the same shape", "",
                "Models (*.pth *.safetensors *.st *.gguf);;All files (*)",
            )  # fmt: skip
            self.model.setCurrentIndex(0)
            if name:
                self.model.insertItem(2, Path(name).name, name)
                self.model.setCurrentIndex(2)

    def load(self) -> m.Load | None:
        """The model to open; None for the run's own."""
        model, device, dtype = (b.currentText() for b in (self.model, self.device, self.dtype))
        facts = self._facts
        if model == device == dtype == _SAME or facts is None:
            return None
        data = self.model.currentData()
        source = facts.asked if data is None else data or None
        device = facts.device if device == _SAME else device
        if dtype == _SAME or device == "reference":  # which has one of its own
            dtype = "auto" if "reference" in (device, facts.device) else facts.dtype
        return m.Load(source, device, dtype, facts.asked_tokenizer if data is None else None)

    def _accept(self) -> None:
        sampler = replace(
            self._sampler, temperature=self.temperature.value(), top_p=self.top_p.value(),
            seed=self.seed.value(),
        )  # fmt: skip
        self.accept()
        self.chosen.emit(self.load(), self.prompt.toPlainText(), sampler, self.tokens.value())

    def _resume(self) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self, "A snapshot to compare with", "", "Snapshots (*.safetensors *.npz)"
        )
        if name:
            self.accept()
            self.resumed.emit(Path(name))

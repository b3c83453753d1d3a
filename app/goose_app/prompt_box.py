"""Where one writes to the model: a prompt to begin with, or one turn of a conversation."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLineEdit, QPushButton, QVBoxLayout, QWidget

from goose_app.prompt_edit import PromptEdit
from goose_viz.templates import TEMPLATES

_WORDS = {
    "chat": "plain answers", "think": "thinks aloud", "fast": "thinking skipped, first G1",
    "fake": "thinking skipped, later G1",
}  # fmt: skip


class PromptBox(QWidget):
    """A field and a button; in a conversation, also the model's form and a system text."""

    begun = Signal()  # with the prompt
    said = Signal()  # a turn
    left = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.chat = False
        self.edit = PromptEdit()
        self.edit.setObjectName("prompt")
        self.edit.setFixedHeight(64)
        self.edit.setTabChangesFocus(True)
        self.button = QPushButton("Begin anew")
        self.button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.template = QComboBox()
        for name in TEMPLATES:
            self.template.addItem(_WORDS[name], name)
        self.template.setToolTip("The form in which the model was taught to answer")
        self.template.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.system = QLineEdit()
        self.system.setPlaceholderText("system text, if any")
        self.system.setToolTip("What the model is told before the first turn")
        self._form = QWidget()
        form = QHBoxLayout(self._form)
        form.setContentsMargins(0, 0, 0, 0)
        form.addWidget(self.template)
        form.addWidget(self.system, 1)
        row = QHBoxLayout()
        row.addWidget(self.edit, 1)
        row.addWidget(self.button, 0, Qt.AlignmentFlag.AlignBottom)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._form)
        layout.addLayout(row)
        self.button.clicked.connect(self._submit)
        self.edit.submitted.connect(self._submit)
        self.edit.left.connect(self.left)
        self.system.returnPressed.connect(self.edit.setFocus)
        self.set_chat(False)

    def set_chat(self, chat: bool) -> None:
        """A conversation, or a prompt."""
        self.chat = self.edit.return_submits = chat
        self._form.setVisible(chat)
        self.button.setText("Say" if chat else "Begin anew")
        self.button.setToolTip(
            "Say it, and let the model answer (Return; Shift+Return for a new line)" if chat
            else "Forget this run and feed the prompt (Ctrl+Return)"
        )  # fmt: skip
        self.edit.setPlaceholderText(
            "What do you say?" if chat else "Text for the model to go on from"
        )

    def suggest(self, model_name: str) -> None:
        """The form that a model of this name most likely was taught."""
        form = "fake" if "g1" in model_name.lower() else "chat"
        self.template.setCurrentIndex(TEMPLATES.index(form))

    def _submit(self) -> None:
        (self.said if self.chat else self.begun).emit()

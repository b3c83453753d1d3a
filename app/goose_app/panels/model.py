"""What is open, where it runs and how fast."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFormLayout

from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.plain import Label
from goose_app.run_view import Viewed
from goose_app.selection import Selection

_ROWS = (
    "model", "shape", "parameters", "vocabulary", "low ranks", "removal scale", "file", "note",
    "device", "weights", "state", "speed",
)  # fmt: skip

SCALED = ", as c in S diag(w) − c (S κ)(κ a)ᵀ; released models have 1"


class ModelPanel(Panel):
    """Shapes, parameters, file, device, memory, speed."""

    title = "Model"
    help = "What is open, where it runs, how much memory it takes and how fast it writes."

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        layout = QFormLayout(self)
        self.values: dict[str, Label] = {}
        for name in _ROWS:
            label = Label("—")
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self.values[name] = label
            layout.addRow(Label(name), label)
        self.painting = 0.0  # share of the time that the window paints

    def set_run(self, run: Viewed) -> None:
        """Another model."""
        super().set_run(run)
        model = run.model
        if model is None:
            return
        c, n = model.config, model.n_parameters
        for name, words in {
            "model": model.name,
            "shape": model.shape,
            "parameters": f"{n / 1e6:,.1f} million" if n >= 1e6 else f"{n:,}",
            "vocabulary": f"{c.vocab_size:,} tokens ({model.tokenizer})",
            "low ranks": f"decay {c.rank_decay}, rate {c.rank_iclr}, value {c.rank_value}, "
            f"gate {c.rank_gate}",
            "removal scale": f"{c.removal_scale:g}" + (SCALED if c.removal_scale != 1 else ""),
            "file": f"{model.source} ({model.file_format})",
            "note": "; ".join(model.notes) or "—",
            "device": model.device + (f" · {model.device_words}" if model.device_words else ""),
            "weights": f"{model.dtype}, {model.nbytes / 1e6:.1f} MB",
            "state": f"{model.state_bytes / 1e6:.2f} MB at any length of text",
        }.items():
            self.values[name].setText(words)

    def show_picture(self, picture: Picture) -> None:
        """Speed now."""
        if picture.rate:
            self.values["speed"].setText(
                f"{picture.rate:.0f} tokens/s · {1000 / picture.rate:.2f} ms a token · "
                f"painting {100 * self.painting:.0f} % of the time"
            )
        else:
            self.values["speed"].setText("paused")

    def python(self) -> str | None:
        """The model."""
        return "print(model, model.config, model.n_parameters)\n"

"""Ask what of a run an animation is to show, and how fast."""

from __future__ import annotations

from PySide6.QtWidgets import QCheckBox, QDialog, QDialogButtonBox, QFormLayout, QSpinBox, QWidget

from goose_app.filming import Plan
from goose_app.plain import Label

_AT_FIRST = 200  # tokens that are offered, up to the cursor's line's end
_RATES = (1, 10, 50)  # pictures a second: the fewest, those at first, the most


class FilmDialog(QDialog):
    """From which token to which, every how many, how fast, in which colours.

    Parameters
    ----------
    parent : QWidget
    title : str
        What is shown.
    tokens : int
        How many there are.
    """

    def __init__(self, parent: QWidget, title: str, tokens: int) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"Animation of {title}")
        self.first, self.last, self.every, self.rate = (QSpinBox() for _ in range(4))
        for box in (self.first, self.last):
            box.setRange(0, tokens)
        self.first.setValue(max(1, tokens + 1 - _AT_FIRST))
        self.last.setValue(tokens)
        self.every.setRange(1, max(1, tokens))
        self.rate.setRange(_RATES[0], _RATES[2])
        self.rate.setValue(_RATES[1])
        self.rate.setSuffix(" a second")
        self.light = QCheckBox("on white")
        self.sum = Label()
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        rows = QFormLayout(self)
        for words, box in (
            ("from token", self.first), ("to token", self.last), ("a picture every", self.every),
            ("pictures", self.rate),
        ):  # fmt: skip
            box.valueChanged.connect(self._sum_up)
            rows.addRow(Label(words), box)
        rows.addRow("", self.light)
        rows.addRow("", self.sum)
        rows.addRow(buttons)
        self._sum_up()

    @property
    def plan(self) -> Plan:
        """What was chosen; the ends may be either way round."""
        first, last = sorted((self.first.value(), self.last.value()))
        return Plan(first, last, self.every.value(), self.rate.value(), self.light.isChecked())

    def _sum_up(self) -> None:
        plan = self.plan
        n = len(plan.places)
        self.every.setSuffix(" token" if plan.every == 1 else " tokens")
        self.sum.setText(f"{n:,} picture{'' if n == 1 else 's'}, {n / plan.rate:.1f} s")

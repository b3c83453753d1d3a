"""A run as the views know it; no Qt here, and no model."""

from __future__ import annotations

from typing import Protocol

from goose_app.cells import Cells
from goose_app.messages import Picture
from goose_app.model_facts import ModelFacts
from goose_app.series import Series


class Viewed(Protocol):
    """What a view may ask of a run, whether it is being written or was recorded."""

    model: ModelFacts | None
    cells: Cells
    series: Series | None
    picture: Picture


class RunView:
    """What the worker said of a run so far.

    Attributes
    ----------
    ident : int
        The number that its messages carry.
    model : ModelFacts or None
        None before one is open.
    cells : Cells
        All tokens of the current branch.
    series : Series or None
        Their figures.
    picture : Picture
        The moment at the cursor.
    running : bool
        Whether it is being written.
    """

    def __init__(self, ident: int = 0) -> None:
        self.ident = ident
        self.running = False
        self.open(None)

    def open(self, model: ModelFacts | None) -> None:
        """Another model: nothing of the last one holds."""
        self.model = model
        self.cells = Cells()
        self.series: Series | None = None
        self.picture = Picture.empty()

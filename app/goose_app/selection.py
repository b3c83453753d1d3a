"""Which layer and head everything shows; no Qt here."""

from __future__ import annotations

from collections.abc import Callable

from goose_viz.config import Config


class Selection:
    """One layer and one head, linked everywhere.

    Attributes
    ----------
    layer, head : int
    n_layer, n_head : int
        How many there are.
    """

    def __init__(self) -> None:
        self.layer = self.head = 0
        self.n_layer = self.n_head = 1
        self._listeners: list[Callable[[], None]] = []

    def listen(self, changed: Callable[[], None]) -> None:
        """Call back at every change."""
        self._listeners.append(changed)

    def resize(self, config: Config) -> None:
        """Another model: begin in its middle, where heads differ most."""
        self.n_layer, self.n_head = config.n_layer, config.n_head
        self.select(config.n_layer // 2, min(1, config.n_head - 1))

    def select(self, layer: int, head: int) -> None:
        """Choose; values beyond the ends stay at the ends."""
        self.layer = min(max(layer, 0), self.n_layer - 1)
        self.head = min(max(head, 0), self.n_head - 1)
        for changed in self._listeners:
            changed()

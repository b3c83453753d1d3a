"""Every head's memory at once, as thumbnails."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QRectF
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QVBoxLayout

from goose_app.heatmap import Heatmap
from goose_app.messages import Picture
from goose_app.panels.panel import Panel
from goose_app.run_view import Viewed
from goose_app.selection import Selection
from goose_app.theme import Theme, gradient
from goose_viz.compiled import regrouped
from goose_viz.metrics import rms

_PIXELS = 600_000  # thumbnails are thinned out beyond so many numbers: a screen shows no more
_GAP = 2  # pixels between thumbnails, in a colour of their own
_GAP_INDEX = 0


class HeadsPanel(Panel):
    """Layers downwards, heads to the right; a click chooses."""

    title = "All heads"
    needs = frozenset(("wkv",))
    phase = (1, 5)
    help = "Every head's memory, each on a scale of its own. Click one to look at it closely."

    def __init__(self, selection: Selection) -> None:
        super().__init__(selection)
        self.map = Heatmap("head", "layer", self._describe, square=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.map)
        self._cell = 1  # pixels of a thumbnail with its gap
        self.map.cell_clicked.connect(
            lambda row, column: selection.select(row // self._cell, column // self._cell)
        )

    def set_theme(self, theme: Theme) -> None:
        """Other colours."""
        super().set_theme(theme)
        self.map.set_theme(theme)
        table = gradient(theme.diverging).copy()
        table[_GAP_INDEX] = QColor(theme.line).getRgb()[:3]
        self.map.set_colours(table, "−4 RMS", "+4 RMS")
        self.refresh()

    def set_run(self, run: Viewed) -> None:
        """Other layers and heads."""
        super().set_run(run)
        self._selection_changed()

    def show_picture(self, picture: Picture) -> None:
        """All heads at the cursor."""
        thumbnails = thumbnail_sheet(picture.wkv)
        L, H = picture.wkv.shape[:2]
        self._cell = (thumbnails.shape[0] + _GAP) // L
        if thumbnails.shape != self.map._indices.shape:
            self.map.set_ticks(
                [(h * self._cell + self._cell / 2, str(h)) for h in range(H)],
                [(i * self._cell + self._cell / 2, str(i)) for i in range(L)],
            )
        self.map.set_indices(thumbnails)
        self._mark()

    def numbers(self) -> dict[str, NDArray[Any]]:
        """How large each is: layers × heads."""
        return {} if self.picture is None else {"RMS": rms(self.picture.wkv)}

    def python(self) -> str | None:
        """All matrices."""
        return "print(session.state.wkv.shape)  # (layers, heads, value, key)\n"

    def _selection_changed(self) -> None:
        self._mark()

    def _mark(self) -> None:
        c, s = self._cell, self.selection
        self.map.mark(QRectF(s.head * c, s.layer * c, c - _GAP, c - _GAP))

    def _describe(self, row: int, column: int) -> str:
        if self.picture is None:
            return ""
        layer, head = row // self._cell, column // self._cell
        return f"layer {layer} · head {head} · RMS {rms(self.picture.wkv[layer, head]):.3g}"


def thumbnail_sheet(wkv: NDArray[np.floating]) -> NDArray[np.uint8]:
    """All heads side by side, gaps between, each scaled by four times its own RMS.

    (L, H, N, N) -> (L (n + gap) - gap, H (n + gap) - gap) places in a diverging map, n <= N; place
    0 is the gap's.
    """
    L, H, N, _ = wkv.shape
    stride = max(1, int(np.ceil(np.sqrt(wkv.size / _PIXELS))))
    cell = -(-N // stride) + _GAP
    sheet = np.full((L * cell - _GAP, H * cell - _GAP), _GAP_INDEX, np.uint8)
    _fill(wkv, stride, cell, sheet)
    return sheet


@regrouped
def _fill(wkv, stride, cell, sheet):  # type: ignore[no-untyped-def]
    """Write every head's thumbnail; NumPy would make four copies of the state on the way."""
    L, H, N, _ = wkv.shape
    n = (N + stride - 1) // stride
    for layer in range(L):
        for head in range(H):
            S = wkv[layer, head]
            squares = 0.0
            for i in range(n):
                for j in range(n):
                    squares += S[i * stride, j * stride] * S[i * stride, j * stride]
            level = 4 * np.sqrt(squares / (n * n))
            scale = np.float32(127 / level) if level > 0 else np.float32(0)
            for i in range(n):
                for j in range(n):
                    place = np.float32(S[i * stride, j * stride]) * scale + np.float32(128)
                    place = min(max(place, np.float32(1)), np.float32(255))
                    sheet[layer * cell + i, head * cell + j] = np.uint8(place)

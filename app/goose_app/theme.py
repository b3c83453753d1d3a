"""Colours: two themes, and the maps that turn numbers into colours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from PySide6.QtGui import QColor, QPalette

Table = NDArray[np.uint8]  # (256, 3), sRGB


@dataclass(frozen=True)
class Theme:
    """One look.

    Attributes
    ----------
    window, panel, line, warning : str
        Grounds: around panels, of panels, of what is under the mouse, of errors.
    text, given, dim, future : str
        Writing: what the model wrote, what it was given, quiet words, what follows the cursor.
    outline, accent : str
        Of controls; of the cursor and what is chosen.
    diverging : tuple of str
        Stops from the most negative to the most positive; the middle is the panel's own ground, so
        that what is nothing looks like nothing.
    heat : tuple of str
        Ground to colour of the text's cells.
    """

    name: str
    window: str
    panel: str
    line: str
    warning: str
    text: str
    given: str
    dim: str
    future: str
    outline: str
    accent: str
    diverging: tuple[str, ...]
    heat: tuple[str, str]


DARK = Theme(
    "dark", "#15171c", "#1b1e25", "#333945", "#c8453b",
    "#dfe3ea", "#a9b2c1", "#8a93a3", "#7f8898", "#6a7282", "#ffb347",
    ("#bfe3ff", "#4ea3e8", "#23558c", "#1b1e25", "#8c3d22", "#ea7a45", "#ffd9bd"),
    ("#1b1e25", "#3a6ea8"),
)  # fmt: skip
LIGHT = Theme(
    "light", "#f2f3f5", "#ffffff", "#cfd4dc", "#b3261e",
    "#1c2026", "#4f5867", "#667080", "#6d7686", "#828b99", "#ad5300",
    ("#0b3c6f", "#2f7fc4", "#a9cfec", "#ffffff", "#f4b99b", "#d2592a", "#74230a"),
    ("#ffffff", "#8fbdf0"),
)  # fmt: skip


@lru_cache
def gradient(stops: tuple[str, ...]) -> Table:
    """Evenly spaced stops, blended in linear light: (256, 3)."""
    rgb = np.array([QColor(s).getRgbF()[:3] for s in stops]) ** 2.2
    at = np.linspace(0, len(stops) - 1, 256)
    mixed = np.stack([np.interp(at, range(len(stops)), rgb[:, c]) for c in range(3)], 1)
    return np.round(mixed ** (1 / 2.2) * 255).astype(np.uint8)


@lru_cache
def sequential(name: str) -> Table:
    """A perceptually uniform map by its matplotlib name: (256, 3)."""
    table = pg.colormap.get(name).getLookupTable(nPts=256, alpha=False)
    return np.asarray(table, np.uint8)


def layer_colours(theme: Theme, n_layer: int) -> list[QColor]:
    """Layers are ordered, so their colours are: first to last along one map, ends left out.

    They are mixed with the ground, so that the chosen layer's line stands out; mixed here, because
    a transparent pen takes Qt three times as long.
    """
    low, high = (0.25, 0.95) if theme is DARK else (0.05, 0.75)
    rows = np.linspace(low * 255, high * 255, n_layer).round().astype(int)
    ground = np.array(QColor(theme.panel).getRgb()[:3])
    mixed = 0.65 * sequential("viridis")[rows] + 0.35 * ground
    return [QColor(*row) for row in mixed.round().astype(int).tolist()]


def palette(theme: Theme) -> QPalette:
    """The theme for Qt's own widgets (Fusion style)."""
    p = QPalette()
    role = QPalette.ColorRole
    for roles, colour in (
        ((role.Window, role.Button, role.AlternateBase), theme.window),
        ((role.Base, role.ToolTipBase), theme.panel),
        ((role.WindowText, role.Text, role.ButtonText, role.ToolTipText), theme.text),
        ((role.PlaceholderText,), theme.dim),
        ((role.Highlight, role.Link), theme.accent),
        ((role.HighlightedText,), theme.window),
        ((role.Dark,), theme.line),
        ((role.Mid,), theme.outline),
    ):
        for r in roles:
            p.setColor(r, QColor(colour))
    for r in (role.WindowText, role.Text, role.ButtonText):
        p.setColor(QPalette.ColorGroup.Disabled, r, QColor(theme.dim))
    return p

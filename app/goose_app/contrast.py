"""Writing that can be read on any ground: contrasts as WCAG 2.2 counts them."""

from __future__ import annotations

from functools import lru_cache

from PySide6.QtGui import QColor

TEXT, CONTROL = 4.5, 3.0  #: the least contrast of writing, and of what is drawn of a control
_STEPS = 8  # between a wanted colour and black or white


def luminance(colour: QColor) -> float:
    """Relative luminance, 0 to 1: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    r, g, b = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.getRgbF()[:3]
    )
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: QColor, b: QColor) -> float:
    """How far two colours stand apart: 1 to 21."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def readable(wanted: QColor, ground: QColor) -> QColor:
    """The wanted colour, moved towards black or white until it can be read on a ground."""
    return QColor(_readable(wanted.rgb(), ground.rgb()))


@lru_cache(4096)
def _readable(wanted: int, ground: int) -> int:
    pen, paper = QColor(wanted), QColor(ground)
    white, black = QColor("white"), QColor("black")
    end = white if contrast(white, paper) >= contrast(black, paper) else black
    for step in range(_STEPS + 1):
        mixed = _mix(pen, end, step / _STEPS)
        if contrast(mixed, paper) >= TEXT:
            return mixed.rgb()
    return end.rgb()


def _mix(a: QColor, b: QColor, share: float) -> QColor:
    pairs = zip(a.getRgb()[:3], b.getRgb()[:3], strict=True)
    return QColor(*(round((1 - share) * x + share * y) for x, y in pairs))

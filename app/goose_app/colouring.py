"""What the colour of a token's cell tells: a table over figures of the run; no Qt here."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from goose_app.run_view import Viewed
from goose_app.selection import Selection

_SURPRISED = 10.0  # bits at which a cell has its full colour
_STEPS = 8  # colours differ by so many of 255: nobody sees less, and fewer lines are drawn anew


class Colouring(NamedTuple):
    """What a cell's colour tells, and words for it.

    Attributes
    ----------
    legend : str
    unit : str
        Of the figures that the colours stand for.
    recorded : str or None
        An observable of heads, of every token.
    explained : str or None
        A part of the explanation at the cursor, signed.
    """

    legend: str
    unit: str = ""
    recorded: str | None = None
    explained: str | None = None


class Levels(NamedTuple):
    """Colours of cells.

    Attributes
    ----------
    places : ndarray of int
        In a colour map, 0 to 255.
    low, high : float
        What the ends of the map stand for.
    """

    places: NDArray[np.int64]
    low: float
    high: float


SURPRISAL, NOTHING = "surprisal", "nothing"
GIVES = "what it gives to the next word"
HELD, READ = "still held by the head", "read now by the head"
#: What cells can be coloured by.
COLOURINGS = {
    SURPRISAL: Colouring("strong: not expected", "bits"),
    "removed by the head": Colouring("strong: much left the head then", "norm", "removed_norm"),
    "written by the head": Colouring("strong: much entered the head then", "norm", "written_norm"),
    GIVES: Colouring("orange: for it, blue: against it", "logits", None, "by_token"),
    HELD: Colouring("strong: most is left", "of its key", None, "retention"),
    READ: Colouring("strong: read most; blue: negative", "weight", None, "attention"),
    NOTHING: Colouring(""),
}


def levels(name: str, run: Viewed, selection: Selection, start: int, stop: int) -> Levels | None:
    """Places in a colour map of the tokens [start, stop); None for no colour.

    The middle, 128, stands for nothing where the colouring is signed, 0 elsewhere.
    """
    colouring = COLOURINGS[name]
    low = high = 0.0
    if colouring.explained is not None:
        found = np.full(stop - start, 128)
        told = run.picture.why if name == GIVES else run.picture.head
        if told is not None:
            values = _finite(getattr(told, colouring.explained))
            high = float(np.abs(values).max(initial=1e-30))
            low = -high
            part = values[start:stop]
            found[: len(part)] = np.clip(np.rint(128 + 127 * part / high), 0, 255)
    elif colouring.recorded is not None:
        if run.series is None:
            return None
        begin, rows = run.series.window(colouring.recorded, start, stop)
        norms = _finite(rows[:, selection.layer, selection.head])
        largest = float(norms.max(initial=1e-9))  # in sight, rounded up to hold still
        high = 1.5 ** math.ceil(math.log(largest, 1.5))
        found = np.zeros(stop - start, np.int64)
        found[begin - start : begin - start + len(norms)] = 255 * np.minimum(norms / high, 1)
    elif name == SURPRISAL:
        high = _SURPRISED
        chances = np.array(run.cells.probabilities[start:stop])
        found = np.minimum(255 / _SURPRISED * surprisal(chances), 255).astype(np.int64)
    else:
        return None
    middle = 128 if colouring.explained is not None else 0
    return Levels(middle + ((found - middle) / _STEPS).astype(np.int64) * _STEPS, low, high)


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    """A memory may break: what is no number has no colour."""
    return np.nan_to_num(values, nan=0, posinf=0, neginf=0)


def surprisal(probability: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Bits of a token's surprise; 0 where nothing was expected yet (NaN)."""
    return np.nan_to_num(-np.log2(np.maximum(probability, 1e-30)))

"""What the worker and the window say to each other; no Qt here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_app.series import Series
from goose_viz import Model, Sampler

# -- to the worker -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """Open a model; None is the embedded one."""

    source: str | None
    device: str = "auto"
    dtype: str = "auto"
    tokenizer: str | None = None


@dataclass(frozen=True)
class Restart:
    """Forget the run and feed a prompt."""

    prompt: str
    sampler: Sampler


@dataclass(frozen=True)
class Run:
    """Write on, until told otherwise or for so many tokens."""

    tokens: int | None = None


@dataclass(frozen=True)
class Pause:
    """Stop writing."""


@dataclass(frozen=True)
class Step:
    """One token on."""


@dataclass(frozen=True)
class Goto:
    """Put the cursor behind so many tokens."""

    position: int


@dataclass(frozen=True)
class Branch:
    """Another token behind so many."""

    position: int
    token: int


@dataclass(frozen=True)
class Switch:
    """Another course: so many further on, round and round."""

    by: int


@dataclass(frozen=True)
class Resample:
    """Other sampling from here on."""

    sampler: Sampler


@dataclass(frozen=True)
class Export:
    """Write a snapshot."""

    path: Path


@dataclass(frozen=True)
class Resume:
    """Go on from a snapshot."""

    path: Path


Command = Load | Restart | Run | Pause | Step | Goto | Branch | Switch | Resample | Export | Resume

# -- to the window -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Loading:
    """Work that takes a while, and how far it is; words are empty when it has ended."""

    fraction: float
    words: str


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model is there."""

    model: Model


@dataclass(frozen=True, eq=False)
class Began:
    """A run begins: no token yet; here will be its figures, and so it samples."""

    series: Series
    sampler: Sampler


@dataclass(frozen=True, eq=False)
class Charted:
    """Another course was taken: its figures are here."""

    series: Series


@dataclass(frozen=True, slots=True)
class Cell:
    """A token for the text: index in the line, id, text, name, probability, chosen or given."""

    index: int
    token: int
    text: str
    label: str
    probability: float
    generated: bool


@dataclass(frozen=True)
class Cells:
    """Tokens from an index on; what stood there and behind is gone."""

    start: int
    cells: list[Cell]


@dataclass(frozen=True)
class Running:
    """Whether the worker writes."""

    running: bool


@dataclass(frozen=True)
class Told:
    """Something happened that is worth a line: an export, a stop."""

    words: str


@dataclass(frozen=True)
class Failed:
    """Something did not work, in words; the run up to there is kept."""

    words: str


Event = Loading | Loaded | Began | Charted | Cells | Running | Told | Failed


def merged(events: deque[Event]) -> Iterator[Event]:
    """The events so far; tokens that follow each other come as one."""
    pending: Cells | None = None
    while events:
        event = events.popleft()
        if not isinstance(event, Cells):
            if pending is not None:
                yield pending
            pending = None
            yield event
        elif pending is not None and event.start == pending.start + len(pending.cells):
            pending.cells.extend(event.cells)
        else:
            if pending is not None:
                yield pending
            pending = event
    if pending is not None:
        yield pending


@dataclass(frozen=True, eq=False)
class Picture:
    """The model at the cursor; only the newest matters.

    Attributes
    ----------
    position, recorded : int
        Tokens up to the cursor, and in the line.
    decay, iclr : ndarray (L, D) or None
        None before the first token.
    wkv : ndarray (L, H, N, N)
    next_tokens : list of (token, label, probability)
    rate : float
        Tokens a second, lately; 0 when paused.
    line, lines : int
        Which course this is, and how many were taken so far.
    """

    position: int
    recorded: int
    decay: NDArray[Any] | None
    iclr: NDArray[Any] | None
    wkv: NDArray[Any]
    next_tokens: list[tuple[int, str, float]] = field(default_factory=list)
    rate: float = 0.0
    line: int = 0
    lines: int = 1

    @staticmethod
    def empty() -> Picture:
        """Before any model."""
        return Picture(0, 0, None, None, np.zeros((1, 1, 1, 1), np.float32))

"""Words that somebody watches: how likely each was behind every token; no Qt here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.readout import pin_all
from goose_viz.history import Path, Segment

_ROOM = 256  # tokens for which there is room at first


class Pins:
    """Probabilities and ranks of pinned words, per segment of a history.

    A model that writes has them at hand; those of tokens that were read before are filled in later.
    """

    def __init__(self) -> None:
        self.tokens: tuple[int, ...] = ()
        self._known: dict[tuple[Segment, int], NDArray[np.float64]] = {}  # (n, 2), NaN: unknown

    def watch(self, tokens: Iterable[int]) -> None:
        """These words from now on."""
        self.tokens = tuple(tokens)
        self._known = {k: v for k, v in self._known.items() if k[1] in self.tokens}

    def put(self, segment: Segment, index: int, logits: NDArray[Any]) -> None:
        """What was expected behind the token of an index in a path."""
        row = index - segment.fork
        for token, found in zip(self.tokens, pin_all(logits, self.tokens), strict=True):
            self._rows(segment, token, row + 1)[row] = found

    def _rows(self, segment: Segment, token: int, n: int) -> NDArray[np.float64]:
        rows = self._known.get((segment, token))
        if rows is None or len(rows) < n:
            room = max(_ROOM, 2 * n)
            larger = np.full((room, 2), np.nan)
            if rows is not None:
                larger[: len(rows)] = rows
            rows = self._known[segment, token] = larger
        return rows

    def of(self, path: Path, start: int, stop: int) -> NDArray[np.float64]:
        """(words, n, 2): probability and rank of each behind the tokens [start, stop) of a path."""
        out = np.full((len(self.tokens), stop - start, 2), np.nan)
        for i, token in enumerate(self.tokens):
            for segment, part in path.pieces(start, stop):
                rows, at = self._rows(segment, token, part.stop), segment.fork - start
                out[i, at + part.start : at + part.stop] = rows[part]
        return out

    def missing(self, path: Path, stop: int) -> tuple[int, int] | None:
        """Tokens [a, b) up to the last one that is not known; None if all are."""
        unknown = np.flatnonzero(np.isnan(self.of(path, 0, stop)).any((0, 2)))
        return (int(unknown[0]), int(unknown[-1]) + 1) if len(unknown) else None

    def forget(self, there: list[Segment]) -> None:
        """Keep those of segments that are there."""
        self._known = {k: v for k, v in self._known.items() if k[0] in there}

"""Where a run is to stop: a condition, and the places where it held; no Qt here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

import goose_viz as gv
from goose_viz.history import Path, Segment
from goose_viz.replay import KeepGoing

_CHUNK = 64  # tokens that are looked through at a time


class Stops:
    """A condition and what is known of it, per segment of a history.

    Attributes
    ----------
    condition : Condition or None
    """

    def __init__(self) -> None:
        self.condition: gv.Condition | None = None
        self._hits: dict[Segment, list[int]] = {}
        self._searched: dict[Segment, int] = {}  # the token up to which all are known

    def watch(self, condition: gv.Condition | None) -> None:
        """Another condition; nothing is known of it."""
        self.condition = condition
        self._hits.clear()
        self._searched.clear()

    @property
    def observables(self) -> frozenset[str]:
        """What it asks to be observed of every token."""
        return self.condition.observables if self.condition is not None else frozenset()

    def put(self, session: gv.Session, before: NDArray[Any] | None) -> bool:
        """Whether it holds of the token before the cursor, which was read just now."""
        if self.condition is None:
            return False
        names = session.frame.arrays().keys() if session.frame is not None else frozenset[str]()
        if not self.observables <= names:
            return False  # it was read before anybody asked for that; `search` finds it
        index = session.position - 1
        segment = session.path.at(index)
        holds = session.meets(self.condition, before)
        if self._searched.get(segment, segment.fork) == index:
            self._searched[segment] = index + 1
            if holds:
                self._hits.setdefault(segment, []).append(index + 1)
        return holds

    def positions(self, path: Path) -> list[int]:
        """Where it holds on a path, as far as is known."""
        found = []
        for segment, part in path.pieces(0, path.stop):
            stop = segment.fork + part.stop
            found += [p for p in self._hits.get(segment, []) if p <= stop]
        return found

    def search(self, session: gv.Session, keep_going: KeepGoing) -> Iterator[float]:
        """Look through the tokens of the current branch that are not known; yields the share."""
        condition, path = self.condition, session.path
        if condition is None:
            return
        for segment, part in list(path.pieces(0, path.stop)):
            stop = segment.fork + part.stop
            at = self._searched.get(segment, segment.fork)
            while at < stop and condition is self.condition:
                end = min(at + _CHUNK, stop)
                found = list(session.find(condition, at, end, keep_going=keep_going))
                self._hits.setdefault(segment, []).extend(found)
                self._searched[segment] = at = end
                yield at / path.stop

    def forget(self, there: list[Segment]) -> None:
        """Keep what is known of segments that are there."""
        for known in (self._hits, self._searched):
            for segment in [s for s in known if s not in there]:
                del known[segment]

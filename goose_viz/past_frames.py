"""Frames of past tokens: stored ones, or made again by reading the tokens once more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.memory import NOW, PAST
from goose_viz.config import Config
from goose_viz.frame_store import FrameStore, between
from goose_viz.frames import Frames
from goose_viz.history import Path, Segment
from goose_viz.probe import Frame, Probe
from goose_viz.replay import KeepGoing, Replay, Start


class PastFrames:
    """What a session knows of the observables of its tokens.

    Parameters
    ----------
    replay : Replay
        Reads tokens again.
    config : Config
    budget : int
        Bytes for what is stored.

    Attributes
    ----------
    store, reads : FrameStore
    """

    def __init__(self, replay: Replay, config: Config, budget: int) -> None:
        self._replay, self._config, self.budget = replay, config, budget
        self.store = FrameStore(PAST, budget * 5 // 6)
        self.reads = FrameStore(("receptance",), budget // 6)  # for maps of what every token reads

    def read(
        self,
        path: Path,
        start: int,
        stop: int,
        observables: Iterable[str] | None,
        layers: Sequence[int] | None,
        memory: NDArray[Any] | None,
        cursor: tuple[int, Frame | None, Start | None],
        keep_going: KeepGoing | None,
    ) -> Frames:
        """Frames of a path's tokens [start, stop), as `Session.frames` gives them.

        ``memory`` (L, H, N, N) is that ahead of the first, if it is wanted; ``cursor`` is the index
        of the cursor's token, its frame, and the place from which can be read on.
        """
        wanted = Probe(PAST if observables is None else observables, layers)
        arrays = self._arrays(path, start, stop, wanted, cursor, keep_going)
        last = None
        if observables is None:
            ((_, last),) = self._probed(path, stop - 1, stop, Probe(NOW, layers), cursor)
        config = self._config
        rows = tuple(range(config.n_layer)) if layers is None else wanted.layers or ()
        factors, added = between(path, start, stop, config, rows)
        return Frames(
            arrays, rows, path.tokens(start, stop), config.n_head, start=start,
            initial=None if memory is None else np.array(memory[list(rows)]), factors=factors,
            added=added, last=last, removal_scale=config.removal_scale,
        )  # fmt: skip

    def _arrays(
        self,
        path: Path,
        start: int,
        stop: int,
        wanted: Probe,
        cursor: tuple[int, Frame | None, Start | None],
        keep_going: KeepGoing | None,
    ) -> dict[str, NDArray[Any]]:
        """Observable -> (stop - start, layers, …)."""
        stores = [s for s in (self.store, self.reads) if wanted.observables & s.names]
        if stores and wanted.observables <= frozenset().union(*(s.names for s in stores)):
            self._fill(stores, path, start, stop, cursor, keep_going)
            if not any(s.missing(path, start, stop) for s in stores):  # the bound may be too low
                arrays: dict[str, NDArray[Any]] = {}
                for store in stores:
                    arrays |= store.get(path, start, stop, wanted.observables & store.names)
                if wanted.layers is not None:
                    arrays = {n: a[:, list(wanted.layers)] for n, a in arrays.items()}
                return arrays
        probed = self._probed(path, start, stop, wanted, cursor, keep_going)
        found = [frame.arrays() for _, frame in probed]
        return {n: np.stack([f[n] for f in found]) for n in wanted.observables}

    def put(self, segment: Segment, index: int, frame: Frame) -> None:
        """Enter what is stored of a token's frame."""
        self.store.put(segment, index, frame)
        self.reads.put(segment, index, frame)

    def forget(self, segment: Segment, position: int) -> None:
        """The segment's tokens from a position on are no more."""
        self.store.forget(segment, position)
        self.reads.forget(segment, position)

    def _fill(
        self,
        stores: Sequence[FrameStore],
        path: Path,
        start: int,
        stop: int,
        cursor: tuple[int, Frame | None, Start | None],
        keep_going: KeepGoing | None,
    ) -> None:
        """Read again what is missing in one of the stores."""
        gaps = [gap for store in stores for gap in store.missing(path, start, stop)]
        probe = Probe(frozenset().union(*(s.names for s in stores)))
        for begin, end in _joined(gaps):
            for i, frame in self._probed(path, begin, end, probe, cursor, keep_going):
                self.put(path.at(i), i, frame)

    def _probed(
        self,
        path: Path,
        start: int,
        stop: int,
        probe: Probe,
        cursor: tuple[int, Frame | None, Start | None],
        keep_going: KeepGoing | None = None,
    ) -> Iterator[tuple[int, Frame]]:
        """(index, frame) of the tokens [start, stop), read again unless they are the cursor's."""
        index, known, here = cursor
        if (
            known is not None
            and (start, stop) == (index, index + 1)
            and probe.layers is None
            and probe.observables <= known.arrays().keys()
        ):
            yield start, known
        else:
            again = self._replay.again(path, start, stop, here, probe=probe, keep_going=keep_going)
            for i, frame, _ in again:
                assert frame is not None
                yield i, frame


def _joined(gaps: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges that together cover the same, none touching another."""
    out: list[tuple[int, int]] = []
    for begin, end in sorted(gaps):
        if out and begin <= out[-1][1]:
            out[-1] = out[-1][0], max(out[-1][1], end)
        else:
            out.append((begin, end))
    return out

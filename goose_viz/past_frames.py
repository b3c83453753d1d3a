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
from goose_viz.history import Path
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
    store : FrameStore
    """

    def __init__(self, replay: Replay, config: Config, budget: int) -> None:
        self._replay, self._config = replay, config
        self.store = FrameStore(PAST, budget)

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
            added=added, last=last,
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
        store = self.store
        if wanted.observables <= store.names:
            for begin, end in store.missing(path, start, stop):
                probe = Probe(store.names)
                for i, frame in self._probed(path, begin, end, probe, cursor, keep_going):
                    store.put(path.at(i), i, frame)
            if not store.missing(path, start, stop):  # the bound may not have room for all
                arrays = store.get(path, start, stop, wanted.observables)
                if wanted.layers is not None:
                    arrays = {n: a[:, list(wanted.layers)] for n, a in arrays.items()}
                return arrays
        probed = self._probed(path, start, stop, wanted, cursor, keep_going)
        found = [frame.arrays() for _, frame in probed]
        return {n: np.stack([f[n] for f in found]) for n in wanted.observables}

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

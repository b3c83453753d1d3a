"""Observables of past tokens: kept within a bound, or made again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.config import Config
from goose_viz.edits import Mute
from goose_viz.frames import Added
from goose_viz.history import Path, Segment
from goose_viz.probe import Frame

_BLOCK = 128  # tokens that are kept together


class FrameStore:
    """Observables of recent tokens, in blocks, bounded in bytes.

    Parameters
    ----------
    names : iterable of str
        What is kept of a frame.
    budget : int
        Bytes; the blocks that were used longest ago go first.
    """

    def __init__(self, names: Iterable[str], budget: int) -> None:
        self.names = frozenset(names)
        self.budget = budget
        self.nbytes = 0
        self._blocks: OrderedDict[tuple[Segment, int], dict[str, NDArray[Any]]] = OrderedDict()
        self._have: dict[tuple[Segment, int], NDArray[np.bool_]] = {}

    def put(self, segment: Segment, index: int, frame: Frame) -> None:
        """Keep a token's, if the frame has all of them."""
        arrays = frame.arrays()
        if not self.names <= arrays.keys():
            return
        key = segment, index // _BLOCK
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = {
                n: np.empty((_BLOCK, *arrays[n].shape), arrays[n].dtype) for n in self.names
            }
            self._have[key] = np.zeros(_BLOCK, bool)
            self.nbytes += sum(a.nbytes for a in block.values())
            while self.nbytes > self.budget and self._blocks:
                gone, arrays_gone = self._blocks.popitem(last=False)
                del self._have[gone]
                self.nbytes -= sum(a.nbytes for a in arrays_gone.values())
            if key not in self._blocks:
                return
        for n, rows in block.items():
            rows[index % _BLOCK] = arrays[n]
        self._have[key][index % _BLOCK] = True

    def missing(self, path: Path, start: int, stop: int) -> list[tuple[int, int]]:
        """Ranges of [start, stop) that are not here."""
        have = np.zeros(stop - start, bool)
        for segment, block, rows, at in self._pieces(path, start, stop):
            known = self._have.get((segment, block))
            if known is not None:
                have[at - start : at - start + rows.stop - rows.start] = known[rows]
        edges = np.flatnonzero(np.diff(np.concatenate([[True], have, [True]]).astype(np.int8)))
        return [(start + int(a), start + int(b)) for a, b in edges.reshape(-1, 2)]

    def get(self, path: Path, start: int, stop: int, names: Iterable[str]) -> dict[str, Any]:
        """Name -> (stop - start, layers, …); none may be missing."""
        parts: dict[str, list[NDArray[Any]]] = {n: [] for n in names}
        for segment, block, rows, _ in self._pieces(path, start, stop):
            self._blocks.move_to_end((segment, block))
            for n, found in parts.items():
                found.append(self._blocks[segment, block][n][rows])
        return {n: np.concatenate(found) for n, found in parts.items()}

    def _pieces(
        self, path: Path, start: int, stop: int
    ) -> Iterator[tuple[Segment, int, slice, int]]:
        """(segment, block, its rows, index of the first of them) of the tokens [start, stop)."""
        for segment, part in path.pieces(start, stop):
            at, end = segment.fork + part.start, segment.fork + part.stop
            while at < end:
                block, row = divmod(at, _BLOCK)
                n = min(end - at, _BLOCK - row)
                yield segment, block, slice(row, row + n), at
                at += n

    def forget(self, segment: Segment, position: int) -> None:
        """The segment's tokens from a position on are no more."""
        for (owner, block), have in self._have.items():
            if owner is segment:
                have[max(0, position - block * _BLOCK) :] = False


def between(
    path: Path, start: int, stop: int, config: Config, rows: Sequence[int]
) -> tuple[NDArray[np.float64] | None, list[Added]]:
    """What edits between the tokens [start, stop) did to some layers, as `Frames` wants it.

    Those made ahead of the first token belong to the memory there, those behind the last to what
    comes.
    """
    edits = path.edits(stop - 1)
    inside = [e for e in edits if start < e.position]
    muted = [(e, e.what) for e in edits if isinstance(e.what, Mute)]
    if not inside and not muted:
        return None, []
    H, N = config.n_head, config.head_size
    kept = np.ones((stop - start, config.n_layer, H))
    added: list[Added] = []
    for edit in inside:
        index, scope = edit.position - start, edit.what.scope(config)
        kept[index][scope] *= edit.what.keeps
        for earlier in added:
            if earlier.index == index:
                earlier.change[scope] *= edit.what.keeps
        if edit.numbers is not None:
            change = np.zeros((config.n_layer, H, N, N), edit.numbers.dtype)
            where = np.zeros((config.n_layer, H), bool)
            change[scope], where[scope] = edit.numbers, True
            gone = range(max(edit.what.gone.start - start, 0), max(edit.what.gone.stop - start, 0))
            added.append(Added(index, change, gone, where))
    for edit, what in muted:
        for index in range(max(1, edit.position + 1 - start), stop - start):
            if what.during(start + index - 1, start + index, edit):
                kept[index][what.scope(config)] = 0
    layers = list(rows)
    return kept[:, layers], [
        Added(a.index, a.change[layers], a.gone, a.where[layers]) for a in added
    ]

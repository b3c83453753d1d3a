"""Observables of many tokens in a row, as the analyses want them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from goose_viz.config import Config
from goose_viz.edits import Mute
from goose_viz.history import Path, Segment
from goose_viz.probe import Frame

_BLOCK = 128  # tokens that are kept together


@dataclass(frozen=True, eq=False)
class Added:
    """What an edit put into the memory just ahead of a token.

    Attributes
    ----------
    index : int
        Of the token, among the frames.
    change : ndarray (L, H, N, N)
    gone : range
        Indices of the tokens whose remains it takes out, beside what it puts in.
    scope : (slice, slice)
        Layers and heads where it acts.
    """

    index: int
    change: NDArray[Any]
    gone: range
    scope: tuple[slice, slice]


class Frames(Sequence[Frame]):
    """Frames of tokens that follow each other, stacked.

    Parameters
    ----------
    arrays : dict of str to ndarray (T, layers, …)
    layers : tuple of int
    tokens : sequence of int
        Their ids.
    n_head : int
    start : int
        Where the first of them stands in the session.
    initial : ndarray (L, H, N, N), optional
        The memory ahead of the first; zeros when left out.
    kept : ndarray (T, L, H), optional
        What edits left of the memory just ahead of each token, as a factor; 1 when left out.
    added : sequence of Added
        What edits put into it there.
    last : Frame, optional
        More observables of the last token.
    """

    def __init__(
        self,
        arrays: dict[str, NDArray[Any]],
        layers: tuple[int, ...],
        tokens: Sequence[int],
        n_head: int,
        *,
        start: int = 0,
        initial: NDArray[Any] | None = None,
        kept: NDArray[Any] | None = None,
        added: Sequence[Added] = (),
        last: Frame | None = None,
    ) -> None:
        self.arrays, self.layers, self.tokens = arrays, layers, tuple(tokens)
        self.n_head = n_head
        self.start, self.initial, self.kept, self.added = start, initial, kept, tuple(added)
        self._last = last

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> Frames:
        """A probe's frames, beginning with the first token of all; stacked ones as they are.

        Raises
        ------
        ValueError
            If there are none.
        """
        if isinstance(frames, Frames):
            return frames
        if not frames:
            raise ValueError("no frames; expected those of at least one token")
        names = set.intersection(*(set(f.arrays()) for f in frames)) - {"wkv"}
        arrays = {n: np.stack([getattr(f, n) for f in frames]) for n in names}
        last, tokens = frames[-1], [f.token for f in frames]
        return cls(arrays, last.layers, tokens, last.n_head, last=last)

    def __len__(self) -> int:
        return len(self.tokens)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Frame]: ...

    def __getitem__(self, index: int | slice) -> Frame | Sequence[Frame]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        more = self._last.arrays() if self._last is not None and i == len(self) - 1 else {}
        arrays = {n: a[i] for n, a in self.arrays.items()}
        return Frame(arrays | more, self.layers, self.tokens[i], self.n_head)

    def row(self, layer: int) -> int:
        """Where a layer lies in the arrays.

        Raises
        ------
        ValueError
            If the frames do not have it.
        """
        if layer not in self.layers:
            raise ValueError(f"layer {layer} was not probed; the frames have {self.layers}")
        return self.layers.index(layer)

    def heads(self, name: str) -> NDArray[Any]:
        """An observable with one axis of channels as (T, layers, H, N).

        Raises
        ------
        ValueError
            If it was not probed.
        """
        if name not in self.arrays:
            kept = ", ".join(sorted(self.arrays))
            raise ValueError(f"{name} was not probed; the frames have {kept or 'nothing'}")
        a = self.arrays[name]
        return np.ascontiguousarray(a).reshape(*a.shape[:2], self.n_head, a.shape[2] // self.n_head)


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
    ) -> Iterable[tuple[Segment, int, slice, int]]:
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
    path: Path, start: int, stop: int, config: Config
) -> tuple[NDArray[np.float64] | None, list[Added]]:
    """What edits between the tokens [start, stop) did to the memory, as `Frames` wants it.

    Those made ahead of the first token belong to the memory there, those behind the last to what
    comes.
    """
    edits = [e for e in path.edits(stop - 1) if start < e.position]
    muted = [(e, e.what) for e in path.edits(stop - 1) if isinstance(e.what, Mute)]
    if not edits and not muted:
        return None, []
    kept = np.ones((stop - start, config.n_layer, config.n_head))
    added: list[Added] = []
    for edit in edits:
        index, scope = edit.position - start, edit.what.scope(config)
        kept[index][scope] *= edit.what.keeps
        for i, earlier in enumerate(added):
            if earlier.index == index and edit.what.keeps != 1:
                change = earlier.change.copy()
                change[scope] *= edit.what.keeps
                added[i] = replace(earlier, change=change)
        if edit.numbers is not None:
            N = config.head_size
            change = np.zeros((config.n_layer, config.n_head, N, N), edit.numbers.dtype)
            change[scope] = edit.numbers
            gone = range(max(edit.what.gone.start - start, 0), max(edit.what.gone.stop - start, 0))
            added.append(Added(index, change, gone, scope))
    for edit, what in muted:
        for index in range(max(1, edit.position + 1 - start), stop - start):
            if what.during(start + index - 1, start + index, edit):
                kept[index][what.scope(config)] = 0
    return kept, added

"""Observables of past tokens: stored within a bound, or made again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.config import Config
from goose_viz.edits import Lasting, Scope
from goose_viz.frames import Added
from goose_viz.history import Edit, Path, Segment
from goose_viz.probe import Frame

_BLOCK = 128  # tokens that are entered together
_SHARE = 0.9  # of the budget that may be in one piece


Pieces = list[tuple[Segment, int, int]]  # segments, each from an index to an index


class _Joined:
    """The frames of a path's tokens from the first on, in one piece, with room for more.

    Rows that somebody was given never change.

    Attributes
    ----------
    pieces : list of (Segment, int, int)
        Whose tokens they are.
    arrays : dict of str to ndarray (room, layers, …)
        The system gives memory to the rows that are in use.
    n, given : int
        How many those are, and how many of them somebody may still have.
    """

    def __init__(self, like: dict[str, NDArray[Any]], room: int) -> None:
        self.pieces: Pieces = []
        self.arrays = {k: np.empty((room, *a.shape[1:]), a.dtype) for k, a in like.items()}
        self.room, self.n, self.given = room, 0, 0

    def find(self, pieces: Pieces) -> tuple[int, int]:
        """The row of the first token of other pieces, and how many of them lie there in a row."""
        row = known = at = 0
        for mine, start, stop in self.pieces:
            theirs, begin, end = pieces[at]
            if mine is theirs and start <= begin < stop and (known == 0 or start == begin):
                row += begin - start if known == 0 else 0
                known += min(stop, end) - begin
                at += 1
                if stop < end or at == len(pieces) or stop != end:
                    break
            elif known:
                break
            else:
                row += stop - start
        return row, known

    def append(self, segment: Segment, index: int, arrays: dict[str, NDArray[Any]]) -> bool:
        """Go on with a token, if it follows the last one and there is room behind what is given."""
        if not self.pieces or self.n >= self.room or self.n < self.given:
            return False
        owner, start, stop = self.pieces[-1]
        if owner is not segment or stop != index:
            return False
        for name, rows in self.arrays.items():
            rows[self.n] = arrays[name]
        self.pieces[-1] = owner, start, stop + 1
        self.n += 1
        return True

    def cut(self, segment: Segment, position: int) -> None:
        """The segment's tokens from a position on are no more, nor what came behind them."""
        left: Pieces = []
        for owner, start, stop in self.pieces:
            gone = owner is segment and stop > position
            if not gone or start < position:
                left.append((owner, start, position if gone else stop))
            if gone:
                break
        self.pieces, self.n = left, sum(stop - start for _, start, stop in left)


class FrameStore:
    """Observables of recent tokens, bounded in bytes.

    The tokens of the path that was asked for last lie in one piece, which goes on as tokens come;
    others lie in blocks.

    Parameters
    ----------
    names : iterable of str
        What is stored of a frame.
    budget : int
        Bytes; the blocks that were used longest ago go first.
    """

    def __init__(self, names: Iterable[str], budget: int) -> None:
        self.names = frozenset(names)
        self.budget = budget
        self._blocks: OrderedDict[tuple[Segment, int], dict[str, NDArray[Any]]] = OrderedDict()
        self._have: dict[tuple[Segment, int], NDArray[np.bool_]] = {}
        self._each = 0  # bytes of a token
        self._joined: _Joined | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that they take."""
        joined = self._joined.n if self._joined is not None else 0
        return self._each * (len(self._blocks) * _BLOCK + joined)

    def put(self, segment: Segment, index: int, frame: Frame) -> None:
        """Enter a token's, if the frame has all of them."""
        arrays = frame.arrays()
        if self.names <= arrays.keys():
            if self._joined is not None and self._joined.append(segment, index, arrays):
                self._drop_blocks()
            else:
                self._enter(segment, index, arrays)

    def _enter(self, segment: Segment, index: int, arrays: dict[str, NDArray[Any]]) -> None:
        """Into its block."""
        key = segment, index // _BLOCK
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = {
                n: np.empty((_BLOCK, *arrays[n].shape), arrays[n].dtype) for n in self.names
            }
            self._have[key] = np.zeros(_BLOCK, bool)
            self._each = sum(arrays[n].nbytes for n in self.names)
            self._drop_blocks()
            if key not in self._blocks:
                return
        for n, rows in block.items():
            rows[index % _BLOCK] = arrays[n]
        self._have[key][index % _BLOCK] = True

    def _drop_blocks(self) -> None:
        while self.nbytes > self.budget and self._blocks:
            gone, _ = self._blocks.popitem(last=False)
            del self._have[gone]

    def missing(self, path: Path, start: int, stop: int) -> list[tuple[int, int]]:
        """Ranges of [start, stop) that are not here."""
        have = np.zeros(stop - start, bool)
        for segment, block, rows, at in self._parts(path, start, stop):
            known = self._have.get((segment, block))
            if known is not None:
                have[at - start : at - start + rows.stop - rows.start] = known[rows]
        if self._joined is not None:
            have[: self._joined.find(_whose(path, start, stop))[1]] = True
        edges = np.flatnonzero(np.diff(np.concatenate([[True], have, [True]]).astype(np.int8)))
        return [(start + int(a), start + int(b)) for a, b in edges.reshape(-1, 2)]

    def get(self, path: Path, start: int, stop: int, names: Iterable[str]) -> dict[str, Any]:
        """Name -> (stop - start, layers, …), read-only; none may be missing."""
        pieces, n, joined = _whose(path, start, stop), stop - start, self._joined
        row, known = joined.find(pieces) if joined is not None else (0, 0)
        goes_on = joined is not None and n <= joined.room and known == joined.n >= joined.given
        former, stays = joined, False
        if joined is None or (known < n and (start > 0 or not goes_on)):
            joined, stays = self._another(path, start, n, row, known)
            row = 0
        if known < n:
            for segment, block, rows, at in self._parts(path, start + known, stop):
                for name, found in self._blocks[segment, block].items():
                    joined.arrays[name][at - start :][: rows.stop - rows.start] = found[rows]
            joined.pieces, joined.n = pieces, n
        if stays:
            self._joined = joined
            if former is not None:  # now that nothing is wanted of the blocks any more
                self._spill(former, known)
        self._drop_blocks()
        joined.given = max(joined.given, row + n)
        views = {name: joined.arrays[name][row : row + n] for name in names}
        for view in views.values():
            view.flags.writeable = False
        return views

    def _another(
        self, path: Path, start: int, n: int, row: int, known: int
    ) -> tuple[_Joined, bool]:
        """Another piece, which begins with what is known; it stays if it is a path's first tokens.

        What only the former one had is to go into blocks then.
        """
        former, room = self._joined, int(_SHARE * self.budget) // max(self._each, 1)
        stays = start == 0 and n <= room
        if former is not None:
            like = former.arrays
        else:
            segment, block, _, _ = next(self._parts(path, start, start + 1))
            like = self._blocks[segment, block]
        joined = _Joined(like, room if stays else n)
        if former is not None:
            for name, rows in former.arrays.items():
                joined.arrays[name][:known] = rows[row : row + known]
        return joined, stays

    def _spill(self, former: _Joined, known: int) -> None:
        """Enter the tokens of a piece that is given up, but for the first ones."""
        row = 0
        for segment, start, stop in former.pieces:
            for index in range(max(start, start + known - row), stop):
                at = row + index - start
                self._enter(segment, index, {n: a[at] for n, a in former.arrays.items()})
            row += stop - start

    def _parts(
        self, path: Path, start: int, stop: int
    ) -> Iterator[tuple[Segment, int, slice, int]]:
        """(segment, block, its rows, index of the first of them) of the tokens [start, stop)."""
        for segment, at, end in _whose(path, start, stop):
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
        if self._joined is not None:
            self._joined.cut(segment, position)


def _whose(path: Path, start: int, stop: int) -> Pieces:
    """The segments that tokens [start, stop) are of, each from an index to an index."""
    return [
        (segment, segment.fork + part.start, segment.fork + part.stop)
        for segment, part in path.pieces(start, stop)
    ]


def between(
    path: Path, start: int, stop: int, config: Config, rows: Sequence[int]
) -> tuple[NDArray[np.float64] | None, list[Added]]:
    """What edits between the tokens [start, stop) did to some layers, as `Frames` wants it.

    Those made ahead of the first token belong to the memory there, those behind the last to what
    comes.
    """
    edits = path.edits(stop - 1)
    lasting = [e for e in edits if isinstance(e.what, Lasting)]
    if not lasting and not any(start < e.position for e in edits):
        return None, []
    H, layers = config.n_head, list(rows)
    factors, added = np.ones((stop - start, config.n_layer, H)), list[Added]()
    places, whole = {e.position for e in edits}, dict[int, NDArray[Any]]()
    for index in range(1, stop - start):
        at = start + index
        if not lasting and at not in places:
            continue
        made = [e for e in lasting if e.what.during(at - 1, at, e)]  # type: ignore[attr-defined]
        put: list[Added] = []
        for edit in (*made, *(e for e in edits if e.position == at)):
            what, scope = edit.what, edit.what.scope(config)
            if what.keeps != 1:
                factors[index][scope] *= what.keeps
                put = [_scaled(earlier, scope, what.keeps) for earlier in put]
            if edit.numbers is not None:
                gone = range(*(max(t - start, 0) for t in (what.gone.start, what.gone.stop)))
                if id(edit) not in whole:
                    whole[id(edit)] = _whole(edit, config)
                put.append(Added(index, whole[id(edit)], gone, _where(scope, config)))
        added += put
    return factors[:, layers], [
        Added(a.index, a.change if len(layers) == config.n_layer else a.change[layers], a.gone,
              a.where[layers]) for a in added
    ]  # fmt: skip


def _scaled(added: Added, scope: Scope, factor: float) -> Added:
    """What is left of a change that another edit at the same place scales."""
    change = added.change.copy()  # one that lasts is shared by many places
    change[scope] *= factor
    return replace(added, change=change)


def _where(scope: Scope, config: Config) -> NDArray[np.bool_]:
    where = np.zeros((config.n_layer, config.n_head), bool)
    where[scope] = True
    return where


def _whole(edit: Edit, config: Config) -> NDArray[Any]:
    """An edit's numbers among zeros, (L, H, N, N); once where it acts on all."""
    scope, numbers = edit.what.scope(config), edit.numbers
    assert numbers is not None
    shape = config.n_layer, config.n_head, config.head_size, config.head_size
    if numbers.shape == shape:
        return numbers
    change = np.zeros(shape, numbers.dtype)
    change[scope] = numbers
    return change

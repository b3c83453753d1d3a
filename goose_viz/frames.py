"""Observables of many tokens in a row, as the analyses want them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from goose_viz.html import of_arrays
from goose_viz.observables import OBSERVABLES
from goose_viz.probe import Frame


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
    where : ndarray (L, H) of bool
        The heads that it acts on.
    """

    index: int
    change: NDArray[Any]
    gone: range
    where: NDArray[np.bool_]


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
    factors : ndarray (T, L, H), optional
        What edits left of the memory just ahead of each token, as a factor; 1 when left out.
    added : sequence of Added
        What edits put into it there.
    last : Frame, optional
        More observables of the last token.
    removal_scale : float
        c of the model, see `Config`.
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
        factors: NDArray[Any] | None = None,
        added: Sequence[Added] = (),
        last: Frame | None = None,
        removal_scale: float = 1.0,
    ) -> None:
        self.arrays, self.layers, self.tokens = arrays, layers, tuple(tokens)
        self.n_head = n_head
        self.start, self.initial, self.factors, self.added = start, initial, factors, tuple(added)
        self._last = last
        self.removal_scale = removal_scale

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
        return cls(
            arrays, last.layers, tokens, last.n_head, last=last, removal_scale=last.removal_scale
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def _repr_html_(self) -> str:
        """For notebooks."""
        title = f"{len(self)} tokens from {self.start} on, {len(self.layers)} layers"
        return of_arrays(title, self.arrays, {n: o.meaning for n, o in OBSERVABLES.items()})

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
        token = self.tokens[i]
        return Frame(arrays | more, self.layers, token, self.n_head, self.removal_scale)

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
            probed = ", ".join(sorted(self.arrays))
            raise ValueError(f"{name} was not probed; the frames have {probed or 'nothing'}")
        a = self.arrays[name]
        return np.ascontiguousarray(a).reshape(*a.shape[:2], self.n_head, a.shape[2] // self.n_head)

    def rates(self) -> NDArray[Any]:
        """(T, layers, H, N): c a, the share of what lies under a removal key that is taken out."""
        rates = self.heads("iclr")
        return rates if self.removal_scale == 1 else rates * rates.dtype.type(self.removal_scale)

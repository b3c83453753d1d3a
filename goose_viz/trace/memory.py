"""The memory of a recorded run: as it was recorded, or made again from what each token did to it.

    S  <-  S diag(w)  -  c (S kappa)(kappa a)^T  +  v k~^T

in the trace's own precision; what rounding makes of it over a thousand tokens is some 1e-6.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.memory import PAST
from goose_viz.errors import GooseError
from goose_viz.frames import Frames
from goose_viz.trace.reading import Trace

_EVERY = 32  # tokens between memories that are kept
_KEPT = 64 << 20  # bytes of them


class Memories:
    """The memory behind every token of one branch of a trace.

    Parameters
    ----------
    trace : Trace
    rows : ndarray
        Of the branch, along ``token``.
    """

    def __init__(self, trace: Trace, rows: NDArray[np.int64]) -> None:
        self._trace, self._rows = trace, rows
        c = trace.config
        layers = len(trace.attributes["layers"])
        self._shape = (layers, c.n_head, c.head_size, c.head_size)
        self._kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._newest: tuple[int, NDArray[Any]] = 0, np.zeros(0)

    def at(self, position: int, told: Callable[[float], None] | None = None) -> NDArray[Any]:
        """(layers, H, N, N) behind so many tokens; what it began with at 0.

        ``told`` is told the share that is made again, every so often; it may raise to stop.

        Raises
        ------
        GooseError
            If neither it nor what makes it was recorded.
        """
        if reason := unknown(self._trace):
            raise GooseError(f"{self._trace.path.name} {reason}; record it with wkv")
        if position == 0:
            return self._first()
        if "wkv" in self._trace.observables:
            row = self._rows[position - 1 : position]
            return self._trace.numbers("wkv", row).reshape(self._shape)
        begin = max((p for p in self._kept if p <= position), default=0)
        wkv = self._kept[begin] if begin else self._first()
        if begin < self._newest[0] <= position:  # stepping on
            begin, wkv = self._newest
        first = begin
        while begin < position:
            if told is not None:
                told((begin - first) / (position - first))
            stop = min(position, (begin // _EVERY + 1) * _EVERY)
            wkv = carried(wkv, self._trace.frames(self._rows[begin:stop], PAST))
            begin = stop
            if stop % _EVERY == 0:
                self._keep(stop, wkv)
        self._newest = position, wkv
        return wkv

    def _first(self) -> NDArray[Any]:
        """Ahead of the first token."""
        if "initial" not in self._trace.dataset:
            return np.zeros(self._shape, np.float32)
        return self._trace.column("initial").reshape(self._shape)

    def _keep(self, position: int, wkv: NDArray[Any]) -> None:
        self._kept[position] = wkv
        while len(self._kept) * wkv.nbytes > _KEPT and len(self._kept) > 1:
            self._kept.popitem(last=False)


def unknown(trace: Trace) -> str:
    """Why a trace does not tell the memory; empty if it does."""
    if "wkv" in trace.observables:
        return ""
    missing = [n for n in PAST if n not in trace.observables]
    if missing:
        return f"has neither wkv, the memory, nor {', '.join(missing)}, which make it"
    return apart(trace)


def apart(trace: Trace) -> str:
    """Why the rows of a trace do not make each other; empty if they do."""
    every = trace.attributes["every"]
    if every > 1:
        return f"has one token in {every}"
    if trace.attributes["edits"]:
        return "has edits of the memory, whose numbers a trace does not keep"
    return ""


def carried(wkv: NDArray[Any], frames: Frames) -> NDArray[Any]:
    """A memory (L, H, N, N) behind tokens that follow it."""
    decay, key = frames.heads("decay"), frames.heads("removal_key")
    rates, value, written = frames.rates(), frames.heads("value"), frames.heads("replacement_key")
    for t in range(len(frames)):
        removed = np.einsum("lhvk,lhk->lhv", wkv, key[t])
        wkv = (
            wkv * decay[t][:, :, None, :]
            - removed[..., None] * (key[t] * rates[t])[:, :, None, :]
            + value[t][..., None] * written[t][:, :, None, :]
        )
    return wkv

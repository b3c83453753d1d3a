"""Writes what a session reads, as it reads it, into a trace.

The session's thread copies a token's numbers; another packs blocks of them and writes.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import goose_viz
from goose_viz import history
from goose_viz.model import Model
from goose_viz.probe import Frame, Probe
from goose_viz.ranking import rank
from goose_viz.sampling import Sampler
from goose_viz.state import ORIENTATION
from goose_viz.trace import layout
from goose_viz.trace.blocks import Block, Rows
from goose_viz.trace.fingerprint import Fingerprint
from goose_viz.trace.growing import GrowingArrays

_PATIENCE = 5.0  # seconds after which rows are written though their block is not full
_AHEAD = 2  # blocks that wait for the disk before the model does
_Work = tuple[list[tuple[int, Rows]], dict[str, int], dict[str, Any]]


class TraceWriter:
    """A trace that is being written.

    Parameters
    ----------
    path : path
        A new folder; its name ends in ``.zarr``, by custom.
    model : Model
    probe : Probe
        What is recorded of every token: its observables, its layers.
    every : int
        Observables of every so many tokens, from the first on; the text has all.
    sampler : Sampler, optional

    Attributes
    ----------
    probe : Probe
    n_tokens : int
        Tokens put in.

    Raises
    ------
    OSError
        If the path is taken, or cannot be written to.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        model: Model,
        probe: Probe,
        every: int = 1,
        sampler: Sampler | None = None,
    ) -> None:
        config = model.config
        self.path, self.probe, self.every = Path(path), probe, every
        layers = tuple(range(config.n_layer)) if probe.layers is None else probe.layers
        dtype = model.new_state().wkv.dtype.name
        rows = layout.variables(config, probe.observables, len(layers), dtype)
        block = {"token": layout.block_of(config, rows)}
        self._blocks = {"token": Block(rows, block["token"])}
        if every > 1:
            block["position"] = 1024
            self._blocks["position"] = Block(layout.THINNED, block["position"])
            rows = rows | layout.THINNED
        self._top = rows["token_top"].shape[0]
        self._branches: dict[history.Segment, int] = {}
        self.attributes: dict[str, Any] = {
            "format": layout.FORMAT,
            "version": goose_viz.__version__,
            "coordinates": " ".join([*layout.COORDINATES, "head_of_channel"]),
            "model": model.name,
            "model_sha256": {},
            "tokenizer": model.tokenizer.name,
            "config": asdict(config),
            "device": model.device,
            "dtype": model.dtype,
            "wkv": ORIENTATION,
            "observables": sorted(probe.observables),
            "layers": list(layers),
            "every": every,
            "sampler": None if sampler is None else asdict(sampler),
            "branches": [],
            "edits": [],
            "complete": False,
            "ended": "",
        }
        self._arrays = GrowingArrays(
            self.path, rows, layout.fixed(config, layers), self.attributes, block
        )
        self.n_tokens = 0
        self._fingerprint = Fingerprint(model.source)
        self._written = time.monotonic()
        self._error: Exception | None = None
        self._queue: queue.Queue[_Work | None] = queue.Queue(_AHEAD)
        self._thread = threading.Thread(target=self._work, name="goose-trace", daemon=True)
        self._thread.start()

    # -- what a session calls --------------------------------------------------------------------

    def read(
        self,
        path: history.Path,
        start: int,
        frames: Sequence[Frame | None],
        logits: NDArray[Any],
    ) -> None:
        """Tokens of a path were read, from one on; never raises what went wrong in writing."""
        for i, (frame, row) in enumerate(zip(frames, logits, strict=True), start):
            if self._error is None:
                self.put(path, i, frame, row)

    def put(
        self, path: history.Path, index: int, frame: Frame | None, logits: NDArray[Any]
    ) -> None:
        """Enter a token, behind the one before it in its branch."""
        segment = path.at(index)
        at = index - segment.fork
        token, text = segment.tokens[at], segment.texts[at]
        generated, probability = bool(segment.generated[at]), segment.probabilities[at]
        branch = self._branch(path, index)
        if self.every > 1:
            self._blocks["position"].put({
                "all_token_id": token, "all_text": text, "all_generated": generated,
                "all_branch": branch, "all_probability": probability,
            })  # fmt: skip
        if index % self.every == 0:
            (ids, probabilities), _ = rank(logits, self._top)
            best = logits[ids]
            arrays = {} if frame is None else self._part(frame)
            self._blocks["token"].put({
                "token": index, "token_id": token, "text": text, "generated": generated,
                "branch": branch, "probability": probability, "token_top": ids,
                "logits_top": best,
                "logits_sum": float(best[0]) - np.log(np.float64(probabilities[0])), **arrays,
            })  # fmt: skip
        self.n_tokens += 1
        if any(b.full for b in self._blocks.values()) or (
            time.monotonic() - self._written > _PATIENCE
        ):
            self.flush()

    def _part(self, frame: Frame) -> dict[str, NDArray[Any]]:
        """What is recorded of a frame that may have more."""
        known = frame.arrays()
        if self.probe.layers is None or frame.layers == self.probe.layers:
            return {n: known[n] for n in self.probe.observables if n in known}
        rows = [frame.layers.index(layer) for layer in self.probe.layers]
        return {n: known[n][rows] for n in self.probe.observables if n in known}

    def _branch(self, path: history.Path, index: int) -> int:
        """The number of the branch that a token is in; a new one is entered."""
        depth = path.depth(index)
        segment = path.segments[depth]
        known = self._branches.get(segment)
        if known is not None:
            return known
        number = self._branches[segment] = len(self._branches)
        ahead = [d for d in range(depth) if path.segments[d] in self._branches]
        parent = self._branches[path.segments[ahead[-1]]] if ahead else None
        begin = ahead[-1] + 1 if ahead else 0
        self.attributes["branches"].append({"parent": parent, "fork": index if ahead else 0})
        self.attributes["edits"] += [
            {"branch": number, "position": s.edit.position, **s.edit.what.parameters()}
            for s in path.segments[begin : depth + 1]
            if s.edit is not None
        ]
        return number

    # -- writing ---------------------------------------------------------------------------------

    @property
    def error(self) -> Exception | None:
        """What keeps it from being written."""
        return self._error

    def flush(self) -> None:
        """Hand over what there is; it can be read soon after."""
        work = []
        for block in self._blocks.values():
            if block.n:
                begin = block.begin
                work.append((begin, block.take()))
        counts = {axis: block.begin + block.n for axis, block in self._blocks.items()}
        said = {n: list(self.attributes[n]) for n in ("branches", "edits")}
        self._queue.put((work, counts, said | {"model_sha256": dict(self._fingerprint.found)}))
        self._written = time.monotonic()

    def close(self, ended: str = "as asked for", complete: bool = True) -> None:
        """Write what is left, and how it ended.

        Raises
        ------
        OSError
            If something could not be written; what was whole before is there.
        """
        if not self._thread.is_alive():
            return
        if complete:
            self._fingerprint.wait()
        else:
            self._fingerprint.give_up()
        self.flush()
        self._queue.put(([], {}, {"complete": complete, "ended": ended}))
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise OSError(f"{self.path}: recording ended there: {self._error}") from self._error

    def _work(self) -> None:
        counts: dict[str, int] = {}
        while (work := self._queue.get()) is not None:
            if self._error is not None:
                continue  # so that nobody waits for the queue
            rows, reached, said = work
            counts |= reached
            try:
                for begin, block in rows:
                    self._arrays.write(begin, block)
                self._arrays.count(counts, said)
            except Exception as error:
                self._error = error
        if self._error is None:
            self._arrays.finish()


def wanted(observables: Iterable[str] | None, layers: Iterable[int] | None) -> Probe:
    """What to record: all but the state itself where nothing is said."""
    names = frozenset(goose_viz.OBSERVABLES) - {"wkv"} if observables is None else observables
    return Probe(names, layers)

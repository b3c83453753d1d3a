"""Writes what a session reads, as it reads it, into a trace.

The session's thread hands over what it has of a token; another ranks, packs and writes.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import goose_viz
from goose_viz import history
from goose_viz.model import Model
from goose_viz.probe import Frame, Probe
from goose_viz.ranking import Best
from goose_viz.sampling import Sampler
from goose_viz.state import ORIENTATION
from goose_viz.trace import layout
from goose_viz.trace.blocks import Block
from goose_viz.trace.fingerprint import Fingerprint
from goose_viz.trace.growing import GrowingArrays

_PATIENCE = 5.0  # seconds after which rows are written though their block is not full


@dataclass(frozen=True)
class _Token:
    about: dict[str, Any]
    observed: bool  # whether it has a row of numbers
    frame: Frame | None
    best: Best | None


@dataclass(frozen=True)
class _End:
    complete: bool
    ended: str


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
        self._reached: dict[history.Segment, int] = {}  # tokens of the path up to its newest
        self.attributes: dict[str, Any] = {
            "format": layout.FORMAT,
            "version": goose_viz.__version__,
            "coordinates": " ".join([*layout.COORDINATES, "head_of_channel"]),
            "model": model.name,
            "model_sha256": {},
            "tokenizer": model.tokenizer.name,
            "config": asdict(config),
            "n_parameters": model.n_parameters,
            "end_token": model.tokenizer.end_token,
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
        labels = [model.tokenizer.label(t) for t in range(config.vocab_size)]
        self._arrays = GrowingArrays(
            self.path, rows, layout.fixed(config, layers, labels), self.attributes, block
        )
        self.n_tokens = 0
        self._fingerprint = Fingerprint(model.source)
        self._error: Exception | None = None
        # as much may wait as a block holds; then the model waits for the disk
        self._queue: queue.Queue[_Token | _End] = queue.Queue(block["token"])
        self._thread = threading.Thread(target=self._work, name="goose-trace", daemon=True)
        self._thread.start()

    # -- what a session calls --------------------------------------------------------------------

    def read(
        self,
        path: history.Path,
        start: int,
        frames: Sequence[Frame | None],
        behind: Sequence[Best | None],
    ) -> None:
        """Tokens of a path were read, from one on; never raises what went wrong in writing."""
        for i, (frame, best) in enumerate(zip(frames, behind, strict=True), start):
            if self._error is None:
                self.put(path, i, frame, best)

    def put(self, path: history.Path, index: int, frame: Frame | None, best: Best | None) -> None:
        """Enter a token, behind the one before it in its branch; and what is expected behind it."""
        segment = path.at(index)
        at = index - segment.fork
        token, text = segment.tokens[at], segment.texts[at]
        generated, probability = bool(segment.generated[at]), segment.probabilities[at]
        branch = self._branch(path, index)
        about = {
            "token": index, "token_id": token, "text": text, "generated": generated,
            "branch": branch, "probability": probability,
        }  # fmt: skip
        self._queue.put(_Token(about, index % self.every == 0, frame, best))
        self.n_tokens += 1
        self._reached[segment] = index + 1

    def missing(self, path: history.Path) -> list[tuple[int, int]]:
        """Tokens [start, stop) of a path that it does not have, read before it began."""
        out = []
        stops = [*(s.fork for s in path.segments[1:]), path.stop]
        for segment, stop in zip(path.segments, stops, strict=True):
            start = self._reached.get(segment, segment.fork + segment.again)
            if start < stop:
                out.append((start, stop))
        return out

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

    # -- the end ---------------------------------------------------------------------------------

    @property
    def error(self) -> Exception | None:
        """What keeps it from being written."""
        return self._error

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
        self._queue.put(_End(complete, ended))
        self._thread.join()
        if self._error is not None:
            raise OSError(f"{self.path}: recording ended there: {self._error}") from self._error

    # -- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        written = time.monotonic()
        while True:
            work = self._queue.get()
            if self._error is not None:  # nobody is to wait for the queue
                if isinstance(work, _End):
                    return
                continue
            try:
                if isinstance(work, _End):
                    self._write({"complete": work.complete, "ended": work.ended})
                    self._arrays.finish()
                    return
                self._enter(work)
                full = any(b.full for b in self._blocks.values())
                if full or time.monotonic() - written > _PATIENCE:
                    self._write({})
                    written = time.monotonic()
            except Exception as error:
                self._error = error

    def _enter(self, token: _Token) -> None:
        """Put a token into the blocks."""
        if self.every > 1:
            said = {f"all_{n}": v for n, v in token.about.items() if n != "token"}
            self._blocks["position"].put(said)
        if not token.observed:
            return
        numbers: dict[str, Any] = {} if token.frame is None else self._part(token.frame)
        if (best := token.best) is not None:
            numbers |= {
                "token_top": best.ids,
                "logits_top": best.logits,
                "logits_sum": best.highest + np.log(best.total),
            }
        self._blocks["token"].put(token.about | numbers)

    def _write(self, said: dict[str, Any]) -> None:
        """Write the blocks as they are, and have their rows count."""
        for block in self._blocks.values():
            if block.n:
                self._arrays.write(block.begin, block.rows())
        counts = {axis: block.stop for axis, block in self._blocks.items()}
        lists = {n: list(self.attributes[n]) for n in ("branches", "edits")}
        found = {"model_sha256": dict(self._fingerprint.found)}
        self._arrays.count(counts, lists | found | said)


def wanted(observables: Iterable[str] | None, layers: Iterable[int] | None) -> Probe:
    """What to record: all but the state itself where nothing is said."""
    names = frozenset(goose_viz.OBSERVABLES) - {"wkv"} if observables is None else observables
    return Probe(names, layers)

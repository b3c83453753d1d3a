"""Writes what a session reads, as it reads it, into a trace.

The session's thread hands over what it has of a token; another ranks, packs and writes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import shutil
import sys
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
from goose_viz.config import Config
from goose_viz.errors import GooseError
from goose_viz.model import Model
from goose_viz.probe import Frame, Probe
from goose_viz.ranking import Best
from goose_viz.sampling import Sampler
from goose_viz.state import ORIENTATION, State
from goose_viz.tokenizer import Tokenizer
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
    initial : State, optional
        The memory ahead of the first token; empty when left out.

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
        initial: State | None = None,
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
        labels = _labels(model.tokenizer, config.vocab_size)  # type: ignore[arg-type]
        self._arrays = GrowingArrays(
            self.path, rows, layout.fixed(config, layers, labels, initial), self.attributes, block
        )
        self.n_tokens = 0
        self._fingerprint = Fingerprint(model)
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
        if index < self._reached.get(
            segment, 0
        ):  # what stood there was forgotten, and written anew
            branch = self._branches[segment] = self._begin(branch, index)
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
            start = self._reached.get(segment, segment.fork)
            parent, twins = segment.parent, segment.fork + segment.again
            if (
                segment.edit is None
                and parent is not None
                and self._reached.get(parent, 0) >= twins
            ):
                start = max(start, twins)  # tokens of a call that was cut: the parent has them
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
        ahead = [d for d in range(depth) if path.segments[d] in self._branches]
        parent = self._branches[path.segments[ahead[-1]]] if ahead else None
        begin = ahead[-1] + 1 if ahead else 0
        number = self._branches[segment] = self._begin(parent, index if ahead else 0)
        self.attributes["edits"] += [
            {"branch": number, "position": s.edit.position, **s.edit.what.parameters()}
            for s in path.segments[begin : depth + 1]
            if s.edit is not None
        ]
        return number

    def _begin(self, parent: int | None, fork: int) -> int:
        """Enter a branch; its number."""
        self.attributes["branches"].append({"parent": parent, "fork": fork})
        return len(self.attributes["branches"]) - 1

    # -- the end ---------------------------------------------------------------------------------

    @property
    def error(self) -> Exception | None:
        """What keeps it from being written."""
        return self._error

    def close(
        self, ended: str = "as asked for", complete: bool = True, patience: float | None = None
    ) -> None:
        """Write what is left, and how it ended.

        Parameters
        ----------
        ended : str
        complete : bool
            Whether it came to its end.
        patience : float, optional
            Seconds for the hashes of a large model's files; as long as they take when left out.

        Raises
        ------
        OSError
            If something could not be written; what was whole before is there.
        """
        if not self._thread.is_alive():
            return
        self._fingerprint.wait(patience if complete else 0.0)
        self._queue.put(_End(complete, ended))
        self._thread.join()
        if self._error is not None:
            raise OSError(f"{self.path}: recording ended there: {self._error}") from self._error

    def discard(self) -> None:
        """End it, and leave nothing of it."""
        with contextlib.suppress(OSError):
            self.close(complete=False)
        shutil.rmtree(self.path, ignore_errors=True)

    # -- the thread ------------------------------------------------------------------------------

    def _work(self) -> None:
        _stand_back()
        written, waiting = time.monotonic(), False  # whether rows wait to be written
        while True:
            try:
                work = self._queue.get(timeout=_PATIENCE if waiting else None)
            except queue.Empty:  # the model rests: what there is can be read meanwhile
                work = None
            try:
                if self._error is None:
                    full = False
                    if isinstance(work, _End):
                        self._write({"complete": work.complete, "ended": work.ended})
                        self._arrays.finish()
                    elif work is not None:
                        full, waiting = self._enter(work), True
                    if full or (waiting and time.monotonic() - written > _PATIENCE):
                        self._write({})
                        written, waiting = time.monotonic(), False
            except Exception as error:
                self._error, waiting = error, False  # what comes still is taken, and dropped
            if isinstance(work, _End):
                return

    def _enter(self, token: _Token) -> bool:
        """Put a token into the blocks; whether that filled one."""
        full = False
        if self.every > 1:
            said = {f"all_{n}": v for n, v in token.about.items() if n != "token"}
            self._blocks["position"].put(said)
            full = self._blocks["position"].full
        if not token.observed:
            return full
        numbers: dict[str, Any] = {"token_top": -1}
        if token.frame is not None:
            numbers |= self._part(token.frame)
        if (best := token.best) is not None:
            numbers |= {
                "token_top": best.ids,
                "logits_top": best.logits,
                "logits_sum": best.highest + np.log(best.total),
            }
        self._blocks["token"].put(token.about | numbers)
        return full or self._blocks["token"].full

    def _write(self, said: dict[str, Any]) -> None:
        """Write the blocks as they are, and have their rows count."""
        for block in self._blocks.values():
            if block.n:
                self._arrays.write(block.begin, block.rows())
        counts = {axis: block.stop for axis, block in self._blocks.items()}
        lists = {n: list(self.attributes[n]) for n in ("branches", "edits")}
        found = {"model_sha256": dict(self._fingerprint.found)}
        self._arrays.count(counts, lists | found | said)


@functools.lru_cache(maxsize=1)  # for the next document of a corpus
def _labels(tokenizer: Tokenizer, n: int) -> list[str]:
    """Every token as people see it."""
    return [tokenizer.label(token) for token in range(n)]


def _stand_back() -> None:
    """Leave the processor to who computes; the system gives a thread what is left."""
    if sys.platform == "linux":  # elsewhere a process has one priority for all its threads
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


def wanted(
    observables: Iterable[str] | None, layers: Iterable[int] | None, config: Config
) -> Probe:
    """What to record: all but the state itself where nothing is said.

    Raises
    ------
    GooseError
        If the model has none of that.
    """
    names = frozenset(goose_viz.OBSERVABLES) - {"wkv"} if observables is None else observables
    try:
        probe = Probe(names, layers)
    except ValueError as error:
        raise GooseError(str(error)) from None
    L = config.n_layer
    wrong = next((i for i in probe.layers or () if not 0 <= i < L), None)
    if wrong is not None:
        raise GooseError(f"layer {wrong} is not there; the model has 0 to {L - 1}")
    if probe.layers == ():
        raise GooseError("no layer is named to record; leave layers out to have all")
    return probe

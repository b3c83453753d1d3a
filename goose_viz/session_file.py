"""A whole session as a file: every branch and edit, the cursor, and how to go on exactly."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from goose_viz.edits import check_numbers, read_edit
from goose_viz.errors import StateError
from goose_viz.files import write_whole, written_as
from goose_viz.history import Checkpoint, Edit, History, Segment
from goose_viz.history import Path as Way
from goose_viz.model import Model, embedded_models
from goose_viz.probe import Probe
from goose_viz.sampling import Sampler
from goose_viz.session import Session, decoder_behind
from goose_viz.snapshot import UNFIT, initial_arrays, initial_of, kept_frame
from goose_viz.state import ORIENTATION, State
from goose_viz.trace.reading import is_trace

SUFFIX = ".goose"
_FORMAT = "goose-viz session 1"


@dataclass(frozen=True, eq=False)
class SessionFile:
    """What `save_session` wrote.

    Attributes
    ----------
    metadata : dict
        Model name and sizes, device, dtype, sampler, segments, cursor.
    arrays : dict of str to ndarray
    window : dict
        What the window had beside the session: prompt, layout, what was selected.
    name : str
        Of the file.
    """

    metadata: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    window: dict[str, Any]
    name: str

    def differs(self, model: Model) -> str:
        """In what the model that wrote it was another, in words; empty if in nothing known."""
        here = {"model": model.name, "device": model.device, "dtype": model.dtype}
        there = self.metadata
        return ", ".join(f"{n} {there.get(n)}" for n, v in here.items() if there.get(n) != v)

    def fits(self, model: Model) -> bool:
        """Whether a model is, as far as one can tell, the one that wrote it."""
        same = self.metadata.get("config") == _sizes(model)
        return same and self.metadata.get("model") == model.name

    @property
    def dtype(self) -> str:
        """The weight type that it was saved with."""
        return str(self.metadata.get("dtype", "auto"))

    @property
    def source(self) -> str:
        """What to load for it: the model's file, or the name of one inside.

        Raises
        ------
        StateError
            If neither is there.
        """
        name, place = str(self.metadata.get("model")), str(self.metadata.get("model_file"))
        if name in embedded_models():
            return name
        if Path(place).exists() and not (is_session(place) or is_trace(place)):
            return place
        raise StateError(
            f"{self.name}: its model is not where it was, {place}; open {name} first, then this"
        )

    def open(self, model: Model, probe: Probe | None = None) -> Session:
        """The session as it was left, bit for bit on the device that it was on.

        Other positions are read anew when one goes there, with this model.

        Parameters
        ----------
        model : Model
            Of the same sizes as the one that wrote it.
        probe : Probe, optional
            For the tokens to come.

        Raises
        ------
        StateError
            If the model has other sizes, or the parts of the file do not fit each other.
        """
        if (sizes := self.metadata.get("config")) != _sizes(model):
            shape = f"{model.config.shape}"
            raise StateError(
                f"{self.name}: was saved with a model of other sizes ({_said(sizes)}); this one is "
                f"{shape}: open it with the model that wrote it, {self.metadata.get('model')}"
            )
        try:
            return self._open(model, probe)
        except UNFIT as e:
            raise StateError(f"{self.name}: its parts do not fit each other ({e!r})") from None

    def _open(self, model: Model, probe: Probe | None) -> Session:
        about = self.metadata
        initial = initial_of(self.arrays, self.name)
        session = Session(model, Sampler(**about["sampler"]), probe, initial=initial)
        history = session.history
        history.segments.clear()
        for i, said in enumerate(about["segments"]):
            history.segments.append(self._segment(i, said, history, model))
        for segment, said in zip(history.segments, about["segments"], strict=True):
            if (origin := said["origin"]) is not None:
                position, index = map(int, origin)
                segment.origin = position, history.segments[_index(index, history)]
        if not history.segments:
            raise ValueError("no segment")
        current = history.segments[_index(int(about["segment"]), history)]
        position = int(about["position"])
        path = Way(current)
        if not 0 <= position <= path.stop:
            raise ValueError(f"no position {position}")
        if position > 0:
            state = State.from_arrays(self.arrays, about["wkv"], self.name)
            state.check(model.config)
            logits = self.arrays["logits"]
            if logits.dtype.kind != "f" or logits.shape != (model.config.vocab_size,):
                raise ValueError("other logits")
            (token,) = path.tokens(position - 1, position)
            path.segments[path.depth(position)].checkpoints[position] = Checkpoint(
                state, logits, kept_frame(self.arrays, about, token, model.config)
            )
        session.history = history
        session._stand_on(current)
        session._lost = True  # the memory is that of no place yet: edits ahead of token 0 count
        session._go(position, framed=position > 0)
        return session

    def _segment(self, i: int, said: Mapping[str, Any], history: History, model: Model) -> Segment:
        """The i-th, whose parent is there already."""
        parent, fork = said["parent"], int(said["fork"])
        above = None
        if parent is not None:
            above = history.segments[_index(int(parent), history)]
            if not (above.fork <= fork <= above.stop and above.is_end(fork)):
                raise ValueError(f"segment {i} begins at {fork}")
        elif fork != 0:
            raise ValueError(f"segment {i} has no parent and begins at {fork}")
        segment = Segment(above, fork, self._edit(i, said, fork, model))
        segment.name = str(said["name"])
        tokens = self._array(i, "tokens", np.int32, 1)
        n = len(tokens)
        generated = self._array(i, "generated", np.uint8, 1)
        probabilities = self._array(i, "probabilities", np.float64, 1)
        calls = self._array(i, "calls", np.int64, 2)
        segment.again = min(int(said["again"]), n)  # files from before a twin's was cut have more
        if (len(generated), len(probabilities)) != (n, n) or segment.again < 0:
            raise ValueError(f"segment {i} has columns of other lengths")
        if n and not 0 <= tokens.min() <= tokens.max() < model.config.vocab_size:
            raise ValueError(f"segment {i} has a token outside the vocabulary")
        stream = decoder_behind(model, Way(segment if above is None else above), fork)
        wide = {int(b): int(e) for b, e in calls}
        at = 0
        while at < n:
            stop = wide.get(fork + at, fork + at + 1) - fork
            if not at < stop <= n:
                raise ValueError(f"segment {i} has a call up to {fork + stop}")
            for j in range(at, stop):
                segment.append(
                    int(tokens[j]), stream.push(int(tokens[j])), bool(generated[j]),
                    float(probabilities[j]),
                )  # fmt: skip
            segment.end_call(fork + at)
            at = stop
        segment.tops.forget()  # what else was expected is found again when one goes there
        return segment

    def _edit(self, i: int, said: Mapping[str, Any], fork: int, model: Model) -> Edit | None:
        if said["edit"] is None:
            return None
        what, numbers = read_edit(said["edit"]), self.arrays.get(f"segment.{i}.edit")
        check_numbers(what, numbers, model.config)
        return Edit(fork, what, numbers)

    def _array(self, i: int, name: str, kind: type, ndim: int) -> NDArray[Any]:
        found = self.arrays[f"segment.{i}.{name}"]
        if found.dtype != kind or found.ndim != ndim:
            raise ValueError(f"segment {i} has {name} of {found.dtype}")
        return found


def _index(index: int, history: History) -> int:
    if not 0 <= index < len(history.segments):
        raise ValueError(f"no segment {index}")
    return index


def _sizes(model: Model) -> dict[str, Any]:
    sizes = asdict(model.config)
    return {n: v for n, v in sizes.items() if n != "source_format"}


def _said(sizes: Any) -> str:
    if not isinstance(sizes, dict):
        return "unknown"
    layers, width, tokens = (sizes.get(n) for n in ("n_layer", "n_embd", "vocab_size"))
    return f"{layers} layers, width {width}, {tokens} tokens"


def save_session(
    path: str | os.PathLike[str], session: Session, window: Mapping[str, Any] | None = None
) -> None:
    """Write all that a session is: branches, edits, names, sampling, the cursor and its memory.

    Parameters
    ----------
    path : path
        By custom its name ends in ``.goose``; it is a safetensors file.
    session : Session
    window : mapping, optional
        What belongs to it elsewhere: values of JSON, and bytes.

    Raises
    ------
    OSError
        If the file cannot be written; an older one of the name is untouched then.
    """
    number = {s: i for i, s in enumerate(session.history.segments)}
    arrays: dict[str, NDArray[Any]] = {}
    segments = []
    for segment, i in number.items():
        edit = segment.edit
        origin = segment.origin if segment.origin and segment.origin[1] in number else None
        segments.append({
            "parent": None if segment.parent is None else number[segment.parent],
            "fork": segment.fork, "name": segment.name, "again": segment.again,
            "origin": None if origin is None else [origin[0], number[origin[1]]],
            "edit": None if edit is None else edit.what.parameters(),
        })  # fmt: skip
        arrays |= {
            f"segment.{i}.tokens": np.array(segment.tokens, np.int32),
            f"segment.{i}.generated": np.frombuffer(bytes(segment.generated), np.uint8),
            f"segment.{i}.probabilities": np.array(segment.probabilities, np.float64),
            f"segment.{i}.calls": np.array(segment.wide, np.int64).reshape(-1, 2),
        }
        if edit is not None and edit.numbers is not None:
            arrays[f"segment.{i}.edit"] = edit.numbers
    model = session.model
    metadata = {
        "format": _FORMAT, "wkv": ORIENTATION, "model": model.name,
        "model_file": str(model.source), "config": _sizes(model), "device": model.device,
        "dtype": model.dtype, "sampler": asdict(session.sampler), "segments": segments,
        "segment": number[session.segment], "position": session.position,
        "window": _plain(window or {}),
    }  # fmt: skip
    arrays |= initial_arrays(session.initial)
    if session.position and session.logits is not None:
        arrays |= {**session.state.arrays(), "logits": session.logits}
        if session.frame is not None:
            metadata["frame_layers"] = list(session.frame.layers)
            arrays |= {f"frame.{n}": a for n, a in session.frame.arrays().items()}
    whole = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
    write_whole(Path(path), save(whole, metadata={"session": json.dumps(metadata)} | {
        "format": _FORMAT}))  # fmt: skip


def load_session(path: str | os.PathLike[str]) -> SessionFile:
    """Read what `save_session` wrote.

    Raises
    ------
    StateError
        If the file cannot be read or is no session.
    """
    path = Path(path)
    if not path.exists():
        raise StateError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="np") as file:
            strings = file.metadata() or {}
            found = strings.get("format")
            arrays = {n: file.get_tensor(n) for n in file.keys()} if found == _FORMAT else {}  # noqa: SIM118
        metadata = json.loads(strings["session"]) if found == _FORMAT else {}
        window = _bytes(metadata.get("window", {}))
        if found == _FORMAT and not (
            isinstance(metadata["segments"], list) and metadata["sampler"]
        ):
            raise ValueError("no segments")
    except Exception as error:  # a damaged file can fail in any way
        raise StateError(
            f"{path.name}: not readable as a session ({type(error).__name__}: {error}); expected a "
            f"{SUFFIX} file that goose-viz wrote"
        ) from None
    if found != _FORMAT:
        raise StateError(f"{path.name}: its format is {found!r}; expected {_FORMAT!r}")
    return SessionFile(metadata, arrays, window, path.name)


def is_session(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that `save_session` wrote, by what is in it; never raises."""
    return written_as(Path(path)) == _FORMAT


def _plain(window: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes as base64: {"bytes": "…"}."""
    return {
        n: {"bytes": base64.b64encode(v).decode()} if isinstance(v, bytes) else v
        for n, v in window.items()
    }


def _bytes(window: Any) -> dict[str, Any]:
    if not isinstance(window, dict):
        raise ValueError("its window is none")
    out = {}
    for name, value in window.items():
        if isinstance(value, dict) and set(value) == {"bytes"}:
            try:
                value = base64.b64decode(str(value["bytes"]), validate=True)
            except binascii.Error:
                raise ValueError(f"{name} is not base64") from None
        out[str(name)] = value
    return out

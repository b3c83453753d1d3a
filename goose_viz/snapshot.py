"""A moment of a run as a file: state, tokens, text, and how to go on from there exactly."""

from __future__ import annotations

import io
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

from goose_viz import history
from goose_viz.archives import Archive, read_npz
from goose_viz.config import Config
from goose_viz.edits import check_numbers, read_edit
from goose_viz.errors import StateError
from goose_viz.files import write_whole, written_as
from goose_viz.history import Checkpoint, Edit, Feed, Segment
from goose_viz.html import of_arrays
from goose_viz.model import Model
from goose_viz.observables import OBSERVABLES, shape_of
from goose_viz.probe import Frame, Probe
from goose_viz.sampling import Sampler
from goose_viz.session import Session
from goose_viz.state import ORIENTATION, State

_FORMAT = "goose-viz snapshot 1"
_SAID = 120  # characters of the text that a notebook shows
_SUFFIXES = (".safetensors", ".npz")
# arrays of one axis: what kinds of number they hold
_COLUMNS = {"tokens": "iu", "generated": "biu", "probabilities": "f", "ends": "iu", "logits": "f"}
_SAYS = {"text": str, "position": int, "sampler": dict}
#: What parts of a file that do not fit each other make of reading them.
UNFIT = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What `save_snapshot` wrote.

    Attributes
    ----------
    state : State
    tokens : list of int
    text : str
    position : int
    metadata : dict
        Model name and sizes, device, dtype, sampler, orientation of wkv.
    arrays : dict of str to ndarray
        Everything in the file by name: wkv, att_shift, ffn_shift, tokens, generated, ends, logits,
        the probed observables of the last token as ``frame.decay`` and so on, and what the edits
        added or put as ``edit.0`` and so on.
    """

    state: State
    tokens: list[int]
    text: str
    position: int
    metadata: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    def __repr__(self) -> str:
        """What it is of."""
        return f"<Snapshot of {self.metadata.get('model')} at token {self.position}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        text = self.text if len(self.text) <= _SAID else "…" + self.text[-_SAID:]
        title = f"{self.metadata.get('model')}, behind {self.position} tokens: {text}"
        return of_arrays(title, self.arrays)

    def differs(self, model: Model) -> str:
        """In what the model that wrote it was another, in words; empty if in nothing known."""
        here = {"model": model.name, "device": model.device, "dtype": model.dtype,
                "removal scale": model.config.removal_scale}  # fmt: skip
        there = self.metadata | {"removal scale": self._removal_scale}
        return ", ".join(
            f"{name} {there.get(name)}" for name, value in here.items() if there.get(name) != value
        )

    @property
    def _removal_scale(self) -> float:
        """That of the model that wrote it; files from before there was one have 1."""
        return float(self.metadata.get("config", {}).get("removal_scale", 1.0))

    def resume(
        self,
        model: Model,
        sampler: Sampler | None = None,
        probe: Probe | None = None,
        *,
        history_bytes: int = 256 << 20,
        frames_bytes: int = 256 << 20,
    ) -> Session:
        """A session that goes on from here, bit for bit on the device that wrote the snapshot.

        Going back before the snapshot's position reads the tokens anew, with this model.

        Parameters
        ----------
        model : Model
            Of the same shape as the one that wrote it.
        sampler : Sampler, optional
            The one of the snapshot when left out.
        probe : Probe, optional
            For the tokens to come; the frame here is the file's.
        history_bytes, frames_bytes : int
            As of `Session`.

        Raises
        ------
        StateError
            If the model has another shape.
        """
        self.state.check(model.config)
        logits, V = self.arrays["logits"], model.config.vocab_size
        known = min(self.tokens, default=0) >= 0 and max(self.tokens, default=0) < V
        if logits.shape not in ((0,), (V,)) or not known:
            raise StateError(
                f"the snapshot's model has {logits.size} tokens in its vocabulary, this one {V}; "
                "resume it with the model that wrote it"
            )
        try:
            chosen = sampler if sampler is not None else Sampler(**self.metadata["sampler"])
            initial = initial_of(self.arrays, "initial")
            session = Session(model, chosen, probe, history_bytes, frames_bytes, initial)
            end = self._write_history(session)
            if self.tokens:
                frame = kept_frame(self.arrays, self.metadata, self.tokens[-1], model.config)
                end.checkpoints[self.position] = Checkpoint(self.state.copy(), logits.copy(), frame)
        except UNFIT as error:
            raise StateError(
                f"the snapshot's parts do not fit each other ({error!r}); save it again"
            ) from None
        session.switch(session.branches.index(end))
        return session

    def _write_history(self, session: Session) -> Segment:
        """The tokens and edits of the file, call by call, as the session's only branch."""
        stream = session.model.tokenizer.stream()
        edits = [
            (p["position"], read_edit({k: v for k, v in p.items() if k != "position"}), i)
            for i, p in enumerate(self.metadata.get("edits", []))
        ]
        begin, segment = 0, session.history.segments[0]
        for end in [*self.arrays["ends"].tolist(), None]:
            while edits and edits[0][0] == begin:
                _, edit, i = edits.pop(0)
                numbers = self.arrays.get(f"edit.{i}")
                check_numbers(edit, numbers, session.model.config)
                made = Edit(begin, edit, numbers)
                segment = session.history.fork(history.Path(segment), begin, made)
            if end is None:
                break
            for i in range(begin, end):
                segment.append(
                    self.tokens[i], stream.push(self.tokens[i]),
                    bool(self.arrays["generated"][i]), float(self.arrays["probabilities"][i]),
                )  # fmt: skip
            segment.end_call(begin)
            segment.tops.forget()  # what else was expected is found again when one goes there
            begin = end
        return segment


def initial_arrays(initial: State | None) -> dict[str, NDArray[Any]]:
    """The memory that a session began with, as files have it."""
    return {} if initial is None else {f"initial.{n}": a for n, a in initial.arrays().items()}


def initial_of(arrays: Mapping[str, NDArray[Any]], source: str) -> State | None:
    """The memory that a session began with, of the arrays of its file.

    Raises
    ------
    StateError
        If it is there in part.
    """
    found = {n.removeprefix("initial."): a for n, a in arrays.items() if n.startswith("initial.")}
    return State.from_arrays(found, ORIENTATION, source) if found else None


def kept_frame(
    arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any], token: int, config: Config
) -> Frame:
    """What was observed of the last token, of the arrays of a file; what does not fit is left out.

    Raises
    ------
    ValueError
        If its layers are none of the model's.
    """
    rows = tuple(map(int, about.get("frame_layers", range(config.n_layer))))
    if len(set(rows)) < len(rows) or not set(rows) <= set(range(config.n_layer)):
        raise ValueError(f"observed layers {rows}")
    found = {
        n: a
        for n in OBSERVABLES
        if (a := arrays.get(f"frame.{n}")) is not None
        and a.dtype.kind == "f"
        and a.shape == (len(rows), *shape_of(n, config))
    }
    return Frame(found, rows, token, config.n_head, config.removal_scale)


def check_snapshot_path(path: Path) -> None:
    """Raise where `save_snapshot` would, before the work is done that it is to save.

    Raises
    ------
    ValueError
        If the name ends in neither ``.safetensors`` nor ``.npz``.
    FileNotFoundError
        If there is no such folder.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(
            f"{path.name}: a snapshot's name ends in {' or '.join(_SUFFIXES)}, which chooses its "
            "format"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder to write {path.name} into")


def save_snapshot(path: str | os.PathLike[str], session: Session) -> None:
    """Write the session's moment; the name's ending chooses safetensors or npz.

    Raises
    ------
    ValueError
        If the name ends in neither ``.safetensors`` nor ``.npz``.
    OSError
        If the file cannot be written; an older one of the name is untouched then.
    """
    path = Path(path)
    check_snapshot_path(path)
    model, way, n = session.model, session.path, session.position
    operations = way.operations(0, 0, n) or []
    arrays: dict[str, NDArray[Any]] = {
        **session.state.arrays(),
        "tokens": np.array(way.tokens(0, n), np.int64),
        "generated": np.array(way.generated(0, n), np.uint8),
        "probabilities": np.array(way.probabilities(0, n), np.float32),
        "ends": np.array([o.stop for o in operations if isinstance(o, Feed)], np.int64),
        "logits": np.zeros(0, np.float32) if session.logits is None else session.logits,
    }
    metadata: dict[str, Any] = {
        "format": _FORMAT,
        "wkv": ORIENTATION,
        "model": model.name,
        "config": asdict(model.config),
        "device": model.device,
        "dtype": model.dtype,
        "position": session.position,
        "text": session.text,
        "sampler": asdict(session.sampler),
    }
    arrays |= initial_arrays(session.initial)
    if session.edits:
        metadata["edits"] = [{"position": e.position, **e.what.parameters()} for e in session.edits]
        arrays |= {
            f"edit.{i}": e.numbers for i, e in enumerate(session.edits) if e.numbers is not None
        }
    if session.frame is not None:
        metadata["frame_layers"] = list(session.frame.layers)
        arrays |= {f"frame.{name}": a for name, a in session.frame.arrays().items()}
    if path.suffix.lower() == ".npz":
        buffer = io.BytesIO()
        np.savez_compressed(buffer, metadata=np.array(json.dumps(metadata)), **arrays)  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())
    else:
        strings = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
        whole = {name: np.ascontiguousarray(a) for name, a in arrays.items()}
        write_whole(path, save(whole, metadata=strings))


def load_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Read what `save_snapshot` wrote.

    Raises
    ------
    StateError
        If the file cannot be read or is no snapshot.
    """
    path = Path(path)
    if not path.exists():
        raise StateError(f"{path}: there is no such file")
    try:
        read = _read_npz if path.suffix.lower() == ".npz" else _read_safetensors
        arrays, metadata = read(path)
    except Exception as error:  # zip, zlib, pickle, json: a damaged file can fail in any way
        raise StateError(
            f"{path.name}: not readable as a snapshot ({_reason(error)}); expected a .safetensors "
            "or .npz that goose-viz wrote"
        ) from None
    if metadata.get("format") != _FORMAT:
        raise StateError(
            f"{path.name}: its format is {metadata.get('format')!r}; expected {_FORMAT!r} "
            "(a bare state is read by State.load)"
        )
    _check(arrays, metadata, path.name)
    state = State.from_arrays(arrays, metadata.get("wkv"), path.name)
    tokens = arrays["tokens"].tolist()
    return Snapshot(state, tokens, metadata["text"], metadata["position"], metadata, arrays)


def is_snapshot(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that `save_snapshot` wrote, by what is in it; never raises."""
    path = Path(path)
    try:
        if path.suffix.lower() == ".npz":
            with Archive(path) as file:
                return "metadata.npy" in file.namelist()
    except Exception:  # whatever else it is
        return False
    return written_as(path) == _FORMAT


def _reason(error: Exception) -> str:
    """Why a file could not be read, without NumPy's advice to load it unsafely."""
    if "pickle" in str(error):
        return "it holds Python objects or is no archive of arrays, and such are not read"
    if isinstance(error, KeyError):
        return f"there is no {error.args[0]} inside"
    return f"{type(error).__name__}: {error}"


def _check(arrays: dict[str, NDArray[Any]], metadata: dict[str, Any], source: str) -> None:
    """Raise if the parts of a snapshot do not fit each other."""
    missing = [n for n in _COLUMNS if n not in arrays]
    missing += [n for n in _SAYS if n not in metadata]
    if missing:
        raise StateError(f"{source}: no {', no '.join(missing)} inside; save the snapshot again")
    wrong = [
        name
        for name, kinds in _COLUMNS.items()
        if arrays[name].ndim != 1 or arrays[name].dtype.kind not in kinds
    ]
    wrong += [name for name, kind in _SAYS.items() if type(metadata[name]) is not kind]
    if wrong:
        raise StateError(f"{source}: its {', its '.join(wrong)} cannot be read; save it again")
    n, ends = len(arrays["tokens"]), arrays["ends"].tolist()
    lengths = {len(arrays[name]) for name in ("generated", "probabilities")} | {
        metadata["position"]
    }
    if (
        lengths != {n}
        or ends != sorted(set(ends))
        or (ends[-1:] or [0]) != [n]
        or min(ends, default=1) < 1
    ):
        raise StateError(
            f"{source}: its tokens, their calls and its position {metadata['position']} do not fit "
            "each other; save the snapshot again"
        )


def _read_npz(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    arrays = read_npz(path)
    return arrays, json.loads(str(arrays.pop("metadata")))


def _read_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    with safe_open(path, framework="np") as file:
        strings = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    plain = {"format", "wkv", "model", "device", "dtype", "text"}
    return arrays, {k: v if k in plain else json.loads(v) for k, v in strings.items()}

"""A moment of a run as a file: state, tokens, text, and how to go on from there exactly."""

from __future__ import annotations

import io
import json
import os
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from goose_viz.errors import StateError
from goose_viz.files import write_whole
from goose_viz.history import Checkpoint
from goose_viz.model import Model
from goose_viz.sampling import Sampler
from goose_viz.session import NO_TOP, Session
from goose_viz.state import ORIENTATION, State

_FORMAT = "goose-viz snapshot 1"
_SUFFIXES = (".safetensors", ".npz")


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
        and the probed observables of the last token as ``frame.decay`` and so on.
    """

    state: State
    tokens: list[int]
    text: str
    position: int
    metadata: dict[str, Any]
    arrays: dict[str, NDArray[Any]]

    def resume(self, model: Model, sampler: Sampler | None = None) -> Session:
        """A session that goes on from here, bit for bit on the device that wrote the snapshot.

        Parameters
        ----------
        model : Model
            Of the same shape as the one that wrote it.
        sampler : Sampler, optional
            The one of the snapshot when left out.

        Raises
        ------
        StateError
            If the model has another shape.
        """
        self.state.check(model.config)
        logits = self.arrays["logits"]
        if logits.shape not in ((0,), (model.config.vocab_size,)):
            raise StateError(
                f"the snapshot's model has {logits.size} tokens in its vocabulary, this one "
                f"{model.config.vocab_size}; resume it with the model that wrote it"
            )
        stored = dict(self.metadata["sampler"])
        session = Session(model, sampler if sampler is not None else Sampler(**stored))
        line = session.lines[0]
        stream = model.tokenizer.stream()
        line.tokens = list(self.tokens)
        line.texts = [stream.push(t) for t in self.tokens]
        line.generated = [bool(g) for g in self.arrays["generated"]]
        line.probabilities = self.arrays["probabilities"].tolist()
        line.tops = [NO_TOP] * len(self.tokens)  # they are not in the file
        line.ends = self.arrays["ends"].tolist()
        if self.tokens:
            line.checkpoints[self.position] = Checkpoint(self.state.copy(), logits.copy())
        session.goto(self.position)
        return session


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
    if path.suffix not in _SUFFIXES:
        raise ValueError(
            f"{path.name}: a snapshot's name ends in {' or '.join(_SUFFIXES)}, which chooses its "
            "format"
        )
    model, line = session.model, session.lines[session.line].cut(session.position)
    arrays: dict[str, NDArray[Any]] = {
        **session.state.arrays(),
        "tokens": np.array(line.tokens, np.int64),
        "generated": np.array(line.generated, np.uint8),
        "probabilities": np.array(line.probabilities, np.float32),
        "ends": np.array(line.ends, np.int64),
        "logits": np.zeros(0, np.float32) if session.logits is None else session.logits,
    }
    if session.frame is not None:
        arrays |= {f"frame.{name}": a for name, a in session.frame.arrays().items()}
    metadata = {
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
    if path.suffix == ".npz":
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
        arrays, metadata = _read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)
    except (SafetensorError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise StateError(
            f"{path.name}: not readable as a snapshot ({error}); expected a .safetensors or .npz "
            "that goose-viz wrote"
        ) from None
    if metadata.get("format") != _FORMAT:
        raise StateError(
            f"{path.name}: its format is {metadata.get('format')!r}; expected {_FORMAT!r} "
            "(a bare state is read by State.load)"
        )
    state = State.from_arrays(arrays, metadata.get("wkv"), path.name)
    tokens = arrays["tokens"].tolist()
    return Snapshot(state, tokens, metadata["text"], metadata["position"], metadata, arrays)


def _read_npz(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(str(arrays.pop("metadata")))


def _read_safetensors(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    with safe_open(path, framework="np") as file:
        strings = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    plain = {"format", "wkv", "model", "device", "dtype", "text"}
    return arrays, {k: v if k in plain else json.loads(v) for k, v in strings.items()}

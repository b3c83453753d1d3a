"""The memory behind a long text, kept: read a training set once, begin behind it ever after.

It lies in the user's cache folder (``GOOSE_VIZ_CACHE`` names another, or is ``off``), under a hash
of the model's files, the weight type, the kind of device and the text's tokens.  Half-way it is
kept too: who is interrupted goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from goose_viz.cpu.store import folder, make_room
from goose_viz.errors import GooseError
from goose_viz.files import write_whole
from goose_viz.model import Model
from goose_viz.session import Session
from goose_viz.state import ORIENTATION, State
from goose_viz.trace.fingerprint import Fingerprint

_FORMAT = "goose-viz state 1"  # `State.load` reads it as well
_NUMBERS = 1  # of what engines compute: a change in their bits makes old files useless
_KEEP_EVERY = 30.0  # seconds
_BOUND = 4 << 30  # bytes in the folder

Progress = Callable[[float, str], None]


def state_after(model: Model, text: str | Sequence[int], progress: Progress | None = None) -> State:
    """The memory behind a text, read once and then kept; bit for bit what a session comes to.

    Parameters
    ----------
    model : Model
    text : str or sequence of int
        A start token of the model comes ahead of it.
    progress : callable (float, str), optional
        Told the share that is read; it may raise, and what was kept half-way stays.

    Returns
    -------
    State
        For `Session`, as ``initial``.

    Raises
    ------
    GooseError
        If there is no text, or a token lies outside the vocabulary.
    """
    tokens = Session(model, history_bytes=0).to_feed(text)
    if not tokens:
        raise GooseError("the text to read first is empty; give one")
    path = _path(model, tokens)
    read, state = _kept(path, model, len(tokens))
    kept = time.monotonic()
    if read < len(tokens):
        session = Session(model, history_bytes=0, frames_bytes=0, initial=state)
        start = read

        def told(share: float) -> bool:  # once a layer: who gives up does not wait for a portion
            done = start + int(share * (len(tokens) - start))
            if progress is not None:
                progress(done / len(tokens), f"reading, token {done:,} of {len(tokens):,}")
            return True

        for portion in session.feeding(tokens[start:], told):
            read += len(portion)
            if read == len(tokens) or time.monotonic() - kept > _KEEP_EVERY:
                _keep(path, session.state, read)
                kept = time.monotonic()
        told(1.0)
        state = session.state.copy()
    assert state is not None
    return state


def _path(model: Model, tokens: Sequence[int]) -> Path | None:
    """Where it lies; None if nothing may be kept, or the weights lie in no file."""
    place = folder()
    if place is None:
        return None
    weights = Fingerprint(model)
    weights.wait()
    if not weights.found:
        return None
    about = {
        "weights": weights.found, "dtype": model.dtype, "device": model.device.partition(":")[0],
        "removal_scale": model.config.removal_scale, "numbers": _NUMBERS,
    }  # fmt: skip
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update(np.array(tokens, np.int64).tobytes())
    return place.parent / "states" / f"{digest.hexdigest()}.safetensors"


def _kept(path: Path | None, model: Model, most: int) -> tuple[int, State | None]:
    """(tokens read, the memory behind them); (0, None) where nothing is kept, or it is damaged."""
    if path is None or not path.exists():
        return 0, None
    try:
        with safe_open(path, framework="np") as file:
            about = file.metadata() or {}
            arrays = {n: file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
        read, state = int(about["tokens"]), State.from_arrays(arrays, about["wkv"], path.name)
        state.check(model.config)
        if about["digest"] != _digest(state) or not 0 < read <= most:
            return 0, None
    except Exception:  # whatever happened to it: read again
        return 0, None
    with contextlib.suppress(OSError):
        path.touch()  # used just now
    return read, state


def _keep(path: Path | None, state: State, read: int) -> None:
    """Keep it, if there is room; a failure costs only the time of reading again."""
    if path is None:
        return
    arrays = {n: np.ascontiguousarray(a) for n, a in state.arrays().items()}
    about = {"format": _FORMAT, "wkv": ORIENTATION, "tokens": str(read),
             "digest": _digest(state)}  # fmt: skip
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        make_room(path.parent, "*.safetensors", state.nbytes, _BOUND)
        write_whole(path, save(arrays, metadata=about))


def _digest(state: State) -> str:
    digest = hashlib.sha256()
    for array in state.arrays().values():
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()

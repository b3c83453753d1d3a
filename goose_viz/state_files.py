"""Memories to begin with, in the layouts that people have: which way round each is, is said.

A transposed matrix runs without an error and means something else, so a layout that its names do
not tell has to be named by who gives it.

Sources: RWKV-PEFT and RWKV-Runner for state-tuned files (those of RWKV-7 are taken as they are),
rwkv.cpp's ``rwkv_graph.inc``, web-rwkv's ``runtime/v7.rs``, flash-linear-attention's
``RWKV7Attention``.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.archives import Archive, read_npy, read_npz
from goose_viz.checkpoint import named_tensors
from goose_viz.config import Config
from goose_viz.errors import GooseError, StateError
from goose_viz.files import path_of, written_as
from goose_viz.snapshot import is_snapshot, load_snapshot
from goose_viz.state import State

Arrays = Mapping[str, NDArray[Any]]

_ROOM = 1 << 20  # numbers that may lie beside a state
VALUE_KEY, KEY_VALUE = "[value,key]", "[key,value]"


@dataclass(frozen=True)
class StateLayout:
    """How a kind of file has a memory.

    Attributes
    ----------
    name, about : str
    orientation : str
        Of a head's matrix, unless who gives the file says otherwise; empty where the file's ending
        tells.
    read : callable (dict of arrays, Config) -> (wkv, att_shift or None, ffn_shift or None)
        wkv as the file has it, (L, H, N, N).
    """

    name: str
    about: str
    orientation: str
    read: Callable[[Arrays, Config], tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]]


@dataclass(frozen=True)
class StateFile:
    """A memory that was read, and how.

    Attributes
    ----------
    state : State
    layout, orientation : str
    shifts : bool
        Whether the token shifts were there; if not they are zero, as ahead of a text.
    """

    state: State
    layout: str
    orientation: str
    shifts: bool

    def __str__(self) -> str:
        """In words."""
        shifts = "with token shifts" if self.shifts else "without token shifts: they are zero"
        return f"{self.layout}, {self.orientation}, {shifts}"


def load_state(
    path: str | os.PathLike[str],
    config: Config,
    layout: str = "auto",
    orientation: str = "auto",
) -> StateFile:
    """Read a memory for a model to begin with.

    Parameters
    ----------
    path : path
        A state or snapshot of ours; a state-tuned ``.pth`` or ``.st``; safetensors, ``.npz``,
        ``.npy`` or ``.pth`` of another program; raw float32 numbers.
    config : Config
        Of the model.
    layout : str
        One of `STATE_LAYOUTS`; ``"auto"`` goes by the names in the file, and asks where they do not
        tell.
    orientation : str
        Of a head's matrix, ``"[value,key]"`` or ``"[key,value]"``; the layout's own when left out.

    Raises
    ------
    StateError
        If the file cannot be read, does not say which layout it has, or is not of such a model.
    """
    place = path_of(os.fspath(path))
    if orientation not in ("auto", VALUE_KEY, KEY_VALUE):
        raise StateError(f"orientation {orientation!r}; expected {VALUE_KEY} or {KEY_VALUE}")
    if layout not in ("auto", *STATE_LAYOUTS):
        raise StateError(
            f"there is no layout {layout!r} of states; expected {', '.join(STATE_LAYOUTS)}"
        )
    if not place.is_file():
        raise StateError(f"{place}: there is no such file")
    if layout in ("auto", "goose-viz") and (is_snapshot(place) or _ours(place)):
        state = _ours_read(place)
        _finite(state, place.name)
        state.check(config)
        return StateFile(state, "goose-viz", VALUE_KEY, True)
    arrays = _arrays(place, _ROOM + 4 * sum(map(math.prod, State.zeros_shapes(config).values())))
    how = STATE_LAYOUTS[_told(arrays, place.name) if layout == "auto" else layout]
    try:
        wkv, att, ffn = how.read(arrays, config)
    except (KeyError, ValueError, IndexError) as error:
        raise StateError(
            f"{place.name}: does not hold a state of this model ({config.shape}) in the layout "
            f"{how.name}, {how.about} ({error})"
        ) from None
    given = orientation
    if given == "auto":
        given = how.orientation or _by_ending(place)
    if given == KEY_VALUE:
        wkv = wkv.swapaxes(-1, -2)
    zeros = np.zeros((config.n_layer, config.n_embd), np.float32)
    parts = (wkv, zeros if att is None else att, zeros if ffn is None else ffn)
    state = State(*(np.ascontiguousarray(p, np.float32) for p in parts))
    state.check(config)
    _finite(state, place.name)
    return StateFile(state, how.name, given, att is not None)


def _ours(path: Path) -> bool:
    return (written_as(path) or "").startswith("goose-viz state")


def _ours_read(path: Path) -> State:
    return load_snapshot(path).state if is_snapshot(path) else State.load(path)


def _finite(state: State, name: str) -> None:
    for part, array in state.arrays().items():
        if not np.isfinite(array).all():
            raise StateError(f"{name}: its {part} holds NaN or infinite numbers")


def _arrays(path: Path, most: int) -> dict[str, NDArray[Any]]:
    """What a file holds, by name, up to so many numbers; raw ones are called ``numbers``."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
        if head.startswith(b"\x93NUMPY"):
            return {"numbers": read_npy(path)}
        if path.suffix.lower() == ".npz":
            with Archive(path) as packed:
                _check_size(path, sum(info.file_size for info in packed.infolist()) // 4, most)
            return read_npz(path)
        if head.startswith(b"PK") or head[8:9] == b"{":
            tensors = named_tensors(path)[0]
            _check_size(path, sum(math.prod(t.shape) for t in tensors.values()), most)
            return {name: t.float32() for name, t in tensors.items()}
        size = path.stat().st_size
        if size % 4 or not size:
            raise StateError(f"{path.name}: {size} bytes are no float32 numbers")
        return {"numbers": np.fromfile(path, "<f4")}
    except GooseError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        raise StateError(
            f"{path.name}: cannot be read as a state ({type(error).__name__}: {error})"
        ) from None


def _check_size(path: Path, found: int, most: int) -> None:
    if found > most:
        raise StateError(
            f"{path.name}: holds {found:,} numbers; a state of this model would be far smaller"
        )


def _told(arrays: Arrays, name: str) -> str:
    """The layout that the names of a file's arrays tell."""
    if any(n.endswith("att.time_state") for n in arrays):
        return "time_state"
    if any(n.endswith("recurrent_state") for n in arrays):
        return "fla"
    held = ", ".join(f"{n} {a.shape}" for n, a in list(arrays.items())[:3]) or "nothing"
    raise StateError(
        f"{name}: holds {held}, whose names do not tell which way round a state lies; name its "
        f"layout, one of {', '.join(STATE_LAYOUTS)}"
    )


def _by_ending(path: Path) -> str:
    """Which way round state-tuned files lie: web-rwkv's converter turns what trainers write."""
    if zipfile.is_zipfile(path):
        return VALUE_KEY
    if path.suffix.lower() == ".st":
        return KEY_VALUE
    raise StateError(
        f"{path.name}: a state-tuned .pth has {VALUE_KEY} and web-rwkv's .st {KEY_VALUE}; of this "
        "file that cannot be told: name its orientation"
    )


def _by_layer(arrays: Arrays, ending: str, config: Config) -> list[NDArray[Any]]:
    """The arrays of a name, layer by layer, whatever stands before the layer's number."""
    pattern = re.compile(rf"(?:^|\.)(\d+)\.{re.escape(ending)}$")
    found = {int(m[1]): a for n, a in arrays.items() if (m := pattern.search(n))}
    if sorted(found) != list(range(config.n_layer)):
        raise ValueError(f"{ending} of {len(found)} layers, expected {config.n_layer}")
    return [found[i] for i in range(config.n_layer)]


def _heads(arrays: list[NDArray[Any]], config: Config) -> NDArray[Any]:
    H, N = config.n_head, config.head_size
    return np.stack([a.reshape(H, N, N) for a in arrays])


def _time_state(
    arrays: Arrays, config: Config
) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]:
    return _heads(_by_layer(arrays, "att.time_state", config), config), None, None


def _fla(
    arrays: Arrays, config: Config
) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]:
    wkv = _heads(_by_layer(arrays, "recurrent_state", config), config)
    if not any(n.endswith("conv_state") for n in arrays):
        return wkv, None, None
    att, ffn = (
        np.stack([a.reshape(config.n_embd) for a in _by_layer(arrays, n, config)])
        for n in ("conv_state", "ffn_state")
    )
    return wkv, att, ffn


def _rows(arrays: Arrays, config: Config) -> NDArray[Any]:
    """The only array, as (L, N + 2, D)."""
    (array,) = arrays.values()
    if array.dtype.kind != "f":
        raise ValueError(f"numbers of the kind {array.dtype}")
    return array.reshape(config.n_layer, config.head_size + 2, config.n_embd)


def _rwkv_cpp(arrays: Arrays, config: Config) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """A layer is its channel mix's shift, its time mix's, then the heads one by one."""
    rows = _rows(arrays, config)
    L, H, N = config.n_layer, config.n_head, config.head_size
    return rows[:, 2:].reshape(L, H, N, N), rows[:, 1], rows[:, 0]


def _web_rwkv(arrays: Arrays, config: Config) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """A layer is its time mix's shift, a row of all heads' values for each key, the other shift."""
    rows = _rows(arrays, config)
    L, H, N = config.n_layer, config.n_head, config.head_size
    by_key = rows[:, 1:-1].reshape(L, N, H, N)
    return by_key.transpose(0, 2, 1, 3), rows[:, 0], rows[:, -1]


def _mine(arrays: Arrays, config: Config) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    return arrays["wkv"], arrays["att_shift"], arrays["ffn_shift"]


STATE_LAYOUTS = {
    layout.name: layout
    for layout in (
        StateLayout("goose-viz", "wkv, att_shift, ffn_shift", VALUE_KEY, _mine),
        StateLayout(
            "time_state", "state-tuned: blocks.N.att.time_state (H, N, N)", "", _time_state
        ),
        StateLayout(
            "rwkv.cpp", "(N + 2) D numbers a layer, shifts first", VALUE_KEY, _rwkv_cpp
        ),
        StateLayout("web-rwkv", "(L, N + 2, D), shifts around the heads", KEY_VALUE, _web_rwkv),
        StateLayout(
            "fla", "N.recurrent_state (H, N, N), with conv_state and ffn_state (D) or without",
            KEY_VALUE, _fla,
        ),
    )
}  # fmt: skip

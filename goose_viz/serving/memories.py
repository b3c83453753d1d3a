"""Sessions by name, each with a memory of its own; what a memory is as bytes."""

from __future__ import annotations

import re
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from goose_viz.errors import GooseError
from goose_viz.model import Model
from goose_viz.session import Session
from goose_viz.snapshot import is_snapshot, load_snapshot, save_snapshot
from goose_viz.state_files import load_state

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class NoSuchMemory(GooseError):
    """There is no session of that name."""


class Busy(GooseError):
    """Another request uses the session."""


class TooMany(GooseError):
    """As many sessions are held as may."""


@dataclass
class _Held:
    session: Session
    busy: bool = False


class Memories:
    """The sessions of a server.

    Parameters
    ----------
    model : Model
    most : int
        Sessions that may be held.
    """

    def __init__(self, model: Model, most: int) -> None:
        self._model, self._most = model, most
        self._held: dict[str, _Held] = {}
        self._room = (64 << 20) + 4 * model.new_state().nbytes  # bytes of an archive, unpacked

    def empty(self) -> Session:
        """A session that is not held: of a request that names none."""
        return Session(self._model, history_bytes=0, frames_bytes=0)

    def list(self) -> list[dict[str, object]]:
        """What there is to say of each."""
        return [self.about(name) for name in sorted(self._held)]

    def about(self, name: str) -> dict[str, object]:
        """What there is to say of one.

        Raises
        ------
        NoSuchMemory
        """
        session = self._find(name).session
        return {"id": name, "object": "state", "tokens": session.position,
                "bytes": session.state.nbytes}  # fmt: skip

    def add(self, session: Session, name: str | None = None) -> str:
        """Hold a session, in place of another of the name.

        Raises
        ------
        GooseError
            If the name will not do, or the other is in use.
        TooMany
        """
        if name is not None and not _NAME.fullmatch(name):
            raise GooseError(
                f"{name[:80]!r} is no name of a session; expected up to 64 letters, digits, -, _"
            )
        if name is not None and name in self._held and self._held[name].busy:
            raise Busy(f"session {name} is in use by another request; try again")
        if name not in self._held and len(self._held) >= self._most:
            raise TooMany(f"{self._most} sessions are held, which is all; delete one")
        name = uuid.uuid4().hex[:16] if name is None else name
        self._held[name] = _Held(session)
        return name

    def remove(self, name: str) -> None:
        """Hold it no longer.

        Raises
        ------
        NoSuchMemory, Busy
        """
        with self.use(name):
            pass
        del self._held[name]

    @contextmanager
    def use(self, name: str) -> Iterator[Session]:
        """The session, for one request alone.

        Raises
        ------
        NoSuchMemory, Busy
        """
        held = self._find(name)
        if held.busy:
            raise Busy(f"session {name} is in use by another request; try again")
        held.busy = True
        try:
            yield held.session
        finally:
            held.busy = False

    def read(self, content: bytes, layout: str, orientation: str) -> Session:
        """A session that goes on from a snapshot, or begins with a state, of any known layout.

        Raises
        ------
        GooseError
            If it is none of this model.
        """
        with tempfile.TemporaryDirectory(prefix="goose-viz-") as folder:
            path = Path(folder) / f"memory{_ending(content)}"
            path.write_bytes(content)
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    size = sum(info.file_size for info in archive.infolist())
                if size > self._room:
                    raise GooseError(
                        f"it unpacks to {size} bytes; a memory has {self._room} at most"
                    )
            if layout == "auto" and is_snapshot(path):
                snapshot = load_snapshot(path)
                if not all(np.isfinite(a).all() for a in snapshot.state.arrays().values()):
                    raise GooseError("the memory holds NaN or infinite numbers")
                return snapshot.resume(self._model, history_bytes=0, frames_bytes=0)
            found = load_state(path, self._model.config, layout, orientation)
        return Session(self._model, history_bytes=0, frames_bytes=0, initial=found.state)

    def _find(self, name: str) -> _Held:
        if name not in self._held:
            raise NoSuchMemory(f"there is no session {name[:80]!r}; POST /v1/state makes one")
        return self._held[name]


def _ending(content: bytes) -> str:
    """By which readers tell archives of arrays from PyTorch's."""
    if content[:2] != b"PK":
        return ".safetensors"
    return ".npz" if b".npy" in content[-65536:] else ".pth"


def content_of(session: Session) -> bytes:
    """A session's moment as a snapshot in safetensors, which everything of ours opens."""
    with tempfile.TemporaryDirectory(prefix="goose-viz-") as folder:
        path = Path(folder) / "memory.safetensors"
        save_snapshot(path, session)
        return path.read_bytes()

"""Runs that nobody saved, kept for a while: neither a crash nor a slip costs one."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

from safetensors import SafetensorError, safe_open

import goose_viz as gv
from goose_viz.files import state_folder
from goose_viz.history import Segment

SECONDS = 20.0  # between two looks at whether there is more to keep
KEPT = 10  # runs
_BEGINNING = 24  # tokens that a list shows
_numbers = count(1)


@dataclass(frozen=True)
class KeptRun:
    """A run that was kept, for a list.

    Attributes
    ----------
    path : Path
    words : str
        When it was, of which model, how far it came, how it begins.
    """

    path: Path
    words: str


def kept_folder() -> Path:
    """Where runs are kept."""
    return state_folder() / "runs"


def kept_runs(folder: Path) -> list[KeptRun]:
    """The runs of a folder that can be read, the newest first; their memories are not read."""
    found = []
    for path in _newest(folder):
        with contextlib.suppress(SafetensorError, OSError, ValueError, LookupError, TypeError):
            with safe_open(path, framework="np") as file:
                about = json.loads(file.metadata()["session"])
            when = datetime.fromtimestamp(path.stat().st_mtime)
            words = " ".join(about["window"]["begins"].split())
            found.append(KeptRun(path, (
                f"{when:%Y-%m-%d %H:%M:%S} · {about['model']} · token {about['position']:,} · "
                f"{words}"
            )))  # fmt: skip
    return found


class Keeper:
    """Keeps a session in a file of its own, whenever there is more than what is known elsewhere.

    Parameters
    ----------
    session : Session
        What it holds now is not kept: it is nothing yet, or came from a file.
    folder : Path or None
        None: nothing is kept.
    tokenizer : str, optional
        The one that was named when the model was opened.

    Attributes
    ----------
    failed : bool
        Whether it was told that the file cannot be written.
    """

    def __init__(
        self, session: gv.Session, folder: Path | None, tokenizer: str | None = None
    ) -> None:
        self._session, self._folder, self._tokenizer = session, folder, tokenizer
        self._path: Path | None = None
        self.failed = False
        self._known = self._held()

    @property
    def wanted(self) -> bool:
        """Whether there is something to keep: what the model wrote, or an edit."""
        if self._folder is None or self._held() == self._known:
            return False
        segments = self._session.history.segments
        return any(s.edit is not None or 1 in s.generated for s in segments)

    def keep(self) -> None:
        """Keep it, if there is more.

        Raises
        ------
        OSError
            If the file cannot be written; it is tried again when there is still more.
        """
        if not self.wanted:
            return
        assert self._folder is not None
        session, self._known = self._session, self._held()
        if self._path is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            stamp = time.strftime("%Y-%m-%d-%H.%M.%S")
            self._path = self._folder / f"run-{stamp}-{os.getpid()}-{next(_numbers)}.goose"
        path = session.path
        begins = "".join(path.texts(0, min(path.stop, _BEGINNING)))
        gv.save_session(self._path, session, {"begins": begins, "tokenizer": self._tokenizer})
        for old in _newest(self._folder)[KEPT:]:
            old.unlink(missing_ok=True)

    def saved(self, path: Path) -> None:
        """Somebody saved all of it there: no other file is needed."""
        self._known = self._held()
        if self._path is not None and self._path.resolve() != path.resolve():
            self._path.unlink(missing_ok=True)
        self._path = None

    def _held(self) -> list[tuple[Segment, str, int]]:
        return [(s, s.name, len(s.tokens)) for s in self._session.history.segments]


def _newest(folder: Path) -> list[Path]:
    """Kept runs, the newest first."""
    ages = {}
    for path in folder.glob("run-*.goose"):
        with contextlib.suppress(OSError):  # another window removed it
            ages[path] = path.stat().st_mtime
    return sorted(ages, key=lambda p: ages[p], reverse=True)

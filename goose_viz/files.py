"""Where the program's own files lie, and how it writes a person's."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import platformdirs
from safetensors import safe_open

from goose_viz.errors import GooseError

_DAY = 86400  # seconds
_PACKAGE = Path(__file__).resolve().parent


def assets() -> Path:
    """The folder of what ships with the program: inside a wheel, or beside it in a checkout."""
    inside = _PACKAGE / "assets"
    return inside if inside.is_dir() else _PACKAGE.parent / "assets"


def state_folder() -> Path:
    """Where reports of the program's own faults are kept, and runs that nobody saved."""
    return platformdirs.user_state_path("goose-viz", appauthor=False)


def path_of(name: str) -> Path:
    """A path with its ~ resolved.

    Raises
    ------
    GooseError
        If there is no such home folder.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise GooseError(f"{name}: there is no such home folder") from None


def json_object(path: Path, error: type[GooseError]) -> dict[str, Any]:
    """A JSON object from a file.

    Raises
    ------
    GooseError
        Of the given class, naming the file, if it holds none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as fault:
        raise error(f"{path.name}: not readable as JSON ({fault})") from None
    if not isinstance(content, dict):
        raise error(f"{path.name}: holds a {type(content).__name__}, expected an object")
    return content


def written_as(path: Path) -> str | None:
    """The format that a safetensors file says it has; None of any other, never raises."""
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("format")
    except Exception:  # whatever else it is
        return None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a half.

    Raises
    ------
    OSError
        If the folder is missing or cannot be written to; nothing is left behind.
    """
    with whole_file(path) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write into that takes its name only when it is whole and on the disk.

    A link stays one: what it leads to is written.

    Raises
    ------
    OSError
        If the file cannot be written, or the name is a device, a pipe or a folder's.
    """
    path = path.resolve() if path.is_symlink() else path
    if path.exists() and not path.is_file():
        raise OSError(f"{path}: not a regular file, so it is not written over; choose another name")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    _clear(path)
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the name without the content
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    """Remove what writers of this file left behind that were killed a day ago or earlier."""
    begin = f".{path.name}."
    with contextlib.suppress(OSError):
        for file in path.parent.iterdir():
            if not file.name.startswith(begin) or file.suffix != ".part":
                continue
            if time.time() - file.stat().st_mtime > _DAY:
                file.unlink(missing_ok=True)

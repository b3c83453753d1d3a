"""Where the program's own files lie, and how it writes a person's."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import platformdirs

_PACKAGE = Path(__file__).resolve().parent


def assets() -> Path:
    """The folder of what ships with the program: inside a wheel, or beside it in a checkout."""
    inside = _PACKAGE / "assets"
    return inside if inside.is_dir() else _PACKAGE.parent / "assets"


def state_folder() -> Path:
    """Where reports of the program's own faults are kept."""
    return platformdirs.user_state_path("goose-viz", appauthor=False)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, never a half.

    Raises
    ------
    OSError
        If the folder is missing or cannot be written to; nothing is left behind.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # or a power cut may leave the name without the content
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would surprise who shares the file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

"""What to do with an error that no person caused: keep its traceback, say where."""

from __future__ import annotations

import os
import sys
import time
import traceback

from goose_viz.files import state_folder


def report_fault(error: BaseException) -> str:
    """Write a fault's traceback to a file in the user's state folder; a sentence that names it."""
    what = f"{type(error).__name__}: {error}".rstrip(": ").partition("\n")[0]
    sentence = f"internal error ({what})"
    try:
        folder = state_folder()
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"fault-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        head = f"Python {sys.version} on {sys.platform}\n{sys.argv}\n\n"
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(head + "".join(traceback.format_exception(error)) + "\n")
    except OSError:
        traceback.print_exception(error)
        return f"{sentence}; please report it with the lines above"
    return f"{sentence}; please report it with the file {path}"

"""What comes in and goes out of the terminal: any text, whatever its encoding can say."""

from __future__ import annotations

import io
import os
import sys

from goose_viz.errors import GooseError
from goose_viz.files import path_of


def print_whatever_comes() -> None:
    """From now on, what the output's encoding cannot say becomes a question mark, not an error."""
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="replace")


def stop_writing() -> None:
    """The reader has gone: what is left in buffers must not fail at the program's end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)


def read_prompt(prompt: str | None, file: str | None) -> str | None:
    """The prompt that was meant: the words themselves, standard input for ``-``, or a file's text.

    Bytes stay as they are: line ends, blanks at the end, and what is no UTF-8.

    Raises
    ------
    GooseError
        If both are given.
    OSError
        If the file cannot be read.
    """
    if prompt is not None and file is not None:
        raise GooseError("--prompt and --prompt-file exclude each other; give one")
    if prompt == "-" or file == "-":
        data = sys.stdin.buffer.read() if sys.stdin is not None else b""
    elif file is not None:
        data = path_of(file).read_bytes()
    else:
        return prompt
    return data.decode("utf-8", "surrogateescape")

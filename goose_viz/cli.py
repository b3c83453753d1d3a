"""The commands that need no window."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

import typer

from goose_viz.commands import measuring, models, recording, serving, writing  # noqa: F401
from goose_viz.commands.base import Ended, app
from goose_viz.errors import GooseError
from goose_viz.faults import report_fault
from goose_viz.stdio import print_whatever_comes, stop_writing

#: Commands by name: what the first word of the command line is held against.
COMMANDS = ("generate", "record", "export", "info", "bench", "check", "convert", "eval", "serve")


def run(arguments: list[str]) -> int:
    """Run a command; the exit status.

    What a person can cause is one line on stderr and 2; Ctrl+C is 130, a reader that has gone 0.
    What is a fault of the program is 1, with its traceback in a file that the line names.
    """
    print_whatever_comes()

    def work() -> int:
        try:
            status = app(_spread(arguments), prog_name="goose-viz", standalone_mode=False)
        except Ended as ended:
            raise ended.error from None
        return status if isinstance(status, int) else 0

    return guarded(work)


def _spread(words: list[str]) -> list[str]:
    """The same with ``--corpus`` before every file that follows it, as click takes it."""
    out: list[str] = []
    files = -1  # behind --corpus so far; -1 elsewhere
    for word in words:
        if word.startswith("-"):
            files = 1 if word.startswith("--corpus=") else 0 if word == "--corpus" else -1
        elif files >= 0:
            out += ["--corpus"] if files else []
            files += 1
        out.append(word)
    return out


def guarded(work: Callable[[], int]) -> int:
    """What the work answers, or the status of what ended it; never a traceback."""
    try:
        status = work()
        sys.stdout.flush()
        return status
    except typer.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        stop_writing()
        return 0
    except SystemExit as exit_:  # rich's answer to a reader that has gone, within typer's help
        if isinstance(exit_.__context__, BrokenPipeError):
            stop_writing()
            return 0
        raise
    except (GooseError, OSError) as error:
        return _say(str(error), 2)
    except MemoryError:
        return _say("there is not enough free memory for that", 2)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except Exception as error:
        show = getattr(error, "show", None)  # click's own usage errors
        if show is not None:
            show()
            return 2
        return _say(report_fault(error), 1)


def _say(sentence: str, status: int) -> int:
    with contextlib.suppress(OSError, ValueError):  # nobody is there to read it
        print(f"goose-viz: {sentence}", file=sys.stderr)
    return status

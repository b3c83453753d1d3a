"""Long analyses, a little at a time: whoever drives one may do other things between."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from goose_viz.errors import Stopped

R = TypeVar("R")

#: Yields the share that is done, from 0 to 1, and returns what was found.
Steps = Generator[float, None, R]
#: Told the share; False ends the work.
Progress = Callable[[float], bool | None]


def finish(steps: Steps[R], progress: Progress | None = None) -> R:
    """Do all of it.

    Raises
    ------
    Stopped
        If ``progress`` ended it.
    """
    while True:
        try:
            share = next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if progress is not None and progress(share) is False:
            steps.close()
            raise Stopped

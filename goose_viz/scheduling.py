"""A function of many items: in this process, or on a dask cluster that exists."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from goose_viz.errors import GooseError

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")

_AHEAD = 4  # items a thread of the cluster that wait there: enough that none is idle
_CONNECT = 10.0  # seconds
_WORKERS = 60.0  # seconds to wait for the first
_AGAIN = 2  # times that a task is tried again which failed for a reason of its machine


@dataclass(frozen=True)
class Lost:
    """In place of an item's result: every worker that took it died.

    Attributes
    ----------
    sentence : str
    """

    sentence: str


def each(
    function: Callable[[I], R], items: Sequence[I], scheduler: str | None = None
) -> Iterator[tuple[int, R | Lost]]:
    """Index and result of every item, as they come.

    Parameters
    ----------
    function : callable
        With a scheduler it travels to the workers, which have the same packages installed.
    items : sequence
    scheduler : str, optional
        Address of a dask scheduler, ``"tcp://host:8786"``; in this process, in order, when left
        out.  What a worker has not finished when it dies, another does.

    Raises
    ------
    GooseError
        If there is no such scheduler, or what the function raises of that kind.
    Exception
        What else the function raises; on a cluster after having been tried again.
    """
    if scheduler is None:
        for index, item in enumerate(items):
            yield index, function(item)
    else:
        yield from _on_cluster(function, items, scheduler)


def _on_cluster(
    function: Callable[[I], R], items: Sequence[I], scheduler: str
) -> Iterator[tuple[int, R | Lost]]:
    try:
        from distributed import Client, as_completed
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise GooseError(
            "a cluster needs dask.distributed: pip install 'goose-viz[cluster]'"
        ) from None
    try:
        client = Client(scheduler, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise GooseError(
            f"no dask scheduler answers at {scheduler} ({error}); expected an address such as "
            "tcp://127.0.0.1:8786, where `dask scheduler` runs"
        ) from None
    waiting = iter(range(len(items)))
    tasks: dict[Any, int] = {}
    # what a task raises of our own kind would be raised again by another machine too
    said = partial(_said, function)

    def submit() -> list[Any]:
        """As many more as the cluster is large now."""
        room = max(1, sum(client.nthreads().values()) * _AHEAD) - len(tasks)
        more = [
            (client.submit(said, items[i], retries=_AGAIN, pure=False), i)
            for i in itertools.islice(waiting, max(0, room))
        ]
        tasks.update(more)
        return [task for task, _ in more]

    try:
        client.wait_for_workers(1, timeout=_WORKERS)
        done = as_completed(submit(), loop=client.loop)
        for task in done:
            wrong = task.exception()
            index = tasks.pop(task)
            if wrong is None:
                result = task.result()
                if isinstance(result, GooseError):
                    raise result
                found: R | Lost = result
            elif isinstance(wrong, KilledWorker):
                found = Lost("every worker that took it died; it may not fit into their memory")
            else:
                raise wrong
            task.release()
            for more in submit():
                done.add(more)
            yield index, found
    except TimeoutError:
        raise GooseError(
            f"no worker came to the scheduler at {scheduler} within {_WORKERS:.0f} s; start some: "
            f"dask worker {scheduler}"
        ) from None
    except (CancelledError, CommClosedError, FutureCancelledError):
        raise GooseError(
            f"the scheduler at {scheduler} has gone; what is finished stays, and the same command "
            "goes on"
        ) from None
    finally:
        with contextlib.suppress(Exception):  # a scheduler that has gone
            client.cancel(list(tasks))
        client.close()


def _said(function: Callable[[I], R], item: I) -> R | GooseError:
    try:
        return function(item)
    except GooseError as error:
        return error

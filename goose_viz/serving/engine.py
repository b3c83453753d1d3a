"""One thread computes for all: requests take turns, a token or a piece of a prompt at a time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


class Full(Exception):
    """As many requests wait as may."""


class _Job:
    """Work in pieces; each is told to the loop that asked for it."""

    def __init__(self, work: Callable[[], Iterator[Any]]) -> None:
        self._work = work
        self._pieces: Iterator[Any] | None = None
        self._loop = asyncio.get_running_loop()
        self.told: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.given_up = False

    def go_on(self) -> bool:
        """Do a piece; whether there is more."""
        try:
            if self._pieces is None:
                self._pieces = self._work()
            self._tell("piece", next(self._pieces))
            return True
        except StopIteration:
            self._tell("end", None)
        except BaseException as error:
            self._tell("error", error)
        return False

    def close(self) -> None:
        """Leave it where it is."""
        with contextlib.suppress(Exception):
            getattr(self._pieces, "close", lambda: None)()
        self._tell("end", None)

    def _tell(self, kind: str, what: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(self.told.put_nowait, (kind, what))


class Turns:
    """The thread.

    Parameters
    ----------
    at_once : int
        Requests that take turns.
    waiting : int
        Requests that may wait for one.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once, self._most = at_once, waiting
        self._active: list[_Job] = []
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="goose-serve", daemon=True)
        self._thread.start()

    @property
    def room(self) -> int:
        """Requests that could be taken now."""
        with self._changed:
            return self._at_once + self._most - len(self._active) - len(self._waiting)

    def pieces(self, work: Callable[[], Iterator[T]]) -> AsyncGenerator[T, None]:
        """What a function's iterator gives, computed in the thread; given up when closed.

        Raises
        ------
        Full
            At once, if there is no room.
        """
        job = _Job(work)
        with self._changed:
            if len(self._active) + len(self._waiting) >= self._at_once + self._most:
                raise Full
            self._waiting.append(job)
            self._changed.notify()
        return self._told(job)

    async def call(self, work: Callable[[], T]) -> T:
        """What a function returns, computed in the thread."""

        def once() -> Iterator[T]:
            yield work()

        async for result in self.pieces(once):
            return result
        raise Full  # it was closed

    def close(self) -> None:
        """Give up everything and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    async def _told(self, job: _Job) -> AsyncGenerator[Any, None]:
        ended = False
        try:
            while True:
                kind, what = await job.told.get()
                ended = kind != "piece"
                if kind == "error":
                    raise what
                if kind == "end":
                    return
                yield what
        finally:
            job.given_up = True
            while not ended:  # until the thread has let go of what it worked on
                ended = (await job.told.get())[0] != "piece"

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._active or self._waiting or self._closed):
                    self._changed.wait()
                if self._closed:
                    for job in (*self._active, *self._waiting):
                        job.close()
                    return
                for job in [j for j in self._waiting if j.given_up]:
                    self._waiting.remove(job)
                    job.close()
                while self._waiting and len(self._active) < self._at_once:
                    self._active.append(self._waiting.popleft())
                turn = list(self._active)
            for job in turn:
                gone = job.given_up  # asked once: it may become so at any moment
                if gone:
                    job.close()
                if gone or not job.go_on():
                    with self._changed:
                        self._active.remove(job)

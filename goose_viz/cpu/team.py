"""The threads that compute: one team per process, asleep when there is nothing to do.

Python threads that call the same compiled function outside the GIL.  The caller never waits for
them to come (`tickets` sees to that), so a busy machine, a fork or a single core only makes it
slower.  numba's own threading layers are not used: the one that is always there ends the process
when two threads enter it at once.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import psutil

Job = tuple[Callable[..., None], tuple[Any, ...]]


def cores() -> int:
    """Physical cores that this process may use; GOOSE_VIZ_THREADS overrules.

    A container's share of the processor counts: threads beyond it are halted for most of the time,
    and the others wait for them.
    """
    chosen = os.environ.get("GOOSE_VIZ_THREADS", "")
    if chosen.isdecimal() and int(chosen) > 0:
        return int(chosen)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(psutil.cpu_count(logical=False) or 1, allowed or 1, quota()))


def quota(root: Path = Path("/")) -> int:
    """Whole processors that a control group leaves this process; very many if none is set.

    Source: the kernel's documentation of cgroup v2 (``cpu.max``) and v1 (``cpu.cfs_quota_us``).
    """
    shares = [float("inf")]
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no such thing on this system
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        version_2 = not controllers
        if not version_2 and "cpu" not in controllers.split(","):
            continue
        top = groups if version_2 else groups / controllers
        place = top / path.strip("/")
        for folder in (place, *place.parents):  # the strictest of all above counts
            with contextlib.suppress(OSError, ValueError):
                if version_2:
                    most, period = (folder / "cpu.max").read_text().split()
                else:
                    most = (folder / "cpu.cfs_quota_us").read_text()
                    period = (folder / "cpu.cfs_period_us").read_text()
                if float(most) > 0:
                    shares.append(float(most) / float(period))
            if folder == top:
                break
    return int(min(*shares, 1 << 20))


class _Helper:
    """A thread that sleeps until it is woken, then takes the team's job of that moment."""

    def __init__(self, team: Team, number: int) -> None:
        self._team = team
        self._bell = threading.Lock()
        self._bell.acquire()
        threading.Thread(target=self._work, name=f"goose-viz {number}", daemon=True).start()

    def wake(self) -> None:
        if self._bell.locked():
            self._bell.release()

    def _work(self) -> None:
        while True:
            self._bell.acquire()
            with contextlib.suppress(Exception):  # the caller gets the same one, and tells
                self._help(self._team.job)

    @staticmethod
    def _help(job: Job | None) -> None:
        """In a frame of its own: a sleeping thread must not hold on to a model."""
        if job is not None:
            function, arguments = job
            function(*arguments)


class Team:
    """Runs compiled functions on several cores.

    Attributes
    ----------
    lock : lock
        Held by whoever runs a job: two sessions in two threads take turns, token by token.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.job: Job | None = None
        self._helpers: list[_Helper] = []
        self._known: set[tuple[Any, Hashable]] = set()
        if hasattr(os, "register_at_fork"):  # a child must not find a job half done
            os.register_at_fork(
                before=self.lock.acquire,
                after_in_parent=self.lock.release,
                after_in_child=self._after_fork,
            )

    def _after_fork(self) -> None:
        self._helpers = []  # threads stay behind
        self.lock.release()

    def run(
        self, threads: int, kind: Hashable, function: Callable[..., None], *arguments: Any
    ) -> None:
        """Call a function here and, if they come in time, on so many threads less one elsewhere.

        The function must return only when the work is done, whoever did it; calling it again then
        must do nothing.

        Parameters
        ----------
        threads : int
        kind : hashable
            What tells apart the types that the function is called with.
        function : callable
            Compiled on its first call with such types, in which no helper takes part: compiling
            takes seconds, in which a person may give up, and a helper that waited with the job in
            its hand would then begin it.
        arguments
            The same for all threads.
        """
        known = (function, kind) in self._known
        if threads == 1 or not known:
            function(*arguments)
            self._known.add((function, kind))
            return
        done = False
        try:
            self._wake(threads - 1, (function, arguments))
            function(*arguments)
            done = True
        finally:
            try:
                if not done:  # an interrupt: what a helper may have begun must not go on alone
                    function(*arguments)
            finally:
                self.job = None

    def _wake(self, helpers: int, job: Job) -> None:
        if len(self._helpers) < helpers:
            with contextlib.suppress(RuntimeError):  # no thread to be had: fewer will do
                while len(self._helpers) < helpers:
                    self._helpers.append(_Helper(self, len(self._helpers) + 1))
        self.job = job
        for helper in self._helpers[:helpers]:
            helper.wake()


TEAM = Team()

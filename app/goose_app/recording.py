"""A run that is being recorded; no Qt here."""

from __future__ import annotations

from collections.abc import Callable

import goose_viz as gv
from goose_app import messages as m
from goose_viz.errors import Stopped
from goose_viz.trace import TraceWriter, catch_up, follow, unfollow


class Recording:
    """What a run does about its recording.

    Parameters
    ----------
    say : callable (Event)
        Told of its begin and its end.
    """

    def __init__(self, say: Callable[[m.Event], None]) -> None:
        self._say = say
        self._of: tuple[gv.Session, TraceWriter] | None = None

    @property
    def observed(self) -> frozenset[str]:
        """What has to be observed of every token for it."""
        return frozenset() if self._of is None else self._of[1].probe.observables

    def begin(self, session: gv.Session, command: m.Record, wanted: Callable[[], bool]) -> None:
        """Record a session from its beginning on."""
        assert command.path is not None

        def keep_going(share: float) -> bool:
            self._say(m.Loading(share, "recording what was read so far"))
            return wanted()

        names = gv.OBSERVABLES if command.state else None
        writer = follow(session, command.path, observables=names, keep_going=keep_going)
        if writer is None:
            self._say(m.Told("cancelled"))
            self._say(m.Recording(None))
            return
        self._of = session, writer
        self._say(m.Recording(command.path))

    def arrived(self, session: gv.Session, wanted: Callable[[], bool]) -> None:
        """Another branch was taken: what it has is recorded as well, or the recording ends."""
        if self._of is None or session is not self._of[0]:
            return

        def keep_going(share: float) -> bool:
            self._say(m.Loading(share, "recording the branch"))
            return wanted()

        try:
            catch_up(session, self._of[1], keep_going)
        except Stopped:
            self.end()

    @property
    def broken(self) -> bool:
        """Whether it cannot be written any more, and is to be ended; the run goes on."""
        of = self._of
        return of is not None and of[1].error is not None

    def end(self) -> None:
        """End it, if there is one."""
        if self._of is None:
            return
        (session, writer), self._of = self._of, None
        self._say(m.Recording(None))
        try:
            unfollow(session, writer)
        except OSError as error:
            self._say(m.Failed(str(error)))
        else:
            self._say(m.Told(f"recorded {writer.n_tokens} tokens in {writer.path}"))

"""What a run says of where the next word comes from: when, and for how long; no Qt here."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import goose_viz as gv
from goose_app import messages as m
from goose_app.explain import Explain, Explanation, HeadNow, explain
from goose_app.inquiries import Inquiries
from goose_viz.errors import Stopped
from goose_viz.history import Segment

_LOOK_BACK = 0.05  # seconds for reading again, while the model writes, what was not watched
PAUSE = 30  #: times the time that an explanation takes until the next, while the model writes


class Explaining(Inquiries):
    """The part of a `Run` that explains."""

    picture: m.Picture | None

    def _begin_explaining(self) -> None:
        self._explain = Explain(False)
        self._explained: tuple[Explanation | None, HeadNow | None] = None, None
        self._explained_at: tuple[Segment, int] | None = None
        self._before: tuple[tuple[Segment, int, int, int], NDArray[Any]] | None = None
        self._explaining = 0.0  # seconds that the last explanation took
        self._explain_after = 0.0  # on the clock: an explanation must not hold up the writing

    def _start_explaining(self, command: Explain) -> None:
        self._explain, self._explained_at = command, None
        if self.session is not None:
            self.session.probe = self._new_probe()
            if not self.running:
                self.take()

    @property
    def pondering(self) -> bool:
        """Whether something is to be worked out while nobody waits: it may have been cut short."""
        return self._unexplained() or super().pondering

    def go_on(self) -> None:
        """A piece of that; why the next word comes first."""
        session = self.session
        if self._unexplained() and session is not None:
            try:
                self.take()
            except Exception:
                self._explained_at = session.segment, session.position  # once is enough
                raise
        else:
            super().go_on()

    def _unexplained(self) -> bool:
        session = self.session
        if session is None or self.running or not self._explain.on or session.position == 0:
            return False
        return self._explained_at != (session.segment, session.position)

    def _explanation_due(self) -> bool:
        return not self.running or time.perf_counter() >= self._explain_after

    def _remember_head(self, session: gv.Session) -> None:
        """The selected head's memory ahead of a token, for what the token does to it."""
        layer, head = self._explain.layer, self._explain.head
        place = session.segment, session.position + 1
        self._before = (*place, layer, head), np.array(session.state.wkv[layer, head])

    def _head_before(self, session: gv.Session) -> NDArray[Any]:
        """The selected head's memory ahead of the cursor's token."""
        place = session.segment, session.position, self._explain.layer, self._explain.head
        if self._before is not None and self._before[0] == place:
            return self._before[1]
        return np.array(session.state_at(session.position - 1).wkv[place[2], place[3]])

    def _explain_now(self, session: gv.Session, picture: m.Picture) -> None:
        """Work out where the next word comes from, unless something else is to be done first."""
        began, e = time.perf_counter(), self._explain

        def keep_going() -> bool:
            patient = not self.running or time.perf_counter() < began + _LOOK_BACK
            return patient and self._host.wanted() and not self._host.busy()

        try:
            before = self._head_before(session) if e.edit and session.position else None
            self._explained = explain(session, e, before, keep_going) or (None, None)
            self._explained_at = session.segment, session.position
            why, head = self._explained
            self.picture = replace(picture, why=why, head=head, stale=False)
        except Stopped:
            pass  # what was read again is there the next time
        now = time.perf_counter()
        self._explaining = now - began
        self._explain_after = now + PAUSE * self._explaining

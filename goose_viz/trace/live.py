"""Record a session that is there: what it has read, and whatever it reads from now on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from goose_viz.errors import GooseError, Stopped
from goose_viz.session import Session
from goose_viz.trace.writing import TraceWriter, wanted

_PATIENCE = 10.0  # seconds for the hashes of a large model's files, when one ends a recording


def follow(
    session: Session,
    path: str | os.PathLike[str],
    *,
    observables: Iterable[str] | None = None,
    layers: Iterable[int] | None = None,
    keep_going: Callable[[float], bool] | None = None,
) -> TraceWriter | None:
    """Record the current branch of a session as it is, and all that it reads from now on.

    Whoever calls sees to it that the session's probe asks for what `TraceWriter.probe` has, and
    closes the writer; `unfollow` does.

    Parameters
    ----------
    session : Session
    path : path
        A new folder.
    observables, layers
        As `goose_viz.record` takes them.
    keep_going : callable, optional
        Told the share of the past that is read again; False gives up, and nothing is left.

    Returns
    -------
    TraceWriter or None
        None if it was given up.

    Raises
    ------
    GooseError
        If the session is recorded already, or the model has no such observable or layer.
    OSError
        If the path is taken, or cannot be written to.
    """
    if session.follower is not None:
        raise GooseError("this run is being recorded already; end that first")
    probe = wanted(observables, layers, session.model.config)
    writer = TraceWriter(path, session.model, probe, 1, session.sampler, session.initial)
    try:
        catch_up(session, writer, keep_going)
    except BaseException as error:
        writer.discard()
        if isinstance(error, Stopped):
            return None
        raise
    session.follower = writer.read
    return writer


def catch_up(
    session: Session, writer: TraceWriter, keep_going: Callable[[float], bool] | None = None
) -> None:
    """Record what the session's current branch has and its trace has not, by reading it again.

    Raises
    ------
    Stopped
        If ``keep_going`` ended it.
    """
    for start, stop in writer.missing(session.path):

        def told(begin: int = writer.n_tokens, n: int = stop - start) -> bool:
            return keep_going is None or keep_going((writer.n_tokens - begin) / n)

        for i, frame, best in session.again(start, stop, writer.probe, told):
            writer.put(session.path, i, frame, best)


def unfollow(session: Session, writer: TraceWriter) -> None:
    """End a recording, whole.

    Raises
    ------
    OSError
        If something could not be written; what was whole before stays.
    """
    session.follower = None
    writer.close("when it was stopped", patience=_PATIENCE)

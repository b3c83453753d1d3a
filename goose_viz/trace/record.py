"""Record a run: a prompt, what the model writes behind it, and what goes on inside."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from goose_viz.edits import StateEdit
from goose_viz.errors import GooseError
from goose_viz.model import Model
from goose_viz.probe import Probe
from goose_viz.sampling import Sampler
from goose_viz.session import Session
from goose_viz.state import State
from goose_viz.trace.reading import Trace, open_trace
from goose_viz.trace.writing import TraceWriter, wanted

Progress = Callable[[float, str], None]


def record(
    model: Model,
    prompt: str | Sequence[int],
    n_tokens: int,
    path: str | os.PathLike[str],
    *,
    observables: Iterable[str] | None = None,
    layers: Iterable[int] | None = None,
    every: int = 1,
    sampler: Sampler | None = None,
    initial: State | None = None,
    edits: Iterable[tuple[int, StateEdit]] = (),
    progress: Progress | None = None,
) -> Trace:
    """Feed a prompt, write on, and keep what is observed of every token in a Zarr v3 folder.

    Blocks of tokens are written as they fill: the trace can be read meanwhile, and is whole up to
    the last finished block whatever ends the process.

    Parameters
    ----------
    model : Model
    prompt : str or sequence of int
    n_tokens : int
        To write behind the prompt; fewer where a stop token or stop text of the sampler comes.
    path : path
        A new folder; by custom its name ends in ``.zarr``.
    observables : iterable of str, optional
        Names out of `goose_viz.OBSERVABLES`; all but ``wkv``, the state itself, when left out.
    layers : iterable of int, optional
        All when left out.
    every : int
        Observables of every so many tokens only, from the first on; the text has all.
    sampler : Sampler, optional
    initial : State, optional
        The memory to begin with, see `Session`.
    edits : iterable of (int, StateEdit)
        Edits of the memory and the positions to make them at: behind so many tokens, the start
        token of the model included.
    progress : callable, optional
        Called with a share and words; what it raises ends the recording.

    Returns
    -------
    Trace

    Raises
    ------
    GooseError
        If something of this will not do; an edit may turn out so when its time has come.
    OSError
        If the path is taken, or something could not be written; what was whole before stays.
    """
    path = Path(path)
    probe, due = _checked(model, n_tokens, observables, layers, every, edits)
    session = Session(model, sampler, history_bytes=(256 << 20) if due else 0, initial=initial)
    tokens = session.to_feed(prompt)
    if not tokens:
        raise GooseError("there is nothing to record: the prompt is empty; give one")
    whole = len(tokens) + n_tokens
    if due and due[-1][0] >= whole:
        raise GooseError(
            f"an edit is to be made behind {due[-1][0]} tokens, and there will be {whole} at most: "
            "nothing would be read behind it"
        )
    writer = TraceWriter(path, model, probe, every, session.sampler, session.initial)
    session.follower = writer.read
    session.probe = probe

    def say() -> None:
        probe.clear()
        if writer.error is not None:
            raise OSError(f"{path}: recording ended there: {writer.error}") from writer.error
        if progress is not None:
            progress(session.position / whole, "recording")

    try:
        ended = _run(session, tokens, n_tokens, due, every, say)
    except BaseException as error:
        words = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        if writer.n_tokens:
            with contextlib.suppress(OSError):  # that is what is being raised
                writer.close(words or type(error).__name__, complete=False)
        else:
            writer.discard()
        raise
    writer.close(ended)
    return open_trace(path)


def _checked(
    model: Model,
    n_tokens: int,
    observables: Iterable[str] | None,
    layers: Iterable[int] | None,
    every: int,
    edits: Iterable[tuple[int, StateEdit]],
) -> tuple[Probe, list[tuple[int, StateEdit]]]:
    """The probe, and the edits in order; raises where one will not do."""
    probe = wanted(observables, layers, model.config)
    if n_tokens < 0 or every < 1:
        raise GooseError(
            f"{n_tokens} tokens, every {every}: expected a number from 0, and one from 1"
        )
    due = sorted(edits, key=lambda e: e[0])
    if due and due[0][0] < 0:
        raise GooseError(f"an edit is to be made at position {due[0][0]}; the first is 0")
    for _, edit in due:
        edit.scope(model.config)
    return probe, due


def _run(
    session: Session,
    tokens: list[int],
    n_tokens: int,
    due: list[tuple[int, StateEdit]],
    every: int,
    say: Callable[[], None],
) -> str:
    """Feed and write, with the edits where they are due; how it ended."""
    probe, prompt = session.probe, len(tokens)

    def edit() -> None:
        while due and due[0][0] == session.position:
            session.apply(due.pop(0)[1])

    while session.position < prompt:
        edit()
        stop = min(prompt, due[0][0] if due else prompt)
        for _ in session.feeding(tokens[session.position : stop]):
            say()
    for _ in range(n_tokens):
        edit()
        session.probe = probe if session.position % every == 0 else None
        session.step()
        say()
        if session.stopped():
            left = f"; {len(due)} edits were not reached" if due else ""
            return f"at a stop of the sampler{left}"
    return "after as many tokens as were asked for"

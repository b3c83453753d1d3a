"""What a request makes of a session: pieces of text, up to a stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from goose_viz.errors import GooseError
from goose_viz.session import Session


@dataclass(frozen=True)
class Piece:
    """Text that can be shown, and the token that completed it.

    Attributes
    ----------
    text : str
        May be empty: an unfinished character, or what may yet become a stop text.
    token : str
        Its own text; empty for what was held back to the end.
    probability : float
        What the model gave it; NaN where there is no token.
    top : list of (str, float)
        The likeliest in its place.
    """

    text: str
    token: str
    probability: float
    top: list[tuple[str, float]]


@dataclass(frozen=True)
class End:
    """How it ended.

    Attributes
    ----------
    reason : str
        ``"stop"`` or ``"length"``.
    prompt, written : int
        Tokens.
    """

    reason: str
    prompt: int
    written: int


class Held:
    """Text on its way out, of which what may become a stop text waits.

    Parameters
    ----------
    stops : sequence of str
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [s for s in stops if s]
        self._waiting = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """What can be shown now; nothing behind a stop text, nor that itself."""
        whole = self._waiting + text
        found = [at for s in self._stops if (at := whole.find(s)) >= 0]
        if found:
            self.stopped, self._waiting = True, ""
            return whole[: min(found)]
        keep = max((self._begun(whole, s) for s in self._stops), default=0)
        self._waiting = whole[len(whole) - keep :]
        return whole[: len(whole) - keep]

    def flush(self) -> str:
        """What waited, at the end."""
        text, self._waiting = self._waiting, ""
        return text

    @staticmethod
    def _begun(text: str, stop: str) -> int:
        """Characters at the end that are the beginning of a stop text."""
        for n in range(min(len(stop) - 1, len(text)), 0, -1):
            if text.endswith(stop[:n]):
                return n
        return 0


def write(
    session: Session, prompt: str | Sequence[int], n_tokens: int, stops: Sequence[str], top: int
) -> Iterator[Piece | End | None]:
    """Feed a prompt and write on; None between pieces of the prompt.

    Parameters
    ----------
    session : Session
        Its sampler's stops are the tokens to end at.
    prompt : str or sequence of int
    n_tokens : int
    stops : sequence of str
    top : int
        Likeliest tokens to tell in each place.

    Raises
    ------
    GooseError
        If there is nothing to go on from.
    """
    label = session.model.tokenizer.label
    before = session.position
    for _ in session.feeding(_something(session, prompt)):
        yield None
    fed = session.position - before
    held, written, reason = Held(stops), 0, "length"
    while written < n_tokens:
        if session.logits is not None and not np.isfinite(session.logits).all():
            raise GooseError("the memory holds numbers too large to go on from; begin another")
        step = session.step()
        written += 1
        if step.token in session.sampler.stop:
            reason = "stop"
            break
        best = [(label(t), p) for t, p in step.top[:top]]
        yield Piece(held.push(step.text), label(step.token), step.probability, best)
        if held.stopped:
            reason = "stop"
            break
    if rest := held.flush():
        yield Piece(rest, "", float("nan"), [])
    yield End(reason, fed, written)


def _something(session: Session, prompt: str | Sequence[int]) -> str | Sequence[int]:
    """The prompt; of an empty one in an empty session, what ends a text: it stands before all."""
    if len(prompt) or session.logits is not None:
        return prompt
    tokenizer = session.model.tokenizer
    first = tokenizer.start_token if tokenizer.start_token is not None else tokenizer.end_token
    if first is None:
        raise GooseError("the prompt is empty, and this model has no token to begin with; give one")
    return [first]

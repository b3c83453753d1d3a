"""A run that can be stopped, stepped, taken back and branched, exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.errors import GooseError
from goose_viz.history import Checkpoint, Line, thin
from goose_viz.model import Model
from goose_viz.probe import Frame, Probe
from goose_viz.ranking import pairs, rank
from goose_viz.sampling import Counts, Sampler
from goose_viz.tokenizer import StreamDecoder

#: What to say while `prepare` works.
PREPARING = "preparing the kernels (the first time on a machine: half a minute)"

_PORTION = 128  # tokens of a prompt per forward call: a long one can be watched and cancelled
_TOP = 10
_INTERVAL = 8  # tokens between kept states at first: replaying a few costs less than keeping all
NO_TOP = np.zeros(0, np.int32), np.zeros(0, np.float32)  # before the first token


@dataclass(frozen=True)
class Step:
    """One token that was fed.

    Attributes
    ----------
    position : int
        The session's position behind it; its index in ``session.tokens`` is one less.
    token : int
    text : str
        What it adds to the text; empty while a character is unfinished.
    probability : float
        What the model gave it, before penalties and cuts; NaN for the first token of all.
    top : list of (int, float)
        The likeliest tokens in its place with their probabilities, likeliest first.
    generated : bool
        Whether the model chose it; a prompt's tokens and a branch's are given.
    frame : Frame or None
        Its observables, if the session has a probe.
    """

    position: int
    token: int
    text: str
    probability: float
    top: list[tuple[int, float]]
    generated: bool
    frame: Frame | None


class _Stopped(Exception):
    """Whoever watches a prompt being read has seen enough."""


class Session:
    """A model writing, with a way back.

    Parameters
    ----------
    model : Model
    sampler : Sampler, optional
    probe : Probe, optional
        Its frames grow by one for every token that is fed for the first time; replays add none.
    history_bytes : int
        Bound on the states kept to return to; fewer states mean longer replays, never other bits.

    Attributes
    ----------
    state : State
        The memory at the cursor.
    logits : ndarray (V,) or None
        What the model expects next; None before the first token.
    position : int
        Tokens fed up to the cursor; ``len(tokens)``.
    lines : list of Line
        Every course taken; `branch` and a feed in mid-history add one, none is ever lost.
    line : int
        Index of the current one.
    """

    def __init__(
        self,
        model: Model,
        sampler: Sampler | None = None,
        probe: Probe | None = None,
        history_bytes: int = 256 << 20,
    ) -> None:
        self.model = model
        self.sampler = sampler if sampler is not None else Sampler()
        self.probe = probe
        self.history_bytes = history_bytes
        self.state = model.new_state()
        self.logits: NDArray[Any] | None = None
        self.frame: Frame | None = None
        self.position = 0
        self.lines = [Line()]
        self.line = 0
        self._interval = _INTERVAL
        self._kept_bytes = 0
        self._forget_derived()

    def __repr__(self) -> str:
        """Where it stands."""
        return f"<Session of {self.model.name} at {self.position} of {self.recorded} tokens>"

    # -- what there is ---------------------------------------------------------------------------

    @property
    def tokens(self) -> list[int]:
        """The tokens up to the cursor."""
        return self._line.tokens[: self.position]

    @property
    def text(self) -> str:
        """Their text."""
        return self.model.tokenizer.decode(self.tokens)

    @property
    def recorded(self) -> int:
        """Tokens of the current line, those behind the cursor included."""
        return len(self._line.tokens)

    def next_tokens(self, k: int = _TOP) -> list[tuple[int, float]]:
        """The k likeliest next tokens with the model's probabilities, likeliest first."""
        return [] if self.logits is None else pairs(rank(self.logits, k)[0])

    @property
    def _line(self) -> Line:
        return self.lines[self.line]

    # -- going on --------------------------------------------------------------------------------

    def feed(
        self,
        prompt: str | Sequence[int],
        keep_going: Callable[[float], bool] | None = None,
    ) -> list[Step]:
        """Feed a text, or tokens; one Step each.

        A fresh session of a model that has a start token begins with it.  In mid-history this
        begins a new line; the old one is kept.

        Parameters
        ----------
        prompt : str or sequence of int
        keep_going : callable, optional
            Told the share that is read, up to once a layer; False ends the feeding behind the last
            whole portion of 128 tokens.  It must not use a model itself.

        Raises
        ------
        GooseError
            If a token lies outside the vocabulary; nothing was fed then.
        """
        tokenizer = self.model.tokenizer
        tokens = tokenizer.encode(prompt) if isinstance(prompt, str) else [int(t) for t in prompt]
        self.check_tokens(tokens)
        start = tokenizer.start_token
        if self.position == 0 and start is not None and tokens[:1] != [start]:
            tokens = [start, *tokens]
        if not tokens:
            return []
        steps: list[Step] = []
        with self._on_a_line_of_its_own():
            self._feed_portions(tokens, steps, keep_going)
        return steps

    def _feed_portions(
        self,
        tokens: list[int],
        steps: list[Step],
        keep_going: Callable[[float], bool] | None,
    ) -> None:
        for i in range(0, len(tokens), _PORTION):
            portion = tokens[i : i + _PORTION]

            def report(share: float, begin: int = i, size: int = len(portion)) -> None:
                done = (begin + share * size) / len(tokens)
                if keep_going is not None and not keep_going(done):
                    raise _Stopped

            try:
                steps += self._append(portion, generated=False, report=report)
            except _Stopped:
                break

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Raise GooseError if one lies outside the vocabulary."""
        V = self.model.config.vocab_size
        wrong = next((t for t in tokens if not 0 <= t < V), None)
        if wrong is not None:
            raise GooseError(
                f"token {wrong} is outside the model's vocabulary of {V}, expected 0 to {V - 1}; "
                "use the tokenizer that belongs to the model"
            )

    def step(self) -> Step:
        """One token on: the recorded one if there is one, else a new one.

        Raises
        ------
        GooseError
            If there is nothing to continue: no token was fed and the model has no start token.
        """
        if self.position < self.recorded:
            self._restore(self.position + 1)
            return self._step_at(self.position, self.frame)
        if self.logits is None:
            start = self.model.tokenizer.start_token
            if start is None:
                raise GooseError("there is nothing to continue yet; feed a prompt first")
            return self._append([start], generated=False)[0]
        token = self.sampler.choose(self.logits, self._penalties(), self.position)
        (step,) = self._append([token], generated=True)
        self._count(token)
        return step

    def run(self, n_tokens: int) -> Iterator[Step]:
        """Up to n steps; ends behind a stop token or stop text."""
        for _ in range(n_tokens):
            step = self.step()
            yield step
            if self.stopped():
                return

    def stopped(self) -> bool:
        """Whether the cursor stands behind a stop token or stop text of the sampler."""
        if (
            not self.sampler.stop
            or self.position == 0
            or not self._line.generated[self.position - 1]
        ):
            return False
        longest = max((len(s.encode()) for s in self.sampler.stop if isinstance(s, str)), default=0)
        begin, end = max(0, self.position - longest - 1), self.position
        texts = self._line.texts[begin:end]
        return self.sampler.stops(self._line.tokens[end - 1], "".join(texts), len(texts[-1]))

    # -- going back ------------------------------------------------------------------------------

    def back(self, n_tokens: int = 1) -> Step | None:
        """N tokens back; what `goto` returns."""
        return self.goto(self.position - n_tokens)

    def goto(self, position: int, keep_going: Callable[[], bool] | None = None) -> Step | None:
        """Put the cursor behind the first ``position`` tokens of the current line.

        The state is bit for bit the one of the first time.  Inside a prompt, which was fed many
        tokens at once, it is that of feeding token by token.

        Parameters
        ----------
        position : int
        keep_going : callable, optional
            Asked before every token that has to be replayed, and once a layer within a long call;
            False leaves the cursor where it was.  It must not use a model itself.

        Returns
        -------
        Step or None
            The token before the cursor; None at position 0.

        Raises
        ------
        GooseError
            If the line has no such position.
        """
        if not 0 <= position <= self.recorded:
            raise GooseError(
                f"position {position} is not on this line; it has 0 to {self.recorded}"
            )
        if position != self.position or self.frame is None:
            with self._or_stay(keep_going):
                self._restore(position, keep_going)
        return self._step_at(self.position, self.frame) if self.position > 0 else None

    def branch(self, position: int, token: int) -> Step:
        """Keep the first ``position`` tokens and put another behind them, on a new line.

        If that fails, no line is opened.

        Raises
        ------
        GooseError
            If the line has no such position, or the vocabulary no such token.
        """
        self.check_tokens([token])
        self.goto(position)
        with self._on_a_line_of_its_own(always=True):
            return self._append([token], generated=False)[0]

    def switch(self, line: int, keep_going: Callable[[], bool] | None = None) -> None:
        """Return to another line, at its end; or, if ``keep_going`` ends it, stay where one is."""
        if not 0 <= line < len(self.lines):
            raise GooseError(f"there is no line {line}; there are {len(self.lines)}")
        with self._or_stay(keep_going):
            self.line = line
            self._rewind()
            self._restore(self.recorded, keep_going)

    # -- inside ----------------------------------------------------------------------------------

    def _append(
        self,
        tokens: list[int],
        *,
        generated: bool,
        report: Callable[[float], None] | None = None,
    ) -> list[Step]:
        """Feed tokens in one call at the end of the line; all of them or, if that fails, none."""
        start = self.position
        try:
            return self._feed_call(tokens, generated, report)
        except BaseException:  # an interrupt or a full memory: undo what is half done
            self._line.truncate(start)
            self._rewind()
            self._restore(start)
            raise

    def _feed_call(
        self, tokens: list[int], generated: bool, report: Callable[[float], None] | None
    ) -> list[Step]:
        line = self._line
        probe = self.probe.twin() if self.probe is not None else None
        rows = self.model.forward(tokens, self.state, True, probe, report)
        before = [self.logits, *rows[:-1]]
        for token, logits in zip(tokens, before, strict=True):
            top, probability = (
                (NO_TOP, float("nan")) if logits is None else rank(logits, _TOP, token)
            )
            line.tokens.append(token)
            line.texts.append(self._decoder().push(token))
            line.generated.append(generated)
            line.probabilities.append(probability)
            line.tops.append(top)
        start, self.position = self.position, len(line.tokens)
        line.ends.append(self.position)
        self.logits = np.array(rows[-1])
        self._keep(self.position, self.logits)
        frames: Sequence[Frame | None] = [None] * len(tokens)
        if probe is not None and self.probe is not None:
            self.probe.frames.extend(probe.frames)
            frames = probe.frames
            self.frame = probe.frames[-1]
        return [self._step_at(start + i + 1, frame) for i, frame in enumerate(frames)]

    def _step_at(self, position: int, frame: Frame | None) -> Step:
        line, i = self._line, position - 1
        return Step(
            position, line.tokens[i], line.texts[i], line.probabilities[i],
            pairs(line.tops[i]), line.generated[i], frame,
        )  # fmt: skip

    def _restore(self, position: int, keep_going: Callable[[], bool] | None = None) -> None:
        """State, logits and frame at a position, by replaying the calls that first made them."""
        kept = self._line.checkpoints.get(position)
        if kept is not None and (kept.frame is not None or self.probe is None):
            self.state.assign(kept.state)
            self.logits, self.frame, self.position = kept.logits, kept.frame, position
            self._forget_derived()
            return
        try:
            self._replay(position, keep_going)
        except BaseException:  # half way there is nowhere
            self._rewind()
            raise

    @contextlib.contextmanager
    def _or_stay(self, keep_going: Callable[[], bool] | None) -> Iterator[None]:
        """If a replay within is ended, everything is as it was before."""
        if keep_going is None:
            yield
            return
        state, line = self.state.copy(), self.line
        before = self.logits, self.frame, self.position
        try:
            yield
        except _Stopped:
            self.state.assign(state)
            self.line = line
            self.logits, self.frame, self.position = before
            self._forget_derived()

    def _replay(self, position: int, keep_going: Callable[[], bool] | None) -> None:
        line = self._line

        def report(_share: float = 0.0) -> None:
            if keep_going is not None and not keep_going():
                raise _Stopped

        starts = {p: c for p, c in line.checkpoints.items() if p <= position}
        if self.logits is not None and self.position <= position:
            starts[self.position] = Checkpoint(self.state, self.logits)
        for start in sorted(starts, reverse=True):
            calls = line.calls(start, position)
            if calls or (calls == [] and self.probe is None):
                state, logits = starts[start].state, starts[start].logits
                break
        else:
            calls, state, logits = line.calls(0, position) or [], self.model.new_state(), None
        if state is not self.state:
            self.state.assign(state)
        frame = None
        for i, (begin, end) in enumerate(calls):
            report()
            last = i == len(calls) - 1
            probe = self.probe.twin() if last and self.probe is not None else None
            # all logits of the last call: its last row must have the bits of the first time
            rows = self.model.forward(line.tokens[begin:end], self.state, last, probe, report)
            logits = np.array(rows[-1]) if last else rows
            frame = probe.frames[-1] if probe is not None else None
            if last or end - begin == 1:  # a long call's last logits have their bits only if last
                self._keep(end, logits)
        self.logits, self.frame, self.position = logits, frame, position
        self._forget_derived()

    def _rewind(self) -> None:
        """Stand at position 0, whatever the state has come to."""
        self.state.assign(self.model.new_state())
        self.logits, self.frame, self.position = None, None, 0
        self._forget_derived()

    def _keep(self, position: int, logits: NDArray[Any]) -> None:
        """Remember the state as that of a position, if none is kept close to it."""
        checkpoints = self._line.checkpoints
        near = range(position - self._interval + 1, position + self._interval)
        if not self._line.is_end(position) or position < self._interval:
            return
        if any(p in near for p in reversed(checkpoints)):  # the newest is the likely one
            return
        kept = Checkpoint(self.state.copy(), logits)
        checkpoints[position] = kept
        self._kept_bytes += kept.nbytes
        if self._kept_bytes > self.history_bytes:
            self._interval, self._kept_bytes = thin(self.lines, self.history_bytes, self._interval)

    @contextlib.contextmanager
    def _on_a_line_of_its_own(self, always: bool = False) -> Iterator[None]:
        """What is appended within goes on a new line, if the cursor is not at the current's end.

        A line that nothing came onto, because it failed or was ended, is closed again.
        """
        position, former = self.position, self.line
        opened = always or position < self.recorded
        if opened:
            self.lines.append(self._line.cut(position))
            self.line = len(self.lines) - 1
            self._forget_derived()
        try:
            yield
        finally:
            if opened and self.recorded == position:
                self.lines.pop()
                self.line = former
                self._forget_derived()

    def _forget_derived(self) -> None:
        """The decoder and the penalty counts follow the cursor; after a jump they start over."""
        self._stream: StreamDecoder | None = None
        self._counts: Counts | None = None

    def _decoder(self) -> StreamDecoder:
        if self._stream is None:
            self._stream = self.model.tokenizer.stream()
            for token in self._line.tokens[:-1]:
                self._stream.push(token)
        return self._stream

    def _penalties(self) -> Counts:
        if self._counts is None:
            self._counts = self.sampler.new_counts(self.model.config.vocab_size)
            for token, generated in zip(self._line.tokens, self._line.generated, strict=True):
                if generated:
                    self._count(token)
        return self._counts

    def _count(self, token: int) -> None:
        self.sampler.count(self._penalties(), token, self.model.tokenizer.label(token))


def prepare(model: Model) -> None:
    """Run every kernel that a session needs once, on tokens that nobody keeps.

    The first time on a machine this compiles them, half a minute on two cores; later they come from
    numba's cache.
    """
    session = Session(model, Sampler(seed=0), Probe(("decay",)), history_bytes=0)
    session.feed([0] * 8)  # enough to be read as a prompt, on a card too
    session.step()

"""A run that can be stopped, stepped, taken back and branched, exactly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.alone import alone, alone_each
from goose_viz.conditions import Condition
from goose_viz.edits import StateEdit
from goose_viz.errors import GooseError, StateError, Stopped
from goose_viz.history import NO_TOP, TOP, Edit, History, Path, Segment
from goose_viz.model import PORTION, Model
from goose_viz.past import Past
from goose_viz.past_frames import PastFrames
from goose_viz.probe import Frame, Probe
from goose_viz.ranking import Best, Candidates, TopK, best_of, pairs, rank
from goose_viz.replay import KeepGoing, Replay
from goose_viz.run_away import no_number
from goose_viz.sampling import Counts, Sampler
from goose_viz.state import State
from goose_viz.tokenizer import StreamDecoder

#: What to say while `prepare` works.
PREPARING = "preparing the kernels (the first time on a machine: half a minute)"

_CONTEXT = 256  # tokens from which a decoder knows what the next one completes

_Place = tuple[int, Segment]
Follower = Callable[[Path, int, Sequence[Frame | None], Sequence[Best | None]], None]


class _Stay(Exception):
    """Somebody gave up on going elsewhere."""


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


class Session(Past):
    """A model writing, with a way back.

    Parameters
    ----------
    model : Model
    sampler : Sampler, optional
    probe : Probe, optional
        Its frames grow by one for every token that is fed for the first time; replays add none.
    history_bytes : int
        Bound on the states kept to return to; fewer states mean longer replays, never other bits.
    frames_bytes : int
        Bound on the observables of past tokens that are kept for analyses; others are made again.
    initial : State, optional
        The memory ahead of the first token: a trained one, or that of a text read before.  No start
        token of the model comes behind it.

    Attributes
    ----------
    initial : State or None
        A copy of that.
    state : State
        The memory at the cursor.
    logits : ndarray (V,) or None
        What the model expects next; None before the first token.
    position : int
        Tokens fed up to the cursor; ``len(tokens)``.
    history : History
        All that was ever fed, as a tree; `branch`, `apply` and a feed in mid-history let it fork.
    segment : Segment
        Where the current branch ends.
    follower : callable or None
        Told, of every call in which tokens are read for the first time, the path, the index of the
        first of them, their frames (None without a probe) and what was expected behind each; it
        is called before anything else happens, and must not raise.
    """

    def __init__(
        self,
        model: Model,
        sampler: Sampler | None = None,
        probe: Probe | None = None,
        history_bytes: int = 256 << 20,
        frames_bytes: int = 256 << 20,
        initial: State | None = None,
    ) -> None:
        self.model = model
        self.initial = None if initial is None else _checked(initial, model)
        self.sampler = sampler if sampler is not None else Sampler()
        self.probe = probe
        self.logits: NDArray[Any] | None = None
        self.frame: Frame | None = None
        self.position = 0
        self.history = History()
        self._replay = Replay(model, self.history, history_bytes, self.initial)
        self.state = self._replay.first()
        self._past = PastFrames(self._replay, model.config, frames_bytes)
        self._found: tuple[Candidates, NDArray[Any] | None] = Candidates(), None
        self._ranked: tuple[NDArray[Any], Best] | None = None
        self._top: TopK | None = None  # where the history has it no more
        self._lost = False
        self._undone: list[_Place] = []
        self.follower: Follower | None = None
        self._stand_on(self.history.segments[0])

    def __repr__(self) -> str:
        """Where it stands."""
        return f"<Session of {self.model.name} at {self.position} of {self.recorded} tokens>"

    # -- what there is ---------------------------------------------------------------------------

    @alone
    def next_tokens(self, k: int = TOP) -> list[tuple[int, float]]:
        """The k likeliest next tokens with the model's probabilities, likeliest first."""
        if self.logits is None:
            return []
        return pairs(rank(self.logits, k, candidates=self._candidates)[0])

    @property
    def _best(self) -> Best | None:
        """The likeliest next tokens; looked for once."""
        if self.logits is None:
            return None
        if self._ranked is None or self._ranked[0] is not self.logits:
            self._ranked = self.logits, best_of(self.logits, TOP, self._candidates)
        return self._ranked[1]

    @property
    def _candidates(self) -> Candidates | None:
        """What the device found in the logits, if it is in these."""
        found, logits = self._found
        return found if logits is self.logits else None

    @alone
    def twin(self, branch: int | None = None) -> Session:
        """An independent session of the same model with the past of a branch, at its end.

        What is done with the one is nothing to the other; nothing is read again but from the
        nearest state that is kept.

        Parameters
        ----------
        branch : int, optional
            Which of the `branches`; the current one when left out.
        """
        path = self.path if branch is None else Path(self._branch(branch))
        probe = self.probe.twin() if self.probe is not None else None
        other = Session(self.model, self.sampler, probe, self._replay.budget, self._past.budget,
                        self.initial)  # fmt: skip
        other.history.copy(path)
        other._go(path.stop, other.history.segments[-1])
        return other

    # -- going on --------------------------------------------------------------------------------

    @alone
    def feed(
        self,
        prompt: str | Sequence[int],
        keep_going: Callable[[float], bool] | None = None,
    ) -> list[Step]:
        """Feed a text, or tokens; one Step each.

        A fresh session of a model that has a start token begins with it.  In mid-history this
        begins a new branch; the old one stays.

        Parameters
        ----------
        prompt : str or sequence of int
        keep_going : callable, optional
            Told the share that is read, up to once a layer; False ends the feeding behind the last
            whole portion of at most 128 tokens.  It must not use a model itself.

        Raises
        ------
        GooseError
            If a token lies outside the vocabulary; nothing was fed then.
        """
        return [step for portion in self.feeding(prompt, keep_going) for step in portion]

    @alone_each
    def feeding(
        self,
        prompt: str | Sequence[int],
        keep_going: Callable[[float], bool] | None = None,
    ) -> Iterator[list[Step]]:
        """What `feed` does, a portion of at most 128 tokens at a time; nothing else in between.

        For long texts whose frames are not to be held all at once.
        """
        if tokens := self.to_feed(prompt):
            with self._going_on():
                yield from self._portions(tokens, keep_going)

    def to_feed(self, prompt: str | Sequence[int]) -> list[int]:
        """The tokens that `feed` would read here, the start token among them.

        Raises
        ------
        GooseError
            If one lies outside the vocabulary.
        """
        tokenizer = self.model.tokenizer
        tokens = tokenizer.encode(prompt) if isinstance(prompt, str) else [int(t) for t in prompt]
        self.check_tokens(tokens)
        start = tokenizer.start_token if self.initial is None else None
        if self.position == 0 and start is not None and tokens[:1] != [start]:
            return [start, *tokens]
        return tokens

    def _portions(
        self, tokens: list[int], keep_going: Callable[[float], bool] | None
    ) -> Iterator[list[Step]]:
        i = 0
        while i < len(tokens):
            # the last token by itself: what people ask about is what it is read with
            size = min(PORTION, max(len(tokens) - 1 - i, 1))
            if self.path.lasting(self.position):  # what lasts acts token by token
                size = 1
            portion = tokens[i : i + size]

            def report(share: float, begin: int = i, size: int = len(portion)) -> None:
                done = (begin + share * size) / len(tokens)
                if keep_going is not None and not keep_going(done):
                    raise Stopped

            try:
                steps = self._append(portion, generated=False, report=report)
            except Stopped:
                break
            i += len(portion)
            yield steps

    def check_tokens(self, tokens: Sequence[int]) -> None:
        """Raise GooseError if one lies outside the vocabulary."""
        V = self.model.config.vocab_size
        wrong = next((t for t in tokens if not 0 <= t < V), None)
        if wrong is not None:
            raise GooseError(
                f"token {wrong} is outside the model's vocabulary of {V}, expected 0 to {V - 1}; "
                "use the tokenizer that belongs to the model"
            )

    @alone
    def step(self, *, anew: bool = False) -> Step:
        """One token on: the recorded one if there is one, else a new one.

        Parameters
        ----------
        anew : bool
            A new one all the same; in mid-history, that begins a new branch.

        Raises
        ------
        GooseError
            If there is nothing to continue: no token was fed and the model has no start token.
        """
        if self.position < self.recorded and not anew:
            self._go(self.position + 1)
            return self._step_here()
        if self.logits is None:
            start = self.model.tokenizer.start_token
            if start is None or self.initial is not None:
                raise GooseError("there is nothing to continue yet; feed a prompt first")
            with self._going_on():
                return self._append([start], generated=False)[0]
        if not np.isfinite(self.logits).all():
            raise GooseError(no_number(self))
        token = self.sampler.choose(self.logits, self._penalties(), self.position, self._candidates)
        with self._going_on():
            (step,) = self._append([token], generated=True)
        self._count(token)
        return step

    @alone_each
    def run(self, n_tokens: int, until: Condition | str | None = None) -> Iterator[Step]:
        """Up to n steps; ends behind a stop token or stop text, or where a condition holds.

        Parameters
        ----------
        n_tokens : int
        until : Condition or str, optional
            What it asks for is observed of every token, beside what the session's probe asks.

        Raises
        ------
        ConditionError
            If it cannot be read, or asks for what the model does not have.
        """
        condition = None if until is None else self._condition(until)
        for _ in range(n_tokens):
            with self.observing(condition.observables if condition is not None else ()):
                before = self.logits
                step = self.step()
            yield step
            if self.stopped() or (condition is not None and self.meets(condition, before)):
                return

    @contextlib.contextmanager
    def observing(self, observables: Iterable[str]) -> Iterator[None]:
        """Have these of the tokens that are read within, beside what the probe asks for."""
        probe, wanted = self.probe, frozenset(observables)
        layers = None if probe is None else probe.layers
        if wanted and (probe is None or layers is not None or not wanted <= probe.observables):
            self.probe = Probe(wanted | (probe.observables if probe is not None else frozenset()))
        mine = self.probe
        try:
            yield
        finally:
            self.probe = probe
            if mine is not probe and mine is not None and probe is not None:
                probe.frames.extend(probe.part_of(frame) for frame in mine.frames)

    def meets(self, condition: Condition, before: NDArray[Any] | None = None) -> bool:
        """Whether a condition holds of the token before the cursor.

        Its frame has to have been observed; ``before`` is what was expected in its place.
        """
        if self.position == 0:
            return False
        index = self.position - 1
        return condition.holds(
            self._moment(self.path, index, condition.reach, before, self.logits, self.frame)
        )

    def stopped(self) -> bool:
        """Whether the cursor stands behind a stop token or stop text of the sampler."""
        end = self.position
        if not self.sampler.stop or end == 0 or not self.path.generated(end - 1, end)[0]:
            return False
        longest = max((len(s.encode()) for s in self.sampler.stop if isinstance(s, str)), default=0)
        begin = max(0, end - longest - 1)
        texts, (token,) = self.path.texts(begin, end), self.path.tokens(end - 1, end)
        return self.sampler.stops(token, "".join(texts), len(texts[-1]))

    # -- going back ------------------------------------------------------------------------------

    def back(self, n_tokens: int = 1) -> Step | None:
        """N tokens back; what `goto` returns."""
        return self.goto(self.position - n_tokens)

    @alone
    def goto(self, position: int, keep_going: KeepGoing | None = None) -> Step | None:
        """Put the cursor behind the first ``position`` tokens of the current branch.

        The state is bit for bit the one of the first time, the edits made there included.  Inside
        a prompt, which was fed many tokens at once, it is that of feeding token by token.

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
            If the branch has no such position.
        """
        self._check_position(position)
        if position != self.position or self.frame is None or self._lost:
            self._go(position, keep_going=keep_going)
        return self._step_here() if self.position > 0 else None

    @alone
    def branch(self, position: int, token: int) -> Step:
        """Keep the first ``position`` tokens and put another behind them, on a new branch.

        If that fails, no branch is begun.

        Raises
        ------
        GooseError
            If the branch has no such position, or the vocabulary no such token.
        """
        self.check_tokens([token])
        self.goto(position)
        with self._going_on():
            return self._append([token], generated=False)[0]

    @alone
    def switch(self, branch: int, keep_going: KeepGoing | None = None) -> None:
        """Return to another of the `branches`, at its end.

        If ``keep_going`` ends it, the cursor stays where it is.

        Raises
        ------
        GooseError
            If there is no such branch.
        """
        target = self._branch(branch)
        self._go(target.stop, target, keep_going)

    @alone
    def begin(self) -> None:
        """Stand before the first token of another run; what was written so far stays a branch."""
        self._forget_undone()
        self._go(0, self.history.begin())

    @alone
    def close(self, branch: int) -> None:
        """Forget one of the `branches`: what no other shares with it.

        Raises
        ------
        GooseError
            If there is no such branch, it is the only one, or the cursor is on it.
        """
        target = self._branch(branch)
        if len(self.branches) == 1:
            raise GooseError("this is the only branch; begin another before closing it")
        if target is self.segment:
            raise GooseError("the cursor is on this branch; switch to another before closing it")
        self._forget_undone()
        if target in self.history.segments:  # it may have been undone, and gone with that
            self.history.remove(target, self.segment)
        for segment in self.history.segments:  # another may write on where this one ended
            self._replay.forget(segment, segment.stop)
            self._past.forget(segment, segment.stop)

    # -- editing the memory ----------------------------------------------------------------------

    @alone
    def apply(self, edit: StateEdit, again: int = 0) -> list[Step]:
        """Edit the memory at the cursor; it holds for all that follows.

        Behind the end of a branch it simply goes on; in mid-history this begins a new branch.

        Parameters
        ----------
        edit : StateEdit
            `goose_viz.Forget`, `Replace`, `Zero`, `Scale`, `Noise`, `Put`, `Add`, `Steer` or
            `Mute`.
        again : int
            So many tokens up to the cursor are read again behind the edit, which is made ahead of
            them: then what is expected next tells what the edit changes.

        Returns
        -------
        list of Step
            The tokens that were read again.

        Raises
        ------
        GooseError
            If the edit will not do here; nothing was changed then.
        """
        origin = self._place()
        if not 0 <= again <= self.position:
            raise GooseError(
                f"there are no {again} tokens to read again; there are {self.position}"
            )
        tokens = self.path.tokens(self.position - again, self.position)
        with self._or_stay():
            if self._lost:
                self._recover(self.position)
            if again:
                self._go(self.position - again, framed=False)
            edit.scope(self.model.config)
            numbers = edit.prepare(self)
            before = len(self.history.segments)
            made = Edit(self.position, edit.recorded(), numbers)
            segment = self.history.fork(self.path, self.position, made)
            try:
                self._stand_on(segment)
                self._replay.edit(self.state, made)
                steps = [self._append([t], generated=False)[0] for t in tokens]
            except BaseException:
                del self.history.segments[before:]
                raise
        segment.origin, segment.again = origin, again
        self._forget_undone()
        return steps

    @alone
    def undo(self, keep_going: KeepGoing | None = None) -> None:
        """Go back to where one was before the last edit; its branch stays until something is fed.

        Raises
        ------
        GooseError
            If there is no edit up to the cursor.
        """
        edited = [s for s in self.path.segments[: self.path.depth(self.position) + 1] if s.edit]
        if not edited:
            raise GooseError("there is nothing to undo: no edit was made up to here")
        here, last = self._place(), edited[-1]
        position, segment = last.origin or (-1, last)
        if position < 0 or position > segment.stop or segment not in self.history.segments:
            assert last.parent is not None  # an edit begins somewhere
            position, segment = last.fork, last.parent
        if self._go(position, segment, keep_going):
            self._undone.append(here)

    @alone
    def redo(self, keep_going: KeepGoing | None = None) -> None:
        """Take back the last `undo`.

        Raises
        ------
        GooseError
            If nothing was undone, or something was fed since.
        """
        if not self._undone:
            raise GooseError("there is nothing to redo")
        if self._go(*self._undone[-1], keep_going):
            self._undone.pop()

    @property
    def can_redo(self) -> bool:
        """Whether `redo` would do something."""
        return bool(self._undone)

    def _forget_undone(self) -> None:
        """What was undone is not redone any more; where nothing new was written, it is gone."""
        for _, segment in self._undone:
            at = segment
            while at in self.history.segments and not self.history.children(at):
                if len(at.tokens) > at.again or at is self.segment or at.parent is None:
                    break
                self.history.segments.remove(at)
                at = at.parent
        self._undone.clear()

    # -- inside ----------------------------------------------------------------------------------

    def _place(self) -> _Place:
        return self.position, self.segment

    def _stand_on(self, segment: Segment) -> None:
        """The current branch is the one that ends there; the cursor does not move."""
        self.segment, self.path = segment, Path(segment)
        self._forget_derived()

    def _append(
        self,
        tokens: list[int],
        *,
        generated: bool,
        report: Callable[[float], None] | None = None,
    ) -> list[Step]:
        """Feed tokens in one call at the end of the branch; all of them or, if that fails, none."""
        start = self.position
        try:
            return self._feed_call(tokens, generated, report)
        except BaseException:  # an interrupt or a full memory: undo what is half done
            self.segment.truncate(start)
            self._replay.forget(self.segment, start)
            self._past.forget(self.segment, start)
            self._recover(start)
            raise

    def _feed_call(
        self, tokens: list[int], generated: bool, report: Callable[[float], None] | None
    ) -> list[Step]:
        segment, start, decoder = self.segment, self.position, self._decoder()
        probe = self.probe.twin() if self.probe is not None else None
        found = Candidates()
        rows = self.model.forward(tokens, self.state, True, probe, report, candidates=found)
        expected = [self._best, *(best_of(row, TOP) for row in rows[:-1])]
        for token, logits, best in zip(tokens, [self.logits, *rows[:-1]], expected, strict=True):
            top, probability = NO_TOP, float("nan")
            if logits is not None and best is not None:
                top, probability = best.top, best.probability(float(logits[token]))
            segment.append(token, decoder.push(token), generated, probability, top)
        segment.end_call(start)
        self._replay.edit_behind(self.path, start + len(tokens) - 1, self.state)
        self.position, self.logits = segment.stop, np.array(rows[-1])
        self._found = found, self.logits
        self._replay.keep(segment, self.position, self.state, self.logits)
        frames: Sequence[Frame | None] = [None] * len(tokens)
        if probe is not None and self.probe is not None:
            self.probe.frames.extend(probe.frames)
            frames = probe.frames
            self.frame = probe.frames[-1]
            for i, frame in enumerate(probe.frames, start):
                self._past.put(segment, i, frame)
        if self.follower is not None:
            self.follower(self.path, start, frames, [*expected[1:], self._best])
        return [self._step_at(start + i + 1, frame) for i, frame in enumerate(frames)]

    def _step_here(self) -> Step:
        return self._step_at(self.position, self.frame)

    def _step_at(self, position: int, frame: Frame | None) -> Step:
        i = position - 1
        segment, top = self.path.at(i), self.path.top(i)
        at = i - segment.fork
        if top is None:
            top = self._top if self._top is not None else NO_TOP
        return Step(
            position, segment.tokens[at], segment.texts[at], segment.probabilities[at],
            pairs(top), bool(segment.generated[at]), frame,
        )  # fmt: skip

    def _go(
        self,
        position: int,
        segment: Segment | None = None,
        keep_going: KeepGoing | None = None,
        *,
        framed: bool = True,
    ) -> bool:
        """State, logits and, if wanted, frame at a position, by repeating what first made them.

        False if ``keep_going`` ended it.
        """
        segment = self.segment if segment is None else segment
        path = self.path if segment is self.segment else Path(segment)
        old = position > 0 and path.top(position - 1) is None
        moved = False
        with self._or_stay():
            try:
                reached = self._replay.bring(
                    self.state, path, position, here=self._here(path),
                    probe=self.probe if framed else None, before=old and framed,
                    keep_going=keep_going,
                )  # fmt: skip
            except Stopped:
                raise _Stay from None
            self.logits, self.frame, self.position = reached.logits, reached.frame, position
            self._top, self._lost = None, False
            if old and reached.before is not None:
                self._top = rank(reached.before, TOP)[0]
            if segment is not self.segment:
                self.segment, self.path = segment, path
            self._forget_derived()
            moved = True
        return moved

    @contextlib.contextmanager
    def _or_stay(self) -> Iterator[None]:
        """If what is done within fails or is ended, everything is as it was before."""
        state, segment, path = self.state.copy(), self.segment, self.path
        before = self.logits, self.frame, self.position, self._top, self._lost
        try:
            yield
        except BaseException as error:
            self.state.assign(state)
            self.segment, self.path = segment, path
            self.logits, self.frame, self.position, self._top, self._lost = before
            self._forget_derived()
            if not isinstance(error, _Stay):
                raise

    def _recover(self, position: int) -> None:
        """The state was half-way to somewhere: make it that of the cursor again."""
        self._lost = True  # if this fails as well, what is done next begins with it
        reached = self._replay.bring(self.state, self.path, position, probe=self.probe)
        self.logits, self.frame, self.position = reached.logits, reached.frame, position
        self._lost = False
        self._forget_derived()

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """What is appended within goes on a new branch, if the cursor is not at this one's end.

        A branch that nothing came onto, because it failed or was ended, is closed again.
        """
        if self._lost:
            self._recover(self.position)
        position, former, before = self.position, self.segment, len(self.history.segments)
        if position < self.recorded:
            self._stand_on(self.history.fork(self.path, position))
        try:
            yield
        finally:
            if self.recorded > position:
                if self._undone:
                    self._forget_undone()
            elif self.segment is not former:
                del self.history.segments[before:]
                self._stand_on(former)

    def _forget_derived(self) -> None:
        """The decoder and the penalty counts follow the cursor; after a jump they start over."""
        self._stream: StreamDecoder | None = None
        self._counts: Counts | None = None

    def _decoder(self) -> StreamDecoder:
        if self._stream is None:
            self._stream = decoder_behind(self.model, self.path, self.position)
        return self._stream

    def _penalties(self) -> Counts:
        if self._counts is None:
            self._counts = self.sampler.new_counts(self.model.config.vocab_size)
            for segment, part in self.path.pieces(0, self.position):
                for token, generated in zip(
                    segment.tokens[part], segment.generated[part], strict=True
                ):
                    if generated:
                        self._count(token)
        return self._counts

    def _count(self, token: int) -> None:
        self.sampler.count(self._penalties(), token, self.model.tokenizer.label(token))


def _checked(initial: State, model: Model) -> State:
    """A copy of a memory to begin with, on the host."""
    initial.check(model.config)
    if not all(np.isfinite(a).all() for a in initial.arrays().values()):
        raise StateError("the memory to begin with holds NaN or infinite numbers")
    return State(*(np.array(a) for a in initial.arrays().values()))


def decoder_behind(model: Model, path: Path, position: int) -> StreamDecoder:
    """One that has seen the tokens up to a position, as many as matter to what comes next."""
    stream = model.tokenizer.stream()
    for token in path.tokens(max(0, position - _CONTEXT), position):
        stream.push(token)
    return stream


def prepare(model: Model) -> None:
    """Run every kernel that a session needs once, on tokens that nobody keeps.

    The first time on a machine this compiles them, half a minute on two cores; later they come from
    numba's cache.
    """
    session = Session(model, Sampler(seed=0), Probe(("decay",)), history_bytes=0)
    session.feed([0] * 8)  # enough to be read as a prompt, on a card too
    session.step()

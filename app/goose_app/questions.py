"""What panels ask of a run, each answered a little at a time by the worker; no Qt here.

A question says what its answer depends on, so that equal ones have equal answers at one moment, and
how it is worked out with `goose_viz.analysis`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

import goose_viz as gv
from goose_viz import analysis as ga
from goose_viz.analysis.causal_trace import tracing
from goose_viz.analysis.comparison import comparing
from goose_viz.analysis.memory import NOW, PAST, averaging
from goose_viz.analysis.readout import likeliest, pin, promoting, reading_layers
from goose_viz.analysis.sensitivity import sensing
from goose_viz.analysis.steering import averaging_memories
from goose_viz.analysis.steps import Steps
from goose_viz.edits import memory_of
from goose_viz.ranking import pairs, rank, softmax

MAP = 384  #: tokens up to the cursor that an attention map shows
LINES = 2048  #: tokens up to the cursor that lines of health go back
_RANKS = 32  # places along such lines where ranks are taken
_WORDS = 5
_BARS = 12
_MEANS = 8  # mean memories of prompts that are remembered, while a slider moves


class Context(Protocol):
    """What answering a question may use."""

    @property
    def session(self) -> gv.Session:
        """The run's."""

    @property
    def means(self) -> dict[tuple[str, ...], NDArray[Any]]:
        """Mean memories of prompts that are known already."""

    @property
    def n_layer(self) -> int:
        """Of the model."""

    def keep_going(self) -> bool:
        """Whether nothing more urgent waits."""

    def other(self, run: int) -> gv.Session:
        """Another run's session."""

    def made(self) -> Sequence[Any]:
        """The edits up to the cursor."""

    def memory(self, source: Path | int) -> NDArray[Any]:
        """The memory (L, H, N, N) of a snapshot's file, or of a branch's end."""


@dataclass(frozen=True, eq=False)
class Fed:
    """What a run had been fed when something was asked of it.

    Attributes
    ----------
    tokens : ndarray (T,)
    generated : list of bool
    edits : sequence
        Of `goose_app.messages.Made`.
    """

    tokens: NDArray[np.int64]
    generated: list[bool]
    edits: Sequence[Any]


class Question:
    """What is asked; frozen and comparable.

    Attributes
    ----------
    needs : frozenset of str
        What should be observed of every token while somebody asks.
    computes : bool
        Whether the model itself is asked, and not what was observed of it alone.
    """

    needs: frozenset[str] = frozenset()
    computes = True

    def steps(self, at: Context) -> Steps[Any]:
        """Work it out for the cursor as it is now; everything is taken from the session first."""
        raise NotImplementedError


Word = tuple[int, str, float]


def _words(session: gv.Session, found: Sequence[tuple[int, float]]) -> list[Word]:
    label = session.model.tokenizer.label
    return [(t, label(t), p) for t, p in found]


# -- a head over the tokens --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AttentionFound:
    """Weights (n, n) of the tokens from ``start`` on, a row a reading token."""

    start: int
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class AttentionAsked(Question):
    """The attention map of a head; or of a layer, or the model, on the average."""

    layer: int
    head: int
    mean: str = ""  # "layer", "model"

    needs = frozenset((*PAST, "receptance"))
    computes = False

    def steps(self, at: Context) -> Steps[AttentionFound | None]:
        """The last tokens only: a screen shows no more."""
        session, stop = at.session, at.session.position
        if stop == 0:
            return None
        start = max(0, stop - MAP)
        frames = session.frames(
            start, stop, (*PAST, "receptance"), initial=False, keep_going=at.keep_going
        )
        yield 0.0
        if self.mean:
            weights = yield from averaging(frames, self.layer if self.mean == "layer" else None)
        else:
            weights = ga.attention_map(frames, self.layer, self.head)
        return AttentionFound(start, weights)


@dataclass(frozen=True, eq=False)
class HealthFound:
    """Figures at the cursor (L, H), and of a layer's heads over tokens from ``start`` on (n, H).

    ``now`` and ``lines`` are by the names of `HEALTH`; a line of ranks has its values at ``at``.
    """

    start: int
    layer: int
    now: dict[str, NDArray[np.float64]]
    lines: dict[str, NDArray[np.float64]]
    at: NDArray[np.int64]
    warnings: list[str]


#: What health tells: the name of a figure -> how it is read off.
HEALTH: dict[str, Callable[[ga.Health], NDArray[np.float64]]] = {
    "RMS": lambda h: h.rms,
    "surprise": lambda h: h.relative_surprise,
    "least eigenvalue": lambda h: h.least,
    "stable rank": lambda h: h.stable_rank,
    "effective rank": lambda h: h.effective_rank,
}


@dataclass(frozen=True)
class HealthAsked(Question):
    """How all heads fare at the cursor, and those of a layer over the tokens."""

    layer: int

    needs = frozenset(PAST)
    computes = False

    def steps(self, at: Context) -> Steps[HealthFound | None]:
        """The cursor first, then head by head."""
        session, stop = at.session, at.session.position
        if stop == 0:
            return None
        start = max(0, stop - LINES)
        frames = session.frames(start, stop, PAST, keep_going=at.keep_going)
        last = session.frames(stop - 1, stop, PAST, keep_going=at.keep_going)
        yield 0.0
        here = ga.health(last)
        places = np.unique(np.linspace(0, stop - start - 1, _RANKS).round().astype(np.int64))
        each, warnings = [], here.warnings()
        for head in range(frames.n_head):
            each.append(ga.health(frames, self.layer, head, ranks_at=places.tolist()))
            warnings = warnings or each[-1].warnings()
            yield (head + 1) / frames.n_head
        row = frames.row(self.layer)
        lines = {
            name: np.stack([read(h)[:, row, i] for i, h in enumerate(each)], -1)
            for name, read in HEALTH.items()
        }
        whole = np.full((at.n_layer, frames.n_head), np.nan)  # of layers that are not there
        now = {}
        for name, read in HEALTH.items():
            now[name] = whole.copy()
            now[name][list(last.layers)] = read(here)[-1]
        return HealthFound(start, self.layer, now, lines, places, warnings)


@dataclass(frozen=True)
class SpectrumAsked(Question):
    """The eigenvalues (N,) of what the last token does to a head's memory, before it writes."""

    layer: int
    head: int

    needs = frozenset(("decay", "iclr", "removal_key"))
    computes = False

    def steps(self, at: Context) -> Steps[NDArray[np.float64] | None]:
        """At once."""
        session = at.session
        if session.position == 0:
            return None
        place = session.position - 1, session.position, self.needs
        (frame,) = session.frames(*place, initial=False, keep_going=at.keep_going)
        yield 0.5
        return ga.spectrum(frame, self.layer, self.head)


# -- what layers and heads say -----------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LensFound:
    """What each layer would say; pinned words there; what a head promotes and holds down.

    ``pinned`` has, per word, (L,) probabilities and ranks.
    """

    layers: list[list[Word]]
    pinned: list[tuple[str, ga.Pinned]]
    layer: int
    head: int
    promoted: list[Word]
    demoted: list[Word]


@dataclass(frozen=True)
class LensAsked(Question):
    """The logit lens at the cursor, with a head's own say."""

    layer: int
    head: int
    tokens: tuple[int, ...] = ()

    needs = frozenset(NOW)

    def steps(self, at: Context) -> Steps[LensFound | None]:
        """The layers, then the head."""
        session, model = at.session, at.session.model
        if session.position == 0:
            return None
        place = session.position - 1, session.position, NOW
        (frame,) = session.frames(*place, initial=False, keep_going=at.keep_going)
        yield 0.0
        logits = yield from reading_layers(model, frame)
        layers = [_words(session, row) for row in likeliest(logits, _WORDS)]
        pinned = [(model.tokenizer.label(t), pin(logits, t)) for t in self.tokens]
        up, down = yield from promoting(model, frame, self.layer, self.head, _WORDS)
        return LensFound(
            layers, pinned, self.layer, self.head, _words(session, up), _words(session, down)
        )


# -- a push ------------------------------------------------------------------------------------

Memory = Path | int | tuple[str, ...]  # a snapshot's, a branch's end, the mean of some prompts


@dataclass(frozen=True)
class Direction:
    """A memory less another; None for nothing."""

    plus: Memory
    minus: Memory | None = None

    def steps(self, at: Context) -> Steps[NDArray[Any]]:
        """The difference (L, H, N, N)."""
        total = yield from self._one(self.plus, at)
        if self.minus is not None:
            total = total - (yield from self._one(self.minus, at))
        return total

    def _one(self, memory: Memory, at: Context) -> Steps[NDArray[Any]]:
        if isinstance(memory, tuple):
            if memory not in at.means:
                found = yield from averaging_memories(at.session.model, memory)
                if len(at.means) >= _MEANS:
                    at.means.clear()
                at.means[memory] = found
            return at.means[memory]
        return memory_of(at.memory(memory))


@dataclass(frozen=True, eq=False)
class PushFound:
    """What is expected without the push and with it, and how far they are apart (nats)."""

    before: list[Word]
    after: list[Word]
    were: dict[int, float]
    are: dict[int, float]
    divergence: float


@dataclass(frozen=True)
class PushAsked(Question):
    """What would be expected if a direction had been added ahead of the last token."""

    direction: Direction
    factor: float
    layer: int | None
    head: int | None

    def steps(self, at: Context) -> Steps[PushFound | None]:
        """The last token is read twice: from the memory as it was, and from the pushed one."""
        session, model = at.session, at.session.model
        if session.position == 0:
            return None
        before, token = session.state_at(session.position - 1), session.tokens[-1:]
        change = yield from self.direction.steps(at)
        edit = gv.Add(change, self.factor, self.layer, self.head)
        scope = edit.scope(model.config)
        if change.shape != before.wkv.shape:
            raise gv.StateError(
                f"the memory to add has the shape {change.shape}; this model needs "
                f"{before.wkv.shape}: use one of the same model"
            )
        pushed = before.copy()
        pushed.edit().wkv[scope] += np.float32(self.factor) * change[scope]
        rows = [model.forward(token, state) for state in (before, pushed)]
        yield 0.9
        likely = [pairs(rank(row, _BARS)[0]) for row in rows]
        p, q = map(softmax, rows)
        ids = {t for row in likely for t, _ in row}
        moved = float((p * (np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(q, 1e-300)))).sum())
        return PushFound(
            _words(session, likely[0]), _words(session, likely[1]),
            {t: float(p[t]) for t in ids}, {t: float(q[t]) for t in ids}, max(moved, 0.0),
        )  # fmt: skip


# -- studies: they take a while, and their results stay ----------------------------------------


@dataclass(frozen=True)
class SensitivityAsked(Question):
    """Which heads' memories matter for the next token at the cursor: (L, H), or (L,) by layer."""

    kind: str = "zero"
    by: str = "head"
    sigma: float | None = None
    draws: int = 8
    seed: int = 0

    def steps(self, at: Context) -> Steps[NDArray[np.float64]]:
        """Head by head."""
        return (yield from sensing(at.session, **vars(self)))


@dataclass(frozen=True, eq=False)
class TraceFound:
    """A causal trace with its tokens."""

    trace: Any
    labels: list[str]
    target: str


@dataclass(frozen=True)
class TraceAsked(Question):
    """Which layer at which token carries what the model needs for a word behind a position."""

    position: int
    spoiled: tuple[int, ...]
    target: int
    noise: float = 3.0
    draws: int = 8
    seed: int = 0

    def steps(self, at: Context) -> Steps[TraceFound]:
        """Layer by layer."""
        session, label = at.session, at.session.model.tokenizer.label
        tokens = session.path.tokens(0, self.position)
        found = yield from tracing(
            session.model, tokens, self.spoiled, self.target, noise=self.noise, draws=self.draws,
            seed=self.seed,
        )  # fmt: skip
        return TraceFound(found, [label(t) for t in tokens], label(self.target))


@dataclass(frozen=True, eq=False)
class CompareFound:
    """A comparison with what it is of: the tokens of both, and those where they part."""

    comparison: ga.Comparison
    tokens: tuple[NDArray[np.int64], NDArray[np.int64]]
    labels: tuple[str, str]  # of the tokens where they part


@dataclass(frozen=True)
class CompareAsked(Question):
    """Where this run and another part, token by token."""

    run: int

    def steps(self, at: Context) -> Steps[CompareFound]:
        """Token by token."""
        one, two = at.session, at.other(self.run)
        paths, label = (one.path, two.path), one.model.tokenizer.label
        T = min(p.stop for p in paths)
        tokens = tuple(np.array(p.tokens(0, T)) for p in paths)
        found = yield from comparing(one, two)
        i = found.parted
        words = ("", "") if i is None else tuple(label(p.tokens(i, i + 1)[0]) for p in paths)
        return CompareFound(found, tokens, words)  # type: ignore[arg-type]

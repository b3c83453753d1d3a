"""Edits of the memory: what a person may do to the state between two tokens.

S is a head's matrix, [value, key]; every edit takes a layer and a head, None meaning all of them.
Only the memory changes, not the token shifts.  An edit is made once and then repeated as it was,
so that a way back gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.memory import CARRYING, WRITTEN, transport
from goose_viz.config import Config
from goose_viz.errors import GooseError, StateError
from goose_viz.metrics import rms
from goose_viz.model import PORTION
from goose_viz.state import State

if TYPE_CHECKING:
    from goose_viz.history import Edit
    from goose_viz.session import Session
    from goose_viz.snapshot import Snapshot

Scope = tuple[slice, slice]
Numbers = NDArray[Any]


class StateEdit:
    """What all edits have in common.

    Attributes
    ----------
    layer, head : int or None
        Where; None stands for all.
    """

    layer: int | None
    head: int | None

    #: What of the memory that was there is left of it, as a factor.
    keeps = 1.0

    def scope(self, config: Config) -> Scope:
        """Slices of the first two axes of (L, H, N, N).

        Raises
        ------
        GooseError
            If the model has no such layer or head.
        """
        out = []
        for what, index, count in (
            ("layer", self.layer, config.n_layer), ("head", self.head, config.n_head)
        ):  # fmt: skip
            if index is not None and not 0 <= index < count:
                raise GooseError(f"{what} {index} is not there; the model has 0 to {count - 1}")
            out.append(slice(None) if index is None else slice(index, index + 1))
        return out[0], out[1]

    @property
    def gone(self) -> range:
        """The tokens whose remains it takes out; -1 stands for what was there ahead of all."""
        return range(0)

    def prepare(self, session: Session) -> Numbers | None:
        """The numbers that `do` adds, of the scope's shape; nothing is changed yet."""
        return None

    def do(self, wkv: Numbers, numbers: Numbers | None) -> None:
        """Change the scope of a memory (layers, heads, N, N) in place: S = keeps S + numbers."""
        with np.errstate(over="ignore", invalid="ignore"):  # a memory may be driven to its end
            if self.keeps == 0:
                wkv[...] = 0  # whatever is there
            elif self.keeps != 1:
                wkv *= wkv.dtype.type(self.keeps)
            if numbers is not None:
                wkv += numbers

    def recorded(self) -> StateEdit:
        """The edit without arrays: `prepare` has taken from them what is needed."""
        return self

    def parameters(self) -> dict[str, Any]:
        """What a file keeps of it."""
        plain = {n: getattr(v, "item", lambda v=v: v)() for n, v in vars(self.recorded()).items()}
        return {"kind": type(self).__name__, **plain}

    def where(self) -> str:
        """The scope in words."""
        if self.layer is None:
            return "everywhere" if self.head is None else f"head {self.head} of every layer"
        return f"layer {self.layer}" + ("" if self.head is None else f" head {self.head}")


@dataclass(frozen=True)
class Zero(StateEdit):
    """Empty the memory."""

    layer: int | None = None
    head: int | None = None

    keeps = 0.0


@dataclass(frozen=True)
class Scale(StateEdit):
    """Multiply the memory with a factor."""

    factor: float
    layer: int | None = None
    head: int | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.factor):
            raise ValueError(f"factor is {self.factor}; expected a finite number")

    @property
    def keeps(self) -> float:  # type: ignore[override]
        """The factor."""
        return float(self.factor)


@dataclass(frozen=True)
class Noise(StateEdit):
    """Add normal noise of sigma times each head's root mean square; the same for the same seed."""

    sigma: float
    seed: int = 0
    layer: int | None = None
    head: int | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.sigma) or self.sigma < 0:
            raise ValueError(f"sigma is {self.sigma}; expected a number from 0")

    def prepare(self, session: Session) -> Numbers:
        """The noise."""
        wkv = session.state.wkv[self.scope(session.model.config)]
        drawn = np.random.default_rng(self.seed).standard_normal(wkv.shape)
        noise = self.sigma * rms(wkv.astype(np.float64))[..., None, None] * drawn
        return noise.astype(wkv.dtype)


@dataclass(frozen=True)
class Put(StateEdit):
    """Put another memory in place: a state's, a snapshot's, or an array (L, H, N, N)."""

    source: State | Snapshot | Numbers | None
    layer: int | None = None
    head: int | None = None

    keeps = 0.0

    def prepare(self, session: Session) -> Numbers:
        """The numbers to put."""
        return _numbers(self.source, self.scope(session.model.config), session)

    def recorded(self) -> Put:
        """Without the source."""
        return replace(self, source=None)


@dataclass(frozen=True)
class Add(StateEdit):
    """Add a change (L, H, N, N), or another memory, times a factor."""

    change: State | Snapshot | Numbers | None
    factor: float = 1.0
    layer: int | None = None
    head: int | None = None

    def prepare(self, session: Session) -> Numbers:
        """The numbers to add."""
        return _times(self.change, self.factor, self.scope(session.model.config), session)

    def recorded(self) -> Add:
        """Without the change."""
        return replace(self, change=None)


class Lasting(StateEdit):
    """An edit that is made again behind every token, up to a position or for good.

    Attributes
    ----------
    until : int or None
        The position.
    """

    until: int | None

    def during(self, start: int, stop: int, edit: Edit) -> bool:
        """Whether it acts behind one of the tokens [start, stop)."""
        return edit.position < stop and (self.until is None or start < self.until)


@dataclass(frozen=True)
class Mute(Lasting):
    """Keep the memory empty behind every token, up to a position or for good.

    What a token writes is read by that token alone, as in a model without a memory.
    """

    until: int | None = None
    layer: int | None = None
    head: int | None = None

    keeps = 0.0


@dataclass(frozen=True)
class Steer(Lasting):
    """Add a change (L, H, N, N), or another memory, times a factor, and again behind every token.

    What was added fades and is corrected as all that is in the memory; steering goes on.
    """

    change: State | Snapshot | Numbers | None
    factor: float = 1.0
    until: int | None = None
    layer: int | None = None
    head: int | None = None

    def prepare(self, session: Session) -> Numbers:
        """The numbers to add, each time."""
        return _times(self.change, self.factor, self.scope(session.model.config), session)

    def recorded(self) -> Steer:
        """Without the change."""
        return replace(self, change=None)


@dataclass(frozen=True)
class Forget(StateEdit):
    """Take a past token's remains out of the memory: S - v p^T, p its key as it is now.

    ``token`` is an index into ``session.tokens``; None stands for what the memory held ahead of
    the first token.
    """

    token: int | None
    layer: int | None = None
    head: int | None = None

    @property
    def gone(self) -> range:
        """Its token."""
        token = -1 if self.token is None else self.token
        return range(token, token + 1)

    def prepare(self, session: Session) -> Numbers:
        """What is subtracted, negative."""
        scope, position = self.scope(session.model.config), session.position
        if self.token is None:
            later = [e for e in session.edits if e.position > 0]
            remains = carried(session, np.array(session.state_at(0).wkv), 0, later, -1)
        elif not 0 <= self.token < position:
            raise GooseError(
                f"token {self.token} is not in the past; there are 0 to {position - 1}"
                if position
                else "there is no token to forget yet; feed a prompt first"
            )
        else:
            remains = remains_now(session, self.token)
        numbers = -remains[scope]
        if not numbers.any():
            what = "ahead of the first token" if self.token is None else f"of token {self.token}"
            raise GooseError(f"there is nothing {what} in the memory ({self.where()}) to forget")
        return numbers


@dataclass(frozen=True)
class Replace(StateEdit):
    """Have the memory as if other tokens had stood in place of [start, stop).

    The change of the memory behind the span is carried by what came since; what later tokens wrote
    stays as it is, and nothing is read again but the span.

    Parameters
    ----------
    start, stop : int
        Indices into ``session.tokens``.
    tokens : str or sequence of int
        What is to have stood there, of any length; nothing for "never said".
    """

    start: int
    stop: int
    tokens: str | Sequence[int] = ()
    layer: int | None = None
    head: int | None = None

    @property
    def gone(self) -> range:
        """The span."""
        return range(self.start, self.stop)

    def prepare(self, session: Session) -> Numbers:
        """The change as it is now."""
        scope, position = self.scope(session.model.config), session.position
        if not 0 <= self.start < self.stop <= position:
            raise GooseError(
                f"tokens {self.start} to {self.stop} are not in the past; expected a start before "
                f"a stop, from 0 to {position}"
            )
        tokens = self.tokens
        ids = session.model.tokenizer.encode(tokens) if isinstance(tokens, str) else list(tokens)
        session.check_tokens(ids)
        self._refuse_overlaps(session)
        later = [e for e in session.edits if e.position >= self.stop]
        state = session.state_at(self.start)
        before = np.array(session.state_at(self.stop, edited=False).wkv)
        self._read(session, ids, state)
        change = carried(session, state.wkv - before, self.stop, later)
        for edit in session.edits:  # what was taken from these tokens is not theirs to lose again
            if any(t in self.gone for t in edit.what.gone):
                given = np.zeros_like(change)
                given[edit.what.scope(session.model.config)] = edit.numbers
                after = session.edits[session.edits.index(edit) + 1 :]
                change -= carried(session, given, edit.position, after)
        return change[scope]

    def _read(self, session: Session, ids: list[int], state: State) -> None:
        """Read the other tokens, with the edits that were made again behind each of the span."""
        config, model = session.model.config, session.model
        if not any(session.path.lasting(t) for t in range(self.start, self.stop)):
            for i in range(0, len(ids), PORTION):
                model.forward(ids[i : i + PORTION], state)
            return
        for i, token in enumerate(ids):
            model.forward([token], state)
            for edit in session.path.lasting(min(self.start + i, self.stop - 1)):
                edit.what.do(state.edit().wkv[edit.what.scope(config)], edit.numbers)

    def _refuse_overlaps(self, session: Session) -> None:
        for edit in session.edits:
            other = edit.what
            if isinstance(other, Replace) and other.start < self.stop and self.start < other.stop:
                if self.start <= other.start and other.stop <= self.stop:
                    continue
                raise GooseError(
                    f"tokens {other.start} to {other.stop} were replaced before, and "
                    f"{self.start} to {self.stop} cut through them; undo that first, or replace "
                    "all of them"
                )

    def recorded(self) -> Replace:
        """With plain tokens."""
        tokens = self.tokens
        return replace(self, tokens=tokens if isinstance(tokens, str) else tuple(map(int, tokens)))


def carried(
    session: Session,
    change: Numbers,
    position: int,
    later: Sequence[Edit],
    token: int | None = None,
) -> Numbers:
    """A change of the memory as it is at the cursor.

    Parameters
    ----------
    session : Session
    change : ndarray (L, H, R, N)
        Rows of what was made at a position.
    position : int
    later : sequence of Edit
        The edits between there and the cursor, in order.
    token : int, optional
        Whose remains the change is: an edit that takes them out leaves nothing of it.
    """
    config, change = session.model.config, np.array(change)
    for edit in session.edits:
        if isinstance(edit.what, Mute) and edit.what.during(position - 1, session.position, edit):
            change[edit.what.scope(config)] = 0
    stops = [*((e.position, e.what) for e in later), (session.position, None)]
    for stop, what in stops:
        if stop > position:
            change = transport(session.frames(position, stop, CARRYING, initial=False), change, -1)
            position = stop
        if what is not None:
            gone = token in what.gone
            change[what.scope(config)] *= change.dtype.type(0 if gone else what.keeps)
    return change


def remains_now(session: Session, token: int) -> Numbers:
    """What is left at the cursor of what a past token wrote, v p^T: (L, H, N, N)."""
    frame = session.frames(token, token + 1, WRITTEN, initial=False)[0]
    c = session.model.config
    heads = (c.n_layer, c.n_head, 1, c.head_size)
    later = [e for e in session.edits if e.position > token]
    key = carried(session, frame.replacement_key.reshape(heads), token + 1, later, token)
    return frame.value.reshape(heads).swapaxes(-1, -2) * key


def memory_of(source: State | Snapshot | Numbers | None) -> Numbers:
    """The memory (L, H, N, N) of what has one."""
    held: Any = getattr(source, "state", source)
    return np.asarray(getattr(held, "wkv", held))


def _numbers(source: State | Snapshot | Numbers | None, scope: Scope, session: Session) -> Numbers:
    """A memory's numbers in a scope, as the session's state has them."""
    array = memory_of(source)
    wanted = session.state.wkv.shape
    if array.shape != wanted:
        raise StateError(
            f"the memory to put or add has the shape {array.shape}; this model needs {wanted}: use "
            "a state or snapshot of the same model"
        )
    if not np.isfinite(array).all():
        raise StateError("the memory to put or add holds NaN or infinite numbers")
    return np.array(array[scope], session.state.wkv.dtype)


def _times(
    source: State | Snapshot | Numbers | None, factor: float, scope: Scope, session: Session
) -> Numbers:
    """A memory's numbers in a scope times a factor."""
    numbers = _numbers(source, scope, session)
    return numbers * numbers.dtype.type(factor)  # type: ignore[no-any-return]


#: By name, as files have them.
EDITS: dict[str, type[StateEdit]] = {
    kind.__name__: kind for kind in (Forget, Replace, Zero, Scale, Noise, Put, Add, Mute, Steer)
}


def check_numbers(edit: StateEdit, numbers: NDArray[Any] | None, config: Config) -> None:
    """Raise ValueError if these are not the numbers that an edit of a model goes with.

    Raises
    ------
    GooseError
        If the model has no such layer or head.
    """
    layers, heads = edit.scope(config)
    if (numbers is not None) != (type(edit).prepare is not StateEdit.prepare):
        raise ValueError(f"{edit} has no numbers, or is an edit that has none")
    if numbers is not None:
        N, sizes = config.head_size, ((layers, config.n_layer), (heads, config.n_head))
        shape = *(len(range(n)[s]) for s, n in sizes), N, N
        if numbers.dtype.kind != "f" or numbers.shape != shape:
            raise ValueError(f"{edit} has numbers {numbers.shape}, expected {shape}")


def read_edit(parameters: dict[str, Any]) -> StateEdit:
    """The edit whose `parameters` these are.

    Raises
    ------
    StateError
        If there is none of that kind, or it has others.
    """
    kind = EDITS.get(str(parameters.get("kind")))
    given = {name: value for name, value in parameters.items() if name != "kind"}
    if kind is None or given.keys() != kind.__annotations__.keys():
        raise StateError(f"an edit {parameters} is not known; it is from another version")
    try:
        return kind(**given)
    except (TypeError, ValueError) as error:
        raise StateError(f"an edit {parameters} cannot be read ({error})") from None

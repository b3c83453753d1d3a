"""Conditions on a run, for stopping it: a small language of its own, parsed, never run as Python.

    removed_norm[3,1] > 5                 an observable, its axes named: layer, then head or channel
    max(written_norm) > 10 and entropy < 0.1
    not (mean(decay[2]) >= 0.9)           max, min, mean and norm take what is not named together
    token == " dog"                       the token that came, by its text or its id
    "the end"                             the text has just come to hold this

Names are those of `goose_viz.OBSERVABLES`, ``rms`` of the memories, and figures of the token and of
what is expected behind it, in `FIGURES`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.config import Config
from goose_viz.errors import GooseError
from goose_viz.metrics import rms
from goose_viz.observables import OBSERVABLES, shape_of
from goose_viz.probe import Frame
from goose_viz.ranking import softmax


class ConditionError(GooseError):
    """A condition that cannot be read, or asks for what the model does not have."""


@dataclass(frozen=True, eq=False)
class Moment:
    """A token that was read, as conditions see it.

    Attributes
    ----------
    position : int
        Tokens up to it, itself included.
    token : int
    label : str
        Its text.
    text : str
        The end of the text up to it: that of so many tokens before as the condition's ``reach``.
    added : int
        Characters of that which came with it.
    probability : float
        What the model gave it.
    before, logits : ndarray (V,) or None
        What was expected in its place, and behind it.
    frame : Frame or None
        What was observed of it.
    """

    position: int
    token: int
    label: str
    text: str
    added: int
    probability: float
    before: NDArray[Any] | None
    logits: NDArray[Any] | None
    frame: Frame | None


def _entropy(moment: Moment) -> float:
    if moment.logits is None:
        return np.nan
    p = softmax(moment.logits)
    return float(-(p * np.log2(np.maximum(p, 1e-300))).sum())


def _rank(moment: Moment) -> float:
    before = moment.before
    return np.nan if before is None else 1.0 + float((before > before[moment.token]).sum())


#: Figures of a token: what they are, and how they are read.
FIGURES: dict[str, tuple[str, Callable[[Moment], float]]] = {
    "position": ("tokens up to here", lambda m: float(m.position)),
    "probability": ("what the model gave the token that came", lambda m: m.probability),
    "surprisal": ("−log2 of that, in bits", lambda m: float(-np.log2(max(m.probability, 1e-300)))),
    "rank": ("its rank among all; 1 is the likeliest", _rank),
    "entropy": ("of what is expected next, in bits", _entropy),
    "top": (
        "the probability of the likeliest next token",
        lambda m: np.nan if m.logits is None else float(softmax(m.logits).max()),
    ),
}

_TOGETHER: dict[str, Callable[[NDArray[Any]], Any]] = {
    "max": np.max, "min": np.min, "mean": np.mean, "norm": np.linalg.norm,
}  # fmt: skip
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_WORDS = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
    r'|(?P<string>"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\')'
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign><=|>=|==|!=|[<>()\[\],+\-*/]))"
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_DEEPEST = 50  # brackets within brackets

Value = Callable[[Moment], Any]


class Condition:
    """A condition on a token, read from its words.

    Parameters
    ----------
    words : str
        See this module.
    config : Config
        Of the model that it is for.

    Attributes
    ----------
    words : str
    observables : frozenset of str
        What has to be observed of every token.
    wants_logits : bool
        Whether it asks for what is expected next, or was in the token's place.
    reach : int
        Tokens before this one whose text it has to see.

    Raises
    ------
    ConditionError
        If the words cannot be read, or name what the model does not have.
    """

    def __init__(self, words: str, config: Config) -> None:
        self.words = words.strip()
        reader = _Reader(self.words, config)
        self._holds = reader.whole()
        self.observables = frozenset(reader.observables)
        self.wants_logits, self.reach = reader.wants_logits, reader.reach

    def __repr__(self) -> str:
        """Its words."""
        return f"<Condition {self.words}>"

    def holds(self, moment: Moment) -> bool:
        """Whether it is so of a token; what is not a number is never so."""
        with np.errstate(all="ignore"):
            return bool(self._holds(moment))


class _Reader:
    """Reads words into a function, by recursive descent."""

    def __init__(self, words: str, config: Config) -> None:
        self._config, self._all = config, words
        self.observables: set[str] = set()
        self.wants_logits, self.reach = False, 0
        self._items: list[tuple[str, str, int]] = []
        self._depth = 0
        at = 0
        while at < len(words.rstrip()):
            found = _WORDS.match(words, at)
            if found is None:
                raise self._fail(f"“{words[at:].strip()[:12]}” is not understood", at)
            kind = found.lastgroup or ""
            self._items.append((kind, found[kind], found.start(kind)))
            at = found.end()
        self._at = 0

    def _fail(self, words: str, at: int | None = None) -> ConditionError:
        if at is None:
            at = self._items[self._at][2] if self._at < len(self._items) else len(self._all)
        return ConditionError(
            f"{words} (at {at + 1} in “{self._all}”); expected something like "
            'removed_norm[3,1] > 5, entropy < 0.1, token == " dog" or "the end"'
        )

    def _peek(self, *texts: str) -> bool:
        here = self._items[self._at] if self._at < len(self._items) else ("", "", 0)
        return here[0] in ("sign", "name") and here[1] in texts

    def _take(self, *texts: str) -> str | None:
        if self._peek(*texts):
            self._at += 1
            return self._items[self._at - 1][1]
        return None

    def _need(self, text: str) -> None:
        if self._take(text) is None:
            raise self._fail(f"a “{text}” is missing")

    def _kind(self) -> str:
        return self._items[self._at][0] if self._at < len(self._items) else ""

    # -- what is so or not -------------------------------------------------------------------------

    def whole(self) -> Value:
        if not self._items:
            raise self._fail("there is no condition")
        value = self._either()
        if self._at < len(self._items):
            raise self._fail(f"“{self._items[self._at][1]}” is one too many")
        return value

    def _either(self) -> Value:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else lambda m: _any(p(m) for p in parts)

    def _both(self) -> Value:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else lambda m: _all(p(m) for p in parts)

    def _one(self) -> Value:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._fail("there are too many brackets within each other")
        try:
            if self._take("not"):
                inner = self._one()
                return lambda m: None if (so := inner(m)) is None else not so
            if self._kind() == "string":
                return self._text()
            if self._take("token"):
                return self._token()
            if self._peek("(") and (grouped := self._grouped()) is not None:
                return grouped
            return self._comparison()
        finally:
            self._depth -= 1

    def _grouped(self) -> Value | None:
        """A condition in brackets; None if the bracket is one of an arithmetic expression."""
        begin = self._at
        self._need("(")
        try:
            value = self._either()
            self._need(")")
        except ConditionError:
            self._at = begin
            return None
        if self._peek(*_COMPARE, "+", "-", "*", "/"):
            self._at = begin
            return None
        return value

    def _text(self) -> Value:
        wanted = self._string()
        if not wanted:
            raise self._fail("there is nothing between the quotes")
        self.reach = max(self.reach, len(wanted.encode()))  # a character may take several tokens

        def holds(m: Moment) -> bool:
            start = max(0, len(m.text) - m.added - len(wanted) + 1)
            return wanted in m.text[start:]

        return holds

    def _string(self) -> str:
        words = self._items[self._at][1][1:-1]
        self._at += 1
        return re.sub(r"\\(.)", lambda e: _ESCAPES.get(e[1], e[1]), words)

    def _token(self) -> Value:
        sign = self._take("==", "!=")
        if sign is None:
            raise self._fail("behind “token” comes == or !=")
        compare = _COMPARE[sign]
        if self._kind() == "string":
            label = self._string()
            return lambda m: compare(m.label, label)
        if self._kind() == "number" and self._items[self._at][1].isdecimal():
            number = int(self._items[self._at][1])
            self._at += 1
            if number >= self._config.vocab_size:
                raise self._fail(f"there is no token {number}; the vocabulary has "
                                 f"{self._config.vocab_size}")  # fmt: skip
            return lambda m: compare(m.token, number)
        raise self._fail('a token is a text in quotes, " dog", or an id')

    def _comparison(self) -> Value:
        left = self._sum()
        sign = self._take(*_COMPARE)
        if sign is None:
            raise self._fail("a comparison is missing: <, <=, >, >=, == or !=")
        right, compare = self._sum(), _COMPARE[sign]

        def holds(m: Moment) -> bool | None:
            one, two = float(left(m)), float(right(m))
            return None if one != one or two != two else bool(compare(one, two))

        return holds

    # -- numbers -----------------------------------------------------------------------------------

    def _sum(self) -> Value:
        value = self._product()
        while sign := self._take("+", "-"):
            value = _joined(operator.add if sign == "+" else operator.sub, value, self._product())
        return value

    def _product(self) -> Value:
        value = self._single()
        while sign := self._take("*", "/"):
            apply = operator.mul if sign == "*" else np.divide
            value = _joined(apply, value, self._single())
        return value

    def _single(self) -> Value:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._fail("there are too many brackets within each other")
        try:
            if self._take("-"):
                inner = self._single()
                return lambda m: -inner(m)
            if self._take("("):
                inner = self._sum()
                self._need(")")
                return inner
            if self._kind() == "number":
                number = float(self._items[self._at][1])
                self._at += 1
                return lambda m: number
            if self._kind() == "name":
                return self._named()
            raise self._fail("a number or a name is missing")
        finally:
            self._depth -= 1

    def _named(self) -> Value:
        name = self._items[self._at][1]
        if name in _TOGETHER:
            self._at += 1
            self._need("(")
            value, axes = self._observed()
            self._need(")")
            if not axes:
                raise self._fail(f"{name} needs several numbers, as in {name}(removed_norm[3])")
            together = _TOGETHER[name]
            return lambda m: float(together(value(m)))
        if name in FIGURES:
            self._at += 1
            self.wants_logits |= name in ("rank", "entropy", "top")
            return FIGURES[name][1]
        value, axes = self._observed()
        if axes:
            raise self._fail(
                f"{name} is many numbers ({' × '.join(axes)} not named): name one, or take "
                f"max({name}), min, mean or norm"
            )
        return lambda m: float(value(m))

    def _observed(self) -> tuple[Value, tuple[str, ...]]:
        """An observable, some of its axes named; and what the others are."""
        here = self._at
        if self._kind() != "name":
            raise self._fail("the name of an observable is missing")
        name = self._items[self._at][1]
        if name != "rms" and name not in OBSERVABLES:
            known = ", ".join([*FIGURES, "rms", *OBSERVABLES])
            raise self._fail(f"{name} is not known; there are {known}")
        self._at += 1
        c = self._config
        shape = (c.n_layer, c.n_head) if name == "rms" else (c.n_layer, *shape_of(name, c))
        axes = "H" if name == "rms" else OBSERVABLES[name].axes
        kinds = ("layer", *_AXES[axes])
        index: list[int] = []
        if self._take("["):
            while True:
                if self._kind() != "number" or not self._items[self._at][1].isdecimal():
                    raise self._fail("between [ and ] are whole numbers")
                index.append(int(self._items[self._at][1]))
                self._at += 1
                if not self._take(","):
                    break
            self._need("]")
        if len(index) > len(shape):
            self._at = here
            raise self._fail(f"{name} has {len(shape)} axes: {', '.join(kinds)}")
        for at, n, kind in zip(index, shape, kinds, strict=False):
            if at >= n:
                self._at = here
                raise self._fail(f"there is no {kind} {at}; the model has 0 to {n - 1}")
        self.observables.add("wkv" if name == "rms" else name)
        place = tuple(index)

        def value(m: Moment) -> Any:
            if m.frame is None:
                return np.full(shape, np.nan)[place]
            if name == "rms":
                return rms(m.frame.wkv)[place]
            return getattr(m.frame, name)[place]

        return value, kinds[len(index) :]


def _any(parts: Iterable[bool | None]) -> bool | None:
    """Whether one is so; None if none is, and one is not known."""
    known = True
    for part in parts:
        if part:
            return True
        known &= part is not None
    return False if known else None


def _all(parts: Iterable[bool | None]) -> bool | None:
    """Whether all are so; None if none is not, and one is not known."""
    known = True
    for part in parts:
        if part is False:
            return False
        known &= part is not None
    return True if known else None


_AXES = {
    "D": ("channel",), "H": ("head",), "HN": ("head", "value"), "HNN": ("head", "value", "key"),
}  # fmt: skip


def _joined(apply: Callable[[Any, Any], Any], left: Value, right: Value) -> Value:
    return lambda m: apply(left(m), right(m))

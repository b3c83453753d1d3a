"""How well a model foresees a file: all of a text, or the last words of passages.

A document stands alone behind token 0, RWKV's end of text.  Of a text every token counts: bits per
byte and perplexity per token.  Of a passage in the form of LAMBADA (Paperno et al., 2016) its last
word does, with the space before it: the passage is right if each of the word's tokens is the
likeliest where it stands, and perplexity is that of words, as RWKV's own figures have it.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from goose_viz.documents import content_of, of_lines, separated
from goose_viz.errors import GooseError
from goose_viz.files import json_object, write_whole
from goose_viz.model import Model
from goose_viz.model_source import ModelSource
from goose_viz.scheduling import Lost, each

PORTION = 256  # tokens whose logits are in memory at a time
_KEEP_EVERY = 5.0  # seconds between what `evaluate` writes down

Progress = Callable[[float], None]
F = TypeVar("F", "Texts", "LastWords")


@dataclass(frozen=True)
class Texts:
    """What came of the documents of a text so far.

    Attributes
    ----------
    documents, tokens, size : int
        Size in UTF-8 bytes; token 0 ahead of each document is not counted.
    nats : float
        Sum of -log p of all tokens.
    """

    documents: int = 0
    tokens: int = 0
    size: int = 0
    nats: float = 0.0

    @classmethod
    def of(cls, model: Model, document: str) -> Texts:
        """What comes of a document."""
        tokens = model.tokenizer.encode(document)
        return cls(1, len(tokens), len(document.encode()), nats_of(model, tokens))

    def __add__(self, more: Texts) -> Texts:
        """What came of both."""
        return _sum(self, more)

    def figures(self) -> dict[str, float]:
        """Name -> figure."""
        return {
            "bits per byte": self.nats / math.log(2) / self.size,
            "perplexity per token": _exp(self.nats / self.tokens),
            "documents": self.documents,
            "tokens": self.tokens,
            "bytes": self.size,
        }


@dataclass(frozen=True)
class LastWords:
    """What came of the last words of passages so far.

    Attributes
    ----------
    documents : int
    right : int
        Passages of which each token of the last word was the likeliest.
    nats : float
        Sum of -log p of the last words.
    """

    documents: int = 0
    right: int = 0
    nats: float = 0.0

    @classmethod
    def of(cls, model: Model, document: str) -> LastWords:
        """What comes of a passage."""
        before, word = document.rsplit(" ", 1)
        wanted = model.tokenizer.encode(" " + word)
        context, state = [0, *model.tokenizer.encode(before)], model.new_state()
        if len(context) > 1:
            model.forward(context[:-1], state)
        logits = model.forward([context[-1], *wanted[:-1]], state, all_logits=True)
        right = logits.argmax(1).tolist() == wanted
        return cls(1, int(right), -float(_log_p(logits, wanted).sum()))

    def __add__(self, more: LastWords) -> LastWords:
        """What came of both."""
        return _sum(self, more)

    def figures(self) -> dict[str, float]:
        """Name -> figure."""
        return {
            "accuracy": self.right / self.documents,
            "perplexity per word": _exp(self.nats / self.documents),
            "passages": self.documents,
        }


def _sum(one: F, other: F) -> F:
    return type(one)(*(getattr(one, f.name) + getattr(other, f.name) for f in fields(one)))


def _exp(nats: float) -> float:
    """E^nats, infinite where that is too much."""
    return math.exp(nats) if nats < 700 else math.inf


def _log_p(logits: NDArray[Any], tokens: list[int]) -> NDArray[np.float64]:
    """(T,) log p of tokens under logits (T, V)."""
    wide = logits.astype(np.float64)
    highest = wide.max(1)
    total: NDArray[np.float64] = np.log(np.exp(wide - highest[:, None]).sum(1)) + highest
    return wide[np.arange(len(tokens)), tokens] - total


def nats_of(model: Model, tokens: list[int]) -> float:
    """Sum of -log p of tokens behind token 0."""
    state, fed, nats = model.new_state(), [0, *tokens[:-1]], 0.0
    for at in range(0, len(tokens), PORTION):
        logits = model.forward(fed[at : at + PORTION], state, all_logits=True)
        nats -= float(_log_p(logits, tokens[at : at + PORTION]).sum())
    return nats


def evaluate(
    model: Model | ModelSource,
    data: Path,
    out: Path | None = None,
    progress: Progress | None = None,
    scheduler: str | None = None,
) -> Texts | LastWords:
    """Evaluate a model on a file.

    Parameters
    ----------
    model : Model or ModelSource
        The latter loads where the work is done, and nowhere else.
    data : Path
        A ``.jsonl``, each line an object whose ``text`` is a passage; or a text in UTF-8, whose
        documents may be separated by lines ``<|endoftext|>``.
    out : Path, optional
        Where what was found so far is kept; if it is there already, it is gone on from.
    progress : callable (float), optional
        Told the share done before every document; it may raise, and what was kept stays.
    scheduler : str, optional
        Address of a dask scheduler whose workers take a document each; this process when left out.
        The figures are the same, bit for bit, where the workers' processors are alike.

    Raises
    ------
    GooseError
        If the file cannot be read or holds nothing to evaluate, if ``out`` is of another model or
        another file, or if a document could not be done by any worker.
    """
    content = content_of(data)
    passages = data.suffix == ".jsonl"
    documents = list(_passages(content, data) if passages else separated(content))
    if not documents:
        raise GooseError(f"{data} holds no text; expected at least one document")
    kind: type[Texts] | type[LastWords] = LastWords if passages else Texts
    source = model if isinstance(model, ModelSource) else ModelSource.of(model)
    source = source.anywhere() if scheduler is not None else source
    ((_, about),) = each(_about, [source], scheduler)
    if isinstance(about, Lost):
        raise GooseError(f"the model cannot be loaded: {about.sentence}")
    of = {"model": about, "data": hashlib.sha256(content.encode()).hexdigest()}
    sums = _resumed(out, of, kind, len(documents)) if out and out.exists() else _Sums(kind())
    left = [i for i in range(sums.whole.documents, len(documents)) if i not in sums.ahead]
    kept, done = time.monotonic(), len(documents) - len(left)

    def say() -> None:
        if progress is not None and done < len(documents):
            progress(done / len(documents))

    say()
    work: Callable[[str], Texts | LastWords] = partial(_one, kind, source)
    for at, found in each(work, [documents[i] for i in left], scheduler):
        if isinstance(found, Lost):
            raise GooseError(f"document {left[at]} cannot be done: {found.sentence}")
        sums.add(left[at], found)
        done += 1
        last = done == len(documents)
        if out is not None and (last or time.monotonic() - kept > _KEEP_EVERY):
            _keep(out, of, sums, last)
            kept = time.monotonic()
        say()
    return sums.whole


@dataclass
class _Sums:
    """What was found: of the first documents, and of some behind them that came earlier."""

    whole: Texts | LastWords
    ahead: dict[int, Texts | LastWords] = field(default_factory=dict)

    def add(self, index: int, found: Texts | LastWords) -> None:
        """Enter what was found of a document; summed up in their order, for the same bits."""
        self.ahead[index] = found
        while (following := self.ahead.pop(self.whole.documents, None)) is not None:
            self.whole = self.whole + following  # type: ignore[operator]


def _about(source: ModelSource) -> str:
    model = source.model()
    return f"{model.name}, {model.n_parameters} parameters, {model.device} {model.dtype}"


def _one(
    kind: type[Texts] | type[LastWords], source: ModelSource, document: str
) -> Texts | LastWords:
    return kind.of(source.model(), document)


def _passages(content: str, data: Path) -> Iterator[str]:
    for number, passage in of_lines(content, data):
        if " " not in passage:
            raise GooseError(
                f"{data}, line {number}: {passage[:40]!r} has no last word behind a space; "
                "expected a passage of several words"
            )
        yield passage


def _keep(out: Path, of: dict[str, str], sums: _Sums, whole: bool) -> None:
    content: dict[str, Any] = of | {
        "whole": whole,
        "sums": asdict(sums.whole),
        "ahead": {str(index): asdict(found) for index, found in sums.ahead.items()},
        "figures": sums.whole.figures() if sums.whole.documents else {},
    }
    try:
        write_whole(out, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise GooseError(f"{out} cannot be written: {error.strerror or error}") from None


def _resumed(
    out: Path, of: dict[str, str], kind: type[Texts] | type[LastWords], most: int
) -> _Sums:
    content = json_object(out, GooseError)
    for name, value in of.items():
        if content.get(name) != value:
            raise GooseError(
                f"{out} is of another {name}; name another file, or remove it to begin anew"
            )
    try:
        whole = _read(kind, content.get("sums"), range(most + 1))
        ahead = content.get("ahead", {})
        return _Sums(whole, {
            index: _read(kind, found, range(1, 2))
            for index, found in ((int(i), found) for i, found in ahead.items())
            if whole.documents <= index < most
        })  # fmt: skip
    except (ValueError, AttributeError):
        raise GooseError(f"{out} holds no sums to go on from; remove it to begin anew") from None


def _read(kind: type[Texts] | type[LastWords], sums: object, documents: range) -> Texts | LastWords:
    if not isinstance(sums, dict) or set(sums) != {f.name for f in fields(kind)}:
        raise ValueError
    if not all(type(v) in (int, float) for v in sums.values()):
        raise ValueError
    if sums["documents"] not in documents:
        raise ValueError
    return kind(**sums)

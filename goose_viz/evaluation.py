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
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.errors import GooseError
from goose_viz.files import json_object, write_whole
from goose_viz.model import Model

SEPARATOR = "<|endoftext|>"
PORTION = 256  # tokens whose logits are in memory at a time
_KEEP_EVERY = 5.0  # seconds between what `evaluate` writes down

Progress = Callable[[float], None]


@dataclass
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

    def add(self, model: Model, document: str) -> None:
        """One document more."""
        tokens = model.tokenizer.encode(document)
        self.nats += nats_of(model, tokens)
        self.documents += 1
        self.tokens += len(tokens)
        self.size += len(document.encode())

    def figures(self) -> dict[str, float]:
        """Name -> figure."""
        return {
            "bits per byte": self.nats / math.log(2) / self.size,
            "perplexity per token": _exp(self.nats / self.tokens),
            "documents": self.documents,
            "tokens": self.tokens,
            "bytes": self.size,
        }


@dataclass
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

    def add(self, model: Model, document: str) -> None:
        """One passage more."""
        before, word = document.rsplit(" ", 1)
        wanted = model.tokenizer.encode(" " + word)
        context, state = [0, *model.tokenizer.encode(before)], model.new_state()
        if len(context) > 1:
            model.forward(context[:-1], state)
        logits = model.forward([context[-1], *wanted[:-1]], state, all_logits=True)
        self.nats -= float(_log_p(logits, wanted).sum())
        self.right += logits.argmax(1).tolist() == wanted
        self.documents += 1

    def figures(self) -> dict[str, float]:
        """Name -> figure."""
        return {
            "accuracy": self.right / self.documents,
            "perplexity per word": _exp(self.nats / self.documents),
            "passages": self.documents,
        }


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
    model: Model, data: Path, out: Path | None = None, progress: Progress | None = None
) -> Texts | LastWords:
    """Evaluate a model on a file.

    Parameters
    ----------
    model : Model
    data : Path
        A ``.jsonl``, each line an object whose ``text`` is a passage; or a text in UTF-8, whose
        documents may be separated by lines ``<|endoftext|>``.
    out : Path, optional
        Where what was found so far is kept; if it is there already, it is gone on from.
    progress : callable (float), optional
        Told the share done before every document; it may raise, and what was kept stays.

    Raises
    ------
    GooseError
        If the file cannot be read or holds nothing to evaluate, or if ``out`` is of another model
        or another file.
    """
    content = _content(data)
    passages = data.suffix == ".jsonl"
    documents = list(_passages(content, data) if passages else _documents(content))
    if not documents:
        raise GooseError(f"{data} holds no text; expected at least one document")
    found: Texts | LastWords = LastWords() if passages else Texts()
    of = {
        "model": f"{model.name}, {model.n_parameters} parameters, {model.device} {model.dtype}",
        "data": hashlib.sha256(content.encode()).hexdigest(),
    }
    if out is not None and out.exists():
        found = _resumed(out, of, type(found), len(documents))
    kept = time.monotonic()
    for i in range(found.documents, len(documents)):
        if progress is not None:
            progress(i / len(documents))
        found.add(model, documents[i])
        last = i + 1 == len(documents)
        if out is not None and (last or time.monotonic() - kept > _KEEP_EVERY):
            _keep(out, of, found, last)
            kept = time.monotonic()
    return found


def _content(data: Path) -> str:
    try:
        return data.read_text(encoding="utf-8")
    except OSError as error:
        raise GooseError(f"{data} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise GooseError(f"{data} is not UTF-8 text: byte {error.start} is none of it") from None


def _documents(content: str) -> Iterator[str]:
    for part in content.split(SEPARATOR):
        if document := part.strip():
            yield document


def _passages(content: str, data: Path) -> Iterator[str]:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            passage = json.loads(line)["text"].strip()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise GooseError(
                f'{data}, line {number}: expected an object with a text, {{"text": "…"}}'
            ) from None
        if " " not in passage:
            raise GooseError(
                f"{data}, line {number}: {passage[:40]!r} has no last word behind a space; "
                "expected a passage of several words"
            )
        yield passage


def _keep(out: Path, of: dict[str, str], found: Texts | LastWords, whole: bool) -> None:
    content = of | {"whole": whole, "sums": asdict(found), "figures": found.figures()}
    try:
        write_whole(out, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise GooseError(f"{out} cannot be written: {error.strerror or error}") from None


def _resumed(
    out: Path, of: dict[str, str], kind: type[Texts | LastWords], most: int
) -> Texts | LastWords:
    content = json_object(out, GooseError)
    for name, value in of.items():
        if content.get(name) != value:
            raise GooseError(
                f"{out} is of another {name}; name another file, or remove it to begin anew"
            )
    sums = content.get("sums")
    if isinstance(sums, dict) and set(sums) == {field.name for field in fields(kind)}:
        numbers = all(type(v) in (int, float) for v in sums.values())
        if numbers and sums["documents"] in range(most + 1):
            return kind(**sums)
    raise GooseError(f"{out} holds no sums to go on from; remove it to begin anew")

"""Texts in files: one a file, several between separators, or one a line of a ``.jsonl``."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from goose_viz.errors import GooseError

SEPARATOR = "<|endoftext|>"
_ENDINGS = (".txt", ".jsonl")  # what a folder is searched for
_STEM = 80  # characters of a file's name in a document's
_SAID = 12  # digits of a hash that tell documents of a file apart


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes
    ----------
    file : str
        Name of the file that it stands in, without its folder.
    number : int
        Which of the file's, from 0.
    text : str
    """

    file: str
    number: int
    text: str

    @cached_property
    def sha256(self) -> str:
        """Of its text."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def name(self) -> str:
        """What to call it: the same for the same text from a file of the same name."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", Path(self.file).stem).strip(".")[:_STEM]
        return f"{stem or 'text'}-{self.sha256[:_SAID]}"


def content_of(path: Path) -> str:
    """A file's text.

    Raises
    ------
    GooseError
        If it cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise GooseError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise GooseError(f"{path} is not UTF-8 text: byte {error.start} is none of it") from None


def separated(content: str) -> Iterator[str]:
    """The texts between lines ``<|endoftext|>``, without blanks around them."""
    for part in content.split(SEPARATOR):
        if document := part.strip():
            yield document


def of_lines(content: str, path: Path) -> Iterator[tuple[int, str]]:
    """Line number from 1, and the text, of lines ``{"text": "…"}``.

    Raises
    ------
    GooseError
        If a line is something else.
    """
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"].strip()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise GooseError(
                f'{path}, line {number}: expected an object with a text, {{"text": "…"}}'
            ) from None
        yield number, text


def read_documents(files: Iterable[str | Path]) -> list[Document]:
    """Every text of files and folders, in order; the same text of a name once.

    Raises
    ------
    GooseError
        If a file cannot be read, or if there is no text at all.
    """
    found: dict[str, Document] = {}
    for file in _files(files):
        content = content_of(file)
        if file.suffix == ".jsonl":
            texts = [text for _, text in of_lines(content, file) if text]
        else:
            texts = list(separated(content))
        for number, text in enumerate(texts):
            document = Document(file.name, number, text)
            found.setdefault(document.name, document)
    if not found:
        raise GooseError("there is no text to read in these files; expected one document at least")
    return list(found.values())


def _files(places: Iterable[str | Path]) -> Iterator[Path]:
    for place in map(Path, places):
        if place.is_dir():
            inside = sorted(p for p in place.rglob("*") if p.suffix in _ENDINGS and p.is_file())
            if not inside:
                raise GooseError(f"{place}: holds no {' and no '.join(_ENDINGS)}")
            yield from inside
        else:
            yield place

"""Vocabularies in RWKV's own forms: ``id 'literal' length`` lines, and web-rwkv's JSON."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from goose_viz.errors import TokenizerError
from goose_viz.tokenizer.base import check_ids
from goose_viz.tokenizer.greedy import GreedyTokenizer


def read_lines(path: Path) -> GreedyTokenizer:
    """A text file with a token a line: its id, its text or bytes as Python writes them, its bytes.

    Raises
    ------
    TokenizerError
        If a line does not read so; the message names it.
    """
    pieces: dict[int, bytes] = {}
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(f"{path.name}: not readable as UTF-8 text ({error})") from None
    # not splitlines: a literal may hold what Unicode takes for a line's end
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line.strip():
            continue
        try:
            token, rest = line.split(" ", 1)
            literal, length = rest.rsplit(" ", 1)
            piece = _bytes(ast.literal_eval(literal.strip()))
            if len(piece) != int(length):
                raise ValueError(f"{len(piece)} bytes, {length} announced")
            pieces[_identifier(token)] = piece
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
            raise TokenizerError(
                f"{path.name}: line {number} is no token ({error}); expected lines like "
                "261 '\\n\\n' 2"
            ) from None
    return _made(path, pieces)


def read_json(path: Path, content: dict[str, Any]) -> GreedyTokenizer:
    r"""A JSON object of id -> text, or list of bytes: ``{"1": "\n", "128": [127]}``."""
    pieces: dict[int, bytes] = {}
    for token, value in content.items():
        try:
            pieces[_identifier(token)] = _bytes(value)
        except (ValueError, TypeError):
            raise TokenizerError(
                f"{path.name}: {token!r}: {str(value)[:40]!r} is no token; expected an id with a "
                "text or a list of bytes"
            ) from None
    return _made(path, pieces)


def _bytes(value: object) -> bytes:
    """A token's bytes; a bare number would be as many zeros."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | list):
        return bytes(value)
    raise TypeError(f"{value!r} is neither a text nor bytes")


def _identifier(text: str) -> int:
    number = int(text)
    if not 0 <= number < 1 << 24:
        raise ValueError(f"the id {number}")
    return number


def _made(path: Path, pieces: dict[int, bytes]) -> GreedyTokenizer:
    if not any(pieces.values()):
        raise TokenizerError(f"{path.name}: no token inside; expected lines like 261 '\\n\\n' 2")
    try:
        check_ids(max(pieces), len(pieces))
    except ValueError as error:
        raise TokenizerError(f"{path.name}: {error}; that is no vocabulary") from None
    table = [pieces.get(i, b"") for i in range(max(pieces) + 1)]
    return GreedyTokenizer(table, path.name)

"""``tokenizer.json`` vocabularies, through the ``tokenizers`` library."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.decoders import DecodeStream

from goose_viz.errors import TokenizerError
from goose_viz.tokenizer.base import BytesDecoder, StreamDecoder, bytes_label, check_ids


def byte_alphabet() -> dict[str, int]:
    """The characters that byte-level BPE writes for the 256 bytes (GPT-2's table)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    alphabet = {chr(b): b for b in shown}
    return alphabet | {chr(256 + i): b for i, b in enumerate(hidden)}


def special_token(i: int, text: str) -> dict[str, Any]:
    """A tokenizer.json's entry for a token that stands for no text."""
    return {
        "id": i, "content": text, "special": True, "normalized": False,
        "single_word": False, "lstrip": False, "rstrip": False,
    }  # fmt: skip


def greedy_of(description: dict[str, Any]) -> tuple[list[bytes], dict[str, int]] | None:
    """(bytes of each token, special texts) of a vocabulary that is longest match over bytes.

    World is published so: a WordPiece without a prefix over the byte alphabet, nothing split
    before.  The library's time for it grows faster than the square of a text's length.  None for
    any other tokenizer.json.
    """
    model, before = description.get("model"), description.get("pre_tokenizer")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        return None
    steps = (before.get("pretokenizers") or [before]) if isinstance(before, dict) else []
    plain = len(steps) == 1 and (
        steps[0].get("type") == "ByteLevel"
        and steps[0].get("use_regex") is False
        and not steps[0].get("add_prefix_space")
    )
    decoder = description.get("decoder") or {}
    added = description.get("added_tokens") or []
    if (
        model.get("type") != "WordPiece"
        or model.get("continuing_subword_prefix") != ""
        or not plain
        or decoder.get("type") != "ByteLevel"
        or description.get("normalizer") is not None
        or any(t.get("single_word") or t.get("lstrip") or t.get("rstrip") for t in added)
    ):
        return None
    numbers = [*model["vocab"].values(), *(t["id"] for t in added)]
    if not all(type(i) is int and 0 <= i < 1 << 24 for i in numbers):
        raise ValueError("an id is no whole number from 0 on")
    if not all(type(t["content"]) is str for t in added):
        raise ValueError("an added token's content is no text")
    check_ids(max(numbers, default=-1), len(numbers))
    alphabet = byte_alphabet()
    table = [b""] * (max(numbers, default=-1) + 1)
    for piece, i in model["vocab"].items():
        if all(ch in alphabet for ch in piece):  # the others stand for ids that mean nothing
            table[i] = bytes(alphabet[ch] for ch in piece)
    for t in added:
        table[t["id"]] = b"" if t.get("special") else t["content"].encode()
    return table, {t["content"]: t["id"] for t in added}


@contextmanager
def _library(trouble: str) -> Iterator[None]:
    """Say what the library raises in a sentence.

    Raises
    ------
    TokenizerError
        For every Exception, and for what Rust calls a panic, which is none.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(f"{trouble} ({error})") from None


def _bytes_of(
    description: dict[str, Any], vocabulary: dict[str, int], size: int
) -> list[bytes] | None:
    """Token id -> its bytes, of a byte-level vocabulary; None of any other."""
    if (description.get("decoder") or {}).get("type") != "ByteLevel":
        return None
    alphabet = byte_alphabet()
    added = {t["id"]: t for t in description.get("added_tokens", [])}
    table = [b""] * size
    for piece, i in vocabulary.items():
        if i in added:
            table[i] = b"" if added[i].get("special") else piece.encode()
        elif all(ch in alphabet for ch in piece):  # others stand for nothing
            table[i] = bytes(alphabet[ch] for ch in piece)
    return table


class _LibraryDecoder:
    """The library's own stream, for vocabularies that are not byte-level."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token: int) -> str:
        """The text that this token completes."""
        with _library("the tokenizers library cannot say a token"):
            return self._stream.step(self._tokenizer, token) or ""

    def flush(self) -> str:
        """Begin anew; the library keeps no bytes to give back."""
        self._stream = DecodeStream(skip_special_tokens=True)
        return ""


class HfTokenizer:
    """A ``tokenizer.json``.

    Parameters
    ----------
    path : Path
        The file.
    start_token : int, optional
        The token that begins a fresh session.
    content : str, optional
        What would be in the file, if it is not there.

    Raises
    ------
    TokenizerError
        If the library cannot read the file.
    """

    name = "tokenizer.json"

    def __init__(
        self, path: Path, start_token: int | None = None, content: str | None = None
    ) -> None:
        self.start_token = start_token
        with _library(f"{path.name}: the tokenizers library cannot read it"):
            self.content = path.read_text(encoding="utf-8") if content is None else content
            self._tokenizer = tokenizers.Tokenizer.from_str(self.content)
            description = json.loads(self.content)
            vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
            check_ids(max(vocabulary.values(), default=-1), len(vocabulary))
            self.vocab_size = max(vocabulary.values(), default=-1) + 1
            self._table = _bytes_of(description, vocabulary, self.vocab_size)

    @property
    def end_token(self) -> int | None:
        """Id 0, if it stands for no text."""
        return 0 if self._table and not self._table[0] else None

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; nothing is added."""
        # a lone surrogate, as from a terminal in another encoding, is no text to the library
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        with _library("the tokenizers library cannot read that text"):
            ids: list[int] = self._tokenizer.encode(whole, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens."""
        if self._table is not None:
            table = self._table
            return b"".join(table[t] for t in tokens if t < len(table)).decode("utf-8", "replace")
        with _library("the tokenizers library cannot say these tokens"):
            text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def stream(self) -> StreamDecoder:
        """A decoder for tokens that arrive one at a time."""
        if self._table is not None:
            return BytesDecoder(self._table)
        return _LibraryDecoder(self._tokenizer)

    def label(self, token: int) -> str:
        """One token for people."""
        if self._table is not None and token < self.vocab_size and self._table[token]:
            return bytes_label(self._table[token])
        return self._tokenizer.id_to_token(token) or f"⟨{token}⟩"

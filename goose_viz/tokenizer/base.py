"""What a tokenizer is here, and the decoder that never shows half a character."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from typing import Protocol

_LEFT_OUT = 1 << 16  # ids that even a small vocabulary may leave out


class StreamDecoder(Protocol):
    """Turns tokens into text one by one."""

    def push(self, token: int) -> str:
        """The text that this token completes; empty while a character is still open."""

    def flush(self) -> str:
        """What is left of an unfinished character, as U+FFFD; begins anew."""


class Tokenizer(Protocol):
    """Text to token ids and back.

    Attributes
    ----------
    vocab_size : int
        One more than the largest id.
    start_token : int or None
        The token that begins a fresh session, if the model was trained with one.
    end_token : int or None
        The token that ends a document, if the vocabulary has one: id 0, where it stands for no
        text.
    name : str
        What to call it in the window.
    """

    vocab_size: int
    start_token: int | None
    name: str

    @property
    def end_token(self) -> int | None:
        """The token that ends a document."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; nothing is added."""

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; bytes that form no character become U+FFFD."""

    def stream(self) -> StreamDecoder:
        """A decoder for tokens that arrive one at a time."""

    def label(self, token: int) -> str:
        """One token for people: its text, or its bytes where they are no text."""


class BytesDecoder:
    """Streams tokens that stand for byte strings, as UTF-8."""

    def __init__(self, table: list[bytes]) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that this token completes."""
        return self._decoder.decode(_piece(self._table, token))

    def flush(self) -> str:
        """What is left of an unfinished character, as U+FFFD."""
        text = self._decoder.decode(b"", True)
        self._decoder.reset()
        return text


class BytesTokenizer:
    """Any vocabulary whose tokens are byte strings; subclasses know how to encode.

    Parameters
    ----------
    table : list of bytes
        Token id -> its bytes; empty for ids that stand for no text.
    """

    start_token: int | None = None
    name = "bytes"

    def __init__(self, table: list[bytes]) -> None:
        self.table = table
        self.vocab_size = len(table)

    @property
    def end_token(self) -> int | None:
        """Id 0, if it stands for no text."""
        return 0 if self.table and not self.table[0] else None

    def encode(self, text: str) -> list[int]:
        """One token per UTF-8 byte."""
        return list(utf8(text))

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens."""
        return b"".join(_piece(self.table, t) for t in tokens).decode("utf-8", "replace")

    def stream(self) -> StreamDecoder:
        """A decoder for tokens that arrive one at a time."""
        return BytesDecoder(self.table)

    def label(self, token: int) -> str:
        """One token for people."""
        return bytes_label(_piece(self.table, token)) or f"⟨{token}⟩"


def check_ids(highest: int, count: int) -> None:
    """Raise ValueError if a table by id would hold next to nothing.

    Released vocabularies leave few ids out; one id of a small file may not take gigabytes.
    """
    if highest >= 8 * count + _LEFT_OUT:
        raise ValueError(f"its highest id is {highest}, of {count} tokens")


def utf8(text: str) -> bytes:
    """A text's bytes; what Python read as no UTF-8 (a file, a terminal) is what it was."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair from elsewhere
        return text.encode("utf-8", "surrogatepass")


def _piece(table: list[bytes], token: int) -> bytes:
    """A token's bytes; a model may have more rows than its vocabulary has tokens."""
    return table[token] if token < len(table) else b""


def bytes_label(piece: bytes) -> str:
    """Bytes for people: as text, or in hexadecimal where they are none."""
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(f"\\x{b:02x}" for b in piece)


def byte_tokenizer() -> BytesTokenizer:
    """The 256 bytes themselves."""
    return BytesTokenizer([bytes([b]) for b in range(256)])

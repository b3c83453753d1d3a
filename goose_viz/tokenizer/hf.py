"""``tokenizer.json`` vocabularies, through the ``tokenizers`` library."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers.decoders import DecodeStream

from goose_viz.errors import TokenizerError
from goose_viz.tokenizer.base import BytesDecoder, StreamDecoder, bytes_label


def _byte_alphabet() -> dict[str, int]:
    """The characters that byte-level BPE writes for the 256 bytes (GPT-2's table)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    alphabet = {chr(b): b for b in shown}
    return alphabet | {chr(256 + i): b for i, b in enumerate(hidden)}


class _LibraryDecoder:
    """The library's own stream, for vocabularies that are not byte-level."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def push(self, token: int) -> str:
        """The text that this token completes."""
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

    Raises
    ------
    TokenizerError
        If the library cannot read the file.
    """

    name = "tokenizer.json"

    def __init__(self, path: Path, start_token: int | None = None) -> None:
        self.start_token = start_token
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
            description = json.loads(path.read_text(encoding="utf-8"))
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(
                f"{path.name}: the tokenizers library cannot read it ({error})"
            ) from None
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        decoder = description.get("decoder") or {}
        self._table: list[bytes] | None = None
        if decoder.get("type") == "ByteLevel":
            alphabet = _byte_alphabet()
            added = {t["id"]: t for t in description.get("added_tokens", [])}
            self._table = [b""] * self.vocab_size
            for piece, i in vocabulary.items():
                if i in added:
                    self._table[i] = b"" if added[i].get("special") else piece.encode()
                else:
                    self._table[i] = bytes(alphabet[ch] for ch in piece)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text; nothing is added."""
        # a lone surrogate, as from a terminal in another encoding, is no text to the library
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids: list[int] = self._tokenizer.encode(whole, add_special_tokens=False).ids
        return ids

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens."""
        if self._table is not None:
            table = self._table
            return b"".join(table[t] for t in tokens if t < len(table)).decode("utf-8", "replace")
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

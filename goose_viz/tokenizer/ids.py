"""Token ids as text, for a model whose vocabulary nobody knows."""

from __future__ import annotations

import re
from collections.abc import Iterable

from goose_viz.errors import TokenizerError
from goose_viz.tokenizer.base import StreamDecoder


class _IdsDecoder:
    def push(self, token: int) -> str:
        return f"{token} "

    def flush(self) -> str:
        return ""


class IdsTokenizer:
    """Reads and shows plain ids: ``"17 4 4"`` is three tokens.

    Parameters
    ----------
    vocab_size : int
        Ids run from 0 to vocab_size - 1.
    """

    start_token: int | None = None
    end_token: int | None = None
    name = "token ids"

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def encode(self, text: str) -> list[int]:
        """Ids separated by blanks or commas."""
        words = [word for word in re.split(r"[\s,]+", text) if word]
        for word in words:
            if not word.isdecimal() or int(word) >= self.vocab_size:
                raise TokenizerError(
                    f"{word!r} is no token id: this model's vocabulary is unknown, so a prompt is "
                    f"written in ids from 0 to {self.vocab_size - 1}, or give the model its "
                    "tokenizer.json"
                )
        return [int(word) for word in words]

    def decode(self, tokens: Iterable[int]) -> str:
        """Ids with blanks between."""
        return " ".join(map(str, tokens))

    def stream(self) -> StreamDecoder:
        """A decoder for tokens that arrive one at a time."""
        return _IdsDecoder()

    def label(self, token: int) -> str:
        """One token for people."""
        return str(token)

"""Greedy longest match over bytes: how every vocabulary of RWKV's own is read."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from goose_viz.errors import TokenizerError
from goose_viz.tokenizer import trie
from goose_viz.tokenizer.base import BytesTokenizer, utf8


class GreedyTokenizer(BytesTokenizer):
    """A vocabulary of byte strings; a text is cut into the longest that fit, from the left.

    Parameters
    ----------
    table : list of bytes
        Token id -> its bytes; empty for ids that stand for no text.
    name : str
        What to call it in the window.
    special : mapping of str to int
        Texts that are read as one token, whatever their bytes; longer ones first.
    """

    def __init__(
        self, table: list[bytes], name: str, special: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(table)
        self.name = name
        self._special = dict(special or {})
        ordered = sorted(self._special, key=len, reverse=True)
        self._parts = re.compile("(" + "|".join(map(re.escape, ordered)) + ")") if ordered else None

    @functools.cached_property
    def _trie(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """(keys, children, values) of the table, made when something is first encoded."""
        known = [(i, piece) for i, piece in enumerate(self.table) if piece]
        data = np.frombuffer(b"".join(piece for _, piece in known), np.uint8)
        ends = np.cumsum([len(piece) for _, piece in known], dtype=np.int64)
        ids = np.array([i for i, _ in known], np.int32)
        size = 1 << (2 * max(len(data), 1)).bit_length()  # at most half full
        keys, children = np.full(size, -1, np.int64), np.zeros(size, np.int64)
        values = np.full(len(data) + 1, -1, np.int32)
        nodes = trie.build(data, ends, ids, keys, children, values)
        return keys, children, values[:nodes].copy()

    def encode(self, text: str) -> list[int]:
        """Greedy longest match over the text's UTF-8 bytes.

        Raises
        ------
        TokenizerError
            If the vocabulary has no token for some byte; few lack one.
        """
        if self._parts is None:
            return self.encode_bytes(utf8(text))
        tokens: list[int] = []
        for part in filter(None, self._parts.split(text)):
            if part in self._special:
                tokens.append(self._special[part])
            else:
                tokens += self.encode_bytes(utf8(part))
        return tokens

    def encode_bytes(self, data: bytes) -> list[int]:
        """Greedy longest match over bytes, which need not be UTF-8."""
        raw = np.frombuffer(data, np.uint8)
        out = np.empty(raw.size, np.int32)
        n = trie.longest_match(raw, *self._trie, out)
        if n < 0:
            at = -1 - n
            begin = at
            while begin > 0 and data[begin] & 0xC0 == 0x80:  # inside a character
                begin -= 1
            what = data[begin : begin + 4].decode("utf-8", "ignore")[:1] or "\ufffd"
            raise TokenizerError(
                f"the vocabulary ({self.name}) cannot say {what!r}: it has no token for its byte "
                f"0x{data[at]:02x}; leave that character out, or name the model's own vocabulary "
                "with --tokenizer"
            )
        tokens: list[int] = out[:n].tolist()
        return tokens

"""The RWKV World vocabulary: 65,529 byte strings, greedy longest match."""

from __future__ import annotations

import zlib

import numpy as np

from goose_viz.errors import TokenizerError
from goose_viz.files import assets
from goose_viz.tokenizer import trie
from goose_viz.tokenizer.base import BytesTokenizer

WORLD_ROWS = 65536  # of the embedding; ids 65530 and up stand for nothing
VOCABULARY = "rwkv_vocab_v20230424"


def world_pieces() -> list[bytes]:
    """Token id -> bytes, for ids 0 to 65529; id 0, end of document, is empty.

    The asset is a zlib stream of (length byte, bytes) per id from 1 on; tools/make_world_vocab.py
    writes it.
    """
    path = assets() / "tokenizers" / f"{VOCABULARY}.zlib"
    try:
        packed = zlib.decompress(path.read_bytes())
    except (OSError, zlib.error) as error:
        raise TokenizerError(
            f"the World vocabulary is missing or damaged ({error}); install goose-viz again"
        ) from None
    pieces, at = [b""], 0
    while at < len(packed):
        end = at + 1 + packed[at]
        pieces.append(packed[at + 1 : end])
        at = end
    return pieces


class WorldTokenizer(BytesTokenizer):
    """The World tokenizer; `encode` equals that of the ``rwkv`` package."""

    name = "World"

    def __init__(self) -> None:
        pieces = world_pieces()
        super().__init__(pieces + [b""] * (WORLD_ROWS - len(pieces)))
        known = [(i, piece) for i, piece in enumerate(pieces) if piece]
        data = np.frombuffer(b"".join(piece for _, piece in known), np.uint8)
        ends = np.cumsum([len(piece) for _, piece in known], dtype=np.int64)
        ids = np.array([i for i, _ in known], np.int32)
        size = 1 << (2 * len(data)).bit_length()  # at most half full
        self._keys = np.full(size, -1, np.int64)
        self._children = np.zeros(size, np.int64)
        values = np.full(len(data) + 1, -1, np.int32)
        nodes = trie.build(data, ends, ids, self._keys, self._children, values)
        self._values = values[:nodes].copy()

    def encode(self, text: str) -> list[int]:
        """Greedy longest match over the text's UTF-8 bytes."""
        return self.encode_bytes(text.encode("utf-8", "surrogatepass"))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Greedy longest match over bytes, which need not be UTF-8."""
        raw = np.frombuffer(data, np.uint8)
        out = np.empty(raw.size, np.int32)
        n = trie.longest_match(raw, self._keys, self._children, self._values, out)
        tokens: list[int] = out[:n].tolist()
        return tokens  # never negative: every single byte is a token

"""The RWKV World vocabulary: 65,529 byte strings, greedy longest match."""

from __future__ import annotations

import zlib

from goose_viz.errors import TokenizerError
from goose_viz.files import assets
from goose_viz.tokenizer.greedy import GreedyTokenizer

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


def is_world(table: list[bytes]) -> bool:
    """Whether a vocabulary is World's, whatever it makes of the ids that stand for nothing."""
    pieces = world_pieces()
    return table[1 : len(pieces)] == pieces[1:] and not any(table[len(pieces) :])


class WorldTokenizer(GreedyTokenizer):
    """The World tokenizer; `encode` equals that of the ``rwkv`` package."""

    def __init__(self) -> None:
        pieces = world_pieces()
        super().__init__(pieces + [b""] * (WORLD_ROWS - len(pieces)), "World")

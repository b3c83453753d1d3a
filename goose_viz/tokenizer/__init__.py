"""Which tokenizer belongs to a model."""

from __future__ import annotations

from pathlib import Path

from goose_viz.errors import TokenizerError
from goose_viz.tokenizer.base import StreamDecoder, Tokenizer, byte_tokenizer
from goose_viz.tokenizer.hf import HfTokenizer
from goose_viz.tokenizer.ids import IdsTokenizer
from goose_viz.tokenizer.world import VOCABULARY, WORLD_ROWS, WorldTokenizer

__all__ = [
    "IdsTokenizer",
    "StreamDecoder",
    "Tokenizer",
    "WorldTokenizer",
    "choose_tokenizer",
    "named_tokenizer",
]


def named_tokenizer(name: str, vocab_size: int) -> Tokenizer:
    """A tokenizer by name (``world``, ``bytes``, ``ids``) or by the path of a tokenizer.json."""
    if name in ("world", VOCABULARY):
        if vocab_size < WORLD_ROWS:
            raise TokenizerError(
                f"the World vocabulary has {WORLD_ROWS} tokens, the model {vocab_size}; they do "
                "not belong together"
            )
        return WorldTokenizer()
    if name == "bytes":
        return byte_tokenizer()
    if name == "ids":
        return IdsTokenizer(vocab_size)
    path = Path(name)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.exists():
        raise TokenizerError(
            f"{name}: no such tokenizer; expected world, bytes, ids or the path of a tokenizer.json"
        )
    tokenizer = HfTokenizer(path)
    if tokenizer.vocab_size > vocab_size:
        raise TokenizerError(
            f"{name} knows {tokenizer.vocab_size} tokens, the model {vocab_size}; they do not "
            "belong together"
        )
    return tokenizer


def choose_tokenizer(source: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer of a model: a tokenizer.json beside it, else what its vocabulary size tells.

    65,536 rows are World's, 256 are bytes; any other vocabulary is shown and read as ids.
    """
    folder = source if source.is_dir() else source.parent
    beside = folder / "tokenizer.json"
    if beside.exists():
        tokenizer = HfTokenizer(beside)
        if tokenizer.vocab_size <= vocab_size:
            return tokenizer
        if source.is_dir():
            raise TokenizerError(
                f"{beside.name} knows {tokenizer.vocab_size} tokens, the model {vocab_size}; they "
                "do not belong together"
            )
    if vocab_size == WORLD_ROWS:
        return WorldTokenizer()
    if vocab_size == 256:
        return byte_tokenizer()
    return IdsTokenizer(vocab_size)

"""Which tokenizer belongs to a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goose_viz.errors import TokenizerError
from goose_viz.files import json_object, path_of
from goose_viz.tokenizer.base import StreamDecoder, Tokenizer, byte_tokenizer
from goose_viz.tokenizer.gguf import from_gguf
from goose_viz.tokenizer.greedy import GreedyTokenizer
from goose_viz.tokenizer.hf import HfTokenizer, greedy_of
from goose_viz.tokenizer.ids import IdsTokenizer
from goose_viz.tokenizer.vocabulary import read_json, read_lines
from goose_viz.tokenizer.world import VOCABULARY, WORLD_ROWS, WorldTokenizer, is_world

__all__ = [
    "GreedyTokenizer",
    "IdsTokenizer",
    "StreamDecoder",
    "Tokenizer",
    "WorldTokenizer",
    "choose_tokenizer",
    "named_tokenizer",
    "read_tokenizer",
]

_PILE_ROWS = (50277, 50304)  # GPT-NeoX's vocabulary, and padded to a multiple of 128
_PILE = "20B_tokenizer.json"


def named_tokenizer(name: str, vocab_size: int) -> Tokenizer:
    """A tokenizer by name (``world``, ``bytes``, ``ids``) or by a file's path.

    Raises
    ------
    TokenizerError
        If there is none of that name, the file is no vocabulary, or it knows more tokens than the
        model.
    """
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
    path = path_of(name)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.exists():
        raise TokenizerError(
            f"{name}: no such tokenizer; expected world, bytes, ids or the path of a "
            "tokenizer.json or of a vocabulary in RWKV's form"
        )
    tokenizer = read_tokenizer(path)
    if tokenizer.vocab_size > vocab_size:
        raise TokenizerError(
            f"{name} knows {tokenizer.vocab_size} tokens, the model {vocab_size}; they do not "
            "belong together"
        )
    return tokenizer


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer that a file describes, whichever of the known forms it has.

    Raises
    ------
    TokenizerError
        If it has none of them.
    """
    if path.suffix.lower() == ".txt":
        return read_lines(path)
    content = json_object(path, TokenizerError)
    if content and "model" not in content and all(key.isdecimal() for key in content):
        return read_json(path, content)
    try:
        greedy = greedy_of(content)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise TokenizerError(
            f"{path.name}: its parts do not fit each other ({type(error).__name__}: {error})"
        ) from None
    if greedy is None:
        return HfTokenizer(path)
    table, special = greedy
    return GreedyTokenizer(table, "World" if is_world(table) else "tokenizer.json", special)


def choose_tokenizer(
    source: Path,
    vocab_size: int,
    vocabulary: Mapping[str, Any] | None = None,
    notes: list[str] | None = None,
) -> Tokenizer:
    """The tokenizer of a model: what lies in its file or beside it, else what its size tells.

    65,536 rows are World's, whatever lies beside them; 256 are bytes; any other vocabulary that
    nobody tells is shown and read as ids.

    Parameters
    ----------
    source : Path
        The model's file or folder.
    vocab_size : int
        Rows of its embedding.
    vocabulary : mapping, optional
        What stands inside a GGUF under ``tokenizer.ggml.``.
    notes : list of str, optional
        Gets a sentence for everything that was not as it should be.
    """
    say = notes.append if notes is not None else lambda _: None
    try:
        inside = from_gguf(vocabulary or {}, source.name)
        if inside is not None and inside.vocab_size <= vocab_size:
            return inside
        if inside is not None:
            say(
                f"the vocabulary inside the file is not used: it has {inside.vocab_size} tokens, "
                f"the model {vocab_size}"
            )
    except TokenizerError as error:
        say(f"the vocabulary inside the file is not used: {error}")
    folder = source if source.is_dir() else source.parent
    beside = folder / "tokenizer.json"
    if not beside.exists() and vocab_size in _PILE_ROWS:
        beside = folder / _PILE
    if beside.exists():
        try:
            tokenizer = read_tokenizer(beside)
        except TokenizerError as error:
            say(f"the tokenizer beside the model is not used: {error}")
        else:
            if vocab_size == WORLD_ROWS and tokenizer.name != "World":
                say(
                    f"the {beside.name} beside the model is another vocabulary than World, which "
                    "its 65536 rows are; World is used, --tokenizer overrules"
                )
            elif tokenizer.vocab_size <= vocab_size:
                return tokenizer
            elif source.is_dir():
                raise TokenizerError(
                    f"{beside.name} knows {tokenizer.vocab_size} tokens, the model {vocab_size}; "
                    "they do not belong together"
                )
            else:
                say(
                    f"the {beside.name} beside the model is not used: it knows "
                    f"{tokenizer.vocab_size} tokens, the model {vocab_size}"
                )
    if vocab_size == WORLD_ROWS:
        return WorldTokenizer()
    if vocab_size == 256:
        return byte_tokenizer()
    if vocab_size in _PILE_ROWS:
        say(f"its {vocab_size} rows are those of the Pile models: put {_PILE} beside it")
    return IdsTokenizer(vocab_size)

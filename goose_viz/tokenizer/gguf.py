"""The vocabulary inside a GGUF: RWKV's byte strings, or byte-level BPE as GPT-2 has it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goose_viz.errors import TokenizerError
from goose_viz.tokenizer.base import Tokenizer
from goose_viz.tokenizer.greedy import GreedyTokenizer
from goose_viz.tokenizer.hf import HfTokenizer, special_token
from goose_viz.tokenizer.world import is_world

NORMAL, CONTROL, UNUSED = 1, 3, 5  # gguf.TokenType; no text stands for the latter two
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


def from_gguf(inside: Mapping[str, Any], name: str) -> Tokenizer | None:
    """The tokenizer that stands under ``tokenizer.ggml.``; None if there is none.

    Raises
    ------
    TokenizerError
        If it is of a kind that is not read here, or damaged.
    """
    model, tokens = inside.get("model"), inside.get("tokens")
    if not isinstance(tokens, list) or not tokens or model in (None, "none", "no_vocab"):
        return None
    kinds = inside.get("token_type")
    silent = {
        i
        for i in range(len(tokens))
        if kinds is not None and i < len(kinds) and int(kinds[i]) in (CONTROL, UNUSED)
    }
    if model == "rwkv":
        table = [b"" if i in silent else _unescaped(token) for i, token in enumerate(tokens)]
        for i, token in enumerate(tokens):
            if (i == 0 and token == "<s>") or token == f"[PAD{i}]":
                table[i] = b""
        return GreedyTokenizer(table, "World" if is_world(table) else "GGUF")
    if model == "gpt2":
        return HfTokenizer(Path(name), content=json.dumps(_bpe(tokens, silent, inside)))
    raise TokenizerError(
        f"{name}: its vocabulary is of the kind {model!r}; expected 'rwkv' or 'gpt2'"
    )


def _bpe(tokens: list[str], silent: set[int], inside: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer.json of the same vocabulary."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "added_tokens": [special_token(i, tokens[i]) for i in sorted(silent)],
        "pre_tokenizer": level | {"use_regex": True},
        "decoder": level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in inside.get("merges", [])],
        },
    }


def _unescaped(token: str) -> bytes:
    def meaning(match: re.Match[bytes]) -> bytes:
        what = match[1]
        return bytes([int(what[1:], 16)]) if len(what) == 3 else _LETTERS.get(what, what)

    return _ESCAPE.sub(meaning, token.encode("utf-8", "surrogateescape"))


def escaped(piece: bytes) -> str:
    """A token's bytes as RWKV's GGUF files spell them: as Python would, without the quotes."""
    return repr(piece)[2:-1]

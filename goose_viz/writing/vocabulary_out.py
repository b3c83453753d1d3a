"""Vocabularies on their way out: tokenizer.json, and what stands in a GGUF."""

from __future__ import annotations

import json
from typing import Any

from goose_viz.tokenizer import Tokenizer
from goose_viz.tokenizer.base import BytesTokenizer
from goose_viz.tokenizer.gguf import CONTROL, NORMAL, UNUSED, escaped
from goose_viz.tokenizer.hf import HfTokenizer, byte_alphabet, special_token


def tokenizer_json(tokenizer: Tokenizer) -> str | None:
    """A tokenizer.json of the same vocabulary; None if nobody knows it.

    Byte strings are written as Transformers' RWKV-7 models have World: a WordPiece without a prefix
    over the byte alphabet, ids that mean nothing as U+E000 id U+E001.
    """
    if isinstance(tokenizer, HfTokenizer):
        return tokenizer.content
    if not isinstance(tokenizer, BytesTokenizer):
        return None
    letters = {b: ch for ch, b in byte_alphabet().items()}
    vocab, added = {}, []
    for i, piece in enumerate(tokenizer.table):
        text = "".join(letters[b] for b in piece)
        if i == 0 and not piece:
            text = "<|endoftext|>"
            added.append(special_token(0, text))
        vocab[text or f"\ue000{i}\ue001"] = i
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
             "use_regex": False}  # fmt: skip
    description: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "WordPiece",
            "unk_token": "<|endoftext|>",
            "continuing_subword_prefix": "",
            "max_input_chars_per_word": 2**31,
            "vocab": vocab,
        },
    }
    return json.dumps(description, ensure_ascii=False)


def in_gguf(tokenizer: Tokenizer, vocab_size: int) -> dict[str, Any]:
    """What stands under ``tokenizer.ggml.``: model, tokens, token_type, and merges of a BPE."""
    if isinstance(tokenizer, HfTokenizer):
        content = json.loads(tokenizer.content)
        if content["model"].get("type") == "BPE":
            names = {i: piece for piece, i in content["model"]["vocab"].items()}
            special = {t["id"] for t in content.get("added_tokens", []) if t.get("special")}
            names |= {t["id"]: t["content"] for t in content.get("added_tokens", [])}
            merges = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
            return {
                "model": "gpt2",
                "pre": "gpt-2",
                "tokens": [names.get(i, f"[PAD{i}]") for i in range(vocab_size)],
                "token_type": [
                    CONTROL if i in special else NORMAL if i in names else UNUSED
                    for i in range(vocab_size)
                ],
                "merges": merges,
            }
    if not isinstance(tokenizer, BytesTokenizer):
        return {"model": "no_vocab"}
    table = tokenizer.table + [b""] * (vocab_size - len(tokenizer.table))
    names_ = ["<s>" if i == 0 else f"[PAD{i}]" for i in range(vocab_size)]
    return {
        "model": "rwkv",
        "tokens": [escaped(piece) or names_[i] for i, piece in enumerate(table)],
        "token_type": [
            NORMAL if piece else UNUSED if i else CONTROL for i, piece in enumerate(table)
        ],
    }

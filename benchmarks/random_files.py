"""The same random weights as files that each engine reads, made once, under build/bench."""

from __future__ import annotations

from pathlib import Path

from goose_viz.random_weights import random_weights
from goose_viz.tokenizer import GreedyTokenizer
from goose_viz.writing import write_gguf, write_safetensors

FOLDER = Path("build/bench")
_GGUF = {"F16": "fp16", "Q8_0": "q8_0"}


def safetensors_file(shape: str, dtype: str) -> Path:
    """A checkpoint in BlinkDL's names."""
    path = FOLDER / f"random-{shape}-{dtype}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_safetensors(random_weights(shape, "fp32"), path, dtype, _quietly)
    return path


def pth_file(shape: str) -> Path:
    """A float32 checkpoint as PyTorch saves it."""
    path = FOLDER / f"random-{shape}-fp32.pth"
    if not path.exists():
        import torch
        from safetensors.torch import load_file

        torch.save(load_file(safetensors_file(shape, "fp32")), path)
    return path


def gguf_file(shape: str, kind: str) -> Path:
    """A GGUF file of architecture rwkv7 with ``"F16"``, ``"Q8_0"`` or ``"Q4_K_M"`` matrices."""
    path = FOLDER / f"random-{shape}-{kind}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind not in _GGUF:
            from ggml import write_quantised

            write_quantised(gguf_file(shape, "F16"), path, kind)
            return path
        weights = random_weights(shape, "fp32")
        numbers = [str(i).encode() for i in range(weights.config.vocab_size)]
        write_gguf(weights, GreedyTokenizer(numbers, "ids"), path, _GGUF[kind], _quietly)
    return path


def _quietly(share: float, words: str) -> None:
    """Progress that nobody watches."""

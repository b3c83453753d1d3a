"""Hugging Face folders, in Transformers' own layout and in flash-linear-attention's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from goose_viz.checkpoint.removal_scale import KEY
from goose_viz.checkpoint.tables import flash_linear_attention
from goose_viz.checkpoint.tensor import STORAGE, Tensor
from goose_viz.config import Config
from goose_viz.convert import Progress
from goose_viz.files import write_whole
from goose_viz.tokenizer import Tokenizer
from goose_viz.weights import Weights
from goose_viz.writing.safetensors_out import kind_of, metadata_of, write_tensors
from goose_viz.writing.vocabulary_out import tokenizer_json

#: What stands for a model in a folder: all of it is the new one's, or gone.
MEMBERS = ("model.safetensors", "model.safetensors.index.json", "config.json", "tokenizer.json")
_TORCH = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def write_folder(
    weights: Weights, tokenizer: Tokenizer, out: Path, layout: str, dtype: str, progress: Progress
) -> None:
    """A folder with model.safetensors, config.json and, if it can be written, tokenizer.json.

    Parameters
    ----------
    weights : Weights
    tokenizer : Tokenizer
    out : Path
        Made if it is not there.
    layout : str
        ``"hf"`` or ``"fla"``.
    dtype : str
        ``"auto"``, ``"fp32"``, ``"bf16"`` or ``"fp16"``.
    progress : callable (float, str)
    """
    out.mkdir(parents=True, exist_ok=True)
    tensors = _fla(weights) if layout == "fla" else _transformers(weights)
    said = metadata_of(weights.config)
    write_tensors(tensors, weights.kind, out / "model.safetensors", dtype, progress, said)
    config = _config(weights.config, layout)
    config["dtype"] = _TORCH[weights.kind if dtype == "auto" else dtype]
    write_whole(out / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    words = tokenizer_json(tokenizer)
    if words is not None:
        write_whole(out / "tokenizer.json", words.encode())
    else:
        (out / "tokenizer.json").unlink(missing_ok=True)  # another model's
    (out / "model.safetensors.index.json").unlink(missing_ok=True)  # it would go on being read


def _vector(tensor: Tensor) -> Tensor:
    return tensor.reshaped((1, 1, *tensor.shape))


def _transformers(weights: Weights) -> dict[str, Tensor]:
    """BlinkDL's names behind ``rwkv7.``; the first block has a value mix that nobody reads."""
    out: dict[str, Tensor] = {}
    c = weights.config
    for name, tensor in weights.tensors.items():
        part = name.rpartition(".")[2]
        mixed = len(tensor.shape) == 1 and part not in ("weight", "bias")
        out[name if name == "head.weight" else f"rwkv7.{name}"] = (
            _vector(tensor) if mixed else tensor
        )
    like = weights.tensors["blocks.0.att.a0"]
    kind = kind_of(like, weights.kind)
    for name, shape in (
        ("v0", (1, 1, c.n_embd)), ("v1", (c.n_embd, _rank(c))), ("v2", (_rank(c), c.n_embd))
    ):  # fmt: skip
        out[f"rwkv7.blocks.0.att.{name}"] = Tensor(np.zeros(shape, STORAGE[kind]), kind)
    return out


def _rank(c: Config) -> int:
    """Of the value mix; a model of one layer has none, and files want to hear of one."""
    return c.rank_value or c.rank_iclr


def _fla(weights: Weights) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for theirs, (ours, turned) in flash_linear_attention(weights.config.n_layer).items():
        tensor = weights.tensors[ours]
        mix = ours.rpartition(".")[2].startswith("x_")
        name = theirs if theirs.startswith("lm_head.") else f"model.{theirs}"
        out[name] = tensor.transposed() if turned else _vector(tensor) if mix else tensor
    return out


def _config(c: Config, layout: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "model_type": "rwkv7",
        "architectures": ["RWKV7ForCausalLM" if layout == "fla" else "Rwkv7ForCausalLM"],
        "hidden_size": c.n_embd,
        "num_hidden_layers": c.n_layer,
        "num_heads": c.n_head,
        "head_dim": c.head_size,
        "intermediate_size": c.n_ffn,
        "vocab_size": c.vocab_size,
        "decay_low_rank_dim": c.rank_decay,
        "a_low_rank_dim": c.rank_iclr,
        "v_low_rank_dim": _rank(c),
        "gate_low_rank_dim": c.rank_gate,
        "norm_eps": c.layer_norm_eps,
        "norm_bias": True,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    if layout == "fla":
        said |= {"attn_mode": "chunk", "hidden_act": "sqrelu", "norm_first": True}
        said |= {"fuse_norm": False, "value_dim": [c.n_embd] * c.n_layer}
    if abs(c.group_norm_eps / (c.layer_norm_eps * c.head_size) - 1) > 1e-9:
        said["group_norm_eps"] = c.group_norm_eps  # ours: the layout has no word for it
    if c.removal_scale != 1:
        said[KEY] = c.removal_scale
    return said

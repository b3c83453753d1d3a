"""Files of each layout, made of the small random model, and what it makes of some tokens."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import goose_viz as gv

DATA = Path(__file__).parents[1] / "data"
PTH = DATA / "random-L2-D96-N16.bf16.pth"
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]
#: Heads of 16: Transformers computes the group norm's epsilon as head size x norm_eps.
HF_CONFIG = {
    "model_type": "rwkv7", "architectures": ["Rwkv7ForCausalLM"], "hidden_size": 96,
    "num_hidden_layers": 2, "num_heads": 6, "head_dim": 16, "intermediate_size": 384,
    "vocab_size": 61, "decay_low_rank_dim": 32, "norm_eps": 4e-5, "tie_word_embeddings": False,
}  # fmt: skip


def bits(tensors, kind="fp32"):
    if kind == "bf16":
        return {
            n: ("bf16", (a.view(np.uint32) >> 16).astype(np.uint16)) for n, a in tensors.items()
        }
    if kind == "fp16":
        return {n: ("fp16", a.astype(np.float16)) for n, a in tensors.items()}
    return {
        n: (kind, a.astype({"fp32": np.float32, "fp64": np.float64}[kind]))
        for n, a in tensors.items()
    }


def logits(path, **options):
    model = gv.load_model(path, **options)
    return model.forward(TOKENS, model.new_state())


def to_fla(tensors, stacked=False):
    """The inverse of the reader's names, written out independently of it."""
    out = {
        "model.embeddings.weight": tensors["emb.weight"],
        "lm_head.weight": tensors["head.weight"],
    }
    for part in ("weight", "bias"):
        out[f"model.norm.{part}"] = tensors[f"ln_out.{part}"]
    for i in range(2):
        b, f = f"blocks.{i}.", f"model.layers.{i}."
        pairs = [("ln1", "attn_norm"), ("ln2", "ffn_norm"), ("att.ln_x", "attn.g_norm")]
        pairs += [("ln0", "pre_norm")] if i == 0 else []
        for ours, theirs in pairs:
            for part in ("weight", "bias"):
                out[f"{f}{theirs}.{part}"] = tensors[f"{b}{ours}.{part}"]
        for ours, theirs in (("receptance", "r"), ("key", "k"), ("value", "v"), ("output", "o")):
            out[f"{f}attn.{theirs}_proj.weight"] = tensors[f"{b}att.{ours}.weight"]
        mixes = [tensors[f"{b}att.x_{c}"].reshape(1, 1, 96) for c in "rwkvag"]
        if stacked:
            out[f"{f}attn.x_x"] = np.stack([m.ravel() for m in mixes])
        else:
            out |= {f"{f}attn.x_{c}": m for c, m in zip("rwkvag", mixes, strict=True)}
        for c in "wavg":
            if f"{b}att.{c}1" not in tensors:
                continue
            out[f"{f}attn.{c}_lora.lora.0.weight"] = np.ascontiguousarray(tensors[f"{b}att.{c}1"].T)
            out[f"{f}attn.{c}_lora.lora.2.weight"] = np.ascontiguousarray(tensors[f"{b}att.{c}2"].T)
            if c != "g":
                out[f"{f}attn.{c}_lora.lora.2.bias"] = tensors[f"{b}att.{c}0"].ravel()
        for name in ("k_k", "k_a"):
            out[f"{f}attn.{name}"] = tensors[f"{b}att.{name}"].ravel()
        out[f"{f}attn.r_k"] = tensors[f"{b}att.r_k"]
        out[f"{f}ffn.x_k"] = tensors[f"{b}ffn.x_k"].ravel()
        for name in ("key", "value"):
            out[f"{f}ffn.{name}.weight"] = tensors[f"{b}ffn.{name}.weight"]
    return {k: np.ascontiguousarray(v) for k, v in out.items()}


def write_shards(folder, tensors, n):
    """n safetensors files and the index that joins them."""
    names = list(tensors)
    parts = {f"model-{i}.safetensors": names[i::n] for i in range(n)}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def to_transformers(tensors):
    out = {}
    for name, a in tensors.items():
        vector = a.size == 96 and not name.endswith(("r_k", "weight", "bias"))
        out[name if name == "head.weight" else f"rwkv7.{name}"] = (
            a.reshape(1, 1, 96) if vector else a
        )
    for i in range(3):
        out[f"rwkv7.blocks.0.att.v{i}"] = out[f"rwkv7.blocks.1.att.v{i}"]
    return {n: np.ascontiguousarray(a) for n, a in out.items()}

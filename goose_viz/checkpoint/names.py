"""The dialects of tensor names, and the generations that are not RWKV-7.

Everything behind this file knows one set of names, BlinkDL's: ``blocks.0.att.x_r`` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from goose_viz.checkpoint.tensor import Tensor
from goose_viz.errors import CheckpointError

#: Patterns that all occur among the tensors' names -> what the file is instead.  The first speaks.
_OTHERS: tuple[tuple[tuple[str, ...], str], ...] = (
    ((r"\.lora_[ABab]\b|lora_embedding",), "a LoRA file: merge it into its base model"),
    ((r"^wkv$", r"^att_shift$"), "a state or snapshot that goose-viz wrote, not a model"),
    ((r"time_maa_",), "RWKV-6"),
    ((r"att\.time_faaaa$|att\.gate\.weight$",), "RWKV-5"),
    ((r"att\.time_first$|att\.time_mix_[kvr]$", r"att\.ln_x\.weight$"), "RWKV-5"),
    ((r"att\.time_first$|att\.time_mix_[kvr]$",), "RWKV-4"),
    ((r"rosa",), "RWKV-8 (ROSA)"),
    ((r"ffn\.s_emb",), "RWKV-7a (DeepEmbed)"),
    ((r"blocks\.\d+\.qkv\.",), "RWKV-7b (DeepEmbedAttention)"),
    ((r"time_state$",), "a tuned initial state, not a model: load the model it was tuned for"),
    ((r"self_attn\.|attn\.q_proj|h\.\d+\.attn",), "a transformer or a hybrid with attention"),
)

_FLA_BLOCK = {
    "pre_norm": "ln0",
    "attn_norm": "ln1",
    "ffn_norm": "ln2",
    "attn.g_norm": "att.ln_x",
    "attn.r_proj": "att.receptance",
    "attn.k_proj": "att.key",
    "attn.v_proj": "att.value",
    "attn.o_proj": "att.output",
    "ffn.key": "ffn.key",
    "ffn.value": "ffn.value",
}
_FLA_VECTORS = {
    f"attn.{n}": f"att.{n}" for n in ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "k_k", "k_a", "r_k"]
}
_FLA_VECTORS["ffn.x_k"] = "ffn.x_k"


def refuse_others(names: Iterable[str]) -> None:
    """Raise if the names belong to something that is not RWKV-7, saying what it is."""
    names = list(names)
    for patterns, what in _OTHERS:
        hits = [next((name for name in names if re.search(p, name)), None) for p in patterns]
        if None not in hits:
            raise CheckpointError(
                f"this is {what}, by its tensor {hits[0]}; expected RWKV-7 (x070) weights"
            )
    has_time_mix = any(re.search(r"blocks\.\d+\.att\.w1$|attn\.w_lora", n) for n in names)
    has_gate = any(re.search(r"att\.g1$|attn\.g_lora", n) for n in names)
    if has_time_mix and not has_gate:
        raise CheckpointError(
            "this is a gateless relative of RWKV-7 (ARWKV or a hybrid): it has decay but no "
            "att.g1; expected RWKV-7 (x070) weights"
        )


def is_fla(names: Iterable[str]) -> bool:
    """Whether the names are those of flash-linear-attention / Hugging Face."""
    return any(name.startswith("model.layers.") for name in names)


def from_fla(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename and transpose flash-linear-attention tensors into BlinkDL's."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name == "model.embeddings.weight":
            out["emb.weight"] = tensor
        elif name == "lm_head.weight":
            out["head.weight"] = tensor
        elif name.startswith("model.norm."):
            out["ln_out." + name.removeprefix("model.norm.")] = tensor
        elif match := re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name):
            out |= _fla_layer(f"blocks.{match[1]}.", match[2], tensor)
        else:
            raise CheckpointError(f"the tensor {name} is not part of RWKV-7 in this format")
    out.setdefault("head.weight", out.get("emb.weight", tensor))  # tied embeddings
    return out


def _fla_layer(block: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name in _FLA_VECTORS:
        return {block + _FLA_VECTORS[name]: tensor}
    if name == "attn.x_x":
        rows = tensor.reshaped((6, -1))
        return {
            f"{block}att.x_{c}": Tensor(rows.bits[i], rows.kind) for i, c in enumerate("rwkvag")
        }
    if match := re.fullmatch(r"attn\.([wavg])_lora\.lora\.(0\.weight|2\.weight|2\.bias)", name):
        number = {"0.weight": "1", "2.weight": "2", "2.bias": "0"}[match[2]]
        matrix = tensor if number == "0" else tensor.transposed()
        return {f"{block}att.{match[1]}{number}": matrix}
    stem, _, kind = name.rpartition(".")
    if stem in _FLA_BLOCK and kind in ("weight", "bias"):
        return {f"{block}{_FLA_BLOCK[stem]}.{kind}": tensor}
    raise CheckpointError(f"the tensor {block}{name} is not part of RWKV-7 in this format")

"""The names of RWKV-7's tensors in each layout that people have, one table each for both ways.

A table is layout's name -> (BlinkDL's name, whether the matrix lies transposed), for a model of so
many layers.  Everything behind `checkpoint` knows BlinkDL's names alone: ``blocks.0.att.x_r``.
"""

from __future__ import annotations

from collections.abc import Iterator

Table = dict[str, tuple[str, bool]]

LOW_RANK = tuple(f"{c}{n}" for c in "wavg" for n in "12")
_BOTH = ("weight", "bias")


def flash_linear_attention(n_layer: int) -> Table:
    """flash-linear-attention, behind ``model.`` but for ``lm_head``."""
    table: Table = {
        "embeddings.weight": ("emb.weight", False),
        "lm_head.weight": ("head.weight", False),
    }
    table |= _pairs("norm", "ln_out")
    for i in range(n_layer):
        theirs, ours = f"layers.{i}.", f"blocks.{i}."
        norms = {"attn_norm": "ln1", "ffn_norm": "ln2", "attn.g_norm": "att.ln_x"}
        if i == 0:
            norms["pre_norm"] = "ln0"
        for name, block in norms.items():
            table |= _pairs(theirs + name, ours + block)
        for c, name in zip("rkvo", ("receptance", "key", "value", "output"), strict=True):
            table[f"{theirs}attn.{c}_proj.weight"] = f"{ours}att.{name}.weight", False
        for name in (*(f"x_{c}" for c in "rwkvag"), "k_k", "k_a", "r_k"):
            table[f"{theirs}attn.{name}"] = f"{ours}att.{name}", False
        for name, place in _low_rank(i):
            table[f"{theirs}attn.{name[0]}_lora.lora.{place}"] = (
                f"{ours}att.{name}",
                name in LOW_RANK,
            )
        table[f"{theirs}ffn.x_k"] = f"{ours}ffn.x_k", False
        for name in ("key", "value"):
            table[f"{theirs}ffn.{name}.weight"] = f"{ours}ffn.{name}.weight", False
    return table


def gguf(n_layer: int) -> Table:
    """GGUF of architecture ``rwkv7``, but for `gguf_mixes`."""
    table: Table = {
        "token_embd.weight": ("emb.weight", False),
        "output.weight": ("head.weight", False),
    }
    table |= _pairs("token_embd_norm", "blocks.0.ln0") | _pairs("output_norm", "ln_out")
    for i in range(n_layer):
        theirs, ours = f"blk.{i}.", f"blocks.{i}."
        table |= _pairs(theirs + "attn_norm", ours + "ln1")
        table |= _pairs(theirs + "attn_norm_2", ours + "ln2")
        table |= _pairs(theirs + "time_mix_ln", ours + "att.ln_x")
        for name in ("receptance", "key", "value", "output"):
            table[f"{theirs}time_mix_{name}.weight"] = f"{ours}att.{name}.weight", False
        for name in ("k_k", "k_a", "r_k", *(name for name, _ in _low_rank(1))):  # v in block 0 too
            table[f"{theirs}time_mix_{name}.weight"] = f"{ours}att.{name}", name in LOW_RANK
        table[f"{theirs}channel_mix_lerp_k.weight"] = f"{ours}ffn.x_k", False
        for name in ("key", "value"):
            table[f"{theirs}channel_mix_{name}.weight"] = f"{ours}ffn.{name}.weight", False
    return table


def gguf_mixes(layer: int) -> str:
    """GGUF's one tensor of a block's six mixes."""
    return f"blk.{layer}.time_mix_lerp_fused.weight"


def fla_mixes(layer: int) -> str:
    """What some of flash-linear-attention's files have in their place."""
    return f"layers.{layer}.attn.x_x"


def mixes(layer: int) -> list[str]:
    """BlinkDL's names of a block's six mixes, in the order in which others stack them."""
    return [f"blocks.{layer}.att.x_{c}" for c in "rwkvag"]


def _pairs(theirs: str, ours: str) -> Table:
    return {f"{theirs}.{part}": (f"{ours}.{part}", False) for part in _BOTH}


def _low_rank(layer: int) -> Iterator[tuple[str, str]]:
    """(``w1``, its place in a Sequential of two Linears) and so on; block 0 mixes no value."""
    for c in "wavg" if layer else "wag":
        yield f"{c}1", "0.weight"
        yield f"{c}2", "2.weight"
        if c != "g":
            yield f"{c}0", "2.bias"

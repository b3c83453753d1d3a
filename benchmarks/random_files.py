"""The same random weights as files that each engine reads, made once, under build/bench."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from goose_viz.convert import convert
from goose_viz.random_weights import random_weights

FOLDER = Path("build/bench")
_TYPES = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}


def safetensors_file(shape: str, dtype: str) -> Path:
    """A checkpoint in BlinkDL's names."""
    path = FOLDER / f"random-{shape}-{dtype}.safetensors"
    if not path.exists():
        header, offset, parts = {}, 0, []
        for name, tensor in random_weights(shape, "fp32").tensors.items():
            parts.append(convert(tensor, dtype).tobytes())
            ends = [offset, offset := offset + len(parts[-1])]
            header[name] = {"dtype": _TYPES[dtype], "shape": tensor.shape, "data_offsets": ends}
        head = json.dumps(header).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:  # by hand: the library's NumPy side cannot write bfloat16
            file.write(struct.pack("<Q", len(head)) + head + b"".join(parts))
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
    """A GGUF file of architecture rwkv7 with ``"F16"`` or ``"Q8_0"`` matrices."""
    path = FOLDER / f"random-{shape}-{kind}.gguf"
    if path.exists():
        return path
    import gguf

    weights = random_weights(shape, "fp32")
    c, L = weights.config, weights.config.n_layer
    types = {"F16": gguf.GGMLQuantizationType.F16, "Q8_0": gguf.GGMLQuantizationType.Q8_0}
    writer = gguf.GGUFWriter(path, "rwkv7")
    writer.add_vocab_size(c.vocab_size)
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(c.n_embd)
    writer.add_block_count(L)
    writer.add_layer_norm_eps(c.layer_norm_eps)
    writer.add_wkv_head_size(c.head_size)
    writer.add_decay_lora_rank(c.rank_decay)
    writer.add_iclr_lora_rank(c.rank_iclr)
    writer.add_value_residual_mix_lora_rank(c.rank_value)
    writer.add_gate_lora_rank(c.rank_gate)
    writer.add_feed_forward_length(c.n_ffn)
    writer.add_head_count(0)
    writer.add_file_type(
        gguf.LlamaFileType.MOSTLY_F16 if kind == "F16" else gguf.LlamaFileType.MOSTLY_Q8_0
    )
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list([str(i).encode() for i in range(c.vocab_size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * c.vocab_size)

    def add(name: str, array: np.ndarray, matrix: bool = False) -> None:
        array = np.ascontiguousarray(array, np.float32)
        if not matrix:
            writer.add_tensor(name, array)
            return
        writer.add_tensor(name, gguf.quants.quantize(array, types[kind]), raw_dtype=types[kind])

    def of(name: str) -> Any:
        return weights[name].float32()

    add("token_embd.weight", of("emb.weight"), matrix=True)
    for part in ("weight", "bias"):
        add(f"token_embd_norm.{part}", of(f"blocks.0.ln0.{part}"))
        add(f"output_norm.{part}", of(f"ln_out.{part}"))
    add("output.weight", of("head.weight"), matrix=True)
    for i in range(L):
        att, ffn, block = f"blocks.{i}.att.", f"blocks.{i}.ffn.", f"blk.{i}."
        for ours, theirs in (("ln1", "attn_norm"), ("ln2", "attn_norm_2")):
            for part in ("weight", "bias"):
                add(f"{block}{theirs}.{part}", of(f"blocks.{i}.{ours}.{part}"))
        lerp = np.stack([of(f"{att}x_{x}") for x in "rwkvag"])[:, None, None, :]
        add(f"{block}time_mix_lerp_fused.weight", lerp)
        for x in "wavg":
            # block 0 has no value mix; what stands there is unused and has the shapes of the rate's
            source = "a" if x == "v" and i == 0 else x
            if x != "g":
                add(f"{block}time_mix_{x}0.weight", of(f"{att}{source}0"))
            for half in "12":
                add(f"{block}time_mix_{x}{half}.weight", of(f"{att}{source}{half}").T, matrix=True)
        for name in ("k_k", "k_a", "r_k"):
            add(f"{block}time_mix_{name}.weight", of(f"{att}{name}").ravel())
        for name in ("key", "value", "receptance", "output"):
            add(f"{block}time_mix_{name}.weight", of(f"{att}{name}.weight"), matrix=True)
        for part in ("weight", "bias"):
            add(f"{block}time_mix_ln.{part}", of(f"{att}ln_x.{part}"))
        add(f"{block}channel_mix_lerp_k.weight", of(f"{ffn}x_k")[None, None, :])
        for name in ("key", "value"):
            add(f"{block}channel_mix_{name}.weight", of(f"{ffn}{name}.weight"), matrix=True)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

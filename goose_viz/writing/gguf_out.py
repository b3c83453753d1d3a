"""GGUF of architecture ``rwkv7``, as llama.cpp's own converter writes it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from goose_viz.checkpoint import tables
from goose_viz.checkpoint.gguf_file import PLAIN
from goose_viz.checkpoint.removal_scale import KEY
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.config import Config
from goose_viz.convert import Progress
from goose_viz.files import whole_file
from goose_viz.tokenizer import Tokenizer
from goose_viz.weights import Weights
from goose_viz.writing.safetensors_out import as_kind, kind_of
from goose_viz.writing.vocabulary_out import in_gguf

_TYPES = {"fp64": "F32", "fp32": "F32", "fp16": "F16", "bf16": "BF16"}


def write_gguf(
    weights: Weights, tokenizer: Tokenizer, path: Path, dtype: str, progress: Progress
) -> None:
    """A model with its vocabulary in one file.

    Vectors are float32.  With ``"q8_0"``, blocks of 32 share a scale; the low-rank matrices and
    rows that are no multiple of 32 stay 16-bit floats.

    Parameters
    ----------
    weights : Weights
    tokenizer : Tokenizer
    path : Path
    dtype : str
        Of the matrices: ``"auto"``, ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"q8_0"``.
    progress : callable (float, str)
    """
    import gguf

    c = weights.config
    parts = _parts(weights, dtype)
    with whole_file(path) as file:
        writer = gguf.GGUFWriter(None, "rwkv7")
        _header(writer, c, in_gguf(tokenizer, c.vocab_size), dtype, weights)
        for name, tensor, kind in parts:
            number = gguf.GGMLQuantizationType[kind]
            block, nbytes = gguf.GGML_QUANT_SIZES[number]
            size = math.prod(tensor.shape) // block * nbytes
            writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), size, raw_dtype=number)
        writer.fout = [file]  # type: ignore[list-item, unused-ignore]
        writer.state = gguf.gguf_writer.WriterState.EMPTY
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.write_padding(file, file.tell())
        for i, (name, tensor, kind) in enumerate(parts):
            progress(i / len(parts), f"writing {name}")
            Weights.check_finite(name, tensor)
            data = _stored(tensor, kind)
            file.write(data)
            writer.write_padding(file, len(data))


def _stored(tensor: Tensor, kind: str) -> bytes:
    """A tensor's numbers in one of GGUF's types."""
    if kind in PLAIN:
        return as_kind(tensor, PLAIN[kind])
    import gguf

    blocks = gguf.quants.quantize(tensor.float32(), gguf.GGMLQuantizationType[kind])
    return blocks.tobytes()


def _parts(weights: Weights, dtype: str) -> list[tuple[str, Tensor, str]]:
    """(name, tensor in its shape there, GGUF's type) of every tensor, in order."""
    c = weights.config
    out = []
    for i in range(c.n_layer):
        rows = [weights.tensors[name].float32() for name in tables.mixes(i)]
        out.append((tables.gguf_mixes(i), Tensor(np.stack(rows)[:, None, None], "fp32"), "F32"))
    for name, (ours, turned) in tables.gguf(c.n_layer).items():
        if ours.startswith("blocks.0.att.v") and ours[-2:] in ("v0", "v1", "v2"):
            ours = ours.replace("att.v", "att.a")  # nobody reads it; llama.cpp wants such a shape
        tensor = weights.tensors[ours]
        if len(tensor.shape) == 1 or ours.endswith("att.r_k"):
            one = (1, 1) if ours.endswith("ffn.x_k") else ()
            out.append((name, tensor.reshaped((*one, c.n_embd)), "F32"))
            continue
        tensor = tensor.transposed() if turned else tensor
        kind = _TYPES[kind_of(tensor, weights.kind) if dtype in ("auto", "q8_0") else dtype]
        if dtype == "q8_0":
            low_rank = ours.rpartition(".")[2] in tables.LOW_RANK
            kind = "F16" if low_rank or tensor.shape[-1] % 32 else "Q8_0"
        out.append((name, tensor, kind))
    return out


def _header(
    writer: Any, c: Config, vocabulary: dict[str, Any], dtype: str, weights: Weights
) -> None:
    import gguf

    writer.add_vocab_size(c.vocab_size)
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(c.n_embd)
    writer.add_block_count(c.n_layer)
    writer.add_layer_norm_eps(c.layer_norm_eps)
    writer.add_wkv_head_size(c.head_size)
    writer.add_decay_lora_rank(c.rank_decay)
    writer.add_iclr_lora_rank(c.rank_iclr)
    writer.add_value_residual_mix_lora_rank(c.rank_value or c.rank_iclr)  # one layer has none
    writer.add_gate_lora_rank(c.rank_gate)
    writer.add_feed_forward_length(c.n_ffn)
    writer.add_head_count(0)
    if c.removal_scale != 1:
        writer.add_float32(f"rwkv7.{KEY}", c.removal_scale)
    mostly = {"fp32": "ALL_F32", "fp64": "ALL_F32", "fp16": "MOSTLY_F16", "bf16": "MOSTLY_BF16"}
    kind = weights.kind if dtype == "auto" else dtype
    file_type = gguf.LlamaFileType[mostly.get(kind, "MOSTLY_Q8_0")]
    writer.add_file_type(file_type)
    if dtype == "q8_0":
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_tokenizer_model(vocabulary["model"])
    if "tokens" in vocabulary:
        writer.add_token_list(vocabulary["tokens"])
        writer.add_token_types(vocabulary["token_type"])
    if "merges" in vocabulary:
        writer.add_tokenizer_pre(vocabulary["pre"])
        writer.add_token_merges(vocabulary["merges"])
    if vocabulary["model"] != "no_vocab":
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
        writer.add_add_bos_token(False)

"""GGUF of architecture ``rwkv7``, as llama.cpp's own converter writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.checkpoint import tables
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.config import Config
from goose_viz.convert import Progress
from goose_viz.errors import CheckpointError
from goose_viz.files import whole_file
from goose_viz.tokenizer import Tokenizer
from goose_viz.weights import Weights
from goose_viz.writing.safetensors_out import kind_of
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
        for name, shape, kind, _ in parts:
            number = gguf.GGMLQuantizationType[kind]
            block, nbytes = gguf.GGML_QUANT_SIZES[number]
            size = int(np.prod(shape)) // block * nbytes
            writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=number)
        writer.fout = [file]  # type: ignore[list-item, unused-ignore]
        writer.state = gguf.gguf_writer.WriterState.EMPTY
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        writer.write_padding(file, file.tell())
        for i, (name, _, kind, numbers) in enumerate(parts):
            progress(i / len(parts), f"writing {name}")
            values = numbers()
            if not np.isfinite(values).all():
                raise CheckpointError(f"{name} holds NaN or infinite numbers; nothing was written")
            if kind == "F16":  # what is too large becomes the largest, as in `convert`
                values = values.clip(-65504, 65504)
            data = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind]).tobytes()
            file.write(data)
            writer.write_padding(file, len(data))


Part = tuple[str, tuple[int, ...], str, Callable[[], NDArray[np.float32]]]


def _parts(weights: Weights, dtype: str) -> list[Part]:
    """(name, shape, type, what gives the numbers) of every tensor, in order."""
    c = weights.config
    out: list[Part] = []
    for i in range(c.n_layer):
        name, mixes = tables.fused_mixes(i)
        out.append((name, (6, 1, 1, c.n_embd), "F32", _stacked(weights, mixes)))
    for name, (ours, turned) in tables.gguf(c.n_layer).items():
        if ours.startswith("blocks.0.att.v") and ours[-2:] in ("v0", "v1", "v2"):
            ours = ours.replace("att.v", "att.a")  # nobody reads it; llama.cpp wants such a shape
        tensor = weights.tensors[ours]
        tensor = tensor.transposed() if turned else tensor
        matrix = len(tensor.shape) == 2 and not ours.endswith("att.r_k")
        kind = "F32"
        if matrix:
            kind = _TYPES[kind_of(tensor, weights.kind) if dtype in ("auto", "q8_0") else dtype]
            if dtype == "q8_0":
                low_rank = ours.rpartition(".")[2] in tables.LOW_RANK
                kind = "F16" if low_rank or tensor.shape[-1] % 32 else "Q8_0"
        shape = tensor.shape if matrix else (int(np.prod(tensor.shape)),)
        if ours.endswith("ffn.x_k"):
            shape = (1, 1, *shape)
        out.append((name, shape, kind, _numbers(tensor, shape)))
    return out


def _numbers(tensor: Tensor, shape: tuple[int, ...]) -> Callable[[], NDArray[np.float32]]:
    return lambda: tensor.float32().reshape(shape)


def _stacked(weights: Weights, names: list[str]) -> Callable[[], NDArray[np.float32]]:
    def made() -> NDArray[np.float32]:
        rows = [weights.tensors[name].float32().ravel() for name in names]
        return np.stack(rows)[:, None, None, :]

    return made


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
    writer.add_value_residual_mix_lora_rank(c.rank_value or c.rank_iclr)
    writer.add_gate_lora_rank(c.rank_gate)
    writer.add_feed_forward_length(c.n_ffn)
    writer.add_head_count(0)
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

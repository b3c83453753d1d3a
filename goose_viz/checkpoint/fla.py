"""A flash-linear-attention / Hugging Face folder: config.json beside one or more safetensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from goose_viz.checkpoint import safetensors_file
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.errors import CheckpointError

_INDEX = "model.safetensors.index.json"

#: Config attribute -> the keys under which the dialects of config.json name it.
_KEYS = {
    "n_embd": ("hidden_size",),
    "n_layer": ("num_hidden_layers",),
    "head_size": ("head_dim", "head_size"),
    "n_ffn": ("intermediate_size",),
    "vocab_size": ("vocab_size",),
    "rank_decay": ("decay_low_rank_dim", "lora_rank_decay"),
    "rank_iclr": ("a_low_rank_dim", "lora_rank_iclr"),
    "rank_value": ("v_low_rank_dim", "lora_rank_value_residual_mix"),
    "rank_gate": ("gate_low_rank_dim", "lora_rank_gate"),
    "layer_norm_eps": ("norm_eps", "layer_norm_epsilon"),
}


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the folder's model, sharded or not, under the names in the files."""
    index = folder / _INDEX
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{index.name}: no weight_map inside; download the folder again")
        shards = sorted(set(weight_map.values()))
    else:
        shards = sorted(p.name for p in folder.glob("*.safetensors"))
        if len(shards) != 1:
            raise CheckpointError(
                f"{folder}: {len(shards)} .safetensors files and no {_INDEX}; "
                "expected one file, or the index that joins several"
            )
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        path = folder / Path(shard).name
        if not path.exists():
            raise CheckpointError(
                f"{folder.name}: the index names {shard}, which is missing; download it too"
            )
        tensors |= safetensors_file.read(path)[0]
    return tensors


def is_shard(path: Path) -> bool:
    """Whether a file is one of several that an index beside it joins."""
    index = path.parent / _INDEX
    return index.exists() and path.name in str(read_json(index).get("weight_map"))


def claims(config: dict[str, Any]) -> dict[str, float]:
    """What config.json says of the sizes, under our names; silent keys are left out."""
    found = {}
    for attribute, keys in _KEYS.items():
        value = next((config[k] for k in keys if isinstance(config.get(k), int | float)), None)
        if value is not None:
            found[attribute] = value
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file, or a CheckpointError that names the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name}: not readable as JSON ({error})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name}: holds a {type(content).__name__}, expected an object")
    return content

"""A model's folder: config.json beside one or more files, or Hugging Face's cache around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from goose_viz.checkpoint.removal_scale import KEY, removal_scale
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.errors import CheckpointError
from goose_viz.files import json_object

#: Names that libraries give a model in one file; with INDEX behind them, to what joins several.
_WHOLE = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"

#: Endings of the files that a model may be, whatever their case.
ENDINGS = (".pth", ".pt", ".safetensors", ".st", ".gguf")

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
    "group_norm_eps": ("group_norm_eps",),  # ours: the layouts compute it
    KEY: (KEY,),  # ours: no layout has a word for it
}


def model_file(folder: Path) -> Path:
    """The file that a folder's model lies in; the index if it is in several.

    Raises
    ------
    CheckpointError
        If there is none, or there are several and nothing says which.
    """
    for name in _WHOLE:
        whole, index = folder / name, folder / f"{name}{INDEX}"
        if index.exists() and not (whole.exists() and _missing(index)):
            return index
        if whole.exists():
            return whole
        refuse_dangling(whole)
    found = sorted(p for p in folder.iterdir() if is_model_file(p))
    if len(found) == 1:
        return found[0]
    names = ", ".join(p.name for p in found) or "no model file"
    raise CheckpointError(
        f"{folder}: found {names}; expected one .pth, .safetensors, .st or .gguf, a {_WHOLE[0]}, "
        f"or several with the {_WHOLE[0]}{INDEX} that joins them"
    )


def is_model_file(path: Path) -> bool:
    """Whether it is there and named as a model is."""
    named = path.suffix.lower() in ENDINGS or path.name in _WHOLE
    return named and path.is_file()


def refuse_dangling(path: Path) -> None:
    """Raise if it is a link to what is not there, as a cache that was cleared leaves it."""
    if path.is_symlink() and not path.exists():
        raise CheckpointError(
            f"{path}: a link to a file that is gone ({path.readlink()}); download it again"
        )


def newest_snapshot(folder: Path) -> Path | None:
    """The snapshot to open of a ``models--x--y`` folder: refs/main's, else the newest; or None."""
    if not (folder / "snapshots").is_dir():
        return None
    holds_a_model = [
        p for p in (folder / "snapshots").iterdir()
        if p.is_dir() and any(map(is_model_file, p.iterdir()))
    ]  # fmt: skip
    if not holds_a_model:
        raise CheckpointError(
            f"{folder.name}: none of its snapshots holds a model file; download it again"
        )
    main = folder / "refs" / "main"  # the one that every tool of Hugging Face's opens
    if main.is_file():
        wanted = folder / "snapshots" / main.read_text(errors="replace").strip()
        if wanted in holds_a_model:
            return wanted
    return max(holds_a_model, key=lambda p: p.stat().st_mtime_ns)


def read_shards(index: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """All tensors of the files that an index joins, under the names in the files."""
    place = _places(index)
    if gone := _missing(index):
        raise CheckpointError(
            f"{index.parent.name}: the index names {gone[0]}, which is missing; download it too"
        )
    tensors: dict[str, Tensor] = {}
    for shard in sorted(set(place.values())):
        held = read(index.parent / shard)
        tensors |= {n: t for n, t in held.items() if place.get(n, shard) == shard}  # may overlap
    return tensors


def index_of(file: Path) -> Path | None:
    """The index that a file is one of several of; None if it stands for itself."""
    for name in _WHOLE:
        index = file.parent / f"{name}{INDEX}"
        if index.exists() and file.name in _places(index).values():
            return index
    return None


def shards(index: Path) -> list[Path]:
    """The files that an index joins, whether they are there or not."""
    return [index.parent / shard for shard in sorted(set(_places(index).values()))]


def _places(index: Path) -> dict[str, str]:
    """Tensor -> name of the file that it lies in."""
    weight_map = json_object(index, CheckpointError).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index.name}: no weight_map inside; download the folder again")
    for shard in weight_map.values():
        path = PurePosixPath(str(shard))
        if path.is_absolute() or ".." in path.parts:
            raise CheckpointError(f"{index.name}: names {shard}, which is outside of its folder")
    return {name: str(shard) for name, shard in weight_map.items()}


def _missing(index: Path) -> list[str]:
    return [str(p.relative_to(index.parent)) for p in shards(index) if not p.exists()]


def claims(config: dict[str, Any]) -> dict[str, float]:
    """What config.json says of the sizes, under our names; silent keys are left out."""
    found: dict[str, float] = {}
    for attribute, keys in _KEYS.items():
        key = next((k for k in keys if config.get(k) is not None), None)
        if key is None:
            continue
        value = config[key]
        if key == KEY:
            found[attribute] = removal_scale(value, "config.json")
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e12:
            raise CheckpointError(
                f"config.json says {key} {value!r}; expected a number above 0, as the model's"
            )
        found[attribute] = value
    return found

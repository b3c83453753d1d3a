"""From a path to named tensors: which format is it, and is it RWKV-7 at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from goose_viz.checkpoint import folder, gguf_file, names, pth, safetensors_file
from goose_viz.checkpoint.removal_scale import KEY, removal_scale
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.errors import CheckpointError
from goose_viz.files import json_object

#: What each source format is, in words.
FORMATS = {
    "pth": ".pth, as PyTorch saves it",
    "safetensors": "safetensors in BlinkDL's names",
    "hf": "Hugging Face Transformers' layout",
    "fla": "flash-linear-attention's layout",
    "gguf": "GGUF",
    "web-rwkv": "safetensors as web-rwkv and Ai00 have them",
    "random": "random weights",
}


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under BlinkDL's names, as they lie in the file.

    Attributes
    ----------
    tensors : dict of str to Tensor
    source_format : str
        One of `FORMATS`.
    claims : dict of str to float
        What a config.json beside the weights, or the file's header, says of the sizes; the shapes
        must agree.  And of what no shape tells.
    claimed_by : str
        Who says so.
    kind : str or None
        The float type to compute with that suits quantised matrices; None for others.
    stored : str
        How the file keeps its matrices, where its format leaves that open.
    notes : tuple of str
        What was not as it should be, and what was made of it.
    vocabulary : dict
        The vocabulary inside a GGUF, as it lies there; empty for other files.
    """

    tensors: dict[str, Tensor]
    source_format: str
    claims: dict[str, float] = field(default_factory=dict)
    claimed_by: str = "config.json"
    kind: str | None = None
    stored: str = ""
    notes: tuple[str, ...] = ()
    vocabulary: dict[str, Any] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a ``.pth``, ``.safetensors`` or ``.gguf`` file, or a folder that holds a model.

    Raises
    ------
    CheckpointError
        If there is no such file, the file is damaged, or it is not RWKV-7; the message says which.
    """
    return read_file(resolve(path))


def read_file(path: Path) -> Checkpoint:
    """Read what `resolve` found."""
    if path.name.endswith(folder.INDEX):
        source = "pth" if path.name.startswith("pytorch_model") else "safetensors"
        said: list[dict[str, float]] = []

        def shard(file: Path) -> dict[str, Tensor]:
            held, more = named_tensors(file)
            said.append(more)
            return held

        tensors = folder.read_shards(path, shard)
        if any(more != said[0] for more in said):
            raise CheckpointError(
                f"{path.name}: the files that it joins do not say the same {KEY}; they belong to "
                "several models"
            )
        return _canonical(path, tensors, said[0] if said else {}, source)
    kind = _sniff(path)
    if kind == "gguf":
        return _from_gguf(path)
    return _canonical(path, *named_tensors(path), "pth" if kind == "zip" else "safetensors")


def named_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """What a .pth or .safetensors holds, under the names in the file, and what it claims."""
    if _sniff(path) == "zip":
        return pth.read(path), {}
    tensors, metadata = safetensors_file.read(path)
    if KEY not in metadata:
        return tensors, {}
    return tensors, {KEY: removal_scale(metadata[KEY], f"{path.name}: its metadata")}


def resolve(path: Path) -> Path:
    """The file that a path stands for: a folder's model, a shard's index.

    Raises
    ------
    CheckpointError
        If there is no such file, or a folder that does not say which of its files is the model.
    """
    if path.is_dir():
        path = folder.newest_snapshot(path) or path
        return folder.model_file(path)
    folder.refuse_dangling(path)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such file or folder")
    return folder.index_of(path) or path


def _canonical(
    path: Path, tensors: dict[str, Tensor], inside: dict[str, float], source: str
) -> Checkpoint:
    """A file's tensors under BlinkDL's names, and what it and the config.json beside it say."""
    if not tensors:
        raise CheckpointError(f"{path.name}: holds no float tensors; expected RWKV-7 weights")
    if all(name.endswith("att.time_state") for name in tensors):
        raise CheckpointError(
            f"{path.name}: holds an initial state, no model; expected RWKV-7 weights: open those, "
            "and give this with --state"
        )
    config = path.parent / "config.json"
    stored, notes = "", list[str]()
    try:
        names.refuse_others(tensors)
        tensors, prefix = names.unwrapped(tensors)
        tensors = names.without_bookkeeping(tensors)
        if names.is_fla(tensors):
            tensors, source = names.from_fla(tensors), "fla"
        elif "rwkv7" in prefix.split("."):
            source = "hf"
        else:
            tensors, stored, doubt = names.turn_low_rank(tensors, path.suffix.lower())
            source = "web-rwkv" if stored else source
            notes += [doubt] if doubt else []
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from None
    says = (
        json_object(config, CheckpointError) if source in ("fla", "hf") and config.exists() else {}
    )
    if source == "hf":
        tensors = _as_configured(tensors, says)
    claims = folder.claims(says)
    for key, value in inside.items():
        if claims.setdefault(key, value) != value:
            raise CheckpointError(
                f"config.json says {key} {claims[key]:g}, {path.name} says {value:g}; one of the "
                "two belongs to another model"
            )
    return Checkpoint(tensors, source, claims, stored=stored, notes=tuple(notes))


def _as_configured(tensors: dict[str, Tensor], config: dict[str, object]) -> dict[str, Tensor]:
    """What Transformers leaves out of a file: a tied head, norms' biases that are zero."""
    out = dict(tensors)
    if config.get("tie_word_embeddings") and "emb.weight" in out:
        out.setdefault("head.weight", out["emb.weight"])
    if config.get("norm_bias") is False:
        for name, tensor in tensors.items():
            if name.endswith(".weight") and len([n for n in tensor.shape if n != 1]) == 1:
                bias = Tensor(np.zeros_like(tensor.bits), tensor.kind)
                out.setdefault(f"{name.removesuffix('.weight')}.bias", bias)
    return out


def _from_gguf(path: Path) -> Checkpoint:
    file = gguf_file.read(path)
    quantised = any(tensor.quantised for tensor in file.tensors.values())
    return Checkpoint(
        file.tensors,
        "gguf",
        file.claims,
        claimed_by="its header",
        kind="fp16" if quantised else None,
        stored=f"matrices stored as {', '.join(file.types)}",
        vocabulary=file.vocabulary,
    )


def _sniff(path: Path) -> str:
    """``"zip"``, ``"gguf"`` or ``"safetensors"`` by the first bytes; names may lie."""
    with path.open("rb") as file:
        head = file.read(256)
    if not head:
        raise CheckpointError(f"{path.name}: the file is empty; download it again")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path.name}: a Git LFS pointer, not the model it stands for; fetch it with "
            "`git lfs pull`"
        )
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(
            f"{path.name}: a web page saved under a model's name, often a login or error page; "
            "download the file itself"
        )
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"GGUF"):
        return "gguf"
    if len(head) > 8 and head[8:9] == b"{":
        return "safetensors"
    ending = path.suffix.lower()
    if ending in (".safetensors", ".st"):
        raise CheckpointError(
            f"{path.name}: does not begin like a safetensors file; it may be truncated, download "
            "it again"
        )
    if ending == ".gguf":
        raise CheckpointError(
            f"{path.name}: does not begin like a GGUF file; it may be truncated, download it again"
        )
    if ending in (".pth", ".pt", ".bin"):
        raise CheckpointError(
            f"{path.name}: does not begin like a zip archive, as PyTorch writes them since 1.6; if "
            "it was downloaded, download it again; if it is older, save it again with torch.save"
        )
    raise CheckpointError(
        f"{path.name}: neither a .pth nor a .safetensors nor a .gguf file; expected an RWKV-7 model"
    )

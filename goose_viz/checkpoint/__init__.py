"""From a path to named tensors: which format is it, and is it RWKV-7 at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from goose_viz.checkpoint import fla, names, pth, safetensors_file
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.errors import CheckpointError


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under BlinkDL's names, as they lie in the file.

    Attributes
    ----------
    tensors : dict of str to Tensor
    source_format : str
        ``"pth"``, ``"safetensors"`` or ``"fla"``.
    claims : dict of str to float
        What a config.json beside the weights says of the sizes; the shapes must agree.
    """

    tensors: dict[str, Tensor]
    source_format: str
    claims: dict[str, float] = field(default_factory=dict)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a ``.pth`` or ``.safetensors`` file, or a folder that holds a model.

    Raises
    ------
    CheckpointError
        If there is no such file, the file is damaged, or it is not RWKV-7; the message says which.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such file or folder")
    kind = _sniff(path)
    if kind == "zip":
        return _canonical(path, pth.read(path), "pth")
    tensors = safetensors_file.read(path)[0]
    if names.is_fla(tensors):  # the folder around it knows its other shards and its epsilon
        config = path.parent / "config.json"
        if fla.is_shard(path):
            return _read_folder(path.parent)
        claims = fla.claims(fla.read_json(config)) if config.exists() else {}
        return _canonical(path, tensors, "safetensors", claims)
    return _canonical(path, tensors, "safetensors")


def _read_folder(path: Path) -> Checkpoint:
    config = path / "config.json"
    if config.exists() and any(path.glob("*.safetensors")):
        claims = fla.claims(fla.read_json(config))
        return _canonical(path, fla.read_tensors(path), "safetensors", claims)
    candidates = sorted(p for p in path.iterdir() if p.suffix in (".pth", ".safetensors"))
    if len(candidates) == 1:
        return read_checkpoint(candidates[0])
    found = "no model file" if not candidates else ", ".join(p.name for p in candidates)
    raise CheckpointError(
        f"{path}: found {found}; expected one .pth or .safetensors, or a Hugging Face folder with "
        "config.json"
    )


def _canonical(
    path: Path, tensors: dict[str, Tensor], source: str, claims: dict[str, float] | None = None
) -> Checkpoint:
    if not tensors:
        raise CheckpointError(f"{path.name}: holds no float tensors; expected RWKV-7 weights")
    try:
        names.refuse_others(tensors)
        if names.is_fla(tensors):
            tensors, source = names.from_fla(tensors), "fla"
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from None
    return Checkpoint(tensors, source, claims or {})


def _sniff(path: Path) -> str:
    """``"zip"`` or ``"safetensors"`` by the first bytes, whatever the file is called."""
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
        raise CheckpointError(
            f"{path.name}: a GGUF file, which this version does not read; use the .pth or "
            ".safetensors of the same model"
        )
    if len(head) > 8 and head[8:9] == b"{":
        return "safetensors"
    if path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path.name}: does not begin like a safetensors file; it may be truncated, download "
            "it again"
        )
    if path.suffix in (".pth", ".pt"):
        raise CheckpointError(
            f"{path.name}: does not begin like a zip archive, as PyTorch writes them since 1.6; if "
            "it was downloaded, download it again; if it is older, save it again with torch.save"
        )
    raise CheckpointError(
        f"{path.name}: neither a .pth nor a .safetensors file; expected an RWKV-7 model"
    )

"""Models on their way out: the same tensors under the names of another layout."""

from __future__ import annotations

import math
from pathlib import Path

from goose_viz.config import GROUP_NORM_EPS, LAYER_NORM_EPS, Config
from goose_viz.convert import Progress
from goose_viz.errors import GooseError
from goose_viz.model import open_model
from goose_viz.writing.folders import MEMBERS, write_folder
from goose_viz.writing.gguf_out import write_gguf
from goose_viz.writing.safetensors_out import write_safetensors

__all__ = ["LAYOUTS", "write_folder", "write_gguf", "write_model", "write_safetensors"]

#: Layout -> the types that it can be written in, the first being each tensor's own.
LAYOUTS = {
    "safetensors": ("auto", "fp32", "bf16", "fp16"),
    "hf": ("auto", "fp32", "bf16", "fp16"),
    "fla": ("auto", "fp32", "bf16", "fp16"),
    "gguf": ("auto", "fp32", "bf16", "fp16", "q8_0"),
}


def write_model(
    source: str,
    out: Path,
    layout: str | None,
    dtype: str,
    tokenizer: str | None,
    force: bool,
    progress: Progress,
) -> str:
    """Read a model and write it in another layout; a sentence that says what was written.

    Parameters
    ----------
    source : str
        What `load_model` takes.
    out : Path
        A ``.safetensors`` or ``.gguf`` file; a folder for ``"hf"`` and ``"fla"``.
    layout : str or None
        One of `LAYOUTS`; by the ending of ``out`` when None.
    dtype : str
        One of the layout's types; ``"auto"`` keeps each tensor's own.
    tokenizer : str or None
        As in `load_model`.
    force : bool
        Whether to write over what is there.
    progress : callable (float, str)

    Raises
    ------
    GooseError
        If the model cannot be read, or the layout cannot say what it is.
    OSError
        If the file cannot be written; what was there is untouched then.
    """
    if layout is None:
        layout = {".gguf": "gguf", ".safetensors": "safetensors"}.get(out.suffix.lower())
        if layout is None:
            raise GooseError(
                f"{out}: which layout?  A name that ends in .safetensors or .gguf says it; for a "
                "folder add --to hf or --to fla"
            )
    if layout not in LAYOUTS:
        raise GooseError(f"there is no layout {layout!r}; expected one of {', '.join(LAYOUTS)}")
    if dtype not in LAYOUTS[layout]:
        raise GooseError(
            f"{layout} is not written as {dtype!r}; expected one of {', '.join(LAYOUTS[layout])}"
        )
    in_folder = layout in ("hf", "fla")
    into = out / "model.safetensors" if in_folder else out
    for there in [out / name for name in MEMBERS] if in_folder else [out]:
        if (there.exists() or there.is_symlink()) and not force:
            raise GooseError(f"{there} is there already; choose another name, or add --force")
    if not in_folder and not out.parent.is_dir():
        raise GooseError(f"{out.parent}: there is no such folder to write {out.name} into")
    opened = open_model(source, tokenizer, progress)
    weights = opened.weights
    note = _told(weights.config, layout) + _alone(weights.config)
    if layout == "gguf":
        write_gguf(weights, opened.tokenizer, out, dtype, progress)
    elif layout == "safetensors":
        write_safetensors(weights, out, dtype, progress)
    else:
        write_folder(weights, opened.tokenizer, out, layout, dtype, progress)
    if dtype == "auto" and any(tensor.quantised for tensor in weights.tensors.values()):
        note += f"; its quantised blocks were widened to {weights.kind}, which rounds them"
    size = into.stat().st_size / 1e6
    return f"{out}: {weights.config.shape}, {layout}, {size:.1f} MB{note}"


def _alone(config: Config) -> str:
    """What no other program reads."""
    if config.removal_scale == 1:
        return ""
    return (
        f"; note: other programs do not know its removal_scale {config.removal_scale:g} and "
        "compute with 1, as released models have it: what they write differs"
    )


def _told(config: Config, layout: str) -> str:
    """What readers of a layout take the epsilons to be, if that is not what they are."""
    layer, group = config.layer_norm_eps, config.group_norm_eps
    if layout in ("hf", "fla"):
        theirs = layer, layer * config.head_size
    else:
        theirs = (layer if layout == "gguf" else LAYER_NORM_EPS), GROUP_NORM_EPS
    if math.isclose(layer, theirs[0]) and math.isclose(group, theirs[1]):
        return ""
    if layout in ("hf", "fla"):
        return (
            f"; note: other programs compute the group norm's epsilon from its config.json as "
            f"{theirs[1]:g}, this model's is {group:g} (kept there as group_norm_eps)"
        )
    raise GooseError(
        f"{layout} has RWKV-7's epsilons {theirs[0]:g} and {theirs[1]:g} by definition; this model "
        f"has {layer:g} and {group:g}, so write it as hf or fla"
    )

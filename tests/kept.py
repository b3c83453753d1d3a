"""The oracle of a model in another weight type: the numbers it keeps, in float64 arithmetic."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

import goose_viz as gv
from goose_viz.checkpoint import read_checkpoint
from goose_viz.convert import as_kept
from goose_viz.weights import check_weights


def reference_of(path: Path, dtype: str, folder: Path) -> gv.Model:
    """The reference engine with what is left of a checkpoint's weights in a type."""
    weights = check_weights(read_checkpoint(path), path)
    tensors, scale = weights.tensors, weights.config.removal_scale
    kept = {n: np.ascontiguousarray(as_kept(t, n, dtype)) for n, t in tensors.items()}
    save_file(kept, folder / "kept.safetensors", metadata={"removal_scale": str(scale)})
    return gv.load_model(folder / "kept.safetensors", device="reference")

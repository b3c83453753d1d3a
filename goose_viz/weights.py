"""Named tensors, checked: every shape against every other, and every number when it is read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

from goose_viz.checkpoint import Checkpoint
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.config import LAYER_NORM_EPS, Config
from goose_viz.errors import CheckpointError


@dataclass(frozen=True)
class Weights:
    """A model's tensors under BlinkDL's names, each in its one canonical shape.

    Numbers are looked at when a tensor is asked for by ``weights[name]``: a file is read once.

    Attributes
    ----------
    config : Config
    tensors : dict of str to Tensor
        Vectors are (D,), r_k is (H, N), low-rank pairs (D, rank) and (rank, D), big matrices
        (out, in).
    kind : str
        How the file keeps its big matrices: ``"fp32"``, ``"bf16"``, ``"fp16"`` or ``"fp64"``.
    source : Path
        The file that they are read from; the index of several.
    stored : str
        How the file keeps its matrices, where its format leaves that open.
    notes : tuple of str
        What was not as it should be, and what was made of it.
    """

    config: Config
    tensors: dict[str, Tensor]
    kind: str
    source: Path
    stored: str = ""
    notes: tuple[str, ...] = ()

    @property
    def default_dtype(self) -> str:
        """What ``dtype="auto"`` computes with: the file's own type, but for fp64."""
        return "fp32" if self.kind == "fp64" else self.kind

    @property
    def n_parameters(self) -> int:
        """Numbers in all tensors."""
        return sum(math.prod(t.shape) for t in self.tensors.values())

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.tensors[name]
        self.check_finite(name, tensor)
        return tensor

    @staticmethod
    def check_finite(name: str, tensor: Tensor) -> None:
        """Look at every number of a tensor, or of a piece of it.

        Raises
        ------
        CheckpointError
            If one is NaN or infinite.
        """
        if not tensor.all_finite():
            raise CheckpointError(
                f"{name} holds NaN or infinite numbers; the file is damaged or its training had "
                "diverged"
            )


def expected_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that a model of this shape has."""
    D, F, V = config.n_embd, config.n_ffn, config.vocab_size
    shapes: dict[str, tuple[int, ...]] = {"emb.weight": (V, D), "head.weight": (V, D)}
    for name in ("blocks.0.ln0", "ln_out"):
        shapes |= {f"{name}.weight": (D,), f"{name}.bias": (D,)}
    ranks = {
        "w": config.rank_decay,
        "a": config.rank_iclr,
        "v": config.rank_value,
        "g": config.rank_gate,
    }
    for i in range(config.n_layer):
        block = f"blocks.{i}."
        for norm in ("ln1", "ln2", "att.ln_x"):
            shapes |= {f"{block}{norm}.weight": (D,), f"{block}{norm}.bias": (D,)}
        for c in "rwkvag":
            shapes[f"{block}att.x_{c}"] = (D,)
        for c, rank in ranks.items():
            if c == "v" and i == 0:
                continue
            if c != "g":
                shapes[f"{block}att.{c}0"] = (D,)
            shapes[f"{block}att.{c}1"] = (D, rank)
            shapes[f"{block}att.{c}2"] = (rank, D)
        shapes |= {f"{block}att.k_k": (D,), f"{block}att.k_a": (D,)}
        shapes[f"{block}att.r_k"] = (config.n_head, config.head_size)
        for matrix in ("receptance", "key", "value", "output"):
            shapes[f"{block}att.{matrix}.weight"] = (D, D)
        shapes[f"{block}ffn.x_k"] = (D,)
        shapes[f"{block}ffn.key.weight"] = (F, D)
        shapes[f"{block}ffn.value.weight"] = (D, F)
    return shapes


def check_weights(checkpoint: Checkpoint, source: Path) -> Weights:
    """Infer the sizes from the shapes and hold every tensor against them.

    Raises
    ------
    CheckpointError
        If a tensor is missing, unknown, or of a shape that contradicts the others or the
        config.json.
    """
    tensors, strays = _without_strays(checkpoint.tensors)
    tensors = _heads(tensors, checkpoint.claims)
    config = _infer(checkpoint, tensors)
    shapes = expected_shapes(config)
    canonical = {}
    for name, shape in shapes.items():
        tensor = _need(tensors, name)
        if tuple(n for n in tensor.shape if n != 1) != tuple(n for n in shape if n != 1):
            raise CheckpointError(
                f"{name} has the shape {_show(tensor.shape)}; the other tensors make this "
                f"{config.shape}, which needs {_show(shape)}"
            )
        canonical[name] = tensor.reshaped(shape)
    unused = re.compile(r"blocks\.0\.att\.v[012]")  # block 0 may carry them; nothing reads them
    for name in tensors:
        if name not in shapes and not unused.fullmatch(name):
            raise CheckpointError(
                f"the tensor {name} is not part of RWKV-7 (x070); expected {len(shapes)} tensors "
                "from emb.weight to head.weight and no others"
            )
    kind = checkpoint.kind or tensors["blocks.0.att.receptance.weight"].kind
    return Weights(config, canonical, kind, source, checkpoint.stored, (*checkpoint.notes, *strays))


def _without_strays(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors without those of fragments behind the last block, and a note of these.

    Merged adapters leave a few tensors under a block's number that the model does not have.  Where
    most of a block is there, it is the rest that is missing.
    """
    blocks: dict[int, set[str]] = {}
    for name in tensors:
        if m := re.match(r"blocks\.(\d+)\.(.+)", name):
            blocks.setdefault(int(m[1]), set()).add(m[2])
    matrices = {"att.receptance.weight", "att.output.weight", "ffn.key.weight", "ffn.value.weight"}
    fragments = {
        i
        for i, names in blocks.items()
        if i > 0 and not names & matrices and 2 * len(names) < len(blocks.get(0, ()))
    }
    real = max(blocks.keys() - fragments, default=-1) + 1
    strays = {i for i in fragments if i >= real}
    if not strays:
        return tensors, ()
    whole = {
        name: tensor
        for name, tensor in tensors.items()
        if not (m := re.match(r"blocks\.(\d+)\.", name)) or int(m[1]) not in strays
    }
    words = (
        f"{len(tensors) - len(whole)} stray tensors under blocks.{min(strays)} are left out: the "
        f"model has {real} blocks"
    )
    return whole, (words,)


def _heads(tensors: dict[str, Tensor], claims: dict[str, float]) -> dict[str, Tensor]:
    """The tensors with r_k as (H, N): some layouts keep it flat and tell the head size apart."""
    size = int(claims.get("head_size", 0))
    changed = {}
    for name, tensor in tensors.items():
        if name.endswith("att.r_k"):
            while len(tensor.shape) > 2 and tensor.shape[0] == 1:
                tensor = changed[name] = tensor.reshaped(tensor.shape[1:])
            (*others, width) = tensor.shape or (0,)
            if math.prod(others) == 1 and size > 0 and width % size == 0:
                changed[name] = tensor.reshaped((width // size, size))
    return tensors | changed


def _infer(checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> Config:
    blocks = {int(m[1]) for n in tensors if (m := re.match(r"blocks\.(\d+)\.", n))}
    if not blocks:
        raise CheckpointError(
            f"no tensor named blocks.0.…; found {', '.join(sorted(tensors)[:3])} …; expected "
            "RWKV-7 (x070) weights"
        )
    n_layer = max(blocks) + 1
    if len(blocks) != n_layer:
        missing = min(set(range(n_layer)) - blocks)
        raise CheckpointError(f"block {missing} is missing of {n_layer}; a shard may be absent")
    n_head, head_size = _need(tensors, "blocks.0.att.r_k", 2).shape
    vocab_size, n_embd = _need(tensors, "emb.weight", 2).shape
    if n_head * head_size != n_embd:
        raise CheckpointError(
            f"blocks.0.att.r_k says {n_head} heads of {head_size}, which makes "
            f"{n_head * head_size} channels; emb.weight has {n_embd}"
        )
    config = Config(
        n_layer=n_layer,
        n_embd=n_embd,
        n_head=n_head,
        head_size=head_size,
        n_ffn=_need(tensors, "blocks.0.ffn.key.weight", 2).shape[0],
        vocab_size=vocab_size,
        rank_decay=_need(tensors, "blocks.0.att.w1", 2).shape[1],
        rank_iclr=_need(tensors, "blocks.0.att.a1", 2).shape[1],
        rank_value=_need(tensors, "blocks.1.att.v1", 2).shape[1] if n_layer > 1 else 0,
        rank_gate=_need(tensors, "blocks.0.att.g1", 2).shape[1],
        source_format=checkpoint.source_format,
        removal_scale=checkpoint.claims.get("removal_scale", 1.0),
    )
    claims = dict(checkpoint.claims)
    eps = claims.pop("layer_norm_eps", LAYER_NORM_EPS)
    group_eps = claims.pop("group_norm_eps", head_size * eps)
    if checkpoint.source_format in ("fla", "hf"):  # there the head size has a say in it
        config = replace(config, layer_norm_eps=eps, group_norm_eps=group_eps)
    elif not math.isclose(eps, LAYER_NORM_EPS, rel_tol=1e-6):  # a header keeps it as float32
        config = replace(config, layer_norm_eps=eps)
    for attribute, claimed in claims.items():
        actual = getattr(config, attribute)
        if claimed != actual and not (attribute == "rank_value" and n_layer == 1):
            raise CheckpointError(
                f"{checkpoint.claimed_by} says {attribute} {claimed:g}, the tensors' shapes say "
                f"{actual}; one of the two belongs to another model"
            )
    return config


def _need(tensors: dict[str, Tensor], name: str, ndim: int | None = None) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None:
        raise CheckpointError(f"the tensor {name} is missing; expected a whole RWKV-7 (x070) model")
    if ndim is not None and len(tensor.shape) != ndim:
        raise CheckpointError(f"{name} has the shape {_show(tensor.shape)}; expected {ndim} axes")
    return tensor


def _show(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"

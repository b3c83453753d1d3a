"""Which layout do the names belong to, what stands around them, and is it RWKV-7 at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from goose_viz.checkpoint import tables
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.errors import CheckpointError

Tensors = dict[str, Tensor]

#: Patterns that all occur among the tensors' names -> what the file is instead.  The first speaks.
_OTHERS: tuple[tuple[tuple[str, ...], str], ...] = (
    ((r"\.lora_[ABab]\b|lora_embedding",), "a LoRA file: merge it into its base model"),
    ((r"^wkv$", r"^att_shift$"), "a state or snapshot that goose-viz wrote, not a model"),
    ((r"time_maa_",), "RWKV-6"),
    ((r"att\.time_faaaa$|att\.gate\.weight$",), "RWKV-5"),
    ((r"att\.time_first$|att\.time_mix_[kvr]$", r"att\.ln_x\.weight$"), "RWKV-5"),
    ((r"att\.time_first$|att\.time_mix_[kvr]$",), "RWKV-4"),
    ((r"rosa",), "RWKV-8 (ROSA)"),
    ((r"ffn\.s_emb",), "RWKV-7a (DeepEmbed)"),
    ((r"blocks\.\d+\.qkv\.",), "RWKV-7b (DeepEmbedAttention)"),
    ((r"time_state$",), "a tuned initial state, not a model: load the model it was tuned for"),
    ((r"self_attn\.|attn\.q_proj|h\.\d+\.attn",), "a transformer or a hybrid with attention"),
)

#: What torch.compile and the sharding wrappers put between the parts of a name.
_INSERTED = re.compile(r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
#: Where a model's own names begin, whatever a trainer put before them.
_BEGIN = re.compile(r"(?:^|(?<=\.))(?:blocks|layers)\.\d+\.")
_LAYER = re.compile(r"(?:layers|blk)\.(\d+)\.")
_OUTER = ("emb.", "head.", "ln_out.", "embeddings.", "lm_head.", "norm.")
#: Keys under which trainers put the weights, the likelier first.
WRAPPERS = ("state_dict", "model", "module", "model_state_dict", "weights")
#: Keys of what trainers derive from the weights: averages, states of the optimizer.
_DERIVED = re.compile(r"(^|[._])(ema|swa|shadow|average|averaged|opt|optim|optimizer)", re.I)
#: What trainers keep beside the weights; nothing of it is a weight.
_BOOKKEEPING = re.compile(
    r"^(optimizer|optim|ema|lr_scheduler|scheduler|scaler|loss|step|steps|global_step|epoch|rng|"
    r"random|args|hyper_parameters|config)\w*(\.|$)"
)


def refuse_others(names: Iterable[str]) -> None:
    """Raise if the names belong to something that is not RWKV-7, saying what it is."""
    names = list(names)
    for patterns, what in _OTHERS:
        hits = [next((name for name in names if re.search(p, name)), None) for p in patterns]
        if None not in hits:
            raise CheckpointError(
                f"this is {what}, by its tensor {hits[0]}; expected RWKV-7 (x070) weights"
            )
    has_time_mix = any(re.search(r"blocks\.\d+\.att\.w1$|attn\.w_lora", n) for n in names)
    has_gate = any(re.search(r"att\.g1$|attn\.g_lora", n) for n in names)
    if has_time_mix and not has_gate:
        raise CheckpointError(
            "this is a gateless relative of RWKV-7 (ARWKV or a hybrid): it has decay but no "
            "att.g1; expected RWKV-7 (x070) weights"
        )


def one_model(places: Sequence[str]) -> str:
    """Which of the places, in words with dots between, holds the model that was trained.

    The weights come before what a trainer derives from them, and the usual keys before others.

    Raises
    ------
    CheckpointError
        If nothing tells the models apart.
    """
    trained = [p for p in places if not _DERIVED.search(p)] or list(places)
    known = [p for word in ("", *WRAPPERS) for p in trained if p.rpartition(".")[2] == word]
    chosen = known[:1] or trained
    if len(chosen) > 1:
        raise CheckpointError(
            f"it holds {len(chosen)} models, under {' and '.join(map(repr, chosen))}; keep one of "
            "them"
        )
    return chosen[0]


def holds_a_block(name: str) -> bool:
    """Whether a name is of something in a block, behind whatever prefix."""
    return _BEGIN.search(name) is not None


def looks_like_a_model(names: Iterable[str]) -> bool:
    """Whether some name is one of a stack of blocks, behind whatever prefix."""
    return any(map(holds_a_block, names))


def unwrapped(tensors: Tensors) -> tuple[Tensors, str]:
    """The tensors without what trainers and libraries put before their names, and what that was.

    Raises
    ------
    CheckpointError
        If the file holds several models, or two tensors of one name.
    """
    plain = {_INSERTED.sub("", name): tensor for name, tensor in tensors.items()}
    prefixes = {name[: m.start()] for name in plain if (m := _BEGIN.search(name))}
    place = one_model(sorted(p.rstrip(".") for p in prefixes)) if prefixes else ""
    prefix = f"{place}." if place else ""
    for other in prefixes - {prefix, ""}:
        if not prefix.startswith(other):
            plain = {n: t for n, t in plain.items() if not n.startswith(other)}
    words = prefix.split(".")[:-1]
    n = len(words) + 1
    before = {".".join([*words[i:j], ""]) for i in range(n) for j in range(i + 1, n)}
    out: Tensors = {}
    for name, tensor in plain.items():
        short = name
        for start in sorted(before, key=len, reverse=True):
            rest = name.removeprefix(start)
            if rest != name and (_BEGIN.match(rest) or rest.startswith(_OUTER)):
                short = rest
                break
        if short in out:
            raise CheckpointError(f"it holds two tensors that mean {short}; keep one of them")
        out[short] = tensor
    return out, prefix


def without_bookkeeping(tensors: Tensors) -> Tensors:
    """The tensors without those that a trainer keeps beside the weights."""
    return {
        name: tensor
        for name, tensor in tensors.items()
        if not (_BOOKKEEPING.match(name) or tensor.shape in ((), (1,)))
    }


def is_fla(names: Iterable[str]) -> bool:
    """Whether the names, without prefixes, are those of flash-linear-attention."""
    return any(name.startswith("layers.") for name in names)


def from_fla(tensors: Tensors) -> Tensors:
    """Rename and transpose flash-linear-attention tensors into BlinkDL's."""
    return _renamed(
        tensors, tables.flash_linear_attention, tables.fla_mixes, "RWKV-7 in this format"
    )


def from_gguf(tensors: Tensors) -> Tensors:
    """Rename and transpose a GGUF's tensors into BlinkDL's."""
    return _renamed(tensors, tables.gguf, tables.gguf_mixes, "architecture rwkv7")


def _renamed(
    tensors: Tensors,
    layout: Callable[[int], tables.Table],
    stacked: Callable[[int], str],
    what: str,
) -> Tensors:
    """The tensors of a layout under BlinkDL's names, stacked mixes taken apart."""
    n_layer = 1 + max((int(m[1]) for n in tensors if (m := re.match(_LAYER, n))), default=-1)
    table, mixes = layout(n_layer), {stacked(i): tables.mixes(i) for i in range(n_layer)}
    out: Tensors = {}
    for name, tensor in tensors.items():
        if name in mixes:
            rows = tensor.reshaped((6, -1))
            out |= {ours: rows.rows(i, i + 1) for i, ours in enumerate(mixes[name])}
        elif name in table:
            ours, turned = table[name]
            out[ours] = tensor.transposed() if turned else tensor
        else:
            raise CheckpointError(f"the tensor {name} is not part of {what}")
    out.setdefault("head.weight", out.get("emb.weight", tensor))  # tied embeddings
    return out


def turn_low_rank(tensors: Tensors, ending: str) -> tuple[Tensors, str, str]:
    """Low-rank matrices as BlinkDL has them; how they were stored, if otherwise; what is doubtful.

    web-rwkv's files keep the eight of a block transposed, (rank, D) and (D, rank).  The shapes
    decide; where a rank equals the width they cannot: then what the file's others say, then the
    file's ending, ``.st`` being web-rwkv's.
    """
    width = tensors["emb.weight"].shape[-1] if "emb.weight" in tensors else 0
    doubtful, turned, plain = [], [], []
    for name, tensor in tensors.items():
        kind = name.rpartition(".")[2]
        if kind not in tables.LOW_RANK or len(tensor.shape) != 2 or width not in tensor.shape:
            continue
        if tensor.shape == (width, width):
            doubtful.append(name)
        elif (tensor.shape[0] == width) == (kind[1] == "1"):
            plain.append(name)
        else:
            turned.append(name)
    by_ending = ending == ".st"
    if doubtful and (turned or (by_ending and not plain)):
        turned += doubtful
    if not turned:
        return tensors, "", ""
    doubt = ""
    if turned == doubtful:
        doubt = (
            "ranks that equal the width do not tell how the low-rank matrices lie; the ending .st "
            "does: transposed, as web-rwkv keeps them"
        )
    changed = {name: tensors[name].transposed() for name in turned}
    return tensors | changed, "low-rank matrices transposed", doubt

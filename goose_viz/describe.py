"""What a model file is and where it would run, without loading it: nothing is compiled."""

from __future__ import annotations

from goose_gpu import CardError, choose_card, find_cards
from goose_viz.checkpoint import FORMATS
from goose_viz.cpu.layout import places
from goose_viz.model import embedded_models, open_model, parse_device
from goose_viz.state import State


def describe(source: str | None, device: str, tokenizer: str | None) -> dict[str, object]:
    """Row -> value, in the order in which to show them.

    Raises
    ------
    GooseError
        If the model cannot be read.
    """
    where, words = _where(device)
    opened = open_model(source, tokenizer)
    weights, c = opened.weights, opened.weights.config
    dtype = "fp32" if weights.kind == "fp64" else weights.kind
    state = sum(4 * _size(shape) for shape in State.zeros_shapes(c).values())
    rows: dict[str, object] = {
        "model": f"{opened.name} ({opened.path})",
        "generation": "RWKV-7 (x070)",
        "layers": c.n_layer,
        "width": c.n_embd,
        "heads": f"{c.n_head} of {c.head_size}",
        "channel mix": c.n_ffn,
        "vocabulary": f"{c.vocab_size} ({opened.tokenizer.name})",
        "low ranks": f"decay {c.rank_decay}, in-context learning rate {c.rank_iclr}, "
        f"value {c.rank_value}, gate {c.rank_gate}",
        "format": ", ".join(filter(None, (FORMATS[c.source_format], weights.stored))),
        "weights": f"{dtype}, {places(c, dtype)[1] / 1e6:.1f} MB",
        "state": f"{state / 1e6:.2f} MB, at any length of text",
        "device": " · ".join(filter(None, (where, words))),
    }
    if opened.notes:
        rows["note"] = "; ".join(opened.notes)
    return rows | {"embedded": ", ".join(embedded_models())}


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _where(device: str) -> tuple[str, str]:
    """The device that would be taken, and the card or why it is the CPU."""
    kind, ordinal = parse_device(device)
    if kind not in ("auto", "cuda"):
        return device, ""
    try:
        choose_card(ordinal)
    except CardError as error:
        return ("cpu" if kind == "auto" else device), str(error).removesuffix("; use device='cpu'")
    cards = find_cards()
    return f"cuda:{ordinal}" if ordinal else "cuda", cards.names[ordinal] if cards.names else ""

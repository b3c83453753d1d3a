"""What a model file is and where it would run, without loading it: nothing is compiled."""

from __future__ import annotations

import math

from goose_gpu import find_cards
from goose_viz.checkpoint import FORMATS
from goose_viz.cpu.layout import places
from goose_viz.model import choose_device, device_name, embedded_models, open_model
from goose_viz.state import State

_SCALED = "S diag(w) - c (S kappa)(kappa a)^T; 1 as released"


def describe(source: str | None, device: str, tokenizer: str | None) -> dict[str, object]:
    """Row -> value, in the order in which to show them.

    Raises
    ------
    GooseError
        If the model cannot be read, or the device will not do.
    """
    kind, ordinal, words = choose_device(device)
    if kind == "cuda":
        kind, cards = device_name(ordinal), find_cards().names
        words = cards[ordinal] if cards else ""
    opened = open_model(source, tokenizer)
    weights, c = opened.weights, opened.weights.config
    dtype = weights.default_dtype
    state = sum(4 * math.prod(shape) for shape in State.zeros_shapes(c).values())
    rows: dict[str, object] = {
        "model": f"{opened.name} ({opened.path})",
        "generation": "RWKV-7 (x070)",
        "layers": c.n_layer,
        "width": c.n_embd,
        "heads": f"{c.n_head} of {c.head_size}",
        "channel mix": c.n_ffn,
        "vocabulary": f"{c.vocab_size} ({opened.tokenizer.name})",
        **({} if c.removal_scale == 1 else {"removal scale": f"{c.removal_scale:g}, in {_SCALED}"}),
        "low ranks": f"decay {c.rank_decay}, in-context learning rate {c.rank_iclr}, "
        f"value {c.rank_value}, gate {c.rank_gate}",
        "format": ", ".join(filter(None, (FORMATS[c.source_format], weights.stored))),
        "weights": f"{dtype}, {places(c, dtype)[1] / 1e6:.1f} MB",
        "state": f"{state / 1e6:.2f} MB, at any length of text",
        "device": " · ".join(filter(None, (kind, words))),
    }
    if opened.notes:
        rows["note"] = "; ".join(opened.notes)
    return rows | {"embedded": ", ".join(embedded_models())}

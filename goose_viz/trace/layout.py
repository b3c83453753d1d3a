"""What a trace holds: names, axes, units, and how much of it makes a chunk.

Written down in docs/traces.md, for who reads traces without this program.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.config import Config
from goose_viz.history import TOP
from goose_viz.observables import OBSERVABLES, shape_of
from goose_viz.state import State
from goose_viz.trace.growing import Variable

FORMAT = "goose-viz trace 1"

#: Axes of an observable behind (token, layer), by the letters in `OBSERVABLES`.
AXES = {"D": ("channel",), "H": ("head",), "HN": ("head", "value"), "HNN": ("head", "value", "key")}

#: What belongs to a token and is no number of the model: coordinates of the axis ``token``.
COORDINATES = ("token_id", "text", "generated", "branch")

_CHUNK = 512 << 10  # bytes, about, of a chunk of a vector
_BUFFER = 64 << 20  # bytes that a block of all that is recorded takes, at most
_MOST = 1024  # rows of a block
_UNITS = {"decay": "1 per token", "removed_norm": "of the state", "written_norm": "of the state"}


def variables(config: Config, observables: Iterable[str], n_layers: int, dtype: str) -> dict[
    str, Variable
]:  # fmt: skip
    """All that has a row for every recorded token."""
    found = {
        "token": Variable(("token",), (), "int64", {"long_name": "index in its text"}),
        "token_id": Variable(("token",), (), "int32", {"long_name": "id in the vocabulary"}),
        "text": Variable(("token",), (), "str", {"long_name": "what the token completes"}),
        "generated": Variable(
            ("token",), (), "bool", {"long_name": "chosen by the model, not given"}
        ),
        "branch": Variable(
            ("token",), (), "int32", {"long_name": "which of the attribute branches"}
        ),
        "probability": Variable(
            ("token",), (), "float32",
            {"long_name": "what the model gave the token before it came", "units": "1"},
        ),
        "token_top": Variable(
            ("token", "rank"), (min(TOP, config.vocab_size),), "int32",
            {"long_name": "ids of the likeliest tokens behind the token, likeliest first"},
        ),
        "logits_top": Variable(
            ("token", "rank"), (min(TOP, config.vocab_size),), "float32",
            {"long_name": "their logits", "units": "nat"},
        ),
        "logits_sum": Variable(
            ("token",), (), "float32",
            {"long_name": "log of the sum of e^logit over the vocabulary: "
                          "e^(logits_top - logits_sum) is a probability", "units": "nat"},
        ),
    }  # fmt: skip
    for name in sorted(observables):
        axes = AXES[OBSERVABLES[name].axes]
        about = {"long_name": OBSERVABLES[name].meaning, "units": _UNITS.get(name, "1")}
        if name == "wkv":
            about["orientation"] = "[value, key]"
        shape = (n_layers, *shape_of(name, config))
        found[name] = Variable(("token", "layer", *axes), shape, dtype, about, by=1)
    return found


#: Where only every so many tokens have a row: the text of all, along an axis of its own.
THINNED = {
    "all_token_id": Variable(("position",), (), "int32", {"long_name": "ids of all tokens"}),
    "all_text": Variable(("position",), (), "str", {"long_name": "what each completes"}),
    "all_generated": Variable(("position",), (), "bool", {"long_name": "chosen by the model"}),
    "all_branch": Variable(("position",), (), "int32", {"long_name": "which of the branches"}),
    "all_probability": Variable(
        ("position",), (), "float32", {"long_name": "what the model gave each", "units": "1"}
    ),
}


def fixed(
    config: Config, layers: Sequence[int], labels: Sequence[str], initial: State | None = None
) -> dict[str, tuple[Variable, NDArray[Any]]]:
    """What names the layers, the heads that channels belong to, and the tokens.

    And the memory ahead of the first token, where it was not empty.
    """
    began = {}
    if initial is not None:
        wkv = initial.wkv[list(layers)]
        about = {"long_name": "the memory ahead of the first token", "orientation": "[value, key]"}
        dims = ("layer", *AXES["HNN"])
        began["initial"] = Variable(dims, wkv.shape, wkv.dtype.name, about), wkv
    channels = np.arange(config.n_embd, dtype=np.int32) // config.head_size
    numbers = np.array(layers, np.int32)
    return {
        "layer": (
            Variable(("layer",), numbers.shape, "int32", {"long_name": "layer, from 0"}), numbers
        ),
        "label": (
            Variable(
                ("vocabulary",), (len(labels),), "str", {"long_name": "a token by its id, to show"}
            ),
            np.array(labels, object),
        ),
        "head_of_channel": (
            Variable(
                ("channel",), channels.shape, "int32",
                {"long_name": "the head that a channel belongs to"},
            ),
            channels,
        ),
        **began,
    }  # fmt: skip


def block_of(config: Config, found: dict[str, Variable]) -> int:
    """Rows of a chunk: a power of two, for chunks that are neither many nor large."""
    taken = sum(
        int(np.prod(v.shape)) * np.dtype(v.dtype).itemsize
        for v in found.values()
        if v.dtype != "str"
    )
    rows = min(_MOST, _CHUNK // (4 * config.n_embd), _BUFFER // taken)
    return 1 << max(rows.bit_length() - 1, 0)

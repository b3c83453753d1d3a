"""What explains a run: where a word comes from, what the memory holds, what a token does to it.

Every analysis is a function of frames, as `goose_viz.Session.frames` gives them; none needs Qt.
"""

from goose_viz.analysis.attribution import Attribution, attribution
from goose_viz.analysis.heads import Edit, edit, lens, spectrum
from goose_viz.analysis.memory import (
    Attention,
    attention,
    attention_map,
    remains,
    retention,
    transport,
)
from goose_viz.metrics import effective_rank

__all__ = [
    "Attention",
    "Attribution",
    "Edit",
    "attention",
    "attention_map",
    "attribution",
    "edit",
    "effective_rank",
    "lens",
    "remains",
    "retention",
    "spectrum",
    "transport",
]

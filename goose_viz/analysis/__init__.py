"""What explains a run: where a word comes from, what the memory holds, what a token does to it.

Every analysis is a function of frames, as `goose_viz.Session.frames` gives them, or of a session;
none needs Qt.  What takes long tells its progress, and can be ended by it.
"""

from goose_viz.analysis.attribution import Attribution, attribution
from goose_viz.analysis.causal_trace import causal_trace
from goose_viz.analysis.comparison import Comparison, compare
from goose_viz.analysis.heads import Edit, edit, spectrum
from goose_viz.analysis.health import Health, health
from goose_viz.analysis.memory import (
    Attention,
    attention,
    attention_map,
    attention_mean,
    remains,
    retention,
    transport,
)
from goose_viz.analysis.readout import Pinned, decided, lens, pinned, promoted
from goose_viz.analysis.sensitivity import sensitivity
from goose_viz.analysis.steering import mean_memory
from goose_viz.metrics import effective_rank, stable_rank

__all__ = [
    "Attention",
    "Attribution",
    "Comparison",
    "Edit",
    "Health",
    "Pinned",
    "attention",
    "attention_map",
    "attention_mean",
    "attribution",
    "causal_trace",
    "compare",
    "decided",
    "edit",
    "effective_rank",
    "health",
    "lens",
    "mean_memory",
    "pinned",
    "promoted",
    "remains",
    "retention",
    "sensitivity",
    "spectrum",
    "stable_rank",
    "transport",
]

"""Recorded runs: what goes on inside, token by token, as a Zarr v3 folder."""

from goose_viz.trace.growing import check_free
from goose_viz.trace.live import catch_up, follow, unfollow
from goose_viz.trace.reading import Trace, is_trace, open_trace
from goose_viz.trace.record import record
from goose_viz.trace.writing import TraceWriter

__all__ = [
    "Trace",
    "TraceWriter",
    "catch_up",
    "check_free",
    "follow",
    "is_trace",
    "open_trace",
    "record",
    "unfollow",
]

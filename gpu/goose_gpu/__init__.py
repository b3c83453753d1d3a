"""The NVIDIA side of Goose Viz.  It never imports goose_viz."""

from goose_gpu.driver import Cards, find_cards

__all__ = ["Cards", "find_cards"]

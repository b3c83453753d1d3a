"""The NVIDIA side of Goose Viz: hand-written numba.cuda kernels.  It never imports goose_viz.

What is imported here asks the driver and loads nothing; `goose_gpu.engine` loads CUDA.
"""

from goose_gpu.choice import CardError, choose_card, simulated
from goose_gpu.driver import Cards, find_cards

__all__ = ["CardError", "Cards", "choose_card", "find_cards", "simulated"]

"""What kernels can be run on here: the simulator in its own process, the PTX machine elsewhere."""

from __future__ import annotations

import importlib.util
import os

import numpy as np

SIMULATOR = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
COMPILER = not SIMULATOR and importlib.util.find_spec("numba_cuda") is not None

#: One architecture of each dialect that the compiler speaks.
BACKENDS = ["simulator"] if SIMULATOR else ["sm_75", "sm_90", "sm_120"] if COMPILER else []


def open_card(backend: str):
    """The card of that name."""
    if backend == "simulator":
        from goose_gpu.card import Card

        return Card()
    from tests.gpu.virtual_card import VirtualCard

    number = int(backend.removeprefix("sm_"))
    return VirtualCard((number // 10, number % 10))


def tiny(card, up) -> None:
    """The smallest launch there is."""
    from goose_gpu import prompt

    prompt.activate(card.queue, up(np.zeros((1, 1, 1), np.float32)), 1, 0)

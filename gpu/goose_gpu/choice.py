"""Which card to compute on, or one sentence that says why none will do; CUDA is not loaded yet."""

from __future__ import annotations

import importlib.util
import os

from goose_gpu.driver import Cards, find_cards

OLDEST = (7, 5)  # compute capability: Turing, which CUDA 13 begins with
_OLDEST_DRIVER = (12, 0)  # of CUDA


class CardError(Exception):
    """A card that cannot be used; the message says why and what to do."""


def simulated() -> bool:
    """Whether numba was told to simulate a card."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0").strip() not in ("", "0")


def choose_card(ordinal: int = 0, cards: Cards | None = None) -> None:
    """Check that a card can be computed on.

    Parameters
    ----------
    ordinal : int
        Which of the driver's cards.
    cards : Cards, optional
        What the driver says, if it was asked before.

    Raises
    ------
    CardError
        No driver; no such card; a card or driver too old; the extra not installed.
    """
    if simulated():
        if ordinal > 0:
            raise CardError(f"there is no card {ordinal}: the CUDA simulator has one; use 'cuda'")
        return
    cards = cards or find_cards()
    if not cards.names:
        raise CardError(f"{cards.words}; use device='cpu'")
    if ordinal >= len(cards.names):
        raise CardError(
            f"there is no card {ordinal}; the driver shows {len(cards.names)} "
            f"({cards.words}), counted from 0"
        )
    name, capability = cards.names[ordinal], cards.capabilities[ordinal]
    if capability < OLDEST:
        raise CardError(
            f"{name} has compute capability {capability[0]}.{capability[1]}; the kernels need "
            f"{OLDEST[0]}.{OLDEST[1]} (Turing, 2018) or newer; use device='cpu'"
        )
    if cards.driver < _OLDEST_DRIVER:
        raise CardError(
            f"the NVIDIA driver knows CUDA {cards.driver[0]}.{cards.driver[1]} at most; CUDA 12.0 "
            "or newer is needed: update the driver to version 525 or newer"
        )
    installed = _toolkit()
    extra = "cuda13" if cards.driver >= (13, 0) else "cuda12"
    if installed is None:
        raise CardError(
            f"{name} is here, but the CUDA libraries for Python are not installed: "
            f'pip install "goose-viz[{extra}]"'
        )
    if installed == 13 and cards.driver < (13, 0):
        raise CardError(
            f"the CUDA 13 libraries are installed, but the NVIDIA driver knows CUDA "
            f"{cards.driver[0]}.{cards.driver[1]} at most: update it to version 580 or newer, or "
            'pip install "goose-viz[cuda12]"'
        )


def _toolkit() -> int | None:
    """The CUDA release of the installed libraries; None without them."""
    if importlib.util.find_spec("numba_cuda") is None:
        return None
    if importlib.util.find_spec("cuda") is None:
        return None
    try:
        if importlib.util.find_spec("cuda.bindings") is None:
            return None
    except ModuleNotFoundError:
        return None
    from importlib.metadata import version

    return int(version("cuda-bindings").split(".")[0])

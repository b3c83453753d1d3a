"""What kernels can be run on here.

The simulator, in a process of its own (NUMBA_ENABLE_CUDASIM=1); the PTX machine, called straight;
a card, or under FAKE_CUDA_DRIVER=1 numba-cuda and cuda.core with a driver made of Python.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from goose_gpu import CardError, choose_card

SIMULATOR = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
FAKE_DRIVER = (
    os.environ.get("FAKE_CUDA_DRIVER", "0") not in ("", "0")
    and sys.platform == "linux"
    and shutil.which("cc") is not None
    and importlib.util.find_spec("numba_cuda") is not None
)
COMPILER = not SIMULATOR and not FAKE_DRIVER and importlib.util.find_spec("numba_cuda") is not None


def _card_is_here() -> bool:
    try:
        choose_card()
    except CardError:
        return False
    return not SIMULATOR


if FAKE_DRIVER:
    from tests.gpu.fake_driver import Driver

    DRIVER = Driver()
    DRIVER.install(Path(tempfile.mkdtemp()))
    DRIVER.watch_the_compiler()

#: One architecture of each dialect that the compiler speaks; a real card where there is one.
NAMES = ["simulator"] if SIMULATOR else ["sm_75", "sm_90", "sm_120"] if COMPILER else []
NAMES += ["card"] if _card_is_here() else []


def backends(*names: str) -> list:
    """Those of the named that are here, all when none is named; a real card always.

    "driver" names the one made of Python, which shows streams, recordings and memory; the numbers
    of the kernels it launches are the PTX machine's, which the other tests ask straight.
    """
    chosen = [
        n
        for n in NAMES
        if not names or n in names or (n == "card" and (not FAKE_DRIVER or "driver" in names))
    ]
    return [pytest.param(n, marks=pytest.mark.gpu if n == "card" else ()) for n in chosen]


BACKENDS = backends()


def open_card(backend: str):
    """The card of that name."""
    if backend in ("simulator", "card"):
        from goose_gpu.card import Card

        return Card()
    from tests.gpu.virtual_card import VirtualCard

    number = int(backend.removeprefix("sm_"))
    return VirtualCard((number // 10, number % 10))

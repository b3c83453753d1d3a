"""Which NVIDIA cards are there, asked of the driver itself: nothing to install, nothing to load."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MULTIPROCESSORS, _MAJOR, _MINOR = 16, 75, 76  # CUdevice_attribute


@dataclass(frozen=True)
class Cards:
    """The cards that the driver shows.

    Attributes
    ----------
    names : tuple of str
        One per card, in the driver's order.
    words : str
        The same for people, or why there are none.
    capabilities : tuple of (int, int)
        Each card's compute capability.
    multiprocessors : tuple of int
        Of each card.
    driver : tuple of (int, int)
        The newest CUDA that the driver knows; (0, 0) without one.
    """

    names: tuple[str, ...]
    words: str
    capabilities: tuple[tuple[int, int], ...] = ()
    multiprocessors: tuple[int, ...] = ()
    driver: tuple[int, int] = (0, 0)


def find_cards(library: str = _LIBRARY) -> Cards:
    """Ask the CUDA driver for its cards.

    Parameters
    ----------
    library : str
        The driver's shared library.
    """
    try:
        cuda = ctypes.CDLL(library)
    except OSError:
        return Cards((), "no NVIDIA driver on this machine")
    if (status := cuda.cuInit(0)) != 0:
        return Cards((), f"an NVIDIA driver that finds no card (cuInit says {status})")
    count, version = ctypes.c_int(), ctypes.c_int()
    if (status := cuda.cuDeviceGetCount(ctypes.byref(count))) != 0 or count.value == 0:
        return Cards((), f"an NVIDIA driver that finds no card (cuDeviceGetCount says {status})")
    cuda.cuDriverGetVersion(ctypes.byref(version))
    names, capabilities, multiprocessors = [], [], []
    for ordinal in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(128)
        cuda.cuDeviceGet(ctypes.byref(device), ordinal)
        cuda.cuDeviceGetName(name, 128, device)
        names.append(name.value.decode(errors="replace"))
        numbers = []
        for attribute in (_MULTIPROCESSORS, _MAJOR, _MINOR):
            number = ctypes.c_int()
            cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
            numbers.append(number.value)
        multiprocessors.append(numbers[0])
        capabilities.append((numbers[1], numbers[2]))
    return Cards(
        tuple(names),
        ", ".join(names),
        tuple(capabilities),
        tuple(multiprocessors),
        (version.value // 1000, version.value % 1000 // 10),
    )

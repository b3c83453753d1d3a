"""What the CUDA simulator lacks, in one place: the lanes of a warp and 16-byte packets.

Every function here has two forms.  On a card a warp has 32 lanes that exchange registers, and
weights are read 16 bytes at a time.  Under ``NUMBA_ENABLE_CUDASIM=1`` a "warp" is one thread, so
that sums over lanes are the identity, and a packet is read number by number; the kernels are the
same source either way.

Weights keep the bits of their file: float32 is itself, uint16 is bfloat16, int16 is float16.  int8
numbers are multiples of a float32 scale, one for every row, or for every column of the output and
value matrices; the kernels get empty scales for the other types and never look at them.  uint8 is
int4, whose blocks carry their scales; its arrays are asked for numbers, not for bytes.
"""

from __future__ import annotations

import numpy as np
from numba.core import config

SIMULATOR = bool(config.ENABLE_CUDASIM)

LANES = 1 if SIMULATOR else 32  # threads that share a row of a matrix
PARTS = 1 if SIMULATOR else 8  # threads that share a row of a head's state
STRIPE = 4 if SIMULATOR else 32  # threads that share a partial sum in the ffn's value kernel

ZERO = np.float32(0)
ONE = np.float32(1)
HALF = np.float32(0.5)

if SIMULATOR:
    from goose_gpu.twins import (
        add_packet,
        column_sums,
        dot_packet,
        lane_max,
        lane_scan,
        lane_sum,
        load_four,
        load_fresh,
        load_packet,
        narrow,
        no_sums,
        number_at,
        packet_size,
        part_sum,
        power_of_two,
        scale_of,
        store_four,
        store_sums,
        widen,
    )
else:
    from goose_gpu.intrinsics import (
        add_packet,
        column_sums,
        dot_packet,
        lane_max,
        lane_scan,
        lane_sum,
        load_four,
        load_fresh,
        load_packet,
        narrow,
        no_sums,
        number_at,
        packet_size,
        part_sum,
        power_of_two,
        scale_of,
        store_four,
        store_sums,
        widen,
    )

__all__ = [
    "HALF",
    "LANES",
    "ONE",
    "PARTS",
    "SIMULATOR",
    "STRIPE",
    "ZERO",
    "add_packet",
    "column_sums",
    "dot_packet",
    "lane_max",
    "lane_scan",
    "lane_sum",
    "load_four",
    "load_fresh",
    "load_packet",
    "narrow",
    "no_sums",
    "number_at",
    "packet_size",
    "part_sum",
    "power_of_two",
    "scale_of",
    "store_four",
    "store_sums",
    "widen",
]

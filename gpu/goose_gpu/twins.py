"""`lanes` under the CUDA simulator: a warp of one thread, packets read number by number.

What each function does is said in `intrinsics`.
"""

# ruff: noqa: D103

import numpy as np
from numba import cuda

from goose_gpu.formats import FORMATS

_FOURS = FORMATS["int4"]
_SCALES = _FOURS.block // _FOURS.group * 2
ZERO = np.float32(0)


@cuda.jit(device=True)
def packet_size(weights):
    return _FOURS.packet if weights.dtype == np.uint8 else 16 // weights.dtype.itemsize


@cuda.jit(device=True)
def widen(number):
    if number.dtype == np.uint16:
        return (np.array(number, np.uint32) << np.uint32(16)).view(np.float32)[()]
    if number.dtype == np.int16:
        return np.float32(number.view(np.float16))
    return np.float32(number)


@cuda.jit(device=True)
def number_at(weights, index):
    if weights.dtype != np.uint8:
        return widen(weights[index])
    begin, within = index // _FOURS.block * _FOURS.items, index % _FOURS.block
    scales = weights[begin : begin + _SCALES].view(np.float16)
    words = weights[begin + _SCALES : begin + _FOURS.items].view(np.int16)
    word = words[within // 64 * 16 + within % 16]
    number = np.int16(word << np.int16(12 - within % 64 // 16 * 4)) >> np.int16(12)
    return np.float32(number) * np.float32(scales[within // _FOURS.group])


@cuda.jit(device=True)
def scale_of(scales, index, weights):
    return scales[index] if weights.dtype == np.int8 else np.float32(1)


@cuda.jit(device=True)
def load_packet(weights, index, wanted):
    return weights, index, wanted


@cuda.jit(device=True)
def dot_packet(packet, xs, at, half, total):
    weights, index, wanted = packet
    if wanted and weights.dtype == np.uint8:
        first = index // 64 * 64 + index % 64 // 4  # a packet has eight of each 16 of 64 numbers
        for i in range(_FOURS.packet):
            j = at + i // 4 * half + i % 4
            total += number_at(weights, first + i // 8 * 16 + i % 8) * xs[j]
    elif wanted:
        for i in range(packet_size(weights)):
            j = at + i // 4 * half + i % 4
            total += widen(weights[index + i]) * xs[j]
    return total


@cuda.jit(device=True)
def no_sums(weights):
    return (ZERO,) * packet_size(weights)


@cuda.jit(device=True)
def add_packet(packet, factor, sums):
    weights, index, wanted = packet
    if not wanted:
        return sums
    return tuple(s + widen(weights[index + i]) * factor for i, s in enumerate(sums))


@cuda.jit(device=True)
def store_sums(sums, target, at):
    for i, value in enumerate(sums):
        target[at + i] = value


@cuda.jit(device=True)
def column_sums(sums):
    return sums


@cuda.jit(device=True)
def load_fresh(array, index):
    return array[index]


@cuda.jit(device=True)
def lane_sum(value):
    return value


@cuda.jit(device=True)
def lane_max(value):
    return value


@cuda.jit(device=True)
def part_sum(value):
    return value


@cuda.jit(device=True)
def lane_scan(value):
    return value


@cuda.jit(device=True)
def load_four(array, index):
    return tuple(array[index + i] for i in range(4))


@cuda.jit(device=True)
def store_four(array, index, a, b, c, d):
    array[index : index + 4] = a, b, c, d


@cuda.jit(device=True)
def power_of_two(exponent):
    return np.float32(2.0 ** int(exponent))


@cuda.jit(device=True)
def narrow(number, like):
    if like.dtype == np.uint16:
        bits = np.array(number, np.float32).view(np.uint32)
        bits = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return (bits >> np.uint32(16)).astype(np.uint16)[()]
    if like.dtype == np.int16:
        return np.float16(number).view(np.int16)
    return number

"""Greedy longest match over bytes, as numba kernels over a trie in flat arrays.

The trie is one open-addressing table from (node, byte) to child node.
"""

from __future__ import annotations

import numpy as np

from goose_viz.compiled import compiled

_EMPTY = -1


@compiled
def _slot(keys, key):
    """The place of a key in the table, or the empty place where it would go."""
    mask = keys.size - 1
    i = (key * 0x9E3779B1) & mask
    while keys[i] != key and keys[i] != _EMPTY:
        i = (i + 1) & mask
    return i


@compiled
def build(data, ends, ids, keys, children, values):
    """Fill the table; the number of nodes.

    data : (bytes,) uint8, all tokens end to end; ends : (n,) int64, where each ends; ids : (n,)
    keys, children : (2^k,) int64, keys all -1;  values : (nodes,) int32, all -1: a node's token
    """
    nodes = 1
    begin = 0
    for t in range(ends.size):
        node = 0
        for i in range(begin, ends[t]):
            key = node * 256 + np.int64(data[i])
            slot = _slot(keys, key)
            if keys[slot] == _EMPTY:
                keys[slot] = key
                children[slot] = nodes
                nodes += 1
            node = children[slot]
        values[node] = ids[t]
        begin = ends[t]
    return nodes


@compiled
def longest_match(text, keys, children, values, out):
    """Encode text (bytes,) uint8 into out (>= bytes,) int32; the number of tokens.

    Negative: minus one minus the position of a byte that begins no token.
    """
    n, at = 0, 0
    while at < text.size:
        node, i, best, best_end = 0, at, np.int32(-1), at
        while i < text.size:
            slot = _slot(keys, node * 256 + np.int64(text[i]))
            if keys[slot] == _EMPTY:
                break
            node = children[slot]
            i += 1
            if values[node] >= 0:
                best, best_end = values[node], i
        if best < 0:
            return -1 - at
        out[n] = best
        n += 1
        at = best_end
    return n

"""Keeps Python's garbage collector from halting the window.

A full collection looks at every object there is: 60 ms for what imports leave behind, and longer
with every token of the text.  None of that is garbage: it is set aside where no collection looks.
"""

from __future__ import annotations

import gc

_TOKENS = 4096  # new ones between two times of setting aside


class Garbage:
    """Sets aside what will live as long as the run."""

    def __init__(self) -> None:
        self._new = 0

    def settle(self) -> None:
        """A run begins: collect what the last one left, then set the rest aside."""
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._new = 0

    def grew(self, n_tokens: int) -> None:
        """So many tokens came; now and then, set them aside as well."""
        self._new += n_tokens
        if self._new >= _TOKENS:
            gc.collect(1)  # only what is young: a millisecond
            gc.freeze()
            self._new = 0

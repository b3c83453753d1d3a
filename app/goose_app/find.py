"""Where words stand in a text of tokens; no Qt here."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate

from goose_app.cells import Cells


def find_all(cells: Cells, words: str) -> list[range]:
    """The tokens of every place at which words stand, first to last.

    Capitals count if there are any in the words.
    """
    if not words:
        return []
    ends = list(accumulate(len(text) for text in cells.texts))
    flags = re.IGNORECASE if words == words.lower() else 0
    return [
        range(bisect_right(ends, found.start()), bisect_right(ends, found.end() - 1) + 1)
        for found in re.finditer(re.escape(words), "".join(cells.texts), flags)
    ]

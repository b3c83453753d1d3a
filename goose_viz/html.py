"""Tables for notebooks: what an object holds, at a glance."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def table(title: str, head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A line and a table, every letter as it is."""
    cells = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows
    )
    return f"<p>{html.escape(title)}</p><table><tr>{cells}</tr>{body}</table>"


def of_arrays(
    title: str, arrays: Mapping[str, NDArray[Any]], meanings: Mapping[str, str] | None = None
) -> str:
    """A row for each array: name, shape, least, mean and largest number, and what it is."""
    rows = []
    for name, array in sorted(arrays.items()):
        figures = ["", "", ""]
        if array.size and np.issubdtype(array.dtype, np.number):
            with np.errstate(all="ignore"):
                values = array.astype(np.float64)
                figures = [f"{f(values):.4g}" for f in (np.min, np.mean, np.max)]
        shape = " × ".join(map(str, array.shape)) or "1"
        rows.append([name, shape, *figures, (meanings or {}).get(name, "")])
    return table(title, ("", "shape", "least", "mean", "largest", ""), rows)

"""Numbers to take home: as a table for a spreadsheet, or as a file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = dict[str, NDArray[Any]]


def as_table(numbers: Numbers, separator: str = "\t") -> str:
    """Rows of figures; of vectors of one length, a column each; else block below block."""
    arrays = {name: np.atleast_1d(a) for name, a in numbers.items()}
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, lineterminator="\n")
    if len({a.shape for a in arrays.values()}) == 1 and all(a.ndim == 1 for a in arrays.values()):
        writer.writerow(arrays)
        writer.writerows(zip(*(map(_figure, a.tolist()) for a in arrays.values()), strict=True))
        return out.getvalue()
    for i, (name, array) in enumerate(arrays.items()):
        table = array.reshape(-1, array.shape[-1]) if array.ndim > 1 else array[:, None]
        writer.writerows([[]] if i else [])
        writer.writerow([name])
        writer.writerows([map(_figure, row) for row in table.tolist()])
    return out.getvalue()


def _figure(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def save_numbers(numbers: Numbers, path: Path) -> None:
    """Write a .npz of the arrays by name, or a table as .csv.

    Raises
    ------
    ValueError
        If the name ends otherwise.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        with path.open("wb") as file:
            np.savez(file, **{n.replace("/", "-"): a for n, a in numbers.items()})  # type: ignore[arg-type]
    elif suffix == ".csv":
        path.write_text(as_table(numbers, ","), encoding="utf-8")
    else:
        raise ValueError(f"{path.name}: numbers are saved as .npz or .csv; name it so")

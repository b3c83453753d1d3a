"""Numbers to take home: as a table for a spreadsheet, or as a file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.files import write_whole

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
    """Write a .npz of the arrays by name, or a table as .csv or .parquet.

    Raises
    ------
    ValueError
        If the name ends otherwise, or a Parquet cannot have them.
    OSError
        If the file cannot be written; an older one of the name is untouched then.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        buffer = io.BytesIO()
        np.savez(buffer, **{n.replace("/", "-"): _plain(a) for n, a in numbers.items()})  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())
    elif suffix == ".csv":
        write_whole(path, as_table(numbers, ",").encode())
    elif suffix == ".parquet":
        write_whole(path, _parquet(numbers))
    else:
        raise ValueError(f"{path.name}: numbers are saved as .csv, .npz or .parquet; name it so")


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Words of a fixed width: NumPy would pickle others."""
    return array.astype(str) if array.dtype == object else array


def _parquet(numbers: Numbers) -> bytes:
    """A column each; of tables, a row for each cell, with its place ahead."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError(
            "a .parquet needs pyarrow: pip install 'goose-viz[parquet]', or save a .csv"
        ) from None
    shapes = {np.shape(a) for a in numbers.values()}
    if len(shapes) > 1:
        raise ValueError("these numbers are several tables, which one .parquet cannot have: "
                         "save a .csv or an .npz")  # fmt: skip
    (shape,) = shapes
    places = np.indices(shape) if len(shape) > 1 else ()
    columns = {f"axis {i}": p.ravel() for i, p in enumerate(places)}
    columns |= {n: np.ravel(a) for n, a in numbers.items()}
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()

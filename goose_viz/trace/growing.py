"""A folder of Zarr v3 arrays that grow along their first axis, whole at every moment.

A block of rows is written chunk by chunk, and counts only when the shapes in ``zarr.json`` say so:
those are replaced as one file, so that whoever reads, or comes after a crash, sees the rows up to
the last block that was finished, and no half of one.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_made: dict[str, dict[str, bytes]] = {}  # the last that Zarr made: what it is of -> its files
_LEVEL = 5  # of LZ4; with bits shuffled, the fastest of what packs floats at all: to five sixths


@dataclass(frozen=True)
class Variable:
    """One array of a trace.

    Attributes
    ----------
    dims : tuple of str
        Names of its axes; the first is the one that grows, unless it is fixed.
    shape : tuple of int
        Lengths of the other axes; of all axes if it is fixed.
    dtype : str
        A NumPy dtype's name, or ``"str"``.
    attributes : dict
    by : int
        So many axes behind the first have chunks of one.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    by: int = 0


class GrowingArrays:
    """Arrays in a new folder.

    Parameters
    ----------
    path : Path
        Must not be there.
    variables : dict of str to Variable
    fixed : dict of str to (Variable, array)
        Arrays that do not grow.
    attributes : dict
        Of the whole.
    block : dict of str to int
        Rows of a chunk, by the axis that grows.

    Raises
    ------
    FileExistsError
        If something lies at the path.
    OSError
        If the folder cannot be made.
    """

    def __init__(
        self,
        path: Path,
        variables: Mapping[str, Variable],
        fixed: Mapping[str, tuple[Variable, NDArray[Any]]],
        attributes: Mapping[str, Any],
        block: Mapping[str, int],
    ) -> None:
        check_free(path)
        self.path, self._variables = path, dict(variables)
        self._n = dict.fromkeys(block, 0)
        unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
        try:
            self._about = _create(unfinished, self._variables, fixed, attributes, block)
            unfinished.rename(path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def write(self, begin: int, rows: Mapping[str, NDArray[Any]]) -> None:
        """Write a chunk of arrays from a row on; its newest rows do not count yet."""
        for name, whole in rows.items():
            variable = self._variables[name]
            write = _replace if begin < self._n[variable.dims[0]] else _write
            index = begin // len(whole)
            for at in np.ndindex(variable.shape[: variable.by]):
                part = whole[(slice(None), *(slice(i, i + 1) for i in at))]
                rest = [0] * (len(variable.shape) - variable.by)
                file = self.path.joinpath(name, "c", *map(str, (index, *at, *rest)))
                write(file, _encoded(part, variable))

    def count(self, n: Mapping[str, int], attributes: Mapping[str, Any]) -> None:
        """From now on there are so many rows along each axis, and this is said of the whole."""
        self._about["attributes"] |= attributes
        known = self._about["consolidated_metadata"]["metadata"]
        for name, variable in self._variables.items():
            axis = variable.dims[0]
            if n[axis] != self._n[axis]:
                known[name]["shape"][0] = n[axis]
                _replace(self.path / name / "zarr.json", _json(known[name]))
        self._n = dict(n)
        _replace(self.path / "zarr.json", _json(self._about))  # what everybody reads: it comes last

    def finish(self) -> None:
        """See to it that what was written is on the disk."""
        if hasattr(os, "sync"):
            os.sync()


def check_free(path: Path) -> None:
    """Raise where `GrowingArrays` would, before the work is done that it is to save.

    Raises
    ------
    FileExistsError
        If something lies there.
    FileNotFoundError
        If there is no such folder.
    """
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} is there already; choose another name, or remove it")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: there is no such folder to write {path.name} into")


def _create(
    path: Path,
    variables: Mapping[str, Variable],
    fixed: Mapping[str, tuple[Variable, NDArray[Any]]],
    attributes: Mapping[str, Any],
    block: Mapping[str, int],
) -> dict[str, Any]:
    """Make the folder; what its ``zarr.json`` says.

    Zarr makes the first one; another of the same arrays, in a corpus, has the same files.
    """
    known = [(n, v, a.tolist()) for n, (v, a) in fixed.items()]
    key = repr((sorted(variables.items()), known, sorted(block.items())))
    if key not in _made:
        _make(path, variables, fixed, block)
        files = [p for p in path.rglob("*") if p.is_file()]
        _made.clear()
        _made[key] = {str(p.relative_to(path)): p.read_bytes() for p in files}
    for name, content in _made[key].items():
        _write(path / name, content)
    about: dict[str, Any] = json.loads((path / "zarr.json").read_bytes())
    about["attributes"] = dict(attributes)
    _write(path / "zarr.json", _json(about))
    return about


def _make(
    path: Path,
    variables: Mapping[str, Variable],
    fixed: Mapping[str, tuple[Variable, NDArray[Any]]],
    block: Mapping[str, int],
) -> None:
    """Make the folder with Zarr's own hands."""
    import zarr  # half a second

    with warnings.catch_warnings():  # "consolidated metadata is not in the specification yet"
        warnings.simplefilter("ignore")
        group = zarr.create_group(path)
        for name, variable in variables.items():
            _array(group, name, variable, (0, *variable.shape), (
                block[variable.dims[0]], *(1,) * variable.by, *variable.shape[variable.by :],
            ))  # fmt: skip
        for name, (variable, values) in fixed.items():
            _array(group, name, variable, variable.shape, variable.shape)[...] = values
        zarr.consolidate_metadata(path)


def _array(
    group: Any, name: str, variable: Variable, shape: Sequence[int], chunks: Sequence[int]
) -> Any:
    from zarr.codecs import BloscCodec, ZstdCodec

    if variable.dtype == "str":
        codec: Any = ZstdCodec(level=0)
    else:
        size = np.dtype(variable.dtype).itemsize
        codec = BloscCodec(cname="lz4", clevel=_LEVEL, shuffle="bitshuffle", typesize=size)
    return group.create_array(
        name, shape=tuple(shape), chunks=tuple(max(c, 1) for c in chunks),
        dtype=str if variable.dtype == "str" else variable.dtype, compressors=codec,
        fill_value="" if variable.dtype == "str" else 0,
        dimension_names=variable.dims, attributes=dict(variable.attributes),
    )  # fmt: skip


def _encoded(part: NDArray[Any], variable: Variable) -> bytes:
    """A chunk as Zarr's codecs would write it; without their 2 ms each, beside a model at work."""
    from numcodecs import Zstd
    from numcodecs.blosc import BITSHUFFLE, Blosc
    from numcodecs.vlen import VLenUTF8

    if variable.dtype == "str":
        return bytes(Zstd(level=0).encode(VLenUTF8().encode(part)))
    plain = np.ascontiguousarray(part, np.dtype(variable.dtype).newbyteorder("<"))
    return bytes(Blosc("lz4", _LEVEL, BITSHUFFLE).encode(plain))


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()


def _write(path: Path, content: bytes) -> None:
    """A file of which nothing counts yet."""
    try:
        path.write_bytes(content)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _replace(path: Path, content: bytes) -> None:
    """A file as a whole, or as it was."""
    unfinished = path.with_name(path.name + ".part")
    _write(unfinished, content)
    unfinished.replace(path)

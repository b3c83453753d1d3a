"""A recorded run: its numbers as an xarray.Dataset, its tokens, its branches."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.config import Config
from goose_viz.errors import GooseError
from goose_viz.frames import Frames
from goose_viz.observables import OBSERVABLES
from goose_viz.trace import layout
from goose_viz.trace.chunks import check, codec_of
from goose_viz.trace.growing import Variable

if TYPE_CHECKING:
    import xarray

_NEEDED = (
    "model", "tokenizer", "n_parameters", "end_token", "device", "dtype", "sampler", "observables",
    "layers", "every", "branches", "edits", "complete", "ended",
)  # fmt: skip

# kinds of number that a variable may have, by what it was written as
_KINDS = {"int64": "iu", "int32": "iu", "float32": "f", "bool": "b", "str": "OUT"}
_REMEMBERED = 192 << 20  # bytes of chunks


class Trace:
    """What `goose_viz.record` wrote; opened by `goose_viz.open_trace`.

    Attributes
    ----------
    path : Path
    attributes : dict
        Of the whole: model, its files' hashes, config, device, sampler, edits, version, whether it
        is complete and how it ended.
    config : Config
        Of the model.
    dataset : xarray.Dataset
        Numbers are read when they are looked at.  Axes ``token layer head value key channel``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attributes, self.config = _about(path)
        self._columns: dict[str, NDArray[Any]] = {}
        self._chunks: OrderedDict[tuple[str, int, int], NDArray[Any]] = OrderedDict()
        self._taken = 0  # bytes of them

    def __repr__(self) -> str:
        """What it is of."""
        return f"<Trace of {self.attributes['model']}: {len(self)} tokens, {self.path.name}>"

    def __len__(self) -> int:
        """Tokens that have numbers."""
        return int(self.dataset.sizes["token"])

    def _repr_html_(self) -> str:
        """For notebooks: a line, and the dataset as xarray shows it."""
        import html

        return f"<p>{html.escape(repr(self))}</p>" + self.dataset._repr_html_()

    @cached_property
    def dataset(self) -> xarray.Dataset:
        """All that was recorded."""
        import xarray

        try:
            found: xarray.Dataset = xarray.open_zarr(self.path, chunks=None, consolidated=True)
        except Exception as error:  # Zarr, JSON, codecs: a damaged folder can fail in any way
            raise GooseError(
                f"{self.path.name}: cannot be read as a trace ({type(error).__name__}: {error}); "
                "record it again"
            ) from None
        if "token" not in found.sizes:
            raise GooseError(f"{self.path.name}: has no tokens; record it again")
        # v has the name of an axis, which xarray takes for a sign of a coordinate
        return found.reset_coords("value") if "value" in found.coords else found

    def refresh(self) -> None:
        """See what was written since, of a trace that is being recorded."""
        self.attributes, self.config = _about(self.path)
        for known in ("dataset", "_written"):
            self.__dict__.pop(known, None)
        self._columns.clear()
        self._chunks.clear()
        self._taken = 0

    @property
    def complete(self) -> bool:
        """Whether the recording came to its end; if not, it goes on, or was cut off."""
        return bool(self.attributes["complete"])

    @property
    def observables(self) -> tuple[str, ...]:
        """What was recorded, by the names of `goose_viz.OBSERVABLES`."""
        return tuple(self.attributes["observables"])

    @property
    def text(self) -> str:
        """The text of the branch that was begun last."""
        return "".join(self.texts())

    def texts(self, branch: int | None = None) -> list[str]:
        """What each token of a branch completes, thinned or not."""
        name = "text" if self.attributes["every"] == 1 else "all_text"
        words = self.column(name)
        return [str(words[i]) for i in self.way(branch)]

    def column(self, name: str) -> NDArray[Any]:
        """All rows of a variable; read once."""
        if name not in self._columns:
            self._columns[name] = self._values(self._variable(name))
        return self._columns[name]

    def numbers(
        self, name: str, rows: NDArray[np.int64], layers: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """Some rows of an observable, and of its layers by their place; (rows, layers, …).

        The chunks that they lie in are remembered for a while.
        """
        array = self._variable(name)
        size = int(array.encoding["chunks"][0])
        places = range(array.shape[1]) if layers is None else layers
        out = np.empty((len(rows), len(places), *array.shape[2:]), array.dtype)
        for k in np.unique(rows // size).tolist():
            mine = rows // size == k
            for i, place in enumerate(places):
                out[mine, i] = self._chunk(name, k, size, place)[rows[mine] - k * size]
        return out

    def _chunk(self, name: str, k: int, size: int, place: int) -> NDArray[Any]:
        known = self._chunks.pop((name, k, place), None)
        if known is None:
            part = slice(k * size, (k + 1) * size)
            known = self._values(self.dataset[name].isel(token=part, layer=place), (k, place))
            self._taken += known.nbytes
            while self._chunks and self._taken > _REMEMBERED:
                self._taken -= self._chunks.popitem(last=False)[1].nbytes
        self._chunks[name, k, place] = known
        return known

    def _variable(self, name: str) -> xarray.DataArray:
        """A variable as it was written: with these axes, of this kind of number."""
        if name not in self.dataset:
            raise GooseError(f"{self.path.name} has no {name}; record it again")
        array, expected = self.dataset[name], self._written.get(name)
        if expected is not None and (
            array.dims != expected.dims
            or array.shape[1:] != expected.shape
            or array.dtype.kind not in _KINDS[expected.dtype]
        ):
            raise GooseError(
                f"{self.path.name}: {name} is {array.dtype} {dict(array.sizes)}, expected "
                f"{expected.dtype} {expected.dims} {expected.shape}; record it again"
            )
        return array

    @cached_property
    def _written(self) -> dict[str, Variable]:
        about = self.attributes
        found = layout.variables(self.config, self.observables, len(about["layers"]), "float32")
        return found | layout.THINNED

    def _values(self, array: xarray.DataArray, chunk: tuple[int, int] | None = None) -> NDArray[
        Any
    ]:  # fmt: skip
        """Its numbers, read from the disk: of all chunks, or of a block's of a layer."""
        name = str(array.name)
        encoding = self.dataset[name].encoding
        try:
            shape, size = self.dataset[name].shape, encoding["chunks"]
            places: Iterable[tuple[int, ...]] = np.ndindex(
                *(-(-n // s) for n, s in zip(shape, size, strict=True))
            )
            if chunk is not None:
                places = [(*chunk, *(0 for _ in shape[2:]))]
            files = (self.path.joinpath(name, "c", *map(str, place)) for place in places)
            written = np.dtype(encoding.get("dtype", array.dtype))
            itemsize = 0 if written.kind in _KINDS["str"] else written.itemsize
            check(files, size, itemsize, codec_of(encoding))
            return np.asarray(array.values)
        except Exception as error:  # a damaged chunk can fail in any way
            raise GooseError(
                f"{self.path.name}: {array.name} cannot be read ({type(error).__name__}: {error}); "
                "record it again"
            ) from None

    # -- branches --------------------------------------------------------------------------------

    @property
    def branches(self) -> list[dict[str, Any]]:
        """``parent`` (None for a beginning) and ``fork``, the index of its first token, of each."""
        return list(self.attributes["branches"])

    def way(self, branch: int | None = None, *, thinned: bool = False) -> NDArray[np.int64]:
        """Rows of the tokens of a branch, its parents' before it, from the first token on.

        Parameters
        ----------
        branch : int, optional
            The last one that was begun when left out.
        thinned : bool
            Rows along ``token``, of those that have numbers, instead of all tokens'.

        Raises
        ------
        GooseError
            If there is no such branch.
        """
        there = self.branches
        branch = len(there) - 1 if branch is None else branch
        if not there:
            return np.zeros(0, np.int64)
        lineage = self.lineage(branch)
        whole = self.attributes["every"] == 1 or thinned
        name = "branch" if whole else "all_branch"
        of = self.column(name)
        index = self.column("token") if whole else _indices(of, there)
        rows: list[NDArray[np.int64]] = []
        before = np.iinfo(np.int64).max
        for at in lineage:
            rows.append(np.flatnonzero((of == at) & (index < before)))
            before = there[at]["fork"]
        return np.concatenate(rows[::-1])

    def lineage(self, branch: int) -> list[int]:
        """A branch, and those that it came from, the nearest first.

        Raises
        ------
        GooseError
            If there is no such branch.
        """
        there = self.branches
        if not 0 <= branch < len(there):
            raise GooseError(f"there is no branch {branch}; there are {len(there)}")
        out, at = [], there[branch]["parent"]
        while at is not None:
            out.append(at)
            at = there[at]["parent"]
        return [branch, *out]

    # -- numbers ---------------------------------------------------------------------------------

    def frames(
        self,
        rows: NDArray[np.int64],
        observables: tuple[str, ...] | None = None,
        layers: Sequence[int] | None = None,
    ) -> Frames:
        """Rows along ``token``, of one branch, as `goose_viz.analysis` takes them.

        Raises
        ------
        GooseError
            If an observable or a layer was not recorded.
        """
        names = self.observables if observables is None else observables
        missing = [n for n in names if n not in self.observables]
        if missing:
            raise GooseError(
                f"{self.path.name} has no {', '.join(missing)}; record it with "
                f"observables={sorted({*self.observables, *missing})}"
            )
        known = tuple(self.attributes["layers"])
        wanted = known if layers is None else tuple(layers)
        if gone := [i for i in wanted if i not in known]:
            raise GooseError(f"{self.path.name} has no layer {gone[0]}; it has {known}")
        places = None if layers is None else [known.index(i) for i in wanted]
        arrays = {n: self.numbers(n, rows, places) for n in names}
        tokens = self.column("token_id")[rows].tolist()
        index = self.column("token")[rows]
        return Frames(
            arrays, wanted, tokens, self.config.n_head,
            start=int(index[0]) if len(index) else 0, removal_scale=self.config.removal_scale,
        )  # fmt: skip


def _indices(of: NDArray[Any], branches: list[dict[str, Any]]) -> NDArray[np.int64]:
    """Index in its text of every token, by the branch that each is of."""
    out = np.zeros(len(of), np.int64)
    for number, branch in enumerate(branches):
        mine = np.flatnonzero(of == number)
        out[mine] = branch["fork"] + np.arange(len(mine))
    return out


def _about(path: Path) -> tuple[dict[str, Any], Config]:
    try:
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
        found = attributes["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise GooseError(
            f"{path}: is no trace; expected a folder that goose-viz record wrote"
        ) from None
    if found != layout.FORMAT:
        raise GooseError(f"{path.name}: its format is {found!r}; expected {layout.FORMAT!r}")
    try:
        config = Config(**{f.name: attributes["config"][f.name] for f in fields(Config)})
    except (KeyError, TypeError, AttributeError):
        raise GooseError(f"{path.name}: no config in its attributes") from None
    missing = [n for n in _NEEDED if n not in attributes]
    if missing:
        raise GooseError(f"{path.name}: no {', no '.join(missing)} in its attributes")
    if not _sound(attributes, config):
        raise GooseError(f"{path.name}: its attributes do not fit each other; record it again")
    return attributes, config


def _sound(about: dict[str, Any], config: Config) -> bool:
    """Whether layers, branches and edits are what they say: a damaged file leads nowhere else."""
    try:
        sizes = (config.n_layer, config.n_embd, config.n_head, config.head_size, config.vocab_size)
        layers, branches, edits = about["layers"], about["branches"], about["edits"]
        return (
            all(type(n) is int and n > 0 for n in sizes)
            and layers
            and all(type(i) is int and 0 <= i < config.n_layer for i in layers)
            and len(set(layers)) == len(layers)
            and type(about["every"]) is int
            and about["every"] >= 1
            and all(name in OBSERVABLES for name in about["observables"])
            and all(
                type(b["fork"]) is int
                and b["fork"] >= 0
                and (b["parent"] is None or (type(b["parent"]) is int and 0 <= b["parent"] < i))
                for i, b in enumerate(branches)
            )
            and all(
                type(e["position"]) is int
                and type(e["kind"]) is str
                and e["branch"] in range(len(branches))
                for e in edits
            )
        )
    except (KeyError, TypeError, AttributeError):
        return False


def open_trace(path: str | os.PathLike[str]) -> Trace:
    """Open what `record` wrote, or is writing.

    Raises
    ------
    GooseError
        If it is no trace.
    """
    return Trace(Path(path))


def is_trace(path: str | os.PathLike[str]) -> bool:
    """Whether a folder is one that `record` wrote; never raises."""
    try:
        _about(Path(path))
    except GooseError:
        return False
    return True

"""Where a corpus is recorded: a Zarr v3 group at any fsspec address, a trace for each document.

A document counts when the ``zarr.json`` of its trace is there, which comes last: in a folder of
this machine with all others, by renaming; elsewhere as one file behind them.  What a worker leaves
that dies before is removed, or written over with the same bytes, by who does the document.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec

from goose_viz.documents import Document
from goose_viz.errors import GooseError
from goose_viz.files import write_whole
from goose_viz.trace import Trace, open_trace

if TYPE_CHECKING:
    import xarray

FORMAT = "goose-viz corpus 1"
_ABOUT = "zarr.json"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")  # of a document


class Store:
    """A place for documents' traces.

    Parameters
    ----------
    url : str
        A path, or what fsspec takes: ``"s3://bucket/folder"``, ``"memory://folder"`` …

    Raises
    ------
    GooseError
        If nothing that is installed speaks to such an address.
    """

    def __init__(self, url: str) -> None:
        try:
            self._fs, self.root = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise GooseError(f"{url}: no way to write there ({error})") from None
        here = "file" in _protocols(self._fs) and "::" not in url
        # an absolute path for processes elsewhere; other addresses as they are: some name a host
        self.url = self._fs.unstrip_protocol(self.root) if here else url.rstrip("/")

    @property
    def local(self) -> Path | None:
        """The folder, if it is one of this machine."""
        return Path(self.root) if self.url.startswith("file://") else None

    @property
    def in_memory(self) -> bool:
        """Whether it is gone with this process."""
        return "memory" in _protocols(self._fs)

    def about(self) -> dict[str, Any] | None:
        """What the store says of itself; None if nothing is there yet.

        Raises
        ------
        GooseError
            If something else is there.
        """
        found = self._json(_ABOUT)
        if found is None:
            if self._fs.exists(self.root) and self._fs.ls(self.root, detail=False):
                raise GooseError(f"{self.url}: is there already and no corpus; choose another name")
            return None
        about = found.get("attributes")
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise GooseError(f"{self.url}: is no corpus; expected what record --corpus wrote")
        return about

    def begin(self, about: dict[str, Any]) -> None:
        """Write what it is of."""
        self._write(_ABOUT, {"zarr_format": 3, "node_type": "group", "attributes": about})

    def finished(self, name: str) -> dict[str, Any] | None:
        """The ``zarr.json`` of a finished document; None if it is not there, or not whole."""
        return _finished(self._json(f"{name}/{_ABOUT}"))

    @contextmanager
    def place_for(self, document: Document, scratch: str | None) -> Iterator[Path]:
        """A path to write a document's trace to, which is brought to the store then.

        Where the store is a folder of this machine the path lies in it, under a name that starts
        with a dot, and is renamed; elsewhere it lies in ``scratch``, or among temporary files.
        """
        name, local = document.name, self.local
        if local is None:
            with tempfile.TemporaryDirectory(prefix="goose-viz-", dir=scratch) as folder:
                path = Path(folder) / name
                yield path
                self._upload(path, name, _described(path, document))
            return
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=local) as folder:
            path = Path(folder) / name
            yield path
            write_whole(path / _ABOUT, json.dumps(_described(path, document), indent=2).encode())
            if self.finished(name) is None:  # another may have been faster
                shutil.rmtree(local / name, ignore_errors=True)
                path.rename(local / name)
        for left in local.glob(f".{name}.*"):  # by workers that died
            shutil.rmtree(left, ignore_errors=True)

    def _upload(self, folder: Path, name: str, about: dict[str, Any]) -> None:
        """Bring a whole trace there, what makes it count at the end."""
        files = [p for p in folder.rglob("*") if p.is_file() and p != folder / _ABOUT]
        there = [f"{self.root}/{name}/{p.relative_to(folder).as_posix()}" for p in files]
        for parent in {t.rpartition("/")[0] for t in there}:
            self._fs.makedirs(parent, exist_ok=True)
        self._fs.put([os.fspath(p) for p in files], there)
        self._write(f"{name}/{_ABOUT}", about)

    def names(self) -> list[str]:
        """Names of all that lies there, finished or not."""
        found = self._fs.ls(self.root, detail=True)
        return sorted(
            name
            for f in found
            if f["type"] == "directory"
            and _NAME.fullmatch(name := f["name"].rstrip("/").rpartition("/")[2])
        )

    def every(self) -> dict[str, dict[str, Any]]:
        """Name -> what is said of it, of every finished document; file by file, as they stand."""
        paths = {f"{self.root}/{name}/{_ABOUT}": name for name in self.names()}
        found = self._fs.cat(list(paths), on_error="omit") if paths else {}
        known = {
            paths[self._fs._strip_protocol(path)]: _finished(_object(content))
            for path, content in found.items()
        }
        there = {n: _row(n, a) for n, a in known.items() if a is not None}
        return dict(sorted(there.items(), key=lambda e: (e[1]["file"], e[1]["number"])))

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            return _object(self._fs.cat_file(f"{self.root}/{name}"))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _write(self, name: str, content: dict[str, Any]) -> None:
        """Write a file that is there as a whole or not at all."""
        path = f"{self.root}/{name}"
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        with self._fs.transaction, self._fs.open(path, "wb") as file:
            file.write(json.dumps(content, indent=2).encode())


class Corpus:
    """Documents that were recorded; opened by `goose_viz.open_corpus`.

    Attributes
    ----------
    url : str
    attributes : dict
        Of the whole: model, what is recorded, tokens written behind each document, sampler.
    failed : dict of str to str
        Document -> why it is not there, of the `record_corpus` that gave this.
    """

    def __init__(self, store: Store, failed: dict[str, str] | None = None) -> None:
        about = store.about()
        if about is None:
            raise GooseError(f"{store.url}: there is no corpus")
        self._store, self.url, self.attributes = store, store.url, about
        self.failed = dict(failed or {})

    def __repr__(self) -> str:
        """What it is."""
        return f"<Corpus of {len(self)} documents, {self.url}>"

    def __len__(self) -> int:
        """Documents that are finished."""
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.names)

    @property
    def names(self) -> list[str]:
        """Names of finished documents."""
        return sorted(self._store.every())

    @property
    def documents(self) -> list[dict[str, Any]]:
        """Of each that is finished its ``name``, ``file``, ``number``, ``sha256``, ``tokens``."""
        return list(self._store.every().values())

    def __getitem__(self, name: str) -> Trace:
        """A document's trace, of a store on this machine.

        Raises
        ------
        GooseError
            If there is no such document, or the store is somewhere else: see `dataset`.
        """
        if self._store.local is None:
            raise GooseError(
                f"{self.url} is no folder of this machine; use dataset({name!r}), or copy it here"
            )
        return open_trace(self._store.local / name)

    def dataset(self, name: str) -> xarray.Dataset:
        """A document's numbers by name, wherever they lie; read when they are looked at.

        Raises
        ------
        GooseError
            If there is no such document.
        """
        import xarray

        if self._store.finished(name) is None:
            raise GooseError(f"{self.url} has no document {name!r}")
        if self._store.local is not None:
            return self[name].dataset
        found: xarray.Dataset = xarray.open_zarr(f"{self.url}/{name}", chunks=None)
        return found


def open_corpus(url: str | os.PathLike[str]) -> Corpus:
    """Open what `record_corpus` wrote, or is writing.

    Parameters
    ----------
    url : str or path
        A path or what fsspec takes.

    Raises
    ------
    GooseError
        If it is none.
    """
    return Corpus(Store(os.fspath(url)))


def _described(folder: Path, document: Document) -> dict[str, Any]:
    """The ``zarr.json`` of a trace, which says of what document it is."""
    about: dict[str, Any] = json.loads((folder / _ABOUT).read_bytes())
    about["attributes"]["document"] = {
        "file": document.file, "number": document.number, "sha256": document.sha256,
    }  # fmt: skip
    return about


def _object(content: bytes) -> dict[str, Any] | None:
    """A JSON object; None of what a crash left half, which is written anew."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _finished(about: dict[str, Any] | None) -> dict[str, Any] | None:
    """The ``zarr.json`` of a document's trace; None of anything else."""
    attributes = {} if about is None else about.get("attributes")
    return about if isinstance(attributes, dict) and "document" in attributes else None


def _row(name: str, about: dict[str, Any]) -> dict[str, Any]:
    arrays = about["consolidated_metadata"]["metadata"]
    tokens = arrays.get("all_token_id", arrays["token_id"])["shape"][0]
    return {"name": name, **about["attributes"]["document"], "tokens": tokens}


def _protocols(fs: fsspec.AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)

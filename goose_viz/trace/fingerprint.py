"""Which weights a trace is of: the hashes that ``sha256sum`` gives of their files."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from pathlib import Path

from goose_viz.checkpoint import resolve
from goose_viz.checkpoint.folder import INDEX, shards

_PIECE = 1 << 20


class Fingerprint:
    """Hashes of a model's files, found beside other work: a large one takes a while.

    Attributes
    ----------
    found : dict of str to str
        File name -> sha256; a file is there once all of it is read.
    """

    def __init__(self, source: Path) -> None:
        self.found: dict[str, str] = {}
        self._stop = False
        self._thread = threading.Thread(target=self._work, args=(source,), daemon=True)
        self._thread.start()

    def wait(self, patience: float | None = None) -> None:
        """Until all are found, or for so many seconds; then it ends."""
        self._thread.join(patience)
        self._stop = True
        self._thread.join()

    def _work(self, source: Path) -> None:
        with contextlib.suppress(Exception):  # weights that lie in no file, or not any more
            source = resolve(source)
            for file in shards(source) if source.name.endswith(INDEX) else [source]:
                digest = hashlib.sha256()
                with file.open("rb") as content:
                    while piece := content.read(_PIECE):
                        if self._stop:
                            return
                        digest.update(piece)
                self.found[file.name] = digest.hexdigest()

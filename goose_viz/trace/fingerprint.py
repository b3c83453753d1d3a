"""Which weights a trace is of: the hashes that ``sha256sum`` gives of their files."""

from __future__ import annotations

import contextlib
import hashlib
import threading

from goose_viz.model import Model, facts_of

_PIECE = 1 << 20
_known: dict[tuple[int, ...], str] = {}  # by device, inode, size and time of the last change


class Fingerprint:
    """Hashes of a model's files, found beside other work: a large one takes a while.

    Attributes
    ----------
    found : dict of str to str
        File name -> sha256; a file is there once all of it is read.
    """

    def __init__(self, model: Model) -> None:
        self.found: dict[str, str] = {}
        self._stop = False
        self._thread = threading.Thread(target=self._work, args=(model,), daemon=True)
        self._thread.start()

    def wait(self, patience: float | None = None) -> None:
        """Until all are found, or for so many seconds; then it ends."""
        self._thread.join(patience)
        self._stop = True
        self._thread.join()

    def _work(self, model: Model) -> None:
        with contextlib.suppress(Exception):  # weights that lie in no file, or not any more
            for file, facts in model.files.items():
                if facts not in _known:
                    digest = hashlib.sha256()
                    with file.open("rb") as content:
                        while piece := content.read(_PIECE):
                            if self._stop:
                                return
                            digest.update(piece)
                    if facts_of(file) != facts:  # another lies there than the one that was loaded
                        return
                    _known[facts] = digest.hexdigest()
                elif facts_of(file) != facts:
                    return
                self.found[file.name] = _known[facts]

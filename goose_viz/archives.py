"""NumPy's archives (``.npz``) and arrays (``.npy``), which take no more memory than they hold.

`numpy.load` makes room for what a header says before it looks whether so much is there.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_ROOM = 256 << 20  # bytes that a small archive may become: the zeros of a large model's state
_PACKED = 16  # times the file that it may become besides


class Archive(zipfile.ZipFile):
    """A zip whose entries all lie in it.

    Raises
    ------
    zipfile.BadZipFile
        If it is none, or an entry claims more bytes than the file has.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        size = path.stat().st_size
        for info in self.infolist():
            stored = info.compress_type == zipfile.ZIP_STORED
            if info.compress_size > size or (stored and info.file_size != info.compress_size):
                self.close()
                raise zipfile.BadZipFile(
                    f"{info.filename} claims {max(info.compress_size, info.file_size):,} bytes, "
                    f"and the file has {size:,}"
                )


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an archive, by name.

    Raises
    ------
    ValueError, zipfile.BadZipFile, OSError
        If it is damaged, holds anything but arrays of numbers and texts, or unpacks to more than
        256 MB and 16 times the file.
    """
    arrays = {}
    with Archive(path) as archive:
        entries = archive.infolist()
        size, most = sum(i.file_size for i in entries), _ROOM + _PACKED * path.stat().st_size
        if size > most:
            raise ValueError(f"it unpacks to {size:,} bytes, {most:,} are read at most")
        for info in entries:
            with archive.open(info) as file:
                arrays[info.filename.removesuffix(".npy")] = _array(file, info.file_size)
    return arrays


def read_npy(path: Path) -> NDArray[Any]:
    """The array of a file.

    Raises
    ------
    ValueError, OSError
        If it is damaged, or holds anything but numbers and texts.
    """
    with path.open("rb") as file:
        return _array(file, path.stat().st_size)


def _array(file: IO[bytes], size: int) -> NDArray[Any]:
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"an array of the version {version}, which is not read")
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, and such are not read")
    count = 1
    for n in shape:  # in Python's numbers: they do not run over
        count *= n
    if min(shape, default=0) < 0 or count * dtype.itemsize != size - file.tell():
        raise ValueError(f"its header says {shape} of {dtype}, and {size} bytes are there in all")
    content = file.read()  # to the end, where a zip's checksum is looked at
    flat = np.frombuffer(content, dtype, count) if content else np.empty(count, dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy()

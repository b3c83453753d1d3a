"""``.pth`` files as PyTorch writes them, read without PyTorch and without running anything.

The file is a zip: one pickle that describes tensors, and one uncompressed entry per storage.  The
pickle is read by an unpickler that knows nothing but the few names below, each replaced by an
inert stand-in; any other name is refused before anything happens.  Storages are mapped, not read.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import re
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.archives import Archive
from goose_viz.checkpoint.names import WRAPPERS, holds_a_block, looks_like_a_model, one_model
from goose_viz.checkpoint.pickle_scan import scan
from goose_viz.checkpoint.tensor import Tensor
from goose_viz.errors import CheckpointError

#: Storage classes that a checkpoint may name: kind, item type.  Integers and booleans may be there
#: (a step counter, say); no RWKV-7 weight is one, and they are left out of the result.
_STORAGES: dict[str, tuple[str, str]] = {
    "BFloat16Storage": ("bf16", "u2"),
    "HalfStorage": ("fp16", "u2"),
    "FloatStorage": ("fp32", "f4"),
    "DoubleStorage": ("fp64", "f8"),
    "CharStorage": ("int", "i1"),
    "ByteStorage": ("int", "u1"),
    "ShortStorage": ("int", "i2"),
    "UInt16Storage": ("int", "u2"),
    "IntStorage": ("int", "i4"),
    "UInt32Storage": ("int", "u4"),
    "LongStorage": ("int", "i8"),
    "UInt64Storage": ("int", "u8"),
    "BoolStorage": ("int", "?"),
}
#: What trainers put beside the weights and what is skipped without being built: (module, name).
_INERT = {
    "argparse": ("Namespace",),
    "types": ("SimpleNamespace",),
    "collections": ("defaultdict", "deque", "Counter"),  # MultiStepLR has one
    "_codecs": ("encode",),  # how old protocols write bytes
    "__builtin__": ("set", "frozenset", "complex", "bytearray", "slice", "range", "xrange",
                    "object", "dict", "list", "tuple", "int", "long", "float", "bool", "str",
                    "unicode"),
    "datetime": ("datetime", "date", "time", "timedelta", "timezone"),
    "pathlib": ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath",
                "PureWindowsPath"),
    "numpy": ("dtype", "ndarray", "bool_", "float16", "float32", "float64", "int8", "int16",
              "int32", "int64", "uint8", "uint16", "uint32", "uint64", "complex64", "str_"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy.core.numeric": ("_frombuffer",),
    "torch.storage": ("UntypedStorage", "TypedStorage"),
    "torch.serialization": ("_get_layout",),
    "torch._utils": ("_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor", "_rebuild_qtensor",
                     "_rebuild_tensor_v3", "_rebuild_device_tensor_from_numpy",
                     "_rebuild_meta_tensor_no_storage", "_rebuild_nested_tensor"),
    "lightning.fabric.utilities.data": ("AttributeDict",),
    "lightning_fabric.utilities.data": ("AttributeDict",),
    "pytorch_lightning.utilities.parsing": ("AttributeDict",),
}  # fmt: skip
#: Of ``torch`` itself: its sizes, devices, types of numbers, layouts and storages.
_INERT_TORCH = re.compile(
    r"Size|device|dtype|layout|memory_format|half|float|double|short|int|long|bool|strided"
    r"|(bfloat|float|u?int|qu?int|complex|bits)\d\w*|per_\w+|sparse_\w+|\w+Storage"
)
_SAME = {"builtins": "__builtin__", "numpy._core": "numpy.core", "pathlib._local": "pathlib"}
#: What nothing that describes data asks for: whoever loads it the usual way has it run.
_UNSAFE = (
    "os", "posix", "nt", "sys", "subprocess", "builtins", "__builtin__", "shutil", "socket", "pty",
    "runpy", "importlib", "ctypes", "webbrowser", "code", "pickle", "_pickle", "operator", "timeit",
    "functools", "asyncio", "multiprocessing", "threading", "signal", "tempfile", "urllib", "http",
    "requests", "platform", "commands", "marshal", "inspect", "pdb", "bdb", "pip", "ast",
)  # fmt: skip
_WRAPPED = 5  # dictionaries in dictionaries, at most
_MAX_PICKLE = 64 << 20  # bytes; a description of 10,000 tensors takes some 2 MB


class _Name:
    """An inert stand-in for a name in the pickle; it cannot be altered from the stream."""

    __slots__ = ("_name",)
    _name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __setattr__(self, key: str, value: object) -> None:
        raise pickle.UnpicklingError("the stream tries to alter a name")


class _Found(_Name):
    """A tensor, out of the stream's reach until all is read."""

    __slots__ = ("tensor",)
    tensor: Tensor

    def __init__(self, tensor: Tensor) -> None:
        object.__setattr__(self, "tensor", tensor)


class _StorageType(_Name):
    __slots__ = ()

    @property
    def kind(self) -> str:
        return _STORAGES[self._name][0]

    @property
    def item(self) -> str:
        return _STORAGES[self._name][1]


class _RebuildTensor(_Name):
    """``torch._utils._rebuild_tensor_v2``: a view of a storage."""

    __slots__ = ()

    def __call__(
        self,
        storage: tuple[str, NDArray[np.generic]] | _Skipped,
        offset: int,
        size: tuple[int, ...],
        stride: tuple[int, ...],
        *_ignored: object,  # requires_grad, backward hooks, metadata
    ) -> _Found | _Skipped:
        if isinstance(storage, _Skipped):  # complex numbers, say
            return storage
        kind, flat = storage
        if len(size) != len(stride) or min((*size, *stride, offset, 0)) < 0:
            raise CheckpointError(f"a tensor has the impossible shape {size} with strides {stride}")
        last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
        if 0 not in size and (last >= flat.size or math.prod(size) > flat.size):
            raise CheckpointError(
                f"a tensor of shape {tuple(size)} claims more than the {flat.size} numbers stored"
            )
        strides = [s * flat.itemsize for s in stride]
        view = np.lib.stride_tricks.as_strided(flat[offset:], size, strides, writeable=False)
        return _Found(Tensor(view, kind))


class _RebuildParameter(_Name):
    """``torch._utils._rebuild_parameter``: the tensor itself."""

    __slots__ = ()

    def __call__(self, data: _Found, *_ignored: object) -> _Found:
        return data


class _Skipped:
    """Stands for anything that is no tensor: made of whatever arguments, filled with whatever."""

    __slots__ = ()

    def __new__(cls, *_: object, **__: object) -> _Skipped:
        return object.__new__(cls)

    def _nothing(*_: object) -> None:
        """Takes in, keeps nothing."""

    __setstate__ = __setitem__ = append = extend = add = update = _nothing


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, storages: _Storages) -> None:
        super().__init__(file, encoding="utf-8")
        self._storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _RebuildTensor(name)
        if module == "torch._utils" and name in (
            "_rebuild_parameter", "_rebuild_parameter_with_state"
        ):  # fmt: skip
            return _RebuildParameter(name)
        if module == "torch" and name in _STORAGES:
            return _StorageType(name)
        known = module
        for new, old in _SAME.items():
            known = old + known.removeprefix(new) if known.startswith(new) else known
        inert = name in _INERT.get(known, ()) or (known == "numpy.dtypes" and name.isidentifier())
        if inert or (module == "torch" and _INERT_TORCH.fullmatch(name)):
            return _Skipped
        asked = f"its pickle asks for {module}.{name}"
        if module.partition(".")[0] in _UNSAFE:
            raise CheckpointError(
                f"{asked}, which runs code in programs that load it without looking; nothing was "
                "run here, do not trust this file"
            )
        raise CheckpointError(
            f"{asked}, which describes no tensor, so nothing was made of it; save the weights "
            "alone: torch.save(model.state_dict(), path)"
        )

    def persistent_load(self, pid: Any) -> tuple[str, NDArray[np.generic]] | _Skipped:
        tag, storage_type, key, _device, n_items = pid
        if tag == "storage" and storage_type is _Skipped:
            return _Skipped()
        if tag != "storage" or not isinstance(storage_type, _StorageType):
            raise CheckpointError(f"its pickle refers to {tag!r} where a storage belongs")
        return storage_type.kind, self._storages.array(str(key), storage_type.item, int(n_items))


class _Storages:
    """The mapped file and where each zip entry's bytes lie in it."""

    def __init__(self, path: Path, archive: Archive, prefix: str) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._entries = {info.filename: info for info in archive.infolist()}
        self._prefix = prefix
        order = self._entries.get(f"{prefix}byteorder")
        self._order = ">" if order is not None and archive.read(order) == b"big" else "<"

    def array(self, key: str, item: str, n_items: int) -> NDArray[np.generic]:
        info = self._entries.get(f"{self._prefix}data/{key}")
        if info is None:
            raise CheckpointError(f"storage {key} is missing from the archive")
        start = info.header_offset
        header = self._map[start : start + 30]
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise CheckpointError(f"storage {key} does not lie where the archive says")
        name_length, extra_length = struct.unpack("<HH", header[26:30])
        start += 30 + name_length + extra_length
        dtype = np.dtype(self._order + item) if item != "?" else np.dtype(item)
        if n_items * dtype.itemsize > info.file_size or start + info.file_size > len(self._map):
            raise CheckpointError(
                f"storage {key} should hold {n_items} numbers, but {info.file_size} bytes are "
                "there; the file may be truncated, download it again"
            )
        flat = np.frombuffer(self._map, dtype, n_items, start)
        return flat.astype(dtype.newbyteorder("<")) if self._order == ">" else flat


def read(path: Path) -> dict[str, Tensor]:
    """Read every float tensor of a ``.pth`` file; the bytes stay mapped.

    Raises
    ------
    CheckpointError
        If the file is not such a zip, is damaged, is compressed, or asks for a name outside the
        list of those that describe tensors.
    """
    try:
        with Archive(path) as archive:
            return _read(path, archive)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from None
    except zipfile.BadZipFile:
        raise CheckpointError(
            f"{path.name}: not a complete zip archive, as PyTorch writes them since 1.6; if it was "
            "downloaded, download it again; if it is older, save it again with torch.save"
        ) from None
    except Exception as error:  # a pickle stream can fail in any way it likes
        raise CheckpointError(
            f"{path.name}: its description of the tensors is damaged "
            f"({type(error).__name__}: {error}); download it again"
        ) from None


def _read(path: Path, archive: Archive) -> dict[str, Tensor]:
    pickles = [i for i in archive.infolist() if i.filename.endswith("/data.pkl")]
    if "wkv.npy" in archive.namelist():
        raise CheckpointError("a snapshot that goose-viz wrote, not a model; resume it instead")
    if len(pickles) != 1:
        raise CheckpointError(
            f"a zip archive with {len(pickles)} data.pkl inside where torch.save writes one; "
            "this is not a PyTorch checkpoint"
        )
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(
                f"{info.filename} is compressed ({info.compress_size} bytes that claim to become "
                f"{info.file_size}); torch.save never compresses, so it is not unpacked"
            )
    (description,) = pickles
    if description.file_size > _MAX_PICKLE:
        raise CheckpointError(
            f"its description of the tensors takes {description.file_size >> 20} MB, more than the "
            f"{_MAX_PICKLE >> 20} MB that any model needs"
        )
    prefix = description.filename[: -len("data.pkl")]
    storages = _Storages(path, archive, prefix)
    stream = archive.read(description)
    scan(stream)
    content = _Unpickler(io.BytesIO(stream), storages).load()
    found = list(_dictionaries(content))
    if not found:
        raise CheckpointError(
            f"it holds one {type(content).__name__} where a dictionary of tensors belongs"
        )
    models = {where: tensors for where, tensors in found if looks_like_a_model(tensors)}
    tensors = models[one_model(list(models))] if models else next((t for _, t in found if t), {})
    for name, tensor in tensors.items():
        if isinstance(tensor, _Skipped) and holds_a_block(name):
            raise CheckpointError(
                f"{name} is of a kind of number that is not read (float8, complex, sparse or "
                "quantised by PyTorch); save it as float32, bfloat16 or float16"
            )
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}


def _dictionaries(content: Any) -> Iterator[tuple[str, dict[str, Tensor | _Skipped]]]:
    """(keys that lead there, float tensors and what was skipped) of each, outer before inner."""
    level: list[tuple[str, Any]] = [("", content)]
    for _ in range(_WRAPPED):
        inner: list[tuple[str, Any]] = []
        for where, held in level:
            if isinstance(held, dict):
                yield (
                    where,
                    {
                        name: value.tensor if isinstance(value, _Found) else value
                        for name, value in held.items()
                        if isinstance(name, str)
                        and isinstance(value, _Found | _Skipped)
                        and not (isinstance(value, _Found) and value.tensor.kind == "int")
                    },
                )
                keys = [k for k in WRAPPERS if k in held]
                keys += [k for k in held if k not in WRAPPERS]
                inner += [(f"{where}.{k}".lstrip("."), held[k]) for k in keys]
            elif isinstance(held, list | tuple):
                inner += [(where, value) for value in held]
        level = [(where, v) for where, v in inner if isinstance(v, dict | list | tuple)]

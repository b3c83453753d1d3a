"""Writes ``.pth`` files as PyTorch does, without PyTorch: a pickle of stand-ins in a plain zip."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

KINDS = {"bf16": "BFloat16Storage", "fp16": "HalfStorage", "fp32": "FloatStorage",
         "fp64": "DoubleStorage", "i8": "LongStorage"}  # fmt: skip


class FakeTorch:
    """Puts just enough of a ``torch`` into sys.modules for the pickler to name it."""

    def __enter__(self):
        self.torch, self.utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
        for name in KINDS.values():
            setattr(self.torch, name, type(name, (), {"__module__": "torch"}))
        for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            function = types.FunctionType((lambda *a: None).__code__, {}, name)
            function.__module__, function.__qualname__ = "torch._utils", name
            setattr(self.utils, name, function)
        self.kept = {k: sys.modules.get(k) for k in ("torch", "torch._utils")}
        sys.modules["torch"], sys.modules["torch._utils"] = self.torch, self.utils
        return self

    def __exit__(self, *_):
        for name, module in self.kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Storage:
    def __init__(self, key, kind, size):
        self.key, self.kind, self.size = key, kind, size


class View:
    """A tensor over a storage."""

    def __init__(self, storage, offset, size, stride, parameter=False):
        self.args = (storage, offset, size, stride, False, OrderedDict())
        self.parameter = parameter


def write(path, views, storages, *, big_endian=False, compress=False, wrap=None, extra=None):
    """views: name -> View or any object; storages: key -> (kind, bits array)."""
    with FakeTorch() as fake:

        class Pickler(pickle.Pickler):
            def persistent_id(self, obj):
                if isinstance(obj, Storage):
                    kind = getattr(fake.torch, KINDS[obj.kind])
                    return ("storage", kind, obj.key, "cpu", obj.size)
                return None

            def reducer_override(self, obj):
                if isinstance(obj, View):
                    if obj.parameter:
                        plain = View(*obj.args[:4])
                        return fake.utils._rebuild_parameter, (plain, False, OrderedDict())
                    return fake.utils._rebuild_tensor_v2, obj.args
                return NotImplemented

        content = OrderedDict(views)
        buffer = io.BytesIO()
        Pickler(buffer, protocol=2).dump(wrap(content) if wrap else content)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as z:
        z.writestr("archive/data.pkl", buffer.getvalue())
        z.writestr("archive/byteorder", "big" if big_endian else "little")
        for key, (_, bits) in storages.items():
            ordered = bits.astype(bits.dtype.newbyteorder(">")) if big_endian else bits
            z.writestr(f"archive/data/{key}", ordered.tobytes())
        for name, data in (extra or {}).items():
            z.writestr(name, data)


def contiguous(shape):
    strides, step = [], 1
    for n in reversed(shape):
        strides.insert(0, step)
        step *= n
    return tuple(strides)


def write_tensors(path, tensors, **options):
    """tensors: name -> (kind, bits array)."""
    views, storages = {}, {}
    for i, (name, (kind, bits)) in enumerate(tensors.items()):
        storage = Storage(str(i), kind, bits.size)
        views[name] = View(storage, 0, bits.shape, contiguous(bits.shape))
        storages[str(i)] = (kind, np.ascontiguousarray(bits))
    write(path, views, storages, **options)

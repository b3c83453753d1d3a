"""llama.cpp's own quantiser, out of the library that xllamacpp carries."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

#: What Q4_K_M keeps in more bits, by the ends of GGUF's names.
MORE_BITS = {"output.weight": "Q6_K", "channel_mix_value.weight": "Q6_K"}
#: The matrices that a file's type is the type of; low-rank ones stay as they are.
BIG = tuple(f"{n}.weight" for n in ("token_embd", "output", "key", "value", "receptance"))


@functools.cache
def _library() -> Any:
    found = importlib.util.find_spec("xllamacpp")
    if found is None or found.origin is None:
        raise SystemExit("xllamacpp is missing: pip install xllamacpp")
    folder = Path(found.origin).parent
    places = [*folder.rglob("*ggml-base*.so*"), *folder.rglob("*.so")]
    for path in [*places, *folder.parent.glob("xllamacpp.libs/*")]:
        library = ctypes.CDLL(str(path))
        if hasattr(library, "ggml_quantize_chunk"):
            library.ggml_quantize_chunk.restype = ctypes.c_size_t
            return library
    raise SystemExit("xllamacpp's library shows no ggml_quantize_chunk")


def quantise(numbers: NDArray[np.float32], kind: str) -> NDArray[np.uint8]:
    """Rows as blocks of one of GGUF's types: (rows, width) -> (rows, bytes)."""
    number = gguf.GGMLQuantizationType[kind]
    block, nbytes = gguf.GGML_QUANT_SIZES[number]
    numbers = np.ascontiguousarray(numbers, np.float32)
    rows, width = numbers.shape
    out = np.empty((rows, width // block * nbytes), np.uint8)
    library = _library()
    library.ggml_quantize_init(int(number))
    library.ggml_quantize_chunk(
        ctypes.c_int(int(number)), numbers.ctypes.data_as(ctypes.c_void_p),
        out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0), ctypes.c_int64(rows),
        ctypes.c_int64(width), None,
    )  # fmt: skip
    return out


def type_of(name: str, kind: str) -> str | None:
    """What a file of this kind keeps a tensor of GGUF's names in; None: as it is."""
    if not name.endswith(BIG):
        return None
    if kind == "Q4_K_M":
        return next((k for end, k in MORE_BITS.items() if name.endswith(end)), "Q4_K")
    return kind


def write_quantised(source: Path, target: Path, kind: str) -> None:
    """A GGUF file with its big matrices in another type, as llama.cpp quantises them."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "rwkv7")
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), field.types[0], sub_type=sub)
    for tensor in reader.tensors:
        chosen = type_of(tensor.name, kind)
        number = gguf.GGMLQuantizationType[chosen] if chosen else tensor.tensor_type
        block = gguf.GGML_QUANT_SIZES[number][0]
        if chosen is None or tensor.data.shape[-1] % block:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        writer.add_tensor(tensor.name, quantise(tensor.data, chosen), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

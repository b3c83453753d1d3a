"""Random RWKV-7 weights at the sizes of released models: for speed, where numbers do not matter.

    python benchmarks/random_weights.py --shape 0.1B --dtype fp32 --out FILE.safetensors

The numbers are of the size of trained ones, so that nothing overflows or sinks to denormals.
"""

from __future__ import annotations

import argparse
import json
import struct
from pathlib import Path

import numpy as np

from goose_viz.checkpoint.tensor import Tensor
from goose_viz.config import Config
from goose_viz.convert import convert
from goose_viz.weights import expected_shapes

_TYPES = {"fp32": "F32", "bf16": "BF16", "fp16": "F16"}

#: Released sizes: layers, width, ranks of decay, rate, value and gate.
SHAPES = {
    "0.1B": (12, 768, 64, 64, 32, 128),
    "0.4B": (24, 1024, 64, 64, 32, 128),
    "1.5B": (24, 2048, 96, 96, 64, 256),
    "2.9B": (32, 2560, 96, 96, 64, 320),
    "7.2B": (32, 4096, 128, 128, 96, 480),
}


def config(shape: str) -> Config:
    """Sizes of a World model."""
    L, D, w, a, v, g = SHAPES[shape]
    return Config(L, D, D // 64, 64, 4 * D, 65536, w, a, v, g, "safetensors")


def values(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """One tensor, float32."""
    z = rng.standard_normal(shape, np.float32)
    if name.endswith(("ln0.weight", "ln1.weight", "ln2.weight", "ln_x.weight", "ln_out.weight")):
        return 1 + 0.1 * z
    if name.endswith("w0"):
        return -2 + z
    if ".x_" in name:
        return rng.random(shape, np.float32)
    if name.endswith(("k_k", "k_a")):
        return 0.9 + 0.05 * z
    if len(shape) == 2 and not name.endswith("r_k"):
        fan_in = shape[0] if name[-1] in "12" else shape[1]
        return z * np.float32(0.5 / np.sqrt(fan_in))
    return 0.1 * z


def write(path: Path, shape: str, dtype: str) -> None:
    """Write a checkpoint in BlinkDL's names."""
    rng = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    header, offset, parts = {}, 0, []
    for name, dims in expected_shapes(config(shape)).items():
        parts.append(convert(Tensor(values(name, dims, rng), "fp32"), dtype).tobytes())
        ends = [offset, offset := offset + len(parts[-1])]
        header[name] = {"dtype": _TYPES[dtype], "shape": dims, "data_offsets": ends}
    head = json.dumps(header).encode()
    with path.open("wb") as file:  # by hand: the library's NumPy side cannot write bfloat16
        file.write(struct.pack("<Q", len(head)) + head + b"".join(parts))


def cached(shape: str, dtype: str) -> Path:
    """The file of a shape and type under build/bench, made if it is not there."""
    path = Path("build/bench") / f"{shape}-{dtype}.safetensors"
    if not path.exists():
        write(path, shape, dtype)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="0.1B")
    parser.add_argument("--dtype", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    write(args.out, args.shape, args.dtype)


if __name__ == "__main__":
    main()

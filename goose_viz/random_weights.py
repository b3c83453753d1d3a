"""Random RWKV-7 weights at the sizes of released models: for speed, where numbers do not matter.

The numbers are of the size of trained ones, so that nothing overflows or sinks to denormals, and
half of the channel mix is zero.  A few million normal numbers are repeated to fill a model.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from goose_viz.checkpoint.tensor import STORAGE, Tensor
from goose_viz.config import Config
from goose_viz.convert import convert
from goose_viz.weights import Weights, expected_shapes

#: Released sizes: layers, width, ranks of decay, rate, value and gate.
SHAPES = {
    "0.1B": (12, 768, 64, 64, 32, 128),
    "0.4B": (24, 1024, 64, 64, 32, 128),
    "1.5B": (24, 2048, 96, 96, 64, 256),
    "2.9B": (32, 2560, 96, 96, 64, 320),
    "7.2B": (32, 4096, 128, 128, 96, 480),
}
_POOL = (1 << 22) + 12289  # normal numbers; odd, so that rows do not fall into step


def config(shape: str) -> Config:
    """Sizes of a World model of a released size, one of `SHAPES`."""
    L, D, w, a, v, g = SHAPES[shape]
    return Config(L, D, D // 64, 64, 4 * D, 65536, w, a, v, g, "random")


class RandomNumbers:
    """Tensors by name and shape, float32."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._pool = self._rng.standard_normal(_POOL, np.float32)

    def of(self, name: str, dims: tuple[int, ...]) -> NDArray[np.float32]:
        """One tensor."""
        spread, mean = _of(name, dims)
        if mean is None:
            return self._rng.random(dims, np.float32)
        numbers = np.roll(self._pool, int(self._rng.integers(_POOL)))[: math.prod(dims)]
        return np.resize(numbers * spread + mean, dims)


def random_weights(shape: str, kind: str = "bf16") -> Weights:
    """Weights of a World model of a released size.

    Parameters
    ----------
    shape : str
        One of `SHAPES`.
    kind : str
        ``"fp32"``, ``"bf16"`` or ``"fp16"``.
    """
    numbers = RandomNumbers()
    tensors = {
        name: Tensor(
            convert(Tensor(numbers.of(name, dims), "fp32"), kind).view(STORAGE[kind]), kind
        )
        for name, dims in expected_shapes(config(shape)).items()
    }
    return Weights(config(shape), tensors, kind, Path(f"random-{shape}"))


def _of(name: str, dims: tuple[int, ...]) -> tuple[np.float32, np.float32 | None]:
    """(spread, mean) of a tensor's numbers; a mean of None stands for 0 to 1 evenly."""
    spread, mean = 0.1, 0.0
    if name.endswith(("ln0.weight", "ln1.weight", "ln2.weight", "ln_x.weight", "ln_out.weight")):
        mean = 1.0
    elif name.endswith("w0"):
        spread, mean = 1.0, -2.0
    elif ".x_" in name:
        return np.float32(1), None
    elif name.endswith(("k_k", "k_a")):
        spread, mean = 0.05, 0.9
    elif len(dims) == 2 and not name.endswith("r_k"):
        spread = 0.5 / math.sqrt(dims[0] if name[-1] in "12" else dims[1])
    return np.float32(spread), np.float32(mean)

"""The memory of a run: what RWKV-7 carries from token to token, of fixed size."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from goose_viz.config import Config
from goose_viz.errors import StateError
from goose_viz.files import write_whole

ORIENTATION = "(L,H,N,N) = [value,key]"
_FIELDS = ("wkv", "att_shift", "ffn_shift")


@dataclass(eq=False)
class State:
    """Everything the next token depends on.

    Attributes
    ----------
    wkv : ndarray (L, H, N, N)
        A matrix per head, [value, key]; float32, float64 on the reference device.
    att_shift, ffn_shift : ndarray (L, D)
        The previous token's normed input of the time mix and of the channel mix.
    """

    wkv: NDArray[Any]
    att_shift: NDArray[Any]
    ffn_shift: NDArray[Any]

    @classmethod
    def zeros(cls, config: Config, dtype: np.dtype[Any] | type = np.float32) -> State:
        """The state before the first token."""
        L, D, H, N = config.n_layer, config.n_embd, config.n_head, config.head_size
        return cls(np.zeros((L, H, N, N), dtype), np.zeros((L, D), dtype), np.zeros((L, D), dtype))

    @property
    def nbytes(self) -> int:
        """Bytes that the three arrays take."""
        return self.wkv.nbytes + self.att_shift.nbytes + self.ffn_shift.nbytes

    def copy(self) -> State:
        """An independent copy."""
        return State(self.wkv.copy(), self.att_shift.copy(), self.ffn_shift.copy())

    def assign(self, other: State) -> None:
        """Take over another state's numbers; this object's arrays stay where they are."""
        for name in _FIELDS:
            getattr(self, name)[:] = getattr(other, name)

    def edit(self) -> State:
        """The same state with arrays to write into; changes count from the next `forward` on.

        On the CPU that is the state itself.  On a card the arrays of a state are for looking at,
        since whatever may have been written has to be sent back before the next token.
        """
        return self

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The three arrays by name."""
        return {name: getattr(self, name) for name in _FIELDS}

    def make_ready(self, config: Config, dtype: np.dtype[Any]) -> None:
        """Check that the state is one of such a model, and have its arrays in a dtype.

        Raises
        ------
        StateError
            If the shapes are not those of a model's state.
        """
        c, wkv, att, ffn = config, self.wkv, self.att_shift, self.ffn_shift
        if (
            wkv.shape != (c.n_layer, c.n_head, c.head_size, c.head_size)
            or att.shape != (c.n_layer, c.n_embd)
            or ffn.shape != att.shape
        ):  # written out: this is asked before every token, and a dict has to be built
            self.check(config)
        for name, array in (("wkv", wkv), ("att_shift", att), ("ffn_shift", ffn)):
            if array.dtype != dtype or not array.flags.carray:  # kernels write to where it lies
                setattr(self, name, np.array(array, dtype, order="C"))

    def check(self, config: Config) -> None:
        """Raise StateError if the shapes are not those of a model's state."""
        expected = State.zeros_shapes(config)
        for name, shape in expected.items():
            found = getattr(self, name).shape
            if found != shape:
                raise StateError(
                    f"the state's {name} has the shape {found}; this model ({config.shape}) needs "
                    f"{shape}: use a state of the same model"
                )

    @staticmethod
    def zeros_shapes(config: Config) -> dict[str, tuple[int, ...]]:
        """Name -> shape of a model's state arrays."""
        L, D, H, N = config.n_layer, config.n_embd, config.n_head, config.head_size
        return {"wkv": (L, H, N, N), "att_shift": (L, D), "ffn_shift": (L, D)}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file; the metadata says the orientation of wkv."""
        arrays = {name: np.ascontiguousarray(a) for name, a in self.arrays().items()}
        metadata = {"format": "goose-viz state 1", "wkv": ORIENTATION}
        write_whole(Path(path), save(arrays, metadata=metadata))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> State:
        """Read a state, from `save` or from a snapshot in safetensors.

        Raises
        ------
        StateError
            If the file cannot be read, holds no state, or keeps it in another orientation.
        """
        path = Path(path)
        if not path.exists():
            raise StateError(f"{path}: there is no such file")
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                arrays = {n: file.get_tensor(n) for n in _FIELDS if n in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise StateError(f"{path.name}: not readable as a safetensors file ({error})") from None
        return cls.from_arrays(arrays, metadata.get("wkv"), path.name)

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, NDArray[Any]], orientation: str | None, source: str
    ) -> State:
        """Make a state from named arrays, checking that they are one."""
        missing = [name for name in _FIELDS if name not in arrays]
        if missing:
            raise StateError(
                f"{source}: no {' and no '.join(missing)} inside; expected a state or snapshot "
                "that goose-viz wrote"
            )
        if orientation != ORIENTATION:
            raise StateError(
                f"{source}: its metadata says wkv is {orientation!r}; expected {ORIENTATION!r}, "
                "since a transposed state runs without an error and means something else"
            )
        wkv, att, ffn = (arrays[name] for name in _FIELDS)
        kinds = {a.dtype.kind for a in (wkv, att, ffn)}
        if wkv.ndim != 4 or att.ndim != 2 or ffn.shape != att.shape or kinds != {"f"}:
            raise StateError(
                f"{source}: wkv {wkv.shape}, att_shift {att.shape}, ffn_shift {ffn.shape} do not "
                "belong together; expected floats (L,H,N,N), (L,D), (L,D)"
            )
        return cls(*(np.array(a) for a in (wkv, att, ffn)))

"""What a run remembers of the model's inside: observables, token by token."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.config import Config
from goose_viz.html import of_arrays
from goose_viz.observables import OBSERVABLES, shape_of


class Frame:
    """One token's observables, as attributes: ``frame.decay`` is (L, D).

    Attributes
    ----------
    layers : tuple of int
        The layers that the first axis of every array stands for.
    token : int
        Id of the token that was fed.
    n_head : int
        Heads of a layer: an axis of D channels is one of H heads times N.
    removal_scale : float
        c of the model, see `Config`.
    """

    __slots__ = ("_arrays", "layers", "n_head", "removal_scale", "token")

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        layers: tuple[int, ...],
        token: int = -1,
        n_head: int = 1,
        removal_scale: float = 1.0,
    ) -> None:
        self._arrays = dict(arrays)
        self.layers, self.token, self.n_head = layers, token, n_head
        self.removal_scale = removal_scale

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name.startswith("_"):  # while it is copied or unpickled there is nothing yet
            raise AttributeError(name)
        try:
            return self._arrays[name]
        except KeyError:
            probed = ", ".join(sorted(self._arrays))
            raise AttributeError(f"this frame keeps {probed}; {name!r} was not probed") from None

    def __repr__(self) -> str:
        """What it keeps."""
        probed = ", ".join(f"{name} {a.shape}" for name, a in sorted(self._arrays.items()))
        return f"<Frame of {len(self.layers)} layers: {probed}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        title = f"token {self.token}, {len(self.layers)} layers"
        return of_arrays(title, self._arrays, {n: o.meaning for n, o in OBSERVABLES.items()})

    def __dir__(self) -> Iterable[str]:
        return ["layers", "n_head", "removal_scale", "token", *self._arrays]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Observable name -> array."""
        return dict(self._arrays)


class Probe:
    """Asks a run to keep observables of every token it feeds.

    Parameters
    ----------
    observables : iterable of str
        Names out of `goose_viz.OBSERVABLES`.
    layers : iterable of int, optional
        The layers to keep; all when left out.

    Attributes
    ----------
    frames : list of Frame
        One per token fed since the last `clear`.

    Raises
    ------
    ValueError
        If an observable is unknown, the message lists those there are; or a layer is named twice.
    """

    def __init__(self, observables: Iterable[str], layers: Iterable[int] | None = None) -> None:
        self.observables = frozenset(observables)
        unknown = self.observables - OBSERVABLES.keys()
        if unknown:
            raise ValueError(
                f"no observable is called {', '.join(sorted(unknown))}; there are "
                f"{', '.join(OBSERVABLES)}"
            )
        self.layers = None if layers is None else tuple(layers)
        if self.layers is not None and len(set(self.layers)) < len(self.layers):
            raise ValueError(f"the probe asks for a layer twice: {self.layers}; name each once")
        self.frames: list[Frame] = []

    def clear(self) -> None:
        """Forget all frames."""
        self.frames.clear()

    def part_of(self, frame: Frame) -> Frame:
        """What it asks for of a frame that has it, of all layers."""
        layers = frame.layers if self.layers is None else self.layers
        rows = [frame.layers.index(layer) for layer in layers]
        arrays = {n: getattr(frame, n)[rows] for n in sorted(self.observables)}
        return Frame(arrays, layers, frame.token, frame.n_head, frame.removal_scale)

    def twin(self) -> Probe:
        """A probe that asks for the same and has no frames yet."""
        return Probe(self.observables, self.layers)


class Recorder:
    """What an engine writes one forward call's observables into: arrays of (T, layers, …)."""

    def __init__(
        self, probe: Probe, config: Config, tokens: Sequence[int], dtype: np.dtype[Any]
    ) -> None:
        self.layers = tuple(range(config.n_layer)) if probe.layers is None else probe.layers
        for layer in self.layers:
            if not 0 <= layer < config.n_layer:
                raise ValueError(f"the probe asks for layer {layer} of {config.n_layer}")
        self._tokens, self._n_head = tokens, config.n_head
        self._removal_scale = config.removal_scale
        self._row = {layer: row for row, layer in enumerate(self.layers)}
        self.arrays = {
            name: np.empty((len(tokens), len(self.layers), *shape_of(name, config)), dtype)
            for name in sorted(probe.observables)
        }

    def wants(self, name: str, layer: int) -> NDArray[Any] | None:
        """Where to write an observable of a layer: (T, …), or None when nobody asks for it."""
        row = self._row.get(layer)
        if row is None or name not in self.arrays:
            return None
        return self.arrays[name][:, row]

    def put_token(self, t: int, layer: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Keep what is asked for of one token's observables in one layer."""
        for name, value in values.items():
            target = self.wants(name, layer)
            if target is not None:
                target[t] = value

    def frames(self) -> list[Frame]:
        """The recorded tokens, one frame each.

        A frame owns its numbers: one that is kept must not hold a whole prompt's.
        """
        whole = len(self._tokens) == 1
        return [
            Frame(
                {name: a[t] if whole else a[t].copy() for name, a in self.arrays.items()},
                self.layers, token, self._n_head, self._removal_scale,
            )
            for t, token in enumerate(self._tokens)
        ]  # fmt: skip

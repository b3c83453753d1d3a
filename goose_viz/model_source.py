"""Which model a task wants: what is sent to workers instead of weights."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

from goose_viz.errors import GooseError
from goose_viz.files import assets
from goose_viz.model import Model, load_model

_given: WeakValueDictionary[ModelSource, Model] = WeakValueDictionary()
_loaded: dict[ModelSource, Model] = {}  # one at most
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class ModelSource:
    """How to load a model, wherever it is wanted.

    Attributes
    ----------
    source : str, optional
        As `load_model` takes it: a path that workers see too, or the name of an embedded model.
    device, dtype : str
    tokenizer : str, optional
    reads_with : str, optional
        What its tokenizer has to turn out to be.
    """

    source: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    tokenizer: str | None = None
    reads_with: str | None = None

    @classmethod
    def of(cls, model: Model) -> ModelSource:
        """That of a model that is loaded here; tasks in this process take it as it is."""
        path = model.source.absolute()
        inside = path.parent == (assets() / "models").absolute()
        name = path.name if inside else os.fspath(path)
        source = cls(name, model.device, model.dtype, reads_with=_reading(model))
        with _one_at_a_time:
            _given[source] = model
        return source

    def model(self) -> Model:
        """The model; loaded once a process.

        Raises
        ------
        GooseError
            If it cannot be loaded here, or reads texts in another way.
        """
        with _one_at_a_time:
            known = _given.get(self) or _loaded.get(self)
            if known is not None:
                return known
            _loaded.clear()
            model = load_model(
                self.source, device=self.device, dtype=self.dtype, tokenizer=self.tokenizer
            )
            if self.reads_with not in (None, _reading(model)):
                raise GooseError(
                    f"{model.name} reads texts with {_reading(model)} here, expected "
                    f"{self.reads_with}; give a ModelSource that names the tokenizer"
                )
            _loaded[self] = model
            return model

    def anywhere(self) -> ModelSource:
        """The same for a process that runs in another folder."""
        path = None if self.source is None else Path(self.source).expanduser()
        if path is None or not path.exists():
            return self
        return replace(self, source=os.fspath(path.absolute()))


def _reading(model: Model) -> str:
    tokenizer = model.tokenizer
    return f"the tokenizer {tokenizer.name} behind token {tokenizer.start_token}"

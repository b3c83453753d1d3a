"""What there is to say of a model: all that a view needs to know, and nothing that computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from goose_app.cells import Label
from goose_viz import Model
from goose_viz.checkpoint import FORMATS
from goose_viz.config import Config
from goose_viz.trace import Trace
from goose_viz.trace.memory import unknown


@dataclass(frozen=True)
class ModelFacts:
    """A model in words and numbers.

    Attributes
    ----------
    name : str
    config : Config
    label : callable int -> str
        A token's name by its id.
    tokenizer, device, device_words, dtype, file_format : str
    source : Path
        Where it was read from.
    asked : str or None
        What `goose_viz.load_model` was given.
    asked_tokenizer : str or None
        Which tokenizer, if one was named.
    notes : tuple of str
        What was not as it should be in its files.
    n_parameters, nbytes, state_bytes : int
    end_token : int or None
        What stands between two texts, if the vocabulary has it.
    recorded : frozenset of str or None
        What is known of a run that was recorded, and whose model is not here; None for a model.
    """

    name: str
    config: Config
    label: Label
    tokenizer: str
    source: Path
    asked: str | None
    asked_tokenizer: str | None
    file_format: str
    device: str
    device_words: str
    dtype: str
    notes: tuple[str, ...]
    n_parameters: int
    nbytes: int
    state_bytes: int
    end_token: int | None
    recorded: frozenset[str] | None = None

    @property
    def shape(self) -> str:
        """Layers, heads and widths in words."""
        c = self.config
        return f"{c.n_layer} layers × {c.n_head} heads of {c.head_size}, width {c.n_embd}"

    @property
    def in_words(self) -> str:
        """What the short line of the window stands for."""
        return (
            f"{self.shape}; {self.config.vocab_size:,} tokens; {self.dtype} weights on "
            f"{self.device}"
        )

    @classmethod
    def of(cls, model: Model, asked: str | None, tokenizer: str | None = None) -> ModelFacts:
        """The facts of a model that was opened as it was asked for."""
        return cls(
            model.name, model.config, model.tokenizer.label, model.tokenizer.name, model.source,
            asked, tokenizer, FORMATS[model.config.source_format], model.device, model.device_words,
            model.dtype, tuple(model.notes), model.n_parameters, model.nbytes,
            model.new_state().nbytes, model.tokenizer.end_token,
        )  # fmt: skip

    @classmethod
    def of_trace(cls, trace: Trace) -> ModelFacts:
        """The facts of the model that a run was recorded of."""
        about, config = trace.attributes, trace.config
        labels = trace.column("label")
        known = set(trace.observables) | ({"wkv"} if not unknown(trace) else set())
        notes = [] if trace.complete else ["the recording was cut off, or still goes on"]
        if about["every"] > 1:
            notes.append(f"one token in {about['every']} has numbers")
        if about["layers"] != list(range(config.n_layer)):
            notes.append(f"of layers {', '.join(map(str, about['layers']))} only")
        state = 4 * config.n_layer * config.n_embd * (config.head_size + 2)
        return cls(
            about["model"], config, lambda t: str(labels[t]), about["tokenizer"], trace.path,
            str(trace.path), None, "a recorded run", about["device"], "when it was recorded",
            about["dtype"], tuple(notes), about["n_parameters"], 0, state, about["end_token"],
            frozenset(known),
        )  # fmt: skip

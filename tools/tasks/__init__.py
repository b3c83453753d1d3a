"""What the models inside are trained on, a file each; `train.py` trains any of them.

A task's module has SETTINGS and ``make(seed)``, which gives a `Task`.
"""

from __future__ import annotations

import importlib
import json
from argparse import Namespace
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = ("stories", "who_is_where", "shell_game", "recall")


@dataclass(frozen=True)
class Batch:
    """Tokens and what is asked of them.

    Attributes
    ----------
    tokens : ndarray (B, T) int64
        What is read.
    targets : ndarray (B, T) int64
        What should come behind each.
    weights : ndarray (B, T) float32
        How much each counts.
    asked : ndarray (B, T) of bool
        Behind which an answer stands, which is right or wrong.
    """

    tokens: NDArray[np.int64]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    asked: NDArray[np.bool_]

    @classmethod
    def of(cls, tokens: NDArray[np.int64], answer: NDArray[np.bool_], otherwise: float) -> Batch:
        """Sequences (B, T + 1) that are their own targets; what is no answer counts less."""
        asked = np.broadcast_to(answer, tokens.shape)[:, 1:]
        weights = np.where(asked, 1, otherwise).astype(np.float32)
        return cls(tokens[:, :-1], tokens[:, 1:], weights, asked)


@dataclass(frozen=True)
class Settings:
    """How a task is trained, where the command does not say otherwise.

    Attributes
    ----------
    layers, width, head_size : int
    removal_scale : float
        c of c kappa (kappa a)^T: 1 as released, 2 for reflections, 0 for no removal.
    batch : int
        Sequences of a step.
    learning_rate : float
    steps : int
    flat : float
        The share of the steps before the rate begins to fall.
    muon : float
        The rate of the blocks' matrices under Muon, as a multiple; 0 for AdamW.
    axes : float
        What a removal key's |kappa|_1 counts: with it, keys lie along few channels, which a picture
        of the memory shows as columns.
    quiet : float
        What the norm of a token's write counts: with it, what need not be written is not.
    late : float
        The share of the steps before these two count: what is hard is learnt first.
    average : float
        What a step leaves of the average of the weights, which is saved beside them; 0 for none.
    shift : bool
        Whether a token sees the one before it.
    dtype : str
        What the weights are saved in.
    report : int
        Steps between two lines of the log.
    """

    layers: int
    width: int
    head_size: int
    batch: int
    learning_rate: float
    steps: int
    removal_scale: float = 1.0
    flat: float = 0.5
    muon: float = 0.0
    axes: float = 0.0
    quiet: float = 0.0
    late: float = 0.0
    average: float = 0.0
    shift: bool = True
    dtype: str = "fp32"
    report: int = 100

    def changed(self, args: Namespace) -> Settings:
        """These, but for what a command says."""
        names = ("layers", "width", "removal_scale", "steps", "flat", "axes", "quiet", "late")
        said = {name: getattr(args, name) for name in names} | {"learning_rate": args.rate}
        return replace(self, **{k: v for k, v in said.items() if v is not None})

    def said(self) -> dict[str, Any]:
        """For training.json."""
        return dict(vars(self))


class Task:
    """Batches without end.

    Attributes
    ----------
    vocabulary : list of str
        Token id -> its text; token 0 begins one.
    """

    vocabulary: list[str]

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding."""
        return len(self.vocabulary)

    def tokenizer_json(self) -> str:
        """What lies beside the weights: ids and their texts, greedily matched."""
        known = {str(i): text for i, text in enumerate(self.vocabulary) if text}
        return json.dumps(known, indent=0) + "\n"

    def batch(self, size: int) -> Batch:
        """The next one."""
        raise NotImplementedError

    def heard(self, right: NDArray[np.bool_], asked: NDArray[np.bool_]) -> str:
        """Which answers to the last batch were right, (B, T) each; words for the log."""
        raise NotImplementedError

    def examine(self, model: Any) -> str:
        """How good it is on what it never saw; words for the log."""
        return ""


def load(name: str) -> Any:
    """The module of a task."""
    return importlib.import_module(f"tasks.{name}")

"""How fast this machine runs a model, beside how fast it reads memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from goose_viz.convert import Progress
from goose_viz.cpu.reading import ReadRate
from goose_viz.model import Model, build_engine
from goose_viz.observables import OBSERVABLES
from goose_viz.probe import Probe
from goose_viz.random_weights import random_weights
from goose_viz.tokenizer import IdsTokenizer

PROMPT = 512  # tokens
_TOKENS = 24  # a round
_SECONDS = 0.4  # a round is at least this long

#: What is watched while tokens are timed, by the name of the row.
WATCHED: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "decay and iclr": ("decay", "iclr"),
    "all but the state": tuple(name for name in OBSERVABLES if name != "wkv"),
    "everything": tuple(OBSERVABLES),
}


@dataclass(frozen=True)
class Figures:
    """What a run found; medians over its rounds.

    Attributes
    ----------
    model, device, dtype : str
    decode : dict of str to float
        Tokens a second, by what was watched (`WATCHED`).
    cost : dict of str to float
        Time a token takes over that of a token when nothing is watched, round by round.
    prefill : float
        Tokens a second of a prompt of 512.
    bytes_per_token : int
        Read and written by a token: weights, and the state there and back.
    read_rate : float or None
        Bytes a second that this machine's cores read from memory; None on a card.
    share : float or None
        Of that rate, what decoding with nothing watched reached.
    weights, resident : int
        Bytes: of the weights, and of the whole process with the model in it.
    """

    model: str
    device: str
    dtype: str
    decode: dict[str, float]
    cost: dict[str, float]
    prefill: float
    bytes_per_token: int
    read_rate: float | None
    share: float | None
    weights: int
    resident: int


def random_model(shape: str, device: str, dtype: str, progress: Progress) -> Model:
    """A model of random numbers at a released size: for speed alone."""
    progress(0.0, "making random weights")
    weights = random_weights(shape)
    engine, device, words = build_engine(weights, device, dtype, progress)
    tokenizer = IdsTokenizer(weights.config.vocab_size)
    model = Model(engine, weights, tokenizer, device, weights.source, words)
    model.name = f"random {shape}"
    return model


def measure(model: Model, rounds: int, progress: Progress) -> Figures:
    """Time a model, every row once a round, with the memory's rate between them.

    Parameters
    ----------
    model : Model
    rounds : int
        Medians are taken over so many.
    progress : callable (float, str)
        Told the share done and what goes on; it may raise to stop.
    """
    rng = np.random.default_rng(0)
    V = model.config.vocab_size
    prompt = rng.integers(0, V, PROMPT).tolist()
    resident = psutil.Process().memory_info().rss
    states = {name: model.new_state() for name in WATCHED}
    rate = ReadRate() if model.device == "cpu" else None
    times: dict[str, list[float]] = {name: [] for name in WATCHED}
    prefills, sizes = [], []
    for n in range(-1, rounds):  # the first round compiles
        progress((n + 1) / (rounds + 1), f"round {n + 1} of {rounds}" if n >= 0 else "warming up")
        count = _TOKENS
        if n >= 0:
            count = max(count, int(_SECONDS / statistics.median(times["nothing"])))
        if rate is not None:
            time.sleep(0.3)  # the threads of NumPy's products fall asleep
            rate.measure()
        names = list(WATCHED)
        for name in names[n % len(names) :] + names[: n % len(names)]:  # each is the first in turn
            tokens = rng.integers(0, V, count)
            times[name].append(_per_token(model, states[name], tokens, WATCHED[name]))
            if name == "nothing":
                sizes.append(model.bytes_read())
        if rate is not None:
            rate.measure()
        state = model.new_state()
        prefills.append(PROMPT / _seconds(lambda s=state: model.forward(prompt, s)))  # type: ignore[misc]
        if n < 0:
            prefills.clear()
            sizes.clear()
    for found in times.values():
        del found[0]
    medians = {name: statistics.median(found) for name, found in times.items()}
    size = round(statistics.median(sizes))
    read_rate = rate.median if rate is not None else None
    return Figures(
        model=f"{model.name}: {model.config.shape}",
        device=model.device,
        dtype=model.dtype,
        decode={name: 1 / seconds for name, seconds in medians.items()},
        cost={
            name: statistics.median(a / b for a, b in zip(found, times["nothing"], strict=True))
            for name, found in times.items()
        },
        prefill=statistics.median(prefills),
        bytes_per_token=size,
        read_rate=read_rate,
        share=None if read_rate is None else size / medians["nothing"] / read_rate,
        weights=model.nbytes,
        resident=resident,
    )


def _per_token(model: Model, state: Any, tokens: Any, watched: tuple[str, ...]) -> float:
    """Seconds a token takes."""
    probe = Probe(watched) if watched else None

    def run(tokens: Any) -> None:
        for token in tokens:
            model.forward([token], state, probe=probe)
            if probe is not None:
                probe.clear()

    run(tokens[:2])  # what was measured before has left its traces in the caches
    return _seconds(lambda: run(tokens)) / len(tokens)


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin

"""How long the analyses take on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from goose_viz import analysis
from goose_viz.analysis.memory import NOW, PAST, walk
from goose_viz.convert import Progress
from goose_viz.edits import Forget, Replace
from goose_viz.model import Model
from goose_viz.probe import Probe
from goose_viz.sampling import Sampler
from goose_viz.session import Session

#: Tokens that are looked back on: by a small model, and by one of so many parameters and more.
TOKENS, _LARGE = (2000, 1000), 50_000_000
_PROMPT = 128  # of them are read as a prompt, the others one by one, as a model writes them


def measure_analyses(model: Model, rounds: int, progress: Progress) -> tuple[int, dict[str, float]]:
    """Time each analysis at the end of a long run.

    Returns
    -------
    (int, dict of str to float)
        How many tokens were looked back on, and the median milliseconds of each.
    """
    n = TOKENS[model.n_parameters >= _LARGE]
    session = Session(model, Sampler(seed=1), Probe(NOW), frames_bytes=1 << 30)
    tokens = np.random.default_rng(0).integers(1, model.config.vocab_size, n).tolist()
    session.feed(tokens[:_PROMPT])
    for i in range(_PROMPT, n, _PROMPT):
        progress(i / n, f"reading {n} tokens")
        session.feed(tokens[i : i + _PROMPT])
    c, ((target, _), (against, _)) = model.config, session.next_tokens(2)
    layer, head = c.n_layer // 2, c.n_head - 1
    frames = session.frames()
    whole = session.frames(observables=(*PAST, "receptance"))

    def edit(what: Forget | Replace) -> None:
        session.apply(what, again=1)
        session.next_tokens()
        session.undo()

    work: dict[str, Callable[[], object]] = {
        "frames of all tokens": session.frames,
        "attribution of a word against another": lambda: analysis.attribution(
            model, session.frames(), target, against
        ),
        "attention row of all heads": lambda: walk(frames, None, (0, c.n_layer, 0, c.n_head)),
        "attention map of a head": lambda: analysis.attention_map(whole, layer, head),
        "retention of a head": lambda: analysis.retention(frames, layer, head),
        "forget a token, half-way, and what is expected then": lambda: edit(Forget(n // 2)),
        "forget the first token": lambda: edit(Forget(0)),
        "replace a token, a tenth back": lambda: edit(
            Replace(n - n // 10, n - n // 10 + 1, (tokens[0],))
        ),
    }
    found = {}
    for i, (name, do) in enumerate(work.items()):
        progress(i / len(work), name)
        do()  # compiles, and fills what is kept
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            do()
            times.append(1000 * (time.perf_counter() - start))
        found[name] = statistics.median(times)
    return session.position, found

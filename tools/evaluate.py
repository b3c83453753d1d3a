"""What a model inside can do, computed by goose-viz itself on the weights that ship.

    python tools/evaluate.py stories --data DIR
    python tools/evaluate.py who_is_where [--model DIR] [--count 1000]

Figures are printed, and written as JSON with --out.  The small ones: of so many new sequences at
each level (tokens, swaps, pairs), the share in which every answer is right, and the share of right
answers; for recall also how full the memory is.  Stories: bits per byte, every held-out document
alone behind token 0.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import goose_viz as gv
from goose_viz import analysis as ga
from goose_viz.evaluation import Texts
from tasks import NAMES, Batch, load

SEED = 7  # of the sequences: those of the trainings have others
#: Task -> name of its model.
MODELS = {"stories": "stories-7M", "who_is_where": "who-is-where", "shell_game": "shell-game",
          "recall": "recall"}  # fmt: skip


def right(model: gv.Model, batch: Batch) -> np.ndarray:
    """(B, T): where the likeliest next token is the right one; True where nothing is asked."""
    out = np.ones(batch.tokens.shape, bool)
    for row, tokens in enumerate(batch.tokens.tolist()):
        logits = model.forward(tokens, model.new_state(), all_logits=True)
        out[row] = (logits.argmax(1) == batch.targets[row]) | ~batch.asked[row]
    return out


def level(model: gv.Model, task: Any, size: int, count: int) -> dict[str, float]:
    """How many sequences of a size, and how many answers in them, are right."""
    rng = np.random.default_rng((SEED, size))
    batch = task.batch_of(rng, count, size)
    found = right(model, batch)
    answers = 1 - (~found).sum() / batch.asked.sum()
    return {"sequences": count, "whole": float(found.all(1).mean()), "answers": float(answers)}


def fullness(model: gv.Model, task: Any, size: int, count: int = 20) -> dict[str, float]:
    """Of a memory that has read so many pairs, means over texts and heads.

    Its effective rank, and how much of the values' writes is still there.
    """
    rng = np.random.default_rng((SEED, size))
    batch = task.batch_of(rng, count, size)
    rank, left = [], []
    for tokens in batch.tokens[:, : 1 + 2 * size].tolist():
        session = gv.Session(model, gv.Sampler(seed=0), gv.Probe(gv.OBSERVABLES))
        session.feed(tokens)
        frames = session.frames()
        rank.append(float(ga.effective_rank(session.state.wkv).mean()))
        heads = [ga.retention(frames, 0, h)[2::2] for h in range(model.config.n_head)]
        left.append(float(np.mean(heads)))
    return {"effective_rank": float(np.mean(rank)), "retention": float(np.mean(left))}


def levels(model: gv.Model, task: Any, count: int) -> dict[str, dict[str, float]]:
    """The same at every level of a task."""
    found = {}
    for size in task.LEVELS:
        found[str(size)] = level(model, task, size, count)
        if task.__name__.endswith("recall"):
            found[str(size)] |= fullness(model, task, size)
        print(f"{size}: {found[str(size)]}", flush=True)
    return found


def stories(model: gv.Model, task: Any, data: Path) -> dict[str, dict[str, float]]:
    """Bits per byte of each file's held-out documents."""
    found = {}
    for name in task.FILES:
        texts = Texts()
        for document in task.split(data, name)[1]:
            texts += Texts.of(model, document)
        found[name] = texts.figures()
        print(f"{name}: {found[name]}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=NAMES)
    parser.add_argument("--model", help="a name or a path; the one that ships when left out")
    parser.add_argument("--data", type=Path, help="the folder of the story texts")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--count", type=int, default=1000, help="sequences at each level")
    parser.add_argument("--out", type=Path, help="a JSON file")
    args = parser.parse_args()
    model = gv.load_model(args.model or MODELS[args.task], device="cpu", dtype=args.dtype)
    task = load(args.task)
    if args.task == "stories":
        found = stories(model, task, args.data)
    else:
        found = levels(model, task, args.count)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

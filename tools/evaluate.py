"""Held-out bits per byte of a model, computed by goose-viz itself on the weights that ship.

    python tools/evaluate.py --data DIR [--model stories-7M] [--dtype int8]

Every held-out document stands alone behind token 0; bits are summed over its tokens and divided by
its UTF-8 bytes.  With another weight type also what it costs against fp32 on the first 2,000
tokens: the mean Kullback-Leibler divergence in nats, and how often both prefer the same token.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

import goose_viz as gv
from goose_viz.evaluation import nats_of
from stories import FILES, split


def log_softmax(logits: np.ndarray) -> np.ndarray:
    z = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def against(
    exact: gv.Model, rough: gv.Model, docs: list[str], n: int = 2000
) -> tuple[float, float]:
    """(mean divergence, agreement) over the first n tokens of documents."""
    divergences, agreements = [], []
    for doc in docs:
        tokens = [0, *exact.tokenizer.encode(doc)][: n - len(divergences)]
        p, q = (
            log_softmax(m.forward(tokens, m.new_state(), all_logits=True)) for m in (exact, rough)
        )
        divergences += (np.exp(p) * (p - q)).sum(1).tolist()
        agreements += (p.argmax(1) == q.argmax(1)).tolist()
        if len(divergences) == n:
            break
    return float(np.mean(divergences)), float(np.mean(agreements))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model")
    parser.add_argument("--dtype", default="auto")
    args = parser.parse_args()
    model = gv.load_model(args.model, dtype=args.dtype)
    for name in FILES:
        docs = split(args.data, name)[1]
        n_bytes = sum(len(d.encode()) for d in docs)
        bits = sum(nats_of(model, model.tokenizer.encode(d)) for d in docs) / math.log(2)
        print(f"{name}: {bits / n_bytes:.4f} bits per byte on {len(docs)} held-out documents")
    if args.dtype != "auto":
        exact = gv.load_model(args.model, dtype="fp32")
        for name in FILES:
            divergence, agreement = against(exact, model, split(args.data, name)[1])
            print(f"{name}: {divergence:.6f} nats from fp32, the same choice {agreement:.2%}")


if __name__ == "__main__":
    main()

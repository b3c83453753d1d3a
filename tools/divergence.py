"""What a weight type costs the demo model, against fp32 on the first 2,000 held-out tokens.

    python tools/divergence.py --data DIR --dtype int4

The mean Kullback-Leibler divergence in nats, and how often both prefer the same token.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import goose_viz as gv
from tasks.stories import FILES, split


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
    parser.add_argument("--dtype", required=True)
    args = parser.parse_args()
    rough = gv.load_model(args.model, dtype=args.dtype)
    exact = gv.load_model(args.model, dtype="fp32")
    for name in FILES:
        divergence, agreement = against(exact, rough, split(args.data, name)[1])
        print(f"{name}: {divergence:.6f} nats from fp32, the same choice {agreement:.2%}")


if __name__ == "__main__":
    main()

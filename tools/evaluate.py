"""Held-out bits per byte of a model, computed by goose-viz itself on the weights that ship.

    python tools/evaluate.py --data DIR [--model stories-7M]

Every held-out document stands alone behind token 0; bits are summed over its tokens and divided by
its UTF-8 bytes.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

import goose_viz as gv
from stories import FILES, split


def bits_of(model: gv.Model, text: str) -> float:
    tokens = [0, *model.tokenizer.encode(text)]
    logits = model.forward(tokens[:-1], model.new_state(), all_logits=True).astype(np.float64)
    top = logits.max(1, keepdims=True)
    norm = top[:, 0] + np.log(np.exp(logits - top).sum(1))
    chosen = logits[np.arange(len(tokens) - 1), tokens[1:]]
    return float((norm - chosen).sum()) / math.log(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model")
    args = parser.parse_args()
    model = gv.load_model(args.model)
    for name in FILES:
        docs = split(args.data, name)[1]
        n_bytes = sum(len(d.encode()) for d in docs)
        bits = sum(bits_of(model, d) for d in docs)
        print(f"{name}: {bits / n_bytes:.4f} bits per byte on {len(docs)} held-out documents")


if __name__ == "__main__":
    main()

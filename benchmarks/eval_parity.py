"""`goose-viz eval` beside the official package: the same figures on the same texts?

    pip install -e . torch==2.13.0 rwkv==0.8.32       # in an environment of its own
    python benchmarks/eval_parity.py --data DIR [--documents 12]

The embedded model in float32 in both; held-out documents of tinystories.txt, and their last words.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

import goose_viz as gv
from goose_viz.evaluation import evaluate


def official(pth: Path) -> Any:
    """The package's model; what it is asks the environment when it is imported."""
    os.environ |= {"RWKV_V7_ON": "1", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0"}
    from rwkv.model import RWKV

    return RWKV(str(pth.with_suffix("")), "cpu fp32")


def theirs(model: Any, tokens: list[int], of: int) -> tuple[float, bool]:
    """(-log p of the last ``of`` tokens, whether each was the likeliest), the whole at once."""
    out, _ = model.forward(tokens[:-1], None, full_output=True)
    log_p = torch.log_softmax(out[-of:].double(), -1)
    wanted = torch.tensor(tokens[-of:])
    nats = -log_p.gather(1, wanted[:, None]).sum().item()
    return nats, bool((out[-of:].argmax(-1) == wanted).all())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=12)
    args = parser.parse_args()
    model = gv.load_model(device="cpu", dtype="fp32")
    documents = (args.data / "tinystories.txt").read_text(encoding="utf-8").split("<|endoftext|>")
    documents = [d.strip() for d in documents if d.strip()][-args.documents :]
    with tempfile.TemporaryDirectory() as folder:
        pth = Path(folder, "model.pth")
        tensors = {
            name: torch.from_numpy(tensor.float32().copy())
            for name, tensor in model._weights.tensors.items()
        }
        torch.save(tensors, pth)
        other = official(pth)
        text, passages = Path(folder, "text.txt"), Path(folder, "words.jsonl")
        text.write_text("\n<|endoftext|>\n".join(documents), encoding="utf-8")
        passages.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))

        encode = model.tokenizer.encode
        nats = sum(theirs(other, [0, *(t := encode(d))], len(t))[0] for d in documents)
        bits = nats / math.log(2) / sum(len(d.encode()) for d in documents)
        figures = evaluate(model, text).figures()
        print(f"bits per byte   rwkv {bits:.6f}   goose-viz {figures['bits per byte']:.6f}")

        total, right = 0.0, 0
        for document in documents:
            before, word = document.rsplit(" ", 1)
            wanted = encode(" " + word)
            one, correct = theirs(other, [0, *encode(before), *wanted], len(wanted))
            total, right = total + one, right + correct
        figures = evaluate(model, passages).figures()
        perplexity, accuracy = math.exp(total / len(documents)), right / len(documents)
        print(f"last words      rwkv {perplexity:.6f}, {accuracy:.1%} right")
        perplexity, accuracy = figures["perplexity per word"], figures["accuracy"]
        print(f"                goose-viz {perplexity:.6f}, {accuracy:.1%} right")


if __name__ == "__main__":
    main()

"""The same GGUF files in goose-viz and in llama.cpp: do they say the same?

    pip install -e . xllamacpp        # in an environment of its own
    python benchmarks/gguf_parity.py --markdown

The embedded model is written by `goose-viz convert`, then its matrices are quantised by
llama.cpp's own quantiser (ggml_quantize_chunk).  Behind a prompt of story text: the largest
difference of the ten likeliest tokens' log-probabilities, and how many of 64 greedy tokens are the
same.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ggml import write_quantised

import goose_viz as gv
from goose_viz.writing import write_model

TEXT = (
    "Once upon a time, there was a little girl named Lily. She had a dog named Max. They went to "
    "the park with her mom. Lily saw a big tree and said,"
)
GREEDY = 64
DIRECT = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "Q8_0": "q8_0"}
QUANTISED = (
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
    "Q4_K_M",
)  # fmt: skip


def llama(path: Path, prompt: list[int]) -> tuple[dict[int, float], list[int]]:
    """(log-probability of each of the ten likeliest tokens, greedy tokens)."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 1024, 1, False, 0
    server = xllamacpp.Server(params)
    request: dict[str, Any] = {
        "prompt": prompt, "n_predict": GREEDY, "temperature": 0.0, "top_k": 1,
        "samplers": ["top_k"], "ignore_eos": True, "cache_prompt": False, "n_probs": 10,
    }  # fmt: skip
    content = server.handle_completions(request)["choices"][0]["logprobs"]["content"]
    top = {t["id"]: t["logprob"] for t in content[0]["top_logprobs"]}
    return top, [t["id"] for t in content]


def ours(path: Path, prompt: list[int]) -> tuple[dict[int, float], list[int]]:
    """The same from goose-viz, in float32 arithmetic over the widened numbers."""
    model = gv.load_model(path, device="cpu", dtype="fp32")
    session = gv.Session(model, gv.Sampler(temperature=0, presence=0, frequency=0))
    session.feed(prompt)
    logits = session.logits.astype(np.float64)
    logits -= logits.max() + math.log(np.exp(logits - logits.max()).sum())
    return dict(enumerate(logits.tolist())), [s.token for s in session.run(GREEDY)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print rows of a table")
    args = parser.parse_args()
    prompt = gv.load_model().tokenizer.encode(TEXT)
    prompt = [0, *prompt]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in (*DIRECT, *QUANTISED):
            path = folder / f"{kind}.gguf"
            if kind in DIRECT:
                write_model("stories-7M", path, "gguf", DIRECT[kind], None, False, lambda *_: None)
            else:
                write_quantised(folder / "F32.gguf", path, kind)
            theirs, written = llama(path, prompt)
            mine, own = ours(path, prompt)
            worst = max(abs(mine[token] - p) for token, p in theirs.items())
            same = next((i for i, (a, b) in enumerate(zip(written, own, strict=True)) if a != b),
                        GREEDY)  # fmt: skip
            row = (kind, f"{worst:.1e}", f"{same} of {GREEDY}")
            print(("| " + " | ".join(row) + " |") if args.markdown else "  ".join(row), flush=True)
            sys.stdout.flush()


if __name__ == "__main__":
    main()

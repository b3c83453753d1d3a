"""Train the demo model on the story texts, on a CPU, in a given number of minutes.

    python tools/train_model.py --data DIR --tokenizer assets/models/stories-7M/tokenizer.json \
        --out build/train --minutes 100

Writes OUT/model.safetensors (bf16, BlinkDL names) and OUT/training.json at every report and at the
end; OUT/log.txt has a line per report.  The learning rate warms up for 50 steps, then falls along a
cosine of the time used, so a slow machine makes fewer steps, not a run that never ends.
Needs: pip install torch==2.13.0 numba tokenizers safetensors.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer

from rwkv7_torch import Rwkv7
from stories import FILES, split

N_LAYER, N_EMBD = 6, 256
LENGTH, BATCH = 256, 12
LEARNING_RATE, FINAL, WARM_UP = 2e-3, 0.03, 50
REPORT_EVERY = 50


def encode(tokenizer: Tokenizer, docs: list[str]) -> list[np.ndarray]:
    """Each document as token 0 and its text's tokens."""
    return [np.array([0, *e.ids], np.int64) for e in tokenizer.encode_batch(docs)]


def windows(docs: list[np.ndarray], rng: random.Random):
    """Endless windows of LENGTH + 1 tokens: every epoch all documents, shuffled, end to end."""
    while True:
        rng.shuffle(docs)
        stream = np.concatenate(docs)
        starts = list(range(rng.randrange(LENGTH), len(stream) - LENGTH - 1, LENGTH))
        rng.shuffle(starts)
        for s in starts:
            yield stream[s : s + LENGTH + 1]


@torch.no_grad()
def bits_per_byte(model: Rwkv7, docs: list[np.ndarray], n_bytes: int) -> float:
    """Held-out bits per byte, each document alone behind token 0 (longer ones cut at 1,024)."""
    bits = 0.0
    for doc in docs:
        logits = model(torch.from_numpy(doc[None, :-1]))
        loss = F.cross_entropy(logits[0], torch.from_numpy(doc[1:]), reduction="sum")
        bits += loss.item() / math.log(2)
    return bits / n_bytes


def groups(model: Rwkv7) -> list[dict]:
    """Weight decay on the big matrices alone; the decay's bias w0 learns twice as fast."""
    fast, decayed, plain = [], [], []
    for name, p in model.named_parameters():
        if name.endswith("att.w0"):
            fast.append(p)
        elif name.endswith("weight") and p.ndim == 2 and "emb" not in name:
            decayed.append(p)
        else:
            plain.append(p)
    return [
        {"params": fast, "weight_decay": 0.0, "factor": 2.0},
        {"params": decayed, "weight_decay": 0.1, "factor": 1.0},
        {"params": plain, "weight_decay": 0.0, "factor": 1.0},
    ]


def save(model: Rwkv7, out: Path, facts: dict) -> None:
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, out / "model.safetensors.tmp", metadata={"format": "pt"})
    (out / "model.safetensors.tmp").rename(out / "model.safetensors")
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)

    tokenizer = Tokenizer.from_file(str(args.tokenizer))
    train = [d for name in FILES for d in encode(tokenizer, split(args.data, name)[0])]
    held_text = split(args.data, "tinystories")[1]
    held = encode(tokenizer, held_text)
    quick, quick_bytes = held[:24], sum(len(t.encode()) for t in held_text[:24])
    model = Rwkv7(N_LAYER, N_EMBD, tokenizer.get_vocab_size())
    n_parameters = sum(p.numel() for p in model.parameters())
    print(f"{n_parameters:,} parameters, {sum(map(len, train)):,} training tokens", flush=True)
    optimizer = torch.optim.AdamW(groups(model), lr=0.0, betas=(0.9, 0.99), eps=1e-8, fused=True)

    source = windows(train, rng)
    start, step, smooth = time.monotonic(), 0, None
    log = (args.out / "log.txt").open("w")
    while True:
        used = (time.monotonic() - start) / (60 * args.minutes)
        if used >= 1:
            break
        cosine = FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * used))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * group["factor"] * cosine * min(1, (step + 1) / WARM_UP)
        batch = torch.from_numpy(np.stack([next(source) for _ in range(BATCH)]))
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        if step % REPORT_EVERY == 0 or step == 5:
            seconds = time.monotonic() - start
            facts = {"steps": step, "tokens": step * BATCH * LENGTH, "minutes": seconds / 60}
            facts |= {"parameters": n_parameters, "train_loss_nats_per_token": smooth}
            rate = step * BATCH * LENGTH / seconds
            line = f"step {step} loss {smooth:.4f} {rate:.0f} tok/s {seconds / 60:.1f} min"
            if step % (10 * REPORT_EVERY) == 0:
                line += f" held-out {bits_per_byte(model, quick, quick_bytes):.4f} bits/byte"
                save(model, args.out, facts)
            print(line, flush=True)
            print(line, file=log, flush=True)
    minutes = (time.monotonic() - start) / 60
    total = bits_per_byte(model, held, sum(len(t.encode()) for t in held_text))
    facts = {"steps": step, "tokens": step * BATCH * LENGTH, "minutes": round(minutes, 1)}
    facts |= {"parameters": n_parameters, "train_loss_nats_per_token": smooth, "seed": args.seed}
    facts |= {"held_out_tinystories_bits_per_byte_fp32": total}
    save(model, args.out, facts)
    print(f"done: {total:.4f} held-out bits/byte (fp32)", file=log, flush=True)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()

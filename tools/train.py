"""Train one of the models inside, on a CPU.

    python tools/train.py stories --data DIR --out build/stories --minutes 100 --resume WEIGHTS
    python tools/train.py shell_game --out build/shell-game

Tasks are files in tools/tasks.  OUT gets model.safetensors, tokenizer.json, training.json and
log.txt, the weights at every tenth report too: a training that is stopped goes on from them with
--resume, its moments are built again while the rate warms up.  The rate stays at its height, then
falls along a line, over the steps or the minutes of this run.  Where a task averages its weights,
averaged.safetensors has the average over the last steps: what a falling rate would come to, without
one, so that a training can go on at its height.
Needs: pip install torch==2.13.0 numba tokenizers safetensors.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", os.environ.get("THREADS", "2"))

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import tasks
from muon import Muon
from rwkv7_torch import Rwkv7, Shape

WARM_UP, FINAL = 50, 0.03
DECAY = 0.1  # of the weights of the big matrices
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def optimizers(model: Rwkv7, muon: float) -> list[torch.optim.Optimizer]:
    """What moves the parameters; each group has its rate as a multiple of the task's.

    Weight decay acts on the big matrices alone; the decay's bias w0 learns twice as fast.
    """
    fast, matrices, plain = [], [], []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        if name.endswith("att.w0"):
            fast.append(p)
        elif name.endswith("weight") and p.ndim == 2 and "emb" not in name:
            matrices.append((name, p))
        else:
            plain.append(p)
    inner = [p for name, p in matrices if muon and name.startswith("blocks")]
    outer = [p for name, p in matrices if not (muon and name.startswith("blocks"))]
    groups = [
        {"params": fast, "weight_decay": 0.0, "factor": 2.0},
        {"params": outer, "weight_decay": DECAY, "factor": 1.0},
        {"params": plain, "weight_decay": 0.0, "factor": 1.0},
    ]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), eps=1e-8, fused=True)
    ]
    if inner:
        found.append(Muon([{"params": inner, "factor": muon}], weight_decay=DECAY))
    return found


class Average:
    """Of a model's parameters over its last steps, in a model of its own."""

    def __init__(self, model: Rwkv7, left: float) -> None:
        self.model, self._left = copy.deepcopy(model), left

    @torch.no_grad()
    def take(self, model: Rwkv7) -> None:
        torch._foreach_lerp_(
            list(self.model.parameters()), list(model.parameters()), 1 - self._left
        )


def save(model: Rwkv7, settings: tasks.Settings, path: Path) -> None:
    kind = TYPES[settings.dtype]
    tensors = {k: v.detach().to(kind).contiguous() for k, v in model.state_dict().items()}
    about = {"format": "pt"}
    if settings.removal_scale != 1:
        about["removal_scale"] = repr(settings.removal_scale)
    unfinished = path.with_suffix(".tmp")
    save_file(tensors, unfinished, metadata=about)
    unfinished.chmod(0o644)
    unfinished.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=tasks.NAMES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the folder of the story texts")
    parser.add_argument("--resume", type=Path, help="weights to begin with")
    parser.add_argument("--minutes", type=float, help="how long, instead of how many steps")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--rate", type=float, help="the learning rate at its height")
    parser.add_argument("--flat", type=float, help="the share of the run before it falls")
    parser.add_argument("--removal-scale", type=float)
    parser.add_argument("--axes", type=float)
    parser.add_argument("--quiet", type=float)
    parser.add_argument("--late", type=float)
    parser.add_argument("--layers", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(int(os.environ["NUMBA_NUM_THREADS"]))

    module = tasks.load(args.task)
    settings: tasks.Settings = module.SETTINGS.changed(args)
    task = module.make(args.seed, **({"data": args.data} if args.data else {}))
    shape = Shape(settings.layers, settings.width, settings.head_size, settings.removal_scale)
    model = Rwkv7(shape, task.vocab_size)
    if not settings.shift:
        model.without_shift()
    if args.resume:
        model.load_state_dict({k: v.float() for k, v in load_file(args.resume).items()})
    size = sum(p.numel() for p in model.parameters())
    print(f"{size:,} parameters, {settings}", flush=True)
    moving = optimizers(model, settings.muon)
    average = Average(model, settings.average) if settings.average else None

    start, step, tokens, smooth = time.monotonic(), 0, 0, None
    log = (args.out / "log.txt").open("w")

    def say(line: str) -> None:
        print(line, flush=True)
        print(line, file=log, flush=True)

    def facts() -> dict[str, Any]:
        minutes = (time.monotonic() - start) / 60
        return {"task": args.task, "seed": args.seed, "steps": step, "tokens": tokens,
                "minutes": round(minutes, 1), "parameters": size,
                "settings": settings.said(), "loss": smooth}  # fmt: skip

    def keep() -> str:
        """Write all that OUT gets; how good the weights are."""
        save(model, settings, args.out / "model.safetensors")
        (args.out / "tokenizer.json").write_text(task.tokenizer_json())
        (args.out / "training.json").write_text(json.dumps(facts(), indent=2) + "\n")
        found = task.examine(model)
        if average:
            save(average.model, settings, args.out / "averaged.safetensors")
            found += f"; averaged: {task.examine(average.model)}"
        return found

    while True:
        minutes = (time.monotonic() - start) / 60
        done = minutes / args.minutes if args.minutes else step / settings.steps
        if done >= 1:
            break
        left = 1.0 if done < settings.flat else (1 - done) / (1 - settings.flat)
        rate = settings.learning_rate * max(left, FINAL) * min(1, (step + 1) / WARM_UP)
        for group in (g for o in moving for g in o.param_groups):
            group["lr"] = rate * group["factor"]
        batch = task.batch(settings.batch)
        targets = torch.from_numpy(batch.targets)
        weights = torch.from_numpy(batch.weights)
        logits = model(torch.from_numpy(batch.tokens))
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        loss = (losses * weights.flatten()).sum() / weights.sum()
        if done >= settings.late:
            loss = loss + settings.axes * model.spread + settings.quiet * model.written
        model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in moving:
            optimizer.step()
        if average:
            average.take(model)
        step += 1
        tokens += batch.tokens.size
        smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
        words = ""
        if batch.asked.any():
            right = (logits.detach().argmax(-1) == targets).numpy()
            words = task.heard(right, batch.asked)
        if step % settings.report == 0 or step == 5:
            say(f"step {step} loss {smooth:.5f} {tokens / (time.monotonic() - start):.0f} tok/s "
                f"{(time.monotonic() - start) / 60:.1f} min {words}")  # fmt: skip
        if step % (10 * settings.report) == 0 and (found := keep()):
            say(found)
    say(f"done: {json.dumps(facts())} {keep()}")


if __name__ == "__main__":
    main()

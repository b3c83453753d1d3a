"""Stories: the texts that the demo model is trained on, and the split that keeps 2 % unseen.

A text file holds documents separated by a line ``<|endoftext|>``.  The last 2 % of the documents
of each file are held out; nothing trains on them.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from tasks import Batch, Settings, Task

FILES = ("tinystories", "tinystories_more", "fables", "fairytales")
SEPARATOR = "<|endoftext|>"
HELD_OUT = 0.02
SHARES = {"fables": 0.25, "fairytales": 0.25}  # of a pass: their English is older, or their own
NEAR = 0.2  # of a document's runs of eight words stand in held-out ones: it is dropped
LENGTH = 512  # tokens of a window: two documents or so, so that few are read from their middle
QUICK = 24  # held-out documents that are looked at while it trains
TOKENIZER = Path(__file__).parents[2] / "assets/models/stories-7M/tokenizer.json"

SETTINGS = Settings(
    layers=6, width=256, head_size=64, batch=6, learning_rate=8e-4, steps=4000, dtype="bf16",
    report=50, muon=1.0, average=0.998,
)  # fmt: skip


def documents(folder: Path, name: str) -> list[str]:
    """All documents of ``folder/name.txt``, stripped, in file order."""
    text = (folder / f"{name}.txt").read_text(encoding="utf-8")
    return [doc for part in text.split(SEPARATOR) if (doc := part.strip())]


def split(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """(training documents, held-out documents) of one file; the last 2 % are held out."""
    docs = documents(folder, name)
    n_held_out = max(1, round(HELD_OUT * len(docs)))
    return docs[:-n_held_out], docs[-n_held_out:]


def shingles(doc: str, n: int = 8) -> set[int]:
    """Hashes of all runs of ``n`` words of a document, lower case and without punctuation."""
    words = re.findall(r"[a-z0-9']+", doc.lower())
    return {hash(tuple(words[i : i + n])) for i in range(len(words) - n + 1)}


def training(folder: Path) -> dict[str, list[str]]:
    """File -> its training documents, less those near one that is held out.

    A document is near when `NEAR` of its runs of eight words, or more, occur in held-out documents
    of any file.
    """
    held = set().union(*(shingles(d) for n in FILES for d in split(folder, n)[1]))
    left = {}
    for name in FILES:
        docs = split(folder, name)[0]
        found = [shingles(d) for d in docs]
        left[name] = [d for d, s in zip(docs, found, strict=True)
                      if not s or len(s & held) < NEAR * len(s)]  # fmt: skip
        print(f"{name}: {len(docs)} documents, {len(docs) - len(left[name])} near a held-out one")
    return left


class Stories(Task):
    """Windows of the texts: every pass all documents, shuffled, end to end."""

    def __init__(self, seed: int, data: Path, tokenizer: Path = TOKENIZER) -> None:
        self._json = tokenizer.read_text(encoding="utf-8")
        self._tokenizer = Tokenizer.from_str(self._json)
        self._rng = random.Random(seed)
        self._docs = {name: self.encode(docs) for name, docs in training(data).items()}
        self._windows = self._stream()
        held = split(data, "tinystories")[1][:QUICK]
        self._held = self.encode(held), sum(len(t.encode()) for t in held)

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def tokenizer_json(self) -> str:
        return self._json

    def encode(self, docs: list[str]) -> list[np.ndarray]:
        """Each document as token 0 and its text's tokens."""
        return [np.array([0, *e.ids], np.int64) for e in self._tokenizer.encode_batch(docs)]

    def _pass(self) -> list[np.ndarray]:
        """Documents of one pass, shuffled: all of some files, a part of others."""
        docs: list[np.ndarray] = []
        for name, mine in self._docs.items():
            docs += self._rng.sample(mine, round(SHARES.get(name, 1.0) * len(mine)))
        self._rng.shuffle(docs)
        return docs

    def _stream(self) -> Iterator[np.ndarray]:
        while True:
            stream = np.concatenate(self._pass())
            first = self._rng.randrange(LENGTH)
            starts = list(range(first, len(stream) - LENGTH - 1, LENGTH))
            self._rng.shuffle(starts)
            for s in starts:
                yield stream[s : s + LENGTH + 1]

    def batch(self, size: int) -> Batch:
        tokens = np.stack([next(self._windows) for _ in range(size)])
        shape = size, LENGTH
        nowhere = np.zeros(shape, bool)
        return Batch(tokens[:, :-1], tokens[:, 1:], np.ones(shape, np.float32), nowhere)

    def examine(self, model: Any) -> str:
        """Bits per byte of the first held-out documents, each alone behind token 0."""
        import torch
        import torch.nn.functional as F

        docs, n_bytes = self._held
        bits = 0.0
        with torch.no_grad():
            for doc in docs:
                logits = model(torch.from_numpy(doc[None, :-1]))
                loss = F.cross_entropy(logits[0], torch.from_numpy(doc[1:]), reduction="sum")
                bits += loss.item() / math.log(2)
        return f"held-out {bits / n_bytes:.4f} bits/byte"


make = Stories

"""The story texts that the demo model is trained on, and the split that keeps 2 % unseen.

A text file holds documents separated by a line ``<|endoftext|>``.  The last 2 % of the documents
of each file are held out; nothing in tools/ trains on them.
"""

from __future__ import annotations

from pathlib import Path

FILES = ("tinystories", "fables", "fairytales")
SEPARATOR = "<|endoftext|>"
HELD_OUT = 0.02


def documents(folder: Path, name: str) -> list[str]:
    """All documents of ``folder/name.txt``, stripped, in file order."""
    text = (folder / f"{name}.txt").read_text(encoding="utf-8")
    return [doc for part in text.split(SEPARATOR) if (doc := part.strip())]


def split(folder: Path, name: str) -> tuple[list[str], list[str]]:
    """(training documents, held-out documents) of one file; the last 2 % are held out."""
    docs = documents(folder, name)
    n_held_out = max(1, round(HELD_OUT * len(docs)))
    return docs[:-n_held_out], docs[-n_held_out:]

"""Where a story's next word is a word said before: does the model take it from there, exactly?

    python tools/telling.py [--model stories-7M] [--out FILE]

For each example: the earlier word that carries most of the lead of the answer over the other thing;
the answer's probability with that word forgotten, and with a control word forgotten; and with the
word replaced, beside a true run over the replaced text.  Written as JSON with --out.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import goose_viz as gv
from goose_viz import analysis as ga


@dataclass(frozen=True)
class Example:
    """A text, the word that should come, the other thing in it, and what to say instead."""

    text: str
    answer: str
    other: str
    instead: str


EXAMPLES = (
    Example(
        "Tom had a red ball. Sue had a blue cup. Tom played with his red",
        " ball", " cup", " car",
    ),
    Example(
        "Lily went to the park with her mom. She saw a big tree. Her mom said, \"Look at the"
        " big",
        " tree", " park", " car",
    ),
    Example(
        "Ben had a big dog. Mia had a small cat. Ben liked to run with his",
        " dog", " cat", " car",
    ),
    Example(
        "Once upon a time, there was a little girl named Lily. She had a dog named Max. One"
        " day, Lily said to her dog,",
        " Max", " Lily", " Sam",
    ),
    Example(
        "Mia had a yellow kite. Tom had a green boat. Mia went outside to fly her yellow",
        " kite", " boat", " bird",
    ),
    Example(
        "Sam found a shiny key. Anna found a soft feather. Sam put the shiny",
        " key", " feather", " rock",
    ),
    Example(
        "The farmer had a white horse. The boy had a black pig. The farmer fed his white",
        " horse", " pig", " cow",
    ),
    Example(
        "Sue had a pink hat. Tim had a brown coat. Sue put on her pink",
        " hat", " coat", " dress",
    ),
    Example(
        "Anna drew a purple fish. Ben drew an orange bird. Anna showed her mom the purple",
        " fish", " bird", " cat",
    ),
    Example(
        "Lily went to the beach. Tom went to the farm. Lily played all day at the",
        " beach", " farm", " park",
    ),
    Example(
        "There was a rabbit named Bob. There was a fox named Tim. The rabbit said, \"My name"
        " is",
        " Bob", " Tim", " Max",
    ),
    Example(
        "Mom gave Tim an apple. Dad gave Lucy a cookie. Tim ate his",
        " apple", " cookie", " cake",
    ),
    Example(
        "Jack had a big blue truck. Jill had a small doll. Jack liked to push his big blue",
        " truck", " doll", " car",
    ),
    Example(
        "The bear lived in a dark cave. The bird lived in a tall tree. The bear went back "
        "to his dark",
        " cave", " tree", " house",
    ),
)  # fmt: skip

#: The first of these in a text should make no difference.
CONTROLS = ("The", " the", " a", " an", " was")


def probability(logits: np.ndarray, token: int) -> float:
    z = logits.astype(np.float64)
    return float(np.exp(z[token] - z.max()) / np.exp(z - z.max()).sum())


def one(model: gv.Model, word: str) -> int:
    """A word's only token."""
    (token,) = model.tokenizer.encode(word)
    return token


def begun(model: gv.Model, text: str) -> gv.Session:
    session = gv.Session(model, gv.Sampler(seed=0))
    session.feed(text)
    return session


def after(model: gv.Model, text: str, edit: gv.Edit) -> np.ndarray:
    """The logits with an edit of the memory ahead of the last token, which is fed again."""
    session = begun(model, text)
    session.apply(edit, again=1)
    return session.logits


def look(model: gv.Model, example: Example) -> dict[str, Any]:
    """What comes of one example."""
    answer, other, instead = (
        one(model, w) for w in (example.answer, example.other, example.instead)
    )
    session = begun(model, example.text)
    tokens = session.tokens
    place = tokens.index(answer)
    found = ga.attribution(model, session.frames(), answer, other)
    given = found.by_token.copy()
    control = next(i for i, t in enumerate(tokens) if t and model.tokenizer.decode([t]) in CONTROLS)
    plain = session.logits
    forgotten, spared, replaced = (
        after(model, example.text, edit)
        for edit in (gv.Forget(place), gv.Forget(control), gv.Replace(place, place + 1, [instead]))
    )
    truly = begun(model, example.text.replace(example.answer, example.instead, 1)).logits

    def label(token: int) -> str:
        return model.tokenizer.decode([token])

    return {
        "text": example.text, "answer": example.answer, "likeliest": label(int(plain.argmax())),
        "carries most": label(tokens[int(given[:-1].argmax())]),
        "right word carries most": int(given[:-1].argmax()) == place,
        "p": probability(plain, answer),
        "p, word forgotten": probability(forgotten, answer),
        "then likeliest": label(int(forgotten.argmax())),
        "p, control forgotten": probability(spared, answer),
        "control changes the likeliest": int(spared.argmax()) != int(plain.argmax()),
        "instead": example.instead, "p of it": probability(plain, instead),
        "p of it, replaced": probability(replaced, instead),
        "p of it, true run": probability(truly, instead),
        "likeliest, replaced": label(int(replaced.argmax())),
        "likeliest, true run": label(int(truly.argmax())),
    }  # fmt: skip


def counts(found: list[dict[str, Any]]) -> dict[str, int]:
    """In how many examples each holds."""
    return {
        "examples": len(found),
        "the answer is the likeliest": sum(f["likeliest"] == f["answer"] for f in found),
        "the right earlier word carries most": sum(f["right word carries most"] for f in found),
        "forgetting it changes the likeliest": sum(
            f["then likeliest"] != f["likeliest"] for f in found
        ),
        "forgetting the control changes it": sum(f["control changes the likeliest"] for f in found),
        "replacing gives the likeliest of a true run": sum(
            f["likeliest, replaced"] == f["likeliest, true run"] for f in found
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="stories-7M")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    model = gv.load_model(args.model, device="cpu")
    found = [look(model, example) for example in EXAMPLES]
    for f in found:
        print(
            f"… {f['text'][-40:]}|{f['answer']} {f['p']:.3f} (likeliest{f['likeliest']})\n"
            f"    most from{f['carries most']}; forgotten {f['p, word forgotten']:.3f}, then "
            f"likeliest{f['then likeliest']}; control forgotten {f['p, control forgotten']:.3f}\n"
            f"    replaced by{f['instead']}: it {f['p of it']:.3f} -> "
            f"{f['p of it, replaced']:.3f}, true run {f['p of it, true run']:.3f}"
        )
    print(counts(found))
    if args.out:
        args.out.write_text(
            json.dumps({"counts": counts(found), "examples": found}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()

"""What the Welcome page offers: a model inside, a text, a way to look, and what to see there."""

from __future__ import annotations

from dataclasses import dataclass

from goose_viz.model import example_prompt


@dataclass(frozen=True)
class Preset:
    """One thing to see.

    Attributes
    ----------
    title, line : str
        What the page calls it, and what it says of it.
    model : str
        Name of a model inside.
    text : str or None
        What is read; the model's own example where that is None.
    perspective : str
    layer, head : int
        What is selected.
    words : str
        Three sentences, on a card beside the panel that they speak of.
    dock, beside : str
        That panel, and the one that the card may cover.
    """

    title: str
    line: str
    model: str
    text: str | None
    perspective: str
    layer: int
    head: int
    words: str
    dock: str
    beside: str

    @property
    def prompt(self) -> str:
        """What is read."""
        return example_prompt(self.model) if self.text is None else self.text


PRESETS = (
    Preset(
        "Why this word?",
        "A model that writes stories. Ask why it says the next word, then let it forget one.",
        "stories-7M",
        "Tom had a red ball. Sue had a blue cup. Tom played with his red",
        "why", 5, 3,
        "The sentence says which earlier word gives “ ball” its lead, through which head. Put the "
        "mouse on the first “ ball” and press X: the model forgets that word, and another comes "
        "first. Ctrl+Z takes it back; R puts other words in its place.",
        "Why", "Branches",
    ),
    Preset(
        "Who is where?",
        "People move between rooms: the old room leaves the memory, the new one enters.",
        "who-is-where",
        None,
        "why", 0, 0,
        "The model knows that Ann is in the hall, and from where: her second move. Put the mouse "
        "on “ hall” and press X, and it says “ nowhere”; Ctrl+Z, then X on “ kitchen”, changes "
        "nothing, since the second move had erased it. Click “ hall” to see that in the edit: what "
        "is removed and what is written lie in the same column, Ann's.",
        "Why", "Branches",
    ),
    Preset(
        "The shell game",
        "Five cups, one ball, many swaps: a memory that is turned round, and loses nothing.",
        "shell-game",
        None,
        "state", 0, 1,
        "Press ← and → to go through the swaps: the ball is the one bright column of the memory, "
        "and moves from cup to cup. The edit shows how: what is removed lies in the columns of the "
        "two cups, and next to nothing is written. Spectrum falls to −1 at every swap, a "
        "direction of the memory that is turned round.",
        "The edit of this token", "Health",
    ),
    Preset(
        "Recall",
        "Pairs to remember, then questions. Forget one pair, and exactly that answer is gone.",
        "recall",
        None,
        "why", 0, 0,
        "Each pair lies in the memory under a key of its own, and Remember shows how much of each "
        "word is still there. The question reads one pair, which the sentence names. Put the "
        "mouse on “ blue” and press X, and the answer is “ nothing”; Space lets the model ask on, "
        "and the other answers are as they were.",
        "Why", "Branches",
    ),
)  # fmt: skip

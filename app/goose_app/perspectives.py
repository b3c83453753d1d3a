"""Which docks a perspective shows, and where, on screens of any size: a table; no Qt here."""

from __future__ import annotations

from dataclasses import dataclass

Tabs = tuple[str, ...]  # titles of docks behind each other

#: A width, and what stands above each other in it, each with a height: docks behind each other, or
#: beside each other.
Column = tuple[int, tuple[tuple[Tabs | tuple[Tabs, ...], int], ...]]


@dataclass(frozen=True)
class Perspective:
    """Docks in columns from left to right, each with its width; below them the transport."""

    columns: tuple[Column, ...]

    def titles(self) -> set[str]:
        """The docks that it shows."""
        groups = [g for _, places in self.columns for titles, _ in places for g in beside(titles)]
        return {t for group in groups for t in group} | {"Transport"}


def beside(titles: Tabs | tuple[Tabs, ...]) -> tuple[Tabs, ...]:
    """What stands beside each other in a place of a column."""
    return titles if isinstance(titles[0], tuple) else (titles,)


#: Widths and heights in pixels of a window of 1600 × 1000.
PERSPECTIVES = {
    "watch": Perspective((
        (440, ((("Text",), 560), (("Next token", "Model"), 300))),
        (560, ((("State",), 470), (("All heads",), 390))),
        (560, ((("Decay",), 430), (("In-context learning rate",), 430))),
    )),
    "why": Perspective((
        (470, ((("Text",), 430), (("Remember",), 210), (("Branches",), 210))),
        (1090, ((("Why",), 330), (("Next token",), 220), (("The edit of this token",), 280))),
    )),
    "state": Perspective((
        (400, ((("Text",), 500), (("Spectrum",), 290))),
        (1200, (
            (("The edit of this token",), 320),
            ((("Attention map",), ("Health",), ("State",)), 470),
        )),
    )),
    "compare": Perspective((
        (500, ((("Text",), 480), (("Next token",), 320))),
        (600, ((("Compare",), 460), (("State difference",), 380))),
        (500, ((("Other text",), 480), (("Other next token",), 320))),
    )),
    "study": Perspective((
        (450, ((("Text",), 480), (("Next token",), 320))),
        (600, ((("Logit lens",), 440), (("Pinned words",), 330))),
        (550, ((("Sensitivity", "Causal trace"), 400), (("Steer",), 400))),
    )),
}  # fmt: skip

#: The same for a small window, of 800 × 600: what stood in a column is behind each other.
SMALL = {
    "watch": Perspective((
        (360, ((("Text",), 360), (("Next token", "Model"), 150))),
        (440, ((("State", "All heads", "Decay", "In-context learning rate"), 510),)),
    )),
    "why": Perspective((
        (300, ((("Text", "Remember", "Branches"), 340), (("Next token",), 170))),
        (500, ((("Why", "The edit of this token"), 510),)),
    )),
    "state": Perspective((
        (300, ((("Text",), 340), (("Spectrum",), 170))),
        (500, ((("Attention map", "Health", "State", "The edit of this token"), 510),)),
    )),
    "compare": Perspective((
        (300, ((("Text", "Other text"), 340), (("Next token", "Other next token"), 170))),
        (500, ((("Compare", "State difference"), 510),)),
    )),
    "study": Perspective((
        (300, ((("Text",), 340), (("Next token",), 170))),
        (500, (
            (("Logit lens", "Pinned words", "Sensitivity", "Causal trace", "Steer"), 510),
        )),
    )),
}  # fmt: skip

"""The tokens of a run as the window keeps them: columns, some 17 bytes a token; no Qt here."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple


class Cell(NamedTuple):
    """One token of the text.

    Attributes
    ----------
    index, token : int
        Its place in the run, and its id.
    text : str
        What it adds; empty while a character is unfinished.
    probability : float
        What the model gave it; NaN for the first.
    generated : bool
        Chosen by the model, or given.
    """

    index: int  # type: ignore[assignment]  # a token's, not tuple's way to find one
    token: int
    text: str
    probability: float
    generated: bool


class Cells(Sequence[Cell]):
    """Tokens of a branch from an index on.

    Attributes
    ----------
    start : int
        Index of the first.
    tokens, texts, probabilities, generated
        A column each.
    """

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self.tokens = array("i")
        self.texts: list[str] = []
        self.probabilities = array("f")
        self.generated = bytearray()

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def stop(self) -> int:
        """The index behind the last."""
        return self.start + len(self.tokens)

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        return Cell(
            self.start + row, self.tokens[row], self.texts[row], self.probabilities[row],
            bool(self.generated[row]),
        )  # fmt: skip

    def __iter__(self) -> Iterator[Cell]:
        return (self[i] for i in range(len(self)))

    def append(self, token: int, text: str, probability: float, generated: bool) -> None:
        """One more."""
        self.tokens.append(token)
        self.texts.append(text)
        self.probabilities.append(probability)
        self.generated.append(generated)

    def extend(
        self,
        tokens: Sequence[int],
        texts: Sequence[str],
        probabilities: Sequence[float],
        generated: Sequence[bool] | bytes | bytearray,
    ) -> None:
        """Many more, a column each."""
        self.tokens.extend(tokens)
        self.texts.extend(texts)
        self.probabilities.extend(array("f", probabilities))
        self.generated.extend(generated)

    def replace(self, others: Cells) -> None:
        """Take others from their start on; what stood there and behind is gone."""
        n = others.start - self.start
        for column in (self.tokens, self.texts, self.probabilities, self.generated):
            del column[n:]
        self.extend(others.tokens, others.texts, others.probabilities, others.generated)


#: A token's name by its id.
Label = Callable[[int], str]

"""Where the next word comes from, as the window shows it; no Qt here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import goose_viz as gv
from goose_viz import analysis as ga
from goose_viz.frames import Frames

_CANDIDATES = 12
_WORDS = 9  # past words by name


@dataclass(frozen=True)
class Explain:
    """Say from now on where the next word comes from; or cease to.

    Attributes
    ----------
    on : bool
    target, against : int or None
        The word, and the one that it is compared with; None takes the likeliest two.
    alone : bool
        Compare with nothing.
    layer, head : int
        Of which retention is asked.
    edit : bool
        Whether what the last token did to that head is wanted as well.
    """

    on: bool
    target: int | None = None
    against: int | None = None
    alone: bool = False
    layer: int = 0
    head: int = 0
    edit: bool = False


@dataclass(frozen=True, eq=False)
class Explanation:
    """An attribution with its words.

    Attributes
    ----------
    position : int
        Of the cursor.
    target, against : int, int or None
        The word whose logit, or lead over another's, it is.
    candidates : list of (int, str, float)
        Words that one can ask about: id, label, probability.
    sentence : str
    tokens : ndarray (L, H, T)
        What each past token gives through each head.
    by_token, by_head : ndarray (T,), (L, H)
        And through all heads; and all past tokens through each.
    words : list of (int, str, float)
        The past tokens that give most, for or against: index, label, what they give.
    others : (int, float)
        How many more there are, and what they give together.
    parts : list of (str, float)
        All that makes the sum, in words.
    total : float
    """

    position: int
    target: int
    against: int | None
    candidates: list[tuple[int, str, float]]
    sentence: str
    tokens: NDArray[np.float64]
    by_token: NDArray[np.float64]
    by_head: NDArray[np.float64]
    words: list[tuple[int, str, float]]
    others: tuple[int, float]
    parts: list[tuple[str, float]]
    total: float

    def best_head(self, index: int) -> tuple[int, int]:
        """(layer, head) through which a past token gives most, for or against."""
        heads = np.abs(self.tokens[:, :, index])
        layer, head = np.unravel_index(int(np.argmax(heads)), heads.shape)
        return int(layer), int(head)


@dataclass(frozen=True, eq=False)
class HeadNow:
    """What one head holds and reads of the past tokens, and what the last one did to it.

    Attributes
    ----------
    position : int
        Of the cursor.
    layer, head : int
    retention, attention : ndarray (T,)
        How much it still has of each token's write, and how strongly it reads each now, of the
        strongest.
    edit : Edit or None
        What the last token did to it, if that was asked.
    """

    position: int
    layer: int
    head: int
    retention: NDArray[np.float64]
    attention: NDArray[np.float64]
    edit: ga.Edit | None


def head_now(frames: Frames, asked: Explain, before: NDArray[Any] | None) -> HeadNow:
    """How the asked head stands behind the last of the frames of all tokens.

    ``before`` is its memory ahead of the last token, to tell what that did to it.
    """
    layer, head = asked.layer, asked.head
    attention = ga.attention(frames, layer, head).weights
    strongest = max(float(np.abs(attention).max()), 1e-30)
    return HeadNow(
        frames.start + len(frames), layer, head, ga.retention(frames, layer, head),
        attention / strongest, None if before is None else ga.edit(before, frames[-1], layer, head),
    )  # fmt: skip


def explain(
    session: gv.Session,
    asked: Explain,
    before: NDArray[Any] | None,
    keep_going: Callable[[], bool],
) -> tuple[Explanation, HeadNow] | None:
    """Explain the next word at a session's cursor; None before the first token.

    A target of None is the likeliest word; an other of None the likeliest beside it.  Where tokens
    were not watched, they are read again: `Stopped` if ``keep_going`` ends that.
    """
    if session.logits is None:
        return None
    label = session.model.tokenizer.label
    ranked = session.next_tokens(_CANDIDATES)
    ids = [t for t, _ in ranked]
    target = ids[0] if asked.target is None else asked.target
    against = None if asked.alone else asked.against
    if not asked.alone and against in (None, target):
        against = next(t for t in ids if t != target)
    frames = session.frames(keep_going=keep_going)
    found = ga.attribution(session.model, frames, target, against, session.logits)
    by_token = found.by_token
    order = np.argsort(-np.abs(by_token), kind="stable")
    probabilities = dict(ranked) | found.probabilities
    others = [t for t in (target, against) if t is not None and t not in ids]
    explanation = Explanation(
        session.position, target, against,
        [(t, label(t), probabilities[t]) for t in (*ids, *others)],
        found.sentence(session.model.tokenizer), found.tokens, by_token,
        found.by_head,
        [(int(i), label(found.ids[i]), float(by_token[i])) for i in order[:_WORDS]],
        (len(order) - len(order[:_WORDS]), float(by_token[order[_WORDS:]].sum())),
        _parts(found), found.total,
    )  # fmt: skip
    return explanation, head_now(frames, asked, before)


def _parts(found: ga.Attribution) -> list[tuple[str, float]]:
    last = len(found.ffn) - 1
    parts: list[tuple[str, Any]] = [
        ("past words, together", found.tokens.sum()),
        ("this word itself (bonus)", found.bonus.sum()),
        ("embedding", found.embedding),
        (f"ffn, layers 0–{last}" if last else "ffn", found.ffn.sum()),
        ("biases", found.bias + found.norm_bias.sum()),
    ]
    if found.initial.any():
        parts.append(("memory it began with", found.initial.sum()))
    if abs(found.edits.sum()) > 0.005:
        parts.append(("edits of the memory", found.edits.sum()))
    return [(words, float(value)) for words, value in parts]

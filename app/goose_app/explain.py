"""Where the next word comes from, as the window shows it; no Qt here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import goose_viz as gv
from goose_viz import analysis as ga

_CANDIDATES = 12


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
    labels : list of str
        Of the past tokens.
    parts : list of (str, float)
        All that makes the sum, in words.
    total : float
    retention, attention : ndarray (T,)
        Of the head that was asked for: how much it still has of each token's write, and how
        strongly it reads each now, of the strongest.
    layer, head : int
        That head.
    edit : Edit or None
        What the last token did to it, if that was asked.
    """

    position: int
    target: int
    against: int | None
    candidates: list[tuple[int, str, float]]
    sentence: str
    tokens: NDArray[np.float64]
    labels: list[str]
    parts: list[tuple[str, float]]
    total: float
    retention: NDArray[np.float64]
    attention: NDArray[np.float64]
    layer: int
    head: int
    edit: ga.Edit | None

    @property
    def by_token(self) -> NDArray[np.float64]:
        """(T,): what each past token gives."""
        return self.tokens.sum((0, 1))  # type: ignore[no-any-return]

    def best_head(self, index: int) -> tuple[int, int]:
        """(layer, head) through which a past token gives most, for or against."""
        heads = np.abs(self.tokens[:, :, index])
        layer, head = np.unravel_index(int(np.argmax(heads)), heads.shape)
        return int(layer), int(head)


def explain(
    session: gv.Session,
    target: int | None,
    against: int | None,
    alone: bool,
    layer: int,
    head: int,
    with_edit: bool,
    keep_going: Callable[[], bool],
) -> Explanation | None:
    """Explain the next word at a session's cursor; None before the first token.

    A target of None is the likeliest word; an other of None the likeliest beside it.  Where tokens
    were not watched, they are read again: `Stopped` if ``keep_going`` ends that.
    """
    if session.logits is None:
        return None
    label = session.model.tokenizer.label
    ranked = session.next_tokens(_CANDIDATES)
    ids = [t for t, _ in ranked]
    target = ids[0] if target is None else target
    if alone:
        against = None
    elif against is None or against == target:
        against = next(t for t in ids if t != target)
    frames = session.frames(keep_going=keep_going)
    found = ga.attribution(session.model, frames, target, against, session.logits)
    attention = ga.attention(frames, layer, head).weights
    strongest = max(float(np.abs(attention).max()), 1e-30)
    probabilities = dict(ranked) | found.probabilities
    asked = [t for t in (target, against) if t is not None and t not in ids]
    return Explanation(
        session.position, target, against,
        [(t, label(t), probabilities[t]) for t in (*ids, *asked)],
        found.sentence(session.model.tokenizer), found.tokens, [label(t) for t in found.ids],
        _parts(found), found.total, ga.retention(frames, layer, head), attention / strongest,
        layer, head, _edit(session, frames[-1], layer, head) if with_edit else None,
    )  # fmt: skip


def _edit(session: gv.Session, frame: gv.Frame, layer: int, head: int) -> ga.Edit:
    before = session.state_at(session.position - 1).wkv[layer, head]
    return ga.edit(before, frame, layer, head)


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

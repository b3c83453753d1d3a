"""Why this word: a logit as a sum over past tokens, layers and heads, exactly.

The norms are held at their values for the last token; then each is linear, and so is the way from
a head's read to a logit.  With u = head[target] ln_out.weight / sigma_out, its mean taken out, and
z = W_o^T u of a layer times its gate, a head's share is c = z ln_x.weight / sigma, its mean taken
out; token t gives (k~_t . q_t)(v_t . c) through it (`goose_viz.analysis.memory` has k~_t . q_t).
What the channel mix adds, the embedding and the biases are parts of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.memory import Array, walk
from goose_viz.frames import Frames
from goose_viz.probe import Frame
from goose_viz.ranking import softmax
from goose_viz.reference import layer_norm

if TYPE_CHECKING:
    from goose_viz.model import Model
    from goose_viz.tokenizer import Tokenizer

_SHARES = ((0.97, "nearly all"), (0.85, "nine tenths"), (0.75, "four fifths"), (0.6, "two thirds"),
           (0.45, "half"), (0.28, "a third"), (0.17, "a fifth"))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Attribution:
    """Parts that add up to a logit, or to its lead over another.

    Attributes
    ----------
    target, against : int, int or None
        The token whose logit it is, and the one whose logit is taken off.
    tokens : ndarray (L, H, T)
        What each past token gives through each head.
    initial : ndarray (L, H)
        What comes of the memory ahead of the first token.
    edits : ndarray (L, H)
        What comes of edits.  A token that was taken out gives nothing any more; what is left of
        that, and what came in its place, is here.
    bonus, norm_bias : ndarray (L, H)
        What the last token's value gives past the memory; the bias of the group norm.
    ffn : ndarray (L,)
        What each channel mix gives.
    embedding, bias : float
        The last token's embedding; the bias of the last norm.
    total : float
        Their sum.
    ids : tuple of int
        The tokens of the past, the last one included.
    probabilities : dict of int to float
        Of target and against, if the logits were given.
    """

    target: int
    against: int | None
    tokens: Array
    initial: Array
    edits: Array
    bonus: Array
    norm_bias: Array
    ffn: Array
    embedding: float
    bias: float
    total: float
    ids: tuple[int, ...]
    probabilities: dict[int, float]

    @property
    def by_token(self) -> Array:
        """(T,): what each past token gives through all heads."""
        return self.tokens.sum((0, 1))  # type: ignore[no-any-return]

    @property
    def by_head(self) -> Array:
        """(L, H): what each head gives, of all past tokens."""
        return self.tokens.sum(-1)  # type: ignore[no-any-return]

    def sentence(self, tokenizer: Tokenizer) -> str:
        """The finding in words."""

        def quoted(token: int) -> str:
            return f"“{tokenizer.label(token)}”"

        def named(token: int) -> str:
            share = self.probabilities.get(token)
            return quoted(token) + ("" if share is None else f" ({share:.1%})".replace("%", " %"))

        if self.against is None:
            begin = f"{named(self.target)} has the logit {self.total:.2f}."
        else:
            verb = "leads" if self.total >= 0 else "is behind"
            begin = f"{named(self.target)} {verb} {named(self.against)} by {abs(self.total):.2f}."
        of_it = " of it" if self.against is not None else ""
        given = self.by_token
        side = 1 if self.total >= 0 else -1
        most = int(np.argmax(side * given))
        put = float(self.edits.sum())
        if side * put > max(side * given[most], 0):
            return f"{begin} What was edited into the memory gives {put:+.2f}{of_it}."
        if side * given[most] <= 0:
            return f"{begin} No past token speaks for it."
        ago = len(self.ids) - 1 - most
        heads = self.tokens[:, :, most]
        layer, head = np.unravel_index(int(np.argmax(side * heads)), heads.shape)
        part = float(heads[layer, head] / given[most])
        share = next((words for least, words in _SHARES if part >= least), "the most")
        earlier = f"The earlier {quoted(self.ids[most])}, {_ago(ago)},"
        who = earlier if ago else "The last token itself"
        return (
            f"{begin} {who} gives {given[most]:+.2f}{of_it}, {share} of that through layer {layer} "
            f"head {head}.{self._objection(given, side, most, quoted)}"
        )

    def _objection(
        self, given: NDArray[np.float64], side: int, most: int, quoted: Callable[[int], str]
    ) -> str:
        """What speaks against it, if that is more than what speaks for it most."""
        other = int(np.argmin(side * given))
        ago = len(self.ids) - 1 - other
        if -side * given[other] <= side * given[most] or ago == 0:
            return ""
        return f" {quoted(self.ids[other])}, {_ago(ago)}, speaks against it: {given[other]:+.2f}."


def _ago(tokens: int) -> str:
    return "1 token ago" if tokens == 1 else f"{tokens} tokens ago"


def attribution(
    model: Model,
    frames: Sequence[Frame],
    target: int,
    against: int | None = None,
    logits: NDArray[Any] | None = None,
) -> Attribution:
    """Split the logit of a token behind the last frame over everything it comes from.

    Parameters
    ----------
    model : Model
    frames : sequence of Frame
        Of all layers and of all tokens up to the last, as `Session.frames` gives them.  The last
        one needs receptance, gate, read, bonus and residual beside decay, iclr, removal_key,
        replacement_key and value, which all need.
    target : int
    against : int, optional
        Split the difference to this token's logit instead.
    logits : ndarray (V,), optional
        Behind the last frame; for the probabilities in `Attribution.sentence`.
    """
    frames, c = Frames.of(frames), model.config
    if frames.layers != tuple(range(c.n_layer)):
        raise ValueError(f"the frames have layers {frames.layers}; expected all {c.n_layer}")
    for token in (target, against):
        if token is not None and not 0 <= token < c.vocab_size:
            raise ValueError(f"token {token} is outside the vocabulary of {c.vocab_size}")
    last, (L, H, N) = frames[-1], (c.n_layer, c.n_head, c.head_size)
    row = model.numbers("head.weight", target)
    if against is not None:
        row = row - model.numbers("head.weight", against)
    residual = last.residual.astype(np.float64)  # (L, D)
    x = residual[-1]
    u = row * model.numbers("ln_out.weight") / np.sqrt(x.var() + c.layer_norm_eps)
    u = u - u.mean()
    weight, bias = (model.numbers(f"blocks.0.ln0.{n}") for n in ("weight", "bias"))
    embedded = model.numbers("emb.weight", last.token)
    embedding = layer_norm(embedded, weight, bias, c.layer_norm_eps)
    z, c_of, biases = np.zeros((L, H, N)), np.zeros((L, H, N)), np.zeros((L, H))
    read = last.read.astype(np.float64)
    sigma = np.sqrt(read.var(-1, keepdims=True) + c.group_norm_eps)
    for i in range(L):
        block = f"blocks.{i}.att."
        z[i] = ((u @ model.numbers(f"{block}output.weight")) * last.gate[i]).reshape(H, N)
        weight = model.numbers(f"{block}ln_x.weight").reshape(H, N)
        biases[i] = (z[i] * model.numbers(f"{block}ln_x.bias").reshape(H, N)).sum(-1)
        c_of[i] = z[i] * weight / sigma[i]
    c_of -= c_of.mean(-1, keepdims=True)
    values = frames.heads("value")
    found = walk(frames, None, (0, L, 0, H))
    tokens = found.weights * np.einsum("tlhn,lhn->lht", values, c_of)
    edits = np.zeros((L, H))
    for added, given in zip(frames.added, found.added, strict=True):
        edits += (given * c_of).sum(-1)
        if added.gone:  # what was taken out is not theirs any more
            theirs = tokens[:, :, added.gone.start : added.gone.stop]
            edits += np.where(added.where, theirs.sum(-1), 0)
            theirs[added.where] = 0
    bonus = last.bonus * (z * values[-1]).sum(-1)
    mixed = (read * c_of).sum(-1) + bonus + biases  # (L, H): what the time mix gives in all
    before = np.concatenate([embedding[None], residual[:-1]])
    ffn = (residual - before) @ u - mixed.sum(-1)
    parts = {
        "tokens": tokens, "initial": (found.initial * c_of).sum(-1), "edits": edits,
        "bonus": bonus, "norm_bias": biases, "ffn": ffn,
        "embedding": float(embedding @ u), "bias": float(row @ model.numbers("ln_out.bias")),
    }  # fmt: skip
    return Attribution(
        target, against, **parts, total=float(sum(np.sum(p) for p in parts.values())),
        ids=frames.tokens, probabilities=_probabilities(logits, target, against),
    )  # fmt: skip


def _probabilities(
    logits: NDArray[Any] | None, target: int, against: int | None
) -> dict[int, float]:
    if logits is None:
        return {}
    p = softmax(logits)
    return {token: float(p[token]) for token in (target, against) if token is not None}

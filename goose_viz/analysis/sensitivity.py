"""Which heads' memories matter now: how far the next token moves when one is disturbed.

The memory is disturbed ahead of the last token, and that token is read again: what was expected
without that is p, what is expected then q, and the figure is KL(p || q) in nats.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.steps import Progress, Steps, finish
from goose_viz.errors import GooseError
from goose_viz.metrics import rms

if TYPE_CHECKING:
    from goose_viz.session import Session

Array = NDArray[np.float64]

KINDS = ("zero", "exchange", "noise")


def sensitivity(
    session: Session,
    kind: str = "zero",
    *,
    sigma: float | Sequence[float] | None = None,
    by: str = "head",
    draws: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> Array:
    """How far the next-token distribution moves if one head's memory is another, in nats.

    Parameters
    ----------
    session : Session
        Its cursor stands behind the token that is read again; it is left as it is.
    kind : str
        ``"zero"`` empties the memory.  ``"exchange"`` lets it change places with another head's of
        its layer: the mean over the others, over ``draws`` of them where there are more; of a
        layer, all heads move on by so many.  ``"noise"`` adds normal noise of sigma times the
        head's root mean square: the mean over ``draws``, the d-th of which is the d-th array
        (L, H, N, N) that ``numpy.random.default_rng(seed).standard_normal`` gives.
    sigma : float or sequence of float, optional
        For noise; 1 when left out.  Of several, the same draws are used for each.
    by : str
        ``"head"`` or ``"layer"``: what is disturbed at a time.
    draws, seed : int
    progress : callable, optional
        Told the share done; False ends it with `Stopped`.

    Returns
    -------
    ndarray (L, H) or (L,)
        With an axis of sigmas ahead, if several are given.

    Raises
    ------
    GooseError
        If nothing was read yet, or the model has one head a layer and they are to be exchanged.
    """
    steps = sensing(session, kind, sigma=sigma, by=by, draws=draws, seed=seed)
    return finish(steps, progress)


def sensing(
    session: Session,
    kind: str = "zero",
    *,
    sigma: float | Sequence[float] | None = None,
    by: str = "head",
    draws: int = 8,
    seed: int = 0,
) -> Steps[Array]:
    """`sensitivity`, a little at a time; the session may go elsewhere meanwhile."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if by not in ("head", "layer"):
        raise ValueError(f"by is {by!r}; expected head or layer")
    if sigma is not None and kind != "noise":
        raise ValueError(f"sigma is for noise; {kind} has none")
    if draws < 1:
        raise ValueError(f"draws is {draws}; expected 1 or more")
    if session.position == 0:
        raise GooseError("nothing was read yet; feed a prompt first")
    c = session.model.config
    if kind == "exchange" and c.n_head == 1:
        raise GooseError("the model has one head a layer: there is no other to exchange it with")
    return _sense(session, kind, sigma, by == "layer", draws, seed)


def _sense(
    session: Session,
    kind: str,
    sigma: float | Sequence[float] | None,
    whole: bool,
    draws: int,
    seed: int,
) -> Steps[Array]:
    model, c = session.model, session.model.config
    before, token = session.state_at(session.position - 1), session.tokens[-1:]
    expected = _log_softmax(model.forward(token, before.copy()))
    sigmas = [1.0] if sigma is None else np.atleast_1d(np.asarray(sigma, np.float64)).tolist()
    out = np.zeros((len(sigmas), c.n_layer, 1 if whole else c.n_head))
    rng = np.random.default_rng(seed)
    wkv = before.wkv.astype(np.float64)
    drawn = [rng.standard_normal(wkv.shape) for _ in range(draws)] if kind == "noise" else []
    done = 0
    for layer, head in np.ndindex(out.shape[1:]):
        heads = slice(None) if whole else slice(head, head + 1)
        for row, size in enumerate(sigmas):
            moved = []
            for changed in _others(kind, wkv[layer], heads, size, [d[layer] for d in drawn], rng):
                state = before.copy()
                state.edit().wkv[layer] = changed
                logits = _log_softmax(model.forward(token, state))
                moved.append(float((np.exp(expected) * (expected - logits)).sum()))
                if len(moved) >= draws:
                    break
                yield (done + len(moved) / max(draws, 1)) / out.size
            out[row, layer, head] = max(float(np.mean(moved)), 0.0)
            done += 1
            yield done / out.size
    found = out[..., 0] if whole else out
    return found if np.ndim(sigma) else found[0]  # type: ignore[arg-type]


def _others(
    kind: str,
    memory: Array,
    heads: slice,
    size: float,
    drawn: list[Array],
    rng: np.random.Generator,
) -> Iterator[Array]:
    """A layer's memory (H, N, N) disturbed in some heads, in every way that counts."""
    H = len(memory)
    if kind == "zero":
        changed = memory.copy()
        changed[heads] = 0
        yield changed
    elif kind == "noise":
        for noise in drawn:
            changed = memory.copy()
            changed[heads] += size * rms(memory)[heads, None, None] * noise[heads]
            yield changed
    elif heads == slice(None):
        for by in rng.permutation(np.arange(1, H)).tolist():
            yield np.roll(memory, by, axis=0)
    else:
        mine = heads.start
        for other in rng.permutation([h for h in range(H) if h != mine]).tolist():
            changed = memory.copy()
            changed[[mine, other]] = memory[[other, mine]]
            yield changed


def _log_softmax(logits: NDArray[Any]) -> Array:
    z = logits.astype(np.float64) - logits.max()
    return z - np.log(np.exp(z).sum())  # type: ignore[no-any-return]

"""Two runs token by token: where they part, how far their memories and expectations are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from goose_viz.analysis.steps import Progress, Steps, finish
from goose_viz.errors import GooseError
from goose_viz.ranking import softmax

if TYPE_CHECKING:
    from goose_viz.session import Session

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Of the T tokens that both have, by their index.

    Attributes
    ----------
    parted : int or None
        The first index at which the tokens differ; None if they are the same as far as both go.
    state_distance : ndarray (T, L, H)
        Frobenius norm of the difference of the memories behind each token.
    state_norm : ndarray (T, L, H)
        That of the first run's memory, to hold the distance against.
    tv : ndarray (T,)
        Total variation between what the two expect behind each token: half the sum of the
        differences of all probabilities, 0 for the same, 1 for nothing in common.
    """

    parted: int | None
    state_distance: Array
    state_norm: Array
    tv: Array

    @property
    def relative(self) -> Array:
        """(T, L, H): the distance over the first memory's norm; 0 where that is 0."""
        return self.relative_at(...)

    def relative_at(self, place: Any) -> Array:
        """The same at an index into (T, L, H)."""
        distance, norm = self.state_distance[place], self.state_norm[place]
        out: Array = np.zeros(distance.shape)
        np.divide(distance, norm, out=out, where=norm > 0)
        return out

    @property
    def moved(self) -> int | None:
        """The first token behind which the memories differ; None if they never do."""
        where = np.flatnonzero(self.state_distance.any((1, 2)))
        return int(where[0]) if len(where) else None


def compare(session_a: Session, session_b: Session, progress: Progress | None = None) -> Comparison:
    """Compare two runs over their current branches, all of them.

    For two branches of one run, `Session.twin` makes a session of the other.  The models may be two
    checkpoints of one shape, on any devices.

    Parameters
    ----------
    session_a, session_b : Session
        They are left as they are.
    progress : callable, optional
        Told the share done; False ends it with `Stopped`.

    Raises
    ------
    GooseError
        If the models' states have other shapes, or one has read nothing.
    """
    return finish(comparing(session_a, session_b), progress)


def comparing(a: Session, b: Session) -> Steps[Comparison]:
    """`compare`, a little at a time; what comes onto the branches meanwhile is not in it."""
    shapes = [s.model.config for s in (a, b)]
    one, two = ((c.n_layer, c.n_head, c.head_size, c.vocab_size) for c in shapes)
    if one != two:
        raise GooseError(
            f"{a.model.name} is {shapes[0].shape} and {b.model.name} {shapes[1].shape}; runs are "
            "compared where layers, heads and vocabulary are as many"
        )
    T = min(a.recorded, b.recorded)
    if T == 0:
        raise GooseError("one of the two has read nothing yet; feed it a prompt first")
    return _compare(a, b, T)


def _compare(a: Session, b: Session, T: int) -> Steps[Comparison]:
    c = a.model.config
    paths = a.path, b.path
    ids = [np.array(p.tokens(0, T)) for p in paths]
    apart = np.flatnonzero(ids[0] != ids[1])
    parted = int(apart[0]) if len(apart) else None
    same = _same_until(a, b, T if parted is None else parted)
    shape = T, c.n_layer, c.n_head
    distance, norm, tv = np.zeros(shape), np.zeros(shape), np.zeros(T)
    others = b.moments(0, T, path=paths[1]) if same == 0 else None
    for index, state, logits in a.moments(0, T, path=paths[0]):
        norm[index] = _norms(state.wkv)
        if others is not None:
            _, theirs, their_logits = next(others)
            distance[index] = _norms(state.wkv.astype(np.float64) - theirs.wkv)
            tv[index] = 0.5 * float(np.abs(softmax(logits) - softmax(their_logits)).sum())
        elif index + 1 == same < T:
            others = b.moments(same, T, state=state.copy(), path=paths[1])
        yield (index + 1) / T
    return Comparison(parted, distance, norm, tv)


def _norms(wkv: NDArray[Any]) -> Array:
    """(L, H, N, N) -> (L, H)."""
    return np.sqrt(np.einsum("...ij,...ij->...", wkv, wkv, dtype=np.float64))  # type: ignore[no-any-return]


def _same_until(a: Session, b: Session, stop: int) -> int:
    """Tokens behind which the two memories are the same without looking, up to a bound."""
    if a.model is not b.model:
        return 0
    edits = [[(e.position, e.what, e.numbers) for e in s.path.edits(stop)] for s in (a, b)]
    for one, two in zip(*edits, strict=False):
        if one[0] != two[0] or (one[1:] != two[1:] and not _equal(one[1:], two[1:])):
            return max(int(min(one[0], two[0])) - 1, 0)
    n = min(map(len, edits))
    rest = edits[0][n:] + edits[1][n:]
    if rest:
        stop = min(stop, max(int(rest[0][0]) - 1, 0))
    return stop


def _equal(one: tuple[Any, Any], two: tuple[Any, Any]) -> bool:
    """Whether two edits do the same."""
    return one[0] == two[0] and (one[1] is two[1] or np.array_equal(one[1], two[1]))

"""A session's branches in words; no Qt here."""

from __future__ import annotations

import goose_viz as gv
from goose_app.messages import BranchRow
from goose_viz.edits import Forget, Replace, StateEdit
from goose_viz.history import Edit, Path, Segment

_BEFORE, _AFTER = 4, 10  # tokens around where a branch parts


def branch_rows(session: gv.Session, branches: list[Segment]) -> list[BranchRow]:
    """A row for each branch, in their order."""
    rows = []
    for branch in branches:
        path = Path(branch)
        fork = branch.fork + branch.again if branch.parent is not None else 0
        start = max(0, min(fork, path.stop) - _BEFORE)
        words = "".join(path.texts(start, min(path.stop, fork + _AFTER)))
        more = "…" if path.stop > fork + _AFTER else ""
        edits = ", ".join(edit_words(path, e, session) for e in path.edits(path.stop))
        rows.append(
            BranchRow(
                ("…" if start else "") + " ".join(words.split()) + more, edits, branch.name, fork,
                path.stop, branch is session.segment,
            )
        )  # fmt: skip
    return rows


def edit_words(path: Path, edit: Edit, session: gv.Session) -> str:
    """An edit in words."""
    what = edit.what
    label = session.model.tokenizer.label
    if isinstance(what, Forget) and what.token is not None:
        (token,) = path.tokens(what.token, what.token + 1)
        return f"forgot “{label(token)}” ({what.where()})"
    if isinstance(what, Replace):
        old = "".join(map(label, path.tokens(what.start, what.stop)))
        new = what.tokens if isinstance(what.tokens, str) else "".join(map(label, what.tokens))
        return f"“{new}” in place of “{old}”" if new else f"“{old}” never said"
    return _plain(what)


def _plain(what: StateEdit) -> str:
    return f"{type(what).__name__.lower()} ({what.where()})"

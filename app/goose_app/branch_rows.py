"""A session's branches in words, as a tree; no Qt here."""

from __future__ import annotations

import goose_viz as gv
from goose_app.messages import BranchRow
from goose_viz.edits import Forget, Replace, StateEdit
from goose_viz.history import Edit, Path, Segment

_BEFORE, _AFTER = 4, 10  # tokens around where a branch parts


def branch_rows(session: gv.Session, branches: list[Segment]) -> list[BranchRow]:
    """A row for each branch, in their order."""
    rows: list[BranchRow] = []
    paths = [Path(branch) for branch in branches]
    for row, (branch, path) in enumerate(zip(branches, paths, strict=True)):
        parent, fork = _parting(paths[:row], path)
        fork = fork + branch.again if branch.edit is not None else fork
        start = max(0, min(fork, path.stop) - _BEFORE)
        words = "".join(path.texts(start, min(path.stop, fork + _AFTER)))
        more = "…" if path.stop > fork + _AFTER else ""
        theirs = paths[parent].edits(paths[parent].stop) if parent is not None else []
        own = [e for e in path.edits(path.stop) if e not in theirs]
        rows.append(
            BranchRow(
                ("…" if start else "") + " ".join(words.split()) + more,
                ", ".join(edit_words(path, e, session) for e in own), branch.name, fork,
                path.stop, branch is session.segment, parent,
            )
        )  # fmt: skip
    return rows


def _parting(earlier: list[Path], path: Path) -> tuple[int | None, int]:
    """Which of the earlier paths goes along with one furthest, and where they part."""
    furthest, parent = 0, None
    for row, other in enumerate(earlier):
        pairs = zip(path.segments, other.segments, strict=False)
        shared = [a for a, b in pairs if a is b]
        if not shared:
            continue
        ends = [
            p.segments[len(shared)].fork if len(p.segments) > len(shared) else p.stop
            for p in (path, other)
        ]
        if parent is None or min(ends) > furthest:
            furthest, parent = min(ends), row
    return parent, furthest


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
    return plain_words(what)


def plain_words(what: StateEdit) -> str:
    """An edit in words that need no text."""
    name = _NAMES.get(type(what), type(what).__name__.lower())
    amount = f" {what.factor:g}" if isinstance(what, gv.Scale) else ""
    if isinstance(what, gv.Noise):
        amount = f" {what.sigma:g} times the RMS"
    if isinstance(what, gv.Add | gv.Steer):
        amount = f" times {what.factor:g}"
    return f"{name}{amount} ({what.where()})"


_NAMES: dict[type, str] = {
    gv.Zero: "emptied", gv.Scale: "scaled by", gv.Noise: "noise of", gv.Put: "another memory put",
    gv.Add: "another memory added", gv.Mute: "muted",
    gv.Steer: "steered by another memory,",
}  # fmt: skip

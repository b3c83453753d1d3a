"""The Python that gives what the window shows, from the model on; no Qt here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from goose_app.cells import Cells
from goose_app.messages import Made
from goose_app.run_view import Viewed


def lines(run: Viewed, ending: str) -> str:
    """Lines that open the model, repeat the run up to the cursor, and then do something."""
    model, picture = run.model, run.picture
    if model is None:
        return ""
    options = [repr(model.asked)] if model.asked is not None else []
    if model.device != "cpu":
        options.append(f"device={model.device!r}")
    options.append(f"dtype={model.dtype!r}")
    out = ["import goose_viz as gv"]
    if "ga." in ending:
        out.append("from goose_viz import analysis as ga")
    out += ["", f"model = gv.load_model({', '.join(options)})", "session = gv.Session(model)"]
    out += _feeds(run.cells, picture.edits, picture.position)
    return "\n".join(out) + "\n" + ending


def _feeds(cells: Cells, edits: Sequence[Made], position: int) -> list[str]:
    """What was fed, in the portions in which it was fed, and the edits between."""
    out, at = [], 0
    for edit in [*edits, None]:
        stop = position if edit is None else edit.position
        given = at
        while at == 0 and given < stop and not cells.generated[given]:
            given += 1
        if given > at:
            out.append(f"session.feed({cells.tokens[at:given].tolist()})")
        if stop > given:
            out.append(f"for token in {cells.tokens[given:stop].tolist()}:")
            out.append("    session.feed([token])")
        at = stop
        if edit is not None:
            out.append(f"session.apply({edit_code(edit)})")
    return out


def edit_code(made: Made) -> str:
    """An edit as it is written."""
    parts = []
    for field in fields(made.edit):  # type: ignore[arg-type]
        value = getattr(made.edit, field.name)
        if field.name in ("source", "change"):
            value = " - ".join(_memory(s) for s in (made.source, made.minus) if s is not None)
            parts.append(value)
        elif value is not None:
            parts.append(f"{field.name}={value!r}")
    return f"gv.{type(made.edit).__name__}({', '.join(parts)})"


def _memory(source: object) -> str:
    name = f"branch-{source}.safetensors" if isinstance(source, int) else str(source)
    return f"gv.load_snapshot({name!r}).state.wkv"  # a branch's end has to be exported first

"""The Python that gives what the window shows, from the model on; no Qt here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from goose_app.cells import Cells
from goose_app.messages import Made
from goose_app.model_facts import ModelFacts
from goose_app.questions import Fed
from goose_app.run_view import Viewed


def lines(run: Viewed, ending: str, fed: Fed | None = None) -> str:
    """Lines that open the model, repeat the run up to the cursor, and then do something.

    ``fed`` is what is to be repeated instead: the run of an earlier moment.
    """
    model = run.model
    if model is None:
        return ""
    if fed is None:
        feeds = feeds_of(run, "session")
    else:
        feeds = _feeds(fed, fed.edits, len(fed.tokens), "session")
    out = ["import goose_viz as gv"]
    if "ga." in ending or any("ga." in line for line in feeds):
        out.append("from goose_viz import analysis as ga")
    out += ["", f"model = {load_code(model)}", "session = gv.Session(model)"]
    out += feeds
    return "\n".join(out) + "\n" + ending


def load_code(model: ModelFacts) -> str:
    """A model, as it is opened."""
    options = [repr(model.asked)] if model.asked is not None else []
    if model.device != "cpu":
        options.append(f"device={model.device!r}")
    if model.device != "reference":  # which has one of its own
        options.append(f"dtype={model.dtype!r}")
    if model.asked_tokenizer is not None:
        options.append(f"tokenizer={model.asked_tokenizer!r}")
    return f"gv.load_model({', '.join(options)})"


def feeds_of(run: Viewed, name: str) -> list[str]:
    """What a run was fed up to its cursor, in the portions in which it was, and the edits."""
    return _feeds(run.cells, run.picture.edits, run.picture.position, name)


def beside(mine: ModelFacts, other: Viewed) -> list[str]:
    """Lines that make another run beside the first: ``other``."""
    if other.model is None:
        return []
    same = load_code(other.model) == load_code(mine)
    model = "model" if same else load_code(other.model)
    return [f"other = gv.Session({model})", *feeds_of(other, "other")]


def _feeds(cells: Cells | Fed, edits: Sequence[Made], position: int, name: str) -> list[str]:
    out: list[str] = []
    at = 0
    for edit in [*edits, None]:
        stop = position if edit is None else edit.position
        given = at
        while at == 0 and given < stop and not cells.generated[given]:
            given += 1
        if given > at:
            out.append(f"{name}.feed({cells.tokens[at:given].tolist()})")
        if stop > given:
            out.append(f"for token in {cells.tokens[given:stop].tolist()}:")
            out.append(f"    {name}.feed([token])")
        at = stop
        if edit is not None:
            if "memory" in edit_code(edit).split("(", 1)[1].split(","):
                out.append("# memory = …  the one that was taken here: its source is not known")
            out.append(f"{name}.apply({edit_code(edit)})")
    return out


def edit_code(made: Made) -> str:
    """An edit as it is written."""
    parts = []
    for field in fields(made.edit):  # type: ignore[arg-type]
        value = getattr(made.edit, field.name)
        if field.name in ("source", "change"):
            value = " - ".join(memory_code(s) for s in (made.source, made.minus) if s is not None)
            parts.append(value or "memory")
        elif value is not None:
            parts.append(f"{field.name}={value!r}")
    return f"gv.{type(made.edit).__name__}({', '.join(parts)})"


def memory_code(source: object) -> str:
    """A memory as it is written; a branch's end has to be exported first."""
    if isinstance(source, tuple):
        return f"ga.mean_memory(model, {list(source)!r})"
    name = f"branch-{source}.safetensors" if isinstance(source, int) else str(source)
    return f"gv.load_snapshot({name!r}).state.wkv"

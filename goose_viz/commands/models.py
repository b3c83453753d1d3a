"""Commands about a model's files: info, convert, check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from goose_viz import __version__
from goose_viz.check import ALLOWED, compare
from goose_viz.commands.base import (
    DeviceOption,
    ModelArgument,
    TokenizerOption,
    command,
    load,
    progress_bar,
    terminal,
)
from goose_viz.describe import describe
from goose_viz.errors import GooseError
from goose_viz.model import load_model
from goose_viz.writing import LAYOUTS, write_model


@command
def info(
    model: ModelArgument = None,
    tokenizer: TokenizerOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Say what a model file is: sizes, type, vocabulary; and where it would run."""
    table = Table(show_header=False, box=None)
    rows = describe(model, device, tokenizer) | {"goose-viz": __version__}
    for name, value in rows.items():
        table.add_row(name, escape(str(value)))
    terminal().print(table)


@command
def convert(
    model: Annotated[str, typer.Argument(help="What to read: all that the other commands take.")],
    out: Annotated[Path, typer.Argument(help="A .safetensors or .gguf file, or a folder.")],
    to: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(LAYOUTS)}; by the name's ending when left out."),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="auto (as it is), fp32, bf16 or fp16; q8_0 in a GGUF.")
    ] = "auto",
    tokenizer: TokenizerOption = None,
    force: Annotated[bool, typer.Option(help="Write over what is there.")] = False,
) -> None:
    """Write a model in another layout: BlinkDL's, Hugging Face's, fla's, GGUF."""
    with progress_bar() as progress:
        written = write_model(model, out, to, dtype, tokenizer, force, progress)
    print(written)


@command
def check(model: ModelArgument = None, device: DeviceOption = "auto") -> None:
    """Compare this machine's engine with the float64 reference, number by number."""
    reference = load(model, "reference", "auto", None)
    V = reference.config.vocab_size
    tokens = [(7 * i * i + 3 * i + 1) % V for i in range(24)]
    table = Table("quantity", "weights", "tokens fed", "error found", "error allowed", "")
    failed = 0
    native = load_model(model, device=device).dtype
    for dtype in dict.fromkeys(("fp32", native)):
        for finding in compare(load_model(model, device=device, dtype=dtype), reference, tokens):
            failed += not finding.passed
            mark = "ok" if finding.passed else "[red]WRONG[/red]"
            table.add_row(
                finding.name, dtype, finding.way, f"{finding.error:.1e}", f"{ALLOWED:.0e}", mark
            )
    terminal().print(table)
    if failed:
        raise GooseError(
            f"{failed} quantities are off on this machine; results here cannot be trusted, please "
            "report this table with the processor and the versions of numba and numpy"
        )
    print(f"all {table.row_count} comparisons are within the error allowed")

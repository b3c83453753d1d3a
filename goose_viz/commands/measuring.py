"""Commands that measure: bench, eval."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from goose_viz.commands.base import (
    DeviceOption,
    DtypeOption,
    ModelArgument,
    SchedulerOption,
    TokenizerOption,
    command,
    load,
    progress_bar,
    terminal,
)
from goose_viz.errors import GooseError
from goose_viz.model import Model, load_model
from goose_viz.model_source import ModelSource
from goose_viz.random_weights import SHAPES


@command
def bench(
    model: ModelArgument = None,
    shape: Annotated[
        str | None,
        typer.Option(help=f"Random weights of a released size instead: {', '.join(SHAPES)}."),
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    rounds: Annotated[int, typer.Option(min=1, help="Medians are taken over so many.")] = 5,
    analysis: Annotated[
        bool, typer.Option("--analysis", help="Time the analyses instead: why, forget, replace.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Time a model on this machine: decoding, prompts, probes, the share of memory's rate."""
    from goose_viz.bench import PROMPT, measure, random_model
    from goose_viz.bench_analysis import measure_analyses

    if shape is not None and model is not None:
        raise GooseError(f"a model ({model}) and --shape {shape} exclude each other; give one")
    if shape is not None and shape not in SHAPES:
        raise GooseError(f"there is no shape {shape!r}; expected one of {', '.join(SHAPES)}")
    with progress_bar() as progress:
        if shape is None:
            loaded = load_model(model, device=device, dtype=dtype, progress=progress)
        else:
            loaded = random_model(shape, device, dtype, progress)
        if analysis:
            _show_analyses(loaded, *measure_analyses(loaded, rounds, progress), json)
            return
        figures = measure(loaded, rounds, progress)
    if json:
        print(dumps(asdict(figures), indent=2))
        return
    table = Table("watched", "tokens/s", "ms/token", "time over nothing")
    for name, rate in figures.decode.items():
        table.add_row(name, f"{rate:.1f}", f"{1000 / rate:.2f}", f"× {figures.cost[name]:.3f}")
    console = terminal()
    console.print(f"{figures.model} · {figures.device} {figures.dtype}")
    console.print(table)
    console.print(f"prompt of {PROMPT}: {figures.prefill:.0f} tokens/s")
    read = f"{figures.bytes_per_token / 1e6:.1f} MB per token"
    if figures.share is not None and figures.read_rate is not None:
        rate = figures.read_rate / 1e9
        read += f", {figures.share:.0%} of the {rate:.1f} GB/s that this machine reads"
    console.print(read)
    console.print(
        f"memory: weights {figures.weights / 1e6:.0f} MB, process {figures.resident / 1e6:.0f} MB"
    )


@command
def eval(  # the name of the command
    model: ModelArgument = None,
    data: Annotated[
        Path | None,
        typer.Option(help='A text, or a .jsonl whose lines have a passage each, {"text": "…"}.'),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Keep what was found in this file, and go on from it.")
    ] = None,
    scheduler: SchedulerOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tokenizer: TokenizerOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say how well a model foresees a text, or the last words of passages (LAMBADA's form)."""
    from goose_viz.evaluation import evaluate

    if data is None:
        raise GooseError("--data is missing; give a text, or a .jsonl with a passage a line")
    source: Model | ModelSource
    if scheduler is None:
        source = load(model, device, dtype, tokenizer)
    else:
        source = ModelSource(model, device, dtype, tokenizer)
    with progress_bar() as progress:

        def say(share: float) -> None:
            progress(share, f"evaluating on {data.name}")

        found = evaluate(source, data, out, say, scheduler)
    if json:
        print(dumps(found.figures(), indent=2))
        return
    table = Table(show_header=False, box=None)
    for name, value in found.figures().items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.4f}")
    terminal().print(table)


def _show_analyses(model: Model, n_tokens: int, times: dict[str, float], json: bool) -> None:
    """Print how long the analyses took."""
    if json:
        print(dumps({"model": model.name, "tokens": n_tokens, "milliseconds": times}, indent=2))
        return
    table = Table(f"at {n_tokens} tokens", "ms")
    for name, milliseconds in times.items():
        table.add_row(name, f"{milliseconds:.1f}")
    console = terminal()
    console.print(f"{model.name} · {model.device} {model.dtype}")
    console.print(table)

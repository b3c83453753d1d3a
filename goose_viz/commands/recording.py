"""Commands that record: a run, or every document of a corpus."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from goose_viz import trace
from goose_viz.commands.base import (
    AfterOption,
    DeviceOption,
    DtypeOption,
    ModelArgument,
    PromptFileOption,
    PromptOption,
    SchedulerOption,
    SeedOption,
    StateLayoutOption,
    StateOption,
    StateOrientationOption,
    TemperatureOption,
    TokenizerOption,
    TopPOption,
    arguments,
    begin_with,
    command,
    default,
    load,
    named,
    progress_bar,
)
from goose_viz.corpus import record_corpus
from goose_viz.corpus.store import Store
from goose_viz.errors import GooseError
from goose_viz.model import Model
from goose_viz.model_source import ModelSource
from goose_viz.sampling import Sampler
from goose_viz.stdio import read_prompt


@command
def record(
    out: Annotated[
        str | None, typer.Argument(help="A new folder to write, by custom NAME.zarr.")
    ] = None,
    model: ModelArgument = None,
    prompt: PromptOption = None,
    prompt_file: PromptFileOption = None,
    corpus: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILES…",
            help="Record every document of these instead: texts, .jsonl, folders of them; behind "
            "the model, if one is named.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--out",
            help="What to write, instead of the first argument; of a corpus any fsspec address.",
        ),
    ] = None,
    scheduler: SchedulerOption = None,
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", "-n", min=0, help="Tokens to write: 200; behind documents none."),
    ] = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(
            help="What to record of every token, or all; repeatable.  All but wkv, the state "
            "itself, when left out."
        ),
    ] = None,
    layer: Annotated[
        list[int] | None, typer.Option(min=0, help="A layer to record; repeatable; else all.")
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Observables of every so many tokens only.")
    ] = 1,
    temperature: TemperatureOption = 1.0,
    top_p: TopPOption = 0.85,
    stop_at_end: Annotated[
        bool, typer.Option(help="End where the model ends its document, with token 0.")
    ] = True,
    state: StateOption = None,
    state_layout: StateLayoutOption = "auto",
    state_orientation: StateOrientationOption = "auto",
    after: AfterOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tokenizer: TokenizerOption = None,
) -> None:
    """Feed a prompt, write on, and record what goes on inside, as a Zarr folder for xarray.

    With --corpus every document is recorded, in a folder of its own; again, to go on.
    """
    store, model = _place_and_model(out, store, model)
    if corpus and (prompt is not None or prompt_file is not None):
        raise GooseError("a prompt and --corpus exclude each other; give one")
    if corpus and (state is not None or after is not None):
        raise GooseError("every document of a corpus begins anew; leave out --state and --after")
    if scheduler is not None and not corpus:
        raise GooseError("--scheduler has workers record documents; give them with --corpus")
    with arguments():
        seed = 0 if corpus and seed is None else seed
        sampler = Sampler(temperature=temperature, top_p=top_p, seed=seed)
    if not corpus:
        place, text = Path(store), read_prompt(prompt, prompt_file)
        trace.check_free(place)
        loaded = load(model, device, dtype, tokenizer)
        if stop_at_end and (end := loaded.tokenizer.end_token) is not None:
            sampler = replace(sampler, stop=(end,))
        initial = begin_with(loaded, state, state_layout, state_orientation, after)
        with progress_bar() as progress:
            run = trace.record(
                loaded, default(text, loaded), 200 if tokens is None else tokens, place,
                initial=initial,
                observables=named(probe), layers=layer or None, every=every, sampler=sampler,
                progress=progress,
            )  # fmt: skip
        size = sum(f.stat().st_size for f in place.rglob("*") if f.is_file())
        n_tokens = len(run.way())
        print(f"{place}: {n_tokens} tokens, {size / 1e6:.1f} MB, {run.attributes['ended']}")
        return
    source: Model | ModelSource
    if scheduler is None:
        source = load(model, device, dtype, tokenizer)
    else:
        source = ModelSource(model, device, dtype, tokenizer)
    if Store(store).in_memory:
        raise GooseError(f"{store} would be gone with this command; name a folder")
    with progress_bar() as progress:
        found = record_corpus(
            source, corpus, store, tokens=tokens or 0, observables=named(probe),
            layers=layer or None, every=every, sampler=sampler, stop_at_end=stop_at_end,
            scheduler=scheduler, progress=progress,
        )  # fmt: skip
    print(f"{store}: {len(found)} documents")
    if found.failed:
        name, sentence = next(iter(found.failed.items()))
        raise GooseError(
            f"{len(found.failed)} documents could not be recorded, the first is {name}: "
            f"{sentence}; the same command tries these again"
        )


def _place_and_model(
    first: str | None, out: str | None, model: str | None
) -> tuple[str, str | None]:
    """What to write and with which model: ``record OUT [MODEL]``, ``record [MODEL] --out OUT``."""
    if out is None:
        if first is None:
            raise GooseError("what to write is missing; name it: goose-viz record run.zarr")
        return first, model
    if model is not None:
        raise GooseError(f"{first} and --out {out} both name what to write; give one")
    return out, first

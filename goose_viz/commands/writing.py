"""Commands that write text: generate, export."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from goose_viz.commands.base import (
    AfterOption,
    DeviceOption,
    DtypeOption,
    ModelArgument,
    PromptFileOption,
    PromptOption,
    SeedOption,
    StateLayoutOption,
    StateOption,
    StateOrientationOption,
    TemperatureOption,
    TokenizerOption,
    TokensOption,
    TopPOption,
    arguments,
    begin_with,
    command,
    default,
    load,
    named,
)
from goose_viz.errors import GooseError
from goose_viz.probe import Probe
from goose_viz.sampling import Sampler
from goose_viz.session import Session
from goose_viz.snapshot import check_snapshot_path, save_snapshot
from goose_viz.stdio import read_prompt
from goose_viz.templates import apply_template


@command
def generate(
    model: ModelArgument = None,
    prompt: PromptOption = None,
    prompt_file: PromptFileOption = None,
    tokens: TokensOption = 200,
    temperature: TemperatureOption = 1.0,
    top_p: TopPOption = 0.85,
    top_k: Annotated[int, typer.Option(help="At most this many; 0 for no bound.")] = 0,
    presence: Annotated[float, typer.Option(help="Penalty for having occurred.")] = 0.2,
    frequency: Annotated[float, typer.Option(help="Penalty per occurrence.")] = 0.2,
    stop: Annotated[list[str] | None, typer.Option(help="A text to end at; repeatable.")] = None,
    stop_id: Annotated[
        list[int] | None, typer.Option(min=0, help="A token to end at; repeatable.")
    ] = None,
    stop_at_end: Annotated[
        bool, typer.Option(help="End where the model ends its document, with token 0.")
    ] = True,
    template: Annotated[
        str | None,
        typer.Option(help="Wrap the prompt for a chat model: chat, think, fast or fake (think)."),
    ] = None,
    system: Annotated[str, typer.Option(help="What the template puts before the prompt.")] = "",
    state: StateOption = None,
    state_layout: StateLayoutOption = "auto",
    state_orientation: StateOrientationOption = "auto",
    after: AfterOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tokenizer: TokenizerOption = None,
) -> None:
    """Write on from a prompt, to the terminal, token by token."""
    prompt = read_prompt(prompt, prompt_file)
    with arguments():
        if template is not None:
            prompt = apply_template(template, prompt or "", system)
        sampler = Sampler(
            temperature=temperature, top_p=top_p, top_k=top_k, presence=presence,
            frequency=frequency, stop=(*(stop or ()), *(stop_id or ())), seed=seed,
        )  # fmt: skip
    loaded = load(model, device, dtype, tokenizer)
    beyond = [i for i in stop_id or () if i >= loaded.config.vocab_size]
    if beyond:
        raise GooseError(
            f"--stop-id {beyond[0]}: the model has {loaded.config.vocab_size} tokens, the last is "
            f"{loaded.config.vocab_size - 1}"
        )
    if stop_at_end and (end := loaded.tokenizer.end_token) is not None:
        sampler = replace(sampler, stop=(*sampler.stop, end))
    initial = begin_with(loaded, state, state_layout, state_orientation, after)
    session = Session(loaded, sampler, history_bytes=0, initial=initial)
    stream(session, default(prompt, loaded), tokens)


def stream(session: Session, prompt: str, n_tokens: int) -> None:
    """Print a prompt and what the model makes of it; the figures go to stderr."""
    tokenizer = session.model.tokenizer
    first: str | list[int] = prompt
    bare = tokenizer.start_token is None or session.initial is not None
    if not prompt and bare and tokenizer.end_token is not None:
        first = [tokenizer.end_token]  # what ended the document before is what models saw first
    for step in session.feed(first):
        sys.stdout.write(step.text)
    sys.stdout.flush()
    start, count = time.perf_counter(), 0
    for step in session.run(n_tokens):
        sys.stdout.write(step.text)
        sys.stdout.flush()
        count += 1
    seconds = time.perf_counter() - start
    sys.stdout.write("\n")
    model = session.model
    print(
        f"{model.name} · {model.config.shape} · {model.device} {model.dtype} · "
        f"{count / max(seconds, 1e-9):.0f} tokens/s · seed {session.sampler.seed}",
        file=sys.stderr,
    )


@command
def export(
    out: Annotated[Path, typer.Argument(help="A .safetensors or .npz file to write.")],
    model: ModelArgument = None,
    prompt: PromptOption = None,
    prompt_file: PromptFileOption = None,
    tokens: TokensOption = 0,
    probe: Annotated[
        list[str] | None,
        typer.Option(help="Observables of the last token to add, or all; repeatable."),
    ] = None,
    temperature: TemperatureOption = 1.0,
    top_p: TopPOption = 0.85,
    state: StateOption = None,
    state_layout: StateLayoutOption = "auto",
    state_orientation: StateOrientationOption = "auto",
    after: AfterOption = None,
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tokenizer: TokenizerOption = None,
) -> None:
    """Feed a prompt, write on, and save the state as a snapshot."""
    names = named(probe)
    prompt = read_prompt(prompt, prompt_file)
    with arguments():
        watched = Probe(names) if names else None
        check_snapshot_path(out)
        sampler = Sampler(temperature=temperature, top_p=top_p, seed=seed)
    loaded = load(model, device, dtype, tokenizer)
    initial = begin_with(loaded, state, state_layout, state_orientation, after)
    session = Session(loaded, sampler, initial=initial)
    session.feed(default(prompt, loaded))
    for _ in session.run(tokens):
        pass
    session.probe = watched
    session.goto(session.position)  # the observables of the last token alone
    save_snapshot(out, session)
    print(f"{out}: {session.position} tokens, {out.stat().st_size / 1e6:.1f} MB")

"""What the commands have in common: their options, loading, what they show."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from goose_viz.documents import content_of
from goose_viz.errors import GooseError
from goose_viz.files import path_of
from goose_viz.model import Model, example_prompt, load_model
from goose_viz.observables import OBSERVABLES
from goose_viz.session import PREPARING, prepare
from goose_viz.state import State
from goose_viz.state_cache import state_after
from goose_viz.state_files import KEY_VALUE, STATE_LAYOUTS, VALUE_KEY, load_state
from goose_viz.tokenizer import IdsTokenizer

app = typer.Typer(
    add_completion=False,
    help="Watch RWKV-7 think.  `goose-viz [MODEL]` opens the window; the commands below need none.",
    pretty_exceptions_enable=False,
)


class Ended(BaseException):
    """What ended a command, on its way past typer: it has opinions of its own on some errors."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function; what it raises arrives in `run` as it is."""

    @functools.wraps(function)
    def work(*args: object, **options: object) -> None:
        try:
            function(*args, **options)
        except typer.Exit:
            raise
        except BaseException as error:
            raise Ended(error) from None

    app.command()(work)
    return function


ModelArgument = Annotated[
    str | None,
    typer.Argument(
        help="A .pth, .safetensors, .st or .gguf file, a folder, or an embedded model's name."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 … or reference.")]
DtypeOption = Annotated[str, typer.Option(help="auto, fp32, bf16, fp16, int8 or int4.")]
TokenizerOption = Annotated[
    str | None,
    typer.Option(help="world, bytes, ids, a tokenizer.json or RWKV vocabulary; found by itself."),
]
PromptOption = Annotated[
    str | None, typer.Option(help="The text to go on from; - reads standard input.")
]
PromptFileOption = Annotated[
    str | None, typer.Option(help="A file with the text to go on from, taken byte for byte.")
]
TokensOption = Annotated[int, typer.Option("--tokens", "-n", min=0, help="Tokens to write.")]
SeedOption = Annotated[int | None, typer.Option(min=0, help="Same seed, same tokens.")]
TemperatureOption = Annotated[float, typer.Option(help="0 takes the likeliest token.")]
SchedulerOption = Annotated[
    str | None,
    typer.Option(help="A dask scheduler whose workers do it, a document each: tcp://host:8786."),
]
StateOption = Annotated[
    Path | None,
    typer.Option(help="A memory to begin with: a state, a snapshot, a state-tuned .pth or .st …"),
]
StateLayoutOption = Annotated[
    str, typer.Option(help=f"Of --state, where its names do not tell: {', '.join(STATE_LAYOUTS)}.")
]
StateOrientationOption = Annotated[
    str, typer.Option(help=f"Of --state, if not its layout's own: {VALUE_KEY} or {KEY_VALUE}.")
]
AfterOption = Annotated[
    Path | None,
    typer.Option(help="A text to have read first; the memory behind it is kept for next time."),
]
TopPOption = Annotated[float, typer.Option(help="Keep the likeliest tokens up to this sum.")]


def load(source: str | None, device: str, dtype: str, tokenizer: str | None) -> Model:
    """Load, and prepare the kernels."""
    with progress_bar() as progress:
        model = load_model(
            source, device=device, dtype=dtype, tokenizer=tokenizer, progress=progress
        )
        progress(1.0, PREPARING)
        prepare(model)
        return model


def begin_with(
    model: Model, state: Path | None, layout: str, orientation: str, after: Path | None
) -> State | None:
    """The memory to begin with, of a file or behind a text.

    Raises
    ------
    GooseError
        If both are given, or one will not do.
    """
    if state is not None and after is not None:
        raise GooseError("--state and --after both name a memory to begin with; give one")
    if state is not None:
        found = load_state(state, model.config, layout, orientation)
        print(f"{state.name}: {found}", file=sys.stderr)
        return found.state
    if after is None:
        return None
    text = content_of(path_of(str(after)))
    with progress_bar() as progress:
        return state_after(model, text, progress)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[float, str], None]]:
    """A progress bar on stderr, where somebody is there to see it."""
    columns = (TextColumn("{task.description}"), BarColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("loading", total=1.0)
        yield lambda fraction, words: bar.update(task, completed=fraction, description=words)


def named(probe: list[str] | None) -> list[str] | None:
    """The observables that ``--probe`` names; "all" is all of them."""
    return list(OBSERVABLES) if probe and "all" in probe else probe


def default(prompt: str | None, model: Model) -> str:
    """The prompt, or one that the model's vocabulary can say."""
    if prompt is not None:
        return prompt
    return "0" if model.tokenizer.name == IdsTokenizer.name else example_prompt(model.source)


def terminal() -> Console:
    """The terminal, at least as wide as a table needs when it is a pipe."""
    console = _Console()
    return console if console.is_terminal else _Console(width=110)


class _Console(Console):
    """rich's, but a reader that has gone is told to `guarded`: rich would end with status 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@contextlib.contextmanager
def arguments() -> Iterator[None]:
    """A value that a person gave and that will not do is their mistake; elsewhere it is ours."""
    try:
        yield
    except ValueError as error:
        raise GooseError(str(error)) from None

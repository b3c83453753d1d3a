"""The commands that need no window."""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from json import dumps
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from goose_viz import __version__, trace
from goose_viz.check import ALLOWED, compare
from goose_viz.describe import describe
from goose_viz.errors import GooseError
from goose_viz.faults import report_fault
from goose_viz.model import Model, example_prompt, load_model
from goose_viz.observables import OBSERVABLES
from goose_viz.probe import Probe
from goose_viz.random_weights import SHAPES
from goose_viz.sampling import Sampler
from goose_viz.session import PREPARING, Session, prepare
from goose_viz.snapshot import check_snapshot_path, save_snapshot
from goose_viz.stdio import print_whatever_comes, read_prompt, stop_writing
from goose_viz.templates import apply_template
from goose_viz.tokenizer import IdsTokenizer
from goose_viz.writing import LAYOUTS, write_model

#: Commands by name: what the first word of the command line is held against.
COMMANDS = ("generate", "record", "export", "info", "bench", "check", "convert", "eval")

app = typer.Typer(
    add_completion=False,
    help="Watch RWKV-7 think.  `goose-viz [MODEL]` opens the window; the commands below need none.",
    pretty_exceptions_enable=False,
)


class _Ended(BaseException):
    """What ended a command, on its way past typer: it has opinions of its own on some errors."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a command of a function; what it raises arrives in `run` as it is."""

    @functools.wraps(function)
    def work(*args: object, **options: object) -> None:
        try:
            function(*args, **options)
        except typer.Exit:
            raise
        except BaseException as error:
            raise _Ended(error) from None

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
TopPOption = Annotated[float, typer.Option(help="Keep the likeliest tokens up to this sum.")]


@_command
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
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tokenizer: TokenizerOption = None,
) -> None:
    """Write on from a prompt, to the terminal, token by token."""
    prompt = read_prompt(prompt, prompt_file)
    with _arguments():
        if template is not None:
            prompt = apply_template(template, prompt or "", system)
        sampler = Sampler(
            temperature=temperature, top_p=top_p, top_k=top_k, presence=presence,
            frequency=frequency, stop=(*(stop or ()), *(stop_id or ())), seed=seed,
        )  # fmt: skip
    loaded = _load(model, device, dtype, tokenizer)
    beyond = [i for i in stop_id or () if i >= loaded.config.vocab_size]
    if beyond:
        raise GooseError(
            f"--stop-id {beyond[0]}: the model has {loaded.config.vocab_size} tokens, the last is "
            f"{loaded.config.vocab_size - 1}"
        )
    if stop_at_end and (end := loaded.tokenizer.end_token) is not None:
        sampler = replace(sampler, stop=(*sampler.stop, end))
    session = Session(loaded, sampler, history_bytes=0)
    stream(session, _default(prompt, loaded), tokens)


def stream(session: Session, prompt: str, n_tokens: int) -> None:
    """Print a prompt and what the model makes of it; the figures go to stderr."""
    tokenizer = session.model.tokenizer
    first: str | list[int] = prompt
    if not prompt and tokenizer.start_token is None and tokenizer.end_token is not None:
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


@_command
def record(
    out: Annotated[Path, typer.Argument(help="A new folder to write, by custom NAME.zarr.")],
    model: ModelArgument = None,
    prompt: PromptOption = None,
    prompt_file: PromptFileOption = None,
    tokens: TokensOption = 200,
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
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tokenizer: TokenizerOption = None,
) -> None:
    """Feed a prompt, write on, and record what goes on inside, as a Zarr folder for xarray."""
    prompt = read_prompt(prompt, prompt_file)
    with _arguments():
        sampler = Sampler(temperature=temperature, top_p=top_p, seed=seed)
    trace.check_free(out)
    loaded = _load(model, device, dtype, tokenizer)
    if stop_at_end and (end := loaded.tokenizer.end_token) is not None:
        sampler = replace(sampler, stop=(end,))
    with _progress_bar() as progress:
        found = trace.record(
            loaded, _default(prompt, loaded), tokens, out, observables=_named(probe),
            layers=layer or None, every=every, sampler=sampler, progress=progress,
        )  # fmt: skip
    size = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    n_tokens = len(found.way())
    print(f"{out}: {n_tokens} tokens, {size / 1e6:.1f} MB, {found.attributes['ended']}")


@_command
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
    seed: SeedOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tokenizer: TokenizerOption = None,
) -> None:
    """Feed a prompt, write on, and save the state as a snapshot."""
    names = _named(probe)
    prompt = read_prompt(prompt, prompt_file)
    with _arguments():
        watched = Probe(names) if names else None
        check_snapshot_path(out)
        sampler = Sampler(temperature=temperature, top_p=top_p, seed=seed)
    loaded = _load(model, device, dtype, tokenizer)
    session = Session(loaded, sampler)
    session.feed(_default(prompt, loaded))
    for _ in session.run(tokens):
        pass
    session.probe = watched
    session.goto(session.position)  # the observables of the last token alone
    save_snapshot(out, session)
    print(f"{out}: {session.position} tokens, {out.stat().st_size / 1e6:.1f} MB")


@_command
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
    _console().print(table)


@_command
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
    with _progress_bar() as progress:
        written = write_model(model, out, to, dtype, tokenizer, force, progress)
    print(written)


@_command
def check(model: ModelArgument = None, device: DeviceOption = "auto") -> None:
    """Compare this machine's engine with the float64 reference, number by number."""
    reference = _load(model, "reference", "auto", None)
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
    _console().print(table)
    if failed:
        raise GooseError(
            f"{failed} quantities are off on this machine; results here cannot be trusted, please "
            "report this table with the processor and the versions of numba and numpy"
        )
    print(f"all {table.row_count} comparisons are within the error allowed")


@_command
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
    with _progress_bar() as progress:
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
    console = _console()
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


@_command
def eval(  # the name of the command
    model: ModelArgument = None,
    data: Annotated[
        Path | None,
        typer.Option(help='A text, or a .jsonl whose lines have a passage each, {"text": "…"}.'),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Keep what was found in this file, and go on from it.")
    ] = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tokenizer: TokenizerOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say how well a model foresees a text, or the last words of passages (LAMBADA's form)."""
    from goose_viz.evaluation import evaluate

    if data is None:
        raise GooseError("--data is missing; give a text, or a .jsonl with a passage a line")
    loaded = _load(model, device, dtype, tokenizer)
    with _progress_bar() as progress:
        found = evaluate(
            loaded, data, out, lambda share: progress(share, f"evaluating on {data.name}")
        )
    if json:
        print(dumps(found.figures(), indent=2))
        return
    table = Table(show_header=False, box=None)
    for name, value in found.figures().items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.4f}")
    _console().print(table)


def _show_analyses(model: Model, n_tokens: int, times: dict[str, float], json: bool) -> None:
    """Print how long the analyses took."""
    if json:
        print(dumps({"model": model.name, "tokens": n_tokens, "milliseconds": times}, indent=2))
        return
    table = Table(f"at {n_tokens} tokens", "ms")
    for name, milliseconds in times.items():
        table.add_row(name, f"{milliseconds:.1f}")
    console = _console()
    console.print(f"{model.name} · {model.device} {model.dtype}")
    console.print(table)


def _load(source: str | None, device: str, dtype: str, tokenizer: str | None) -> Model:
    """Load, and prepare the kernels."""
    with _progress_bar() as progress:
        model = load_model(
            source, device=device, dtype=dtype, tokenizer=tokenizer, progress=progress
        )
        progress(1.0, PREPARING)
        prepare(model)
        return model


@contextlib.contextmanager
def _progress_bar() -> Iterator[Callable[[float, str], None]]:
    """A progress bar on stderr, where somebody is there to see it."""
    columns = (TextColumn("{task.description}"), BarColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("loading", total=1.0)
        yield lambda fraction, words: bar.update(task, completed=fraction, description=words)


def _named(probe: list[str] | None) -> list[str] | None:
    """The observables that ``--probe`` names; "all" is all of them."""
    return list(OBSERVABLES) if probe and "all" in probe else probe


def _default(prompt: str | None, model: Model) -> str:
    """The prompt, or one that the model's vocabulary can say."""
    if prompt is not None:
        return prompt
    return "0" if model.tokenizer.name == IdsTokenizer.name else example_prompt(model.source)


def _console() -> Console:
    """The terminal, at least as wide as a table needs when it is a pipe."""
    console = _Console()
    return console if console.is_terminal else _Console(width=110)


class _Console(Console):
    """rich's, but a reader that has gone is told to `guarded`: rich would end with status 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


@contextlib.contextmanager
def _arguments() -> Iterator[None]:
    """A value that a person gave and that will not do is their mistake; elsewhere it is ours."""
    try:
        yield
    except ValueError as error:
        raise GooseError(str(error)) from None


def run(arguments: list[str]) -> int:
    """Run a command; the exit status.

    What a person can cause is one line on stderr and 2; Ctrl+C is 130, a reader that has gone 0.
    What is a fault of the program is 1, with its traceback in a file that the line names.
    """
    print_whatever_comes()

    def work() -> int:
        try:
            status = app(arguments, prog_name="goose-viz", standalone_mode=False)
        except _Ended as ended:
            raise ended.error from None
        return status if isinstance(status, int) else 0

    return guarded(work)


def guarded(work: Callable[[], int]) -> int:
    """What the work answers, or the status of what ended it; never a traceback."""
    try:
        status = work()
        sys.stdout.flush()
        return status
    except typer.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        stop_writing()
        return 0
    except SystemExit as exit_:  # rich's answer to a reader that has gone, within typer's help
        if isinstance(exit_.__context__, BrokenPipeError):
            stop_writing()
            return 0
        raise
    except (GooseError, OSError) as error:
        return _say(str(error), 2)
    except MemoryError:
        return _say("there is not enough free memory for that", 2)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except Exception as error:
        show = getattr(error, "show", None)  # click's own usage errors
        if show is not None:
            show()
            return 2
        return _say(report_fault(error), 1)


def _say(sentence: str, status: int) -> int:
    with contextlib.suppress(OSError, ValueError):  # nobody is there to read it
        print(f"goose-viz: {sentence}", file=sys.stderr)
    return status

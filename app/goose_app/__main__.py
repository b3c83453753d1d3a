"""``goose-viz``: the window, or a command without one."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from goose_app.display import missing_library, why_no_screen
from goose_app.perspectives import PERSPECTIVES

if TYPE_CHECKING:
    from goose_app.messages import Load

_PICTURE = Path("goose-viz.png")
_SERVER_TOKENS = 120


def main(arguments: list[str] | None = None) -> None:
    """Decide by the first word: a command's name, or else a model for the window."""
    try:
        _main(arguments)
    except KeyboardInterrupt:  # while all that is imported is
        sys.exit(130)


def _main(arguments: list[str] | None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    gc.disable()  # nothing of what an import makes is garbage
    from goose_viz import cli
    from goose_viz.stdio import print_whatever_comes

    gc.freeze()
    gc.enable()
    print_whatever_comes()
    if words and words[0] in cli.COMMANDS:
        sys.exit(cli.run(words))
    if words and not Path(words[0]).exists():
        for command in get_close_matches(words[0], cli.COMMANDS, 1, 0.75):
            print(
                f"goose-viz: there is no command and no file {words[0]}; did you mean {command}?",
                file=sys.stderr,
            )
            sys.exit(2)
    sys.exit(cli.guarded(lambda: _window(words)))


def _window(words: list[str]) -> int:
    from goose_viz import __version__, cli
    from goose_viz.model import example_prompt
    from goose_viz.stdio import read_prompt

    parser = argparse.ArgumentParser(
        prog="goose-viz",
        description="Watch RWKV-7 think: open a model in the window.",
        epilog="Without a window: " + ", ".join(f"goose-viz {c}" for c in cli.COMMANDS)
        + "; each has --help.",
    )  # fmt: skip
    parser.add_argument("model", nargs="?", help="a .pth, .safetensors, .st or .gguf file, a "
                        "folder, or the name of an embedded model; the demo model "
                        "when left out")  # fmt: skip
    parser.add_argument("--prompt", help="the text to go on from; - reads standard input")
    parser.add_argument("--prompt-file", help="a file with the text to go on from")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 … or reference")
    parser.add_argument("--dtype", default="auto", help="auto, fp32, bf16, fp16, int8 or int4")
    parser.add_argument("--tokenizer", help="world, bytes, ids, a tokenizer.json or a vocabulary "
                        "in RWKV's form")  # fmt: skip
    parser.add_argument("--state", type=Path, help="a memory to begin with: a state, a snapshot, a "
                        "state-tuned .pth or .st")  # fmt: skip
    parser.add_argument("--after", type=Path, help="a text to have read first; the memory behind "
                        "it is kept for next time")  # fmt: skip
    parser.add_argument("--theme", choices=("system", "dark", "light"),
                        help="the one chosen in the View menu when left out")  # fmt: skip
    parser.add_argument(
        "--perspective", choices=tuple(PERSPECTIVES),
        help="watch: the memory as it runs; why: what gave the next word; state: one head; "
        "compare: two runs; study: layers, words and what if",
    )  # fmt: skip
    parser.add_argument("--screenshot", type=Path, metavar="OUT.png",
                        help="render the window without a display, save it and exit")  # fmt: skip
    parser.add_argument("--run", type=int, metavar="N", help="write N tokens at once; with "
                        "--screenshot, before the picture is taken (default 100)")  # fmt: skip
    parser.add_argument("--size", default="1600x1000", help="of the window, for --screenshot")
    parser.add_argument("--version", action="version", version=f"goose-viz {__version__}")
    options = parser.parse_args(words)
    if options.state is not None and options.after is not None:
        parser.error("--state and --after both name a memory to begin with; give one")
    prompt = read_prompt(options.prompt, options.prompt_file)
    options.prompt = example_prompt(options.model) if prompt is None else prompt
    if options.screenshot is not None:
        return _picture(options, options.screenshot, 100 if options.run is None else options.run)
    reason = why_no_screen()
    if reason is not None:
        print(f"goose-viz: {reason}; writing to the terminal instead\n", file=sys.stderr)
        n_tokens = _SERVER_TOKENS if options.run is None else options.run
        command = ["generate", "--prompt", options.prompt, "-n", str(n_tokens), "--seed", "1"]
        for name in ("device", "dtype", "tokenizer", "state", "after"):
            if getattr(options, name) is not None:
                command += [f"--{name}", str(getattr(options, name))]
        status = cli.run(command + ([options.model] if options.model else []))
        if status:
            return status
        return _picture(options, _PICTURE, n_tokens)
    if problem := missing_library():
        print(f"goose-viz: {problem}", file=sys.stderr)
        return 2
    from goose_app.application import open_window

    return open_window(
        _load(options), options.prompt, options.theme, options.run, options.perspective
    )


def _picture(options: argparse.Namespace, path: Path, n_tokens: int) -> int:
    os.environ["QT_QPA_PLATFORM"] = "offscreen"
    if problem := missing_library():
        print(f"goose-viz: {problem}", file=sys.stderr)
        return 2
    try:
        width, height = (int(n) for n in options.size.split("x"))
    except ValueError:
        print(
            f"goose-viz: --size {options.size!r}: expected a size like 1600x1000", file=sys.stderr
        )
        return 2
    from goose_app.application import take_picture

    return take_picture(
        _load(options), options.prompt, options.theme, n_tokens, path, (width, height),
        options.perspective,
    )  # fmt: skip


def _load(options: argparse.Namespace) -> Load:
    from goose_app.messages import BeginWith, Load

    begin = None
    if options.state is not None or options.after is not None:
        begin = BeginWith(options.state or options.after, options.state is None)
    return Load(options.model, options.device, options.dtype, options.tokenizer, begin)


if __name__ == "__main__":
    main()

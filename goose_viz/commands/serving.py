"""The command that serves: serve."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import Annotated

import typer

from goose_viz.commands.base import (
    DeviceOption,
    DtypeOption,
    ModelArgument,
    TokenizerOption,
    command,
    load,
)
from goose_viz.errors import GooseError
from goose_viz.templates import TEMPLATES

_KEY = "GOOSE_VIZ_API_KEY"


@command
def serve(
    model: ModelArgument = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; other machines reach it only if told.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    at_once: Annotated[int, typer.Option(min=1, help="Requests that take turns.")] = 4,
    waiting: Annotated[int, typer.Option(min=0, help="Requests that may wait for one.")] = 16,
    sessions: Annotated[int, typer.Option(min=1, help="Memories that are held.")] = 64,
    most_tokens: Annotated[int, typer.Option(min=1, help="That a request may ask for.")] = 4096,
    template: Annotated[str, typer.Option(help=f"Of chats: {', '.join(TEMPLATES)}.")] = "chat",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    tokenizer: TokenizerOption = None,
) -> None:
    """Serve a model to OpenAI's clients: completions, chat, and the memories of sessions.

    A key that GOOSE_VIZ_API_KEY holds is asked of every request.
    """
    if template not in TEMPLATES:
        raise GooseError(f"there is no template {template!r}; expected {', '.join(TEMPLATES)}")
    try:
        import uvicorn

        from goose_viz.serving import Settings, make_app
        from goose_viz.serving.app import LOOPBACK
    except ImportError:
        raise GooseError("the server needs more packages: pip install 'goose-viz[serve]'") from None
    key = os.environ.get(_KEY, "")
    if not _loopback(host) and not key:
        print(
            f"goose-viz: whoever reaches {host} can use this server; {_KEY} asks for a key",
            file=sys.stderr,
        )
    loaded = load(model, device, dtype, tokenizer)
    hosts = (*LOOPBACK, host) if _loopback(host) else ("*",)
    settings = Settings(template, at_once, waiting, sessions, most_tokens, key, hosts)
    config = uvicorn.Config(make_app(loaded, settings), host=host, port=port, log_level="warning")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        place = socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise GooseError(
            f"{host}:{port} cannot be listened at ({error.strerror or error}); name another --port"
        ) from None
    number, shown = place.getsockname()[1], f"[{host.strip('[]')}]" if ":" in host else host
    print(
        f"{loaded.name} at http://{shown}:{number}/v1 · Ctrl+C ends it", file=sys.stderr, flush=True
    )
    with place:
        uvicorn.Server(config).run(sockets=[place])


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"

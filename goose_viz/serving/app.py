"""The routes: OpenAI's completions, chat and models, and the memories of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from goose_viz.errors import GooseError
from goose_viz.faults import report_fault
from goose_viz.model import Model
from goose_viz.serving.answers import LOOK, ChatAnswer, TextAnswer, answer, stream
from goose_viz.serving.bounds import Bounded, Guarded
from goose_viz.serving.engine import Full, Turns
from goose_viz.serving.memories import Busy, Memories, NoSuchMemory, TooMany, content_of
from goose_viz.serving.schemas import Chat, Completion

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


@dataclass(frozen=True)
class Settings:
    """How a server is to be.

    Attributes
    ----------
    template : str
        Of chats, see `goose_viz.templates`.
    at_once, waiting : int
        Requests that take turns, and that may wait for one.
    sessions : int
        Memories that are held.
    most_tokens : int
        That a request may have written.
    api_key : str
        Asked of every request; none when empty.
    hosts : tuple of str
        Names under which it may be asked for; ``("*",)`` for any.
    """

    template: str = "chat"
    at_once: int = 4
    waiting: int = 16
    sessions: int = 64
    most_tokens: int = 4096
    api_key: str = ""
    hosts: tuple[str, ...] = LOOPBACK


def make_app(model: Model, settings: Settings | None = None) -> FastAPI:
    """The server of a model, for an ASGI server to run."""
    settings = settings or Settings()
    turns = Turns(settings.at_once, settings.waiting)
    memories = Memories(model, settings.sessions)

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        yield
        turns.close()

    app = FastAPI(title="Goose Viz", lifespan=living, docs_url=None, redoc_url=None)
    app.add_middleware(Guarded, api_key=settings.api_key, hosts=settings.hosts)
    app.add_middleware(Bounded, most=(32 << 20) + 4 * model.new_state().nbytes)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts))
    _errors(app)

    def check_model(name: str) -> None:
        if name != model.name:
            raise HTTPException(404, f"there is no model {name[:80]!r} here; this is {model.name}")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [await one_model(model.name)]}

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> dict[str, Any]:
        check_model(name)
        return {"id": model.name, "object": "model", "created": 0, "owned_by": "goose-viz"}

    @app.post("/v1/completions")
    async def completions(asked: Completion, request: Request) -> Response:
        check_model(asked.model)
        return await given(TextAnswer(model, asked, settings.most_tokens), request)

    @app.post("/v1/chat/completions")
    async def chat(asked: Chat, request: Request) -> Response:
        check_model(asked.model)
        form = ChatAnswer(model, asked, settings.most_tokens, settings.template)
        return await given(form, request)

    async def given(form: TextAnswer | ChatAnswer, request: Request) -> Response:
        if form.choices > turns.room:
            raise Full
        if form.streams:
            pieces = stream(form, turns, memories)
            # what is wrong with a request is told by its status, so the first piece is waited for
            task = asyncio.ensure_future(anext(pieces))
            while not (await asyncio.wait({task}, timeout=LOOK))[0]:
                if await request.is_disconnected():
                    task.cancel()
                    await asyncio.wait({task})
                    return Response(status_code=499)
            first = task.result()

            async def all_of() -> AsyncIterator[str]:
                yield first
                async for piece in pieces:
                    yield piece

            return StreamingResponse(all_of(), media_type="text/event-stream")
        return JSONResponse(await answer(form, turns, memories, request.is_disconnected))

    @app.get("/v1/state")
    async def states() -> dict[str, Any]:
        return {"object": "list", "data": memories.list()}

    @app.post("/v1/state")
    async def new_state() -> dict[str, Any]:
        return memories.about(memories.add(memories.empty()))

    @app.get("/v1/state/{name}")
    async def state(name: str) -> Response:
        with memories.use(name) as session:
            content = await turns.call(lambda: content_of(session))
        return Response(
            content, media_type="application/octet-stream",
            headers={"content-disposition": f'attachment; filename="{name}.safetensors"'},
        )  # fmt: skip

    @app.put("/v1/state/{name}")
    async def put_state(
        name: str, request: Request, layout: str = "auto", orientation: str = "auto"
    ) -> dict[str, Any]:
        content = await request.body()
        session = await turns.call(lambda: memories.read(content, layout, orientation))
        return memories.about(memories.add(session, name))

    @app.post("/v1/state/{name}/fork")
    async def fork(name: str) -> dict[str, Any]:
        with memories.use(name) as session:
            other = await turns.call(lambda: memories.read(content_of(session), "auto", "auto"))
        return memories.about(memories.add(other))

    @app.delete("/v1/state/{name}")
    async def delete(name: str) -> dict[str, Any]:
        memories.remove(name)
        return {"id": name, "object": "state", "deleted": True}

    return app


def _errors(app: FastAPI) -> None:
    """What goes wrong, in OpenAI's form."""
    kinds: dict[type[Exception], tuple[int, str]] = {
        NoSuchMemory: (404, "invalid_request_error"),
        Busy: (409, "conflict"),
        TooMany: (429, "rate_limit_exceeded"),
        GooseError: (400, "invalid_request_error"),
    }
    for kind, (status, name) in kinds.items():

        @app.exception_handler(kind)
        async def refuse(
            _: Request, error: Exception, status: int = status, name: str = name
        ) -> Response:
            return _refusal(status, str(error), name)

    @app.exception_handler(Full)
    async def full(_: Request, error: Exception) -> Response:
        words = "as many requests wait as may; try again in a moment"
        return _refusal(429, words, "rate_limit_exceeded", {"retry-after": "1"})

    @app.exception_handler(RequestValidationError)
    async def unreadable(_: Request, error: RequestValidationError) -> Response:
        wrong = error.errors()[0]
        where = ".".join(str(part) for part in wrong["loc"][1:] if not isinstance(part, int))
        words = f"{where[:80] or 'the body'}: {wrong['msg']}"
        return _refusal(400, words, "invalid_request_error")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> Response:
        return _refusal(error.status_code, str(error.detail), "invalid_request_error")

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> Response:
        return _refusal(500, report_fault(error), "server_error")


def _refusal(status: int, words: str, kind: str, headers: dict[str, str] | None = None) -> Response:
    content = {
        "error": {"message": " ".join(words.split()), "type": kind, "param": None, "code": None}
    }
    return JSONResponse(content, status, headers)

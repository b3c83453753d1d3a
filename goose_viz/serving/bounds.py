"""Who may ask, and no body longer than anything that could be meant.

Plain ASGI: behind Starlette's own kind of middleware nobody learns that a client has gone.
"""

from __future__ import annotations

import json
import secrets
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Bounded:
    """Middleware that reads no more than so many bytes of a request.

    Parameters
    ----------
    app : ASGI application
    most : int
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most
        self._words = f"the request is longer than {most} bytes, which nothing here needs"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless it says or turns out to be longer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = dict(scope["headers"]).get(b"content-length", b"0")
        if not said.isdigit() or int(said) > self._most:
            await _refuse(send, 413, self._words, "invalid_request_error")
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise HTTPException(413, self._words)
            return message

        await self._app(scope, counted, send)


class Guarded:
    """Middleware that asks for a key, and turns pages of other sites away.

    Parameters
    ----------
    app : ASGI application
    api_key : str
        None is asked for when empty.
    hosts : tuple of str
        Names of this server; ``("*",)`` for any, and then for any page.
    """

    def __init__(self, app: ASGIApp, api_key: str, hosts: tuple[str, ...]) -> None:
        self._app, self._key, self._hosts = app, api_key.encode(), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say why not."""
        headers = dict(scope.get("headers", ()))
        given = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._key and not secrets.compare_digest(given, self._key):
            words = "the API key is missing or another"
            await _refuse(send, 401, words, "authentication_error")
        elif not self._own(headers):
            words = "a page of another site asks for this"
            await _refuse(send, 403, words, "permission_error")
        else:
            await self._app(scope, receive, send)

    def _own(self, headers: dict[bytes, bytes]) -> bool:
        """Whether no page of another site is behind a request; programs are no pages."""
        if self._hosts == ("*",):
            return True
        origin = headers.get(b"origin")
        try:
            known = origin is None or urlsplit(origin.decode("latin-1")).hostname in self._hosts
        except ValueError:
            return False
        return known and headers.get(b"sec-fetch-site", b"none") in (b"none", b"same-origin")


async def _refuse(send: Send, status: int, words: str, kind: str) -> None:
    """Answer with an error in OpenAI's form."""
    error: dict[str, Any] = {"message": words, "type": kind, "param": None, "code": None}
    body = json.dumps({"error": error}).encode()
    await send({
        "type": "http.response.start", "status": status,
        "headers": [(b"content-type", b"application/json")],
    })  # fmt: skip
    await send({"type": "http.response.body", "body": body})

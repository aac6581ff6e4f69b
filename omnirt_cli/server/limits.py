"""How much a request may send, and how long a peer may keep us waiting: a slow or vanished client costs nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omnirt_cli.errors import InputInvalidError, RunTimeoutError
from omnirt_cli.server.options import MIB
from omnirt_cli.server.problems import Problem

ROOM = MIB
"""On top of the files: the rest of a form, or a JSON body."""


@dataclass(frozen=True)
class Patience:
    """How long a peer is waited for, in seconds.

    Attributes:
        pause_s: For the next part of a body.
        upload_s: For any body, to which comes the time at `least_bytes_s` for what has arrived.
        send_s: For a peer to take some of an answer.
    """

    pause_s: float = 20.0
    upload_s: float = 30.0
    least_bytes_s: int = 64 * 1024
    send_s: float = 60.0


class PeerTooSlowError(Exception):
    """The peer takes nothing of its answer."""


class Limits:
    """Cuts off bodies that are too large, peers that are too slow."""

    def __init__(self, app: ASGIApp, *, most_bytes: int, patience: Patience | None = None) -> None:
        self._app = app
        self._most_bytes = most_bytes + ROOM
        self._patience = patience or Patience()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._refuse_announced(Headers(scope=scope))
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        body = _Body(receive, self._most_bytes, self._patience)
        await self._app(scope, body.receive, _bounded(send, self._patience.send_s))

    def _refuse_announced(self, headers: Headers) -> None:
        announced = headers.get("content-length", "0")
        if announced.isascii() and announced.isdigit() and int(announced) > self._most_bytes:
            raise _too_large(self._most_bytes)


class _Body:
    """A request's body on its way in."""

    def __init__(self, receive: Receive, most_bytes: int, patience: Patience) -> None:
        self._receive = receive
        self._most_bytes = most_bytes
        self._patience = patience
        self._arrived = 0
        self._whole = False
        self._began = time.monotonic()

    async def receive(self) -> Message:
        """The next message.

        Raises:
            Problem: It took too long, or there is too much.
        """
        if self._whole:
            return await self._receive()
        message = await self._timely()
        self._arrived += len(message.get("body", b""))
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        if self._arrived > self._most_bytes:
            raise _too_large(self._most_bytes)
        return message

    async def _timely(self) -> Message:
        allowed = self._patience.upload_s + self._arrived / self._patience.least_bytes_s
        left = self._began + allowed - time.monotonic()
        try:
            return await asyncio.wait_for(self._receive(), max(0.0, min(left, self._patience.pause_s)))
        except asyncio.TimeoutError:
            raise Problem(
                RunTimeoutError("the request's body came too slowly"), 408, headers={"Connection": "close"}
            ) from None


def _bounded(send: Send, seconds: float) -> Send:
    """Gives up on a peer that takes nothing."""

    async def bounded(message: Message) -> None:
        try:
            await asyncio.wait_for(send(message), seconds)
        except asyncio.TimeoutError:
            raise PeerTooSlowError from None

    return bounded


def _too_large(most_bytes: int) -> Problem:
    return Problem(
        InputInvalidError(
            f"the request is larger than {most_bytes // MIB} MiB", hint="the server's limit is --max-upload-mib"
        ),
        413,
        headers={"Connection": "close"},
    )

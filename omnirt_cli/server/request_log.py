"""Around everything: a request's id, its line in the log, its figures, and the last word where nobody else answered.

No exception passes here, and no answer of 400 or more without the one error body.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from omnirt_cli.server.limits import PeerTooSlowError
from omnirt_cli.server.metrics import Metrics
from omnirt_cli.server.problems import GONE, REQUEST_ID, internal, of_status

HEADER = "X-Request-ID"
_ID = re.compile(r"[0-9A-Za-z._-]{1,64}")
_ERRORS_FROM = 400
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE"})

logger = logging.getLogger("omnirt.server.requests")


class RequestLog:
    """Names, times and counts requests."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = Headers(scope=scope).get(HEADER.lower(), "")
        request_id = said if _ID.fullmatch(said) else uuid.uuid4().hex
        token = REQUEST_ID.set(request_id)
        answer = _Answer(scope, send, request_id)
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:
            if is_of_peer(error):
                return
            # This server's edge: a bug is told to the log, and answered where that can still be done.
            logger.exception("a request failed", extra={"facts": {"request": request_id}})
            if answer.status == 0:
                await internal(error).response()(scope, receive, answer.send)
        finally:
            self._note(scope, answer)
            REQUEST_ID.reset(token)

    def _note(self, scope: Scope, answer: _Answer) -> None:
        route = getattr(scope.get("route"), "path", "-")
        method = scope["method"] if scope["method"] in _METHODS else "-"
        self._metrics.requests.labels(method, route, str(answer.status or GONE)).inc()
        if answer.began_s is not None:
            self._metrics.request_seconds.labels(route).observe(answer.began_s)
        logger.info("request", extra={"facts": answer.facts()})


def is_of_peer(error: BaseException) -> bool:
    """Whether the peer is at fault: it went away, or takes nothing. Task groups wrap such errors."""
    inner = getattr(error, "exceptions", None)
    if inner is not None:
        return all(is_of_peer(one) for one in inner)
    return isinstance(error, (ClientDisconnect, PeerTooSlowError, ConnectionError))


class _Answer:
    """An answer on its way out."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._start = time.monotonic()
        self._replaced = False
        self.status = 0
        self.began_s: float | None = None

    async def send(self, message: Message) -> None:
        """Pass a message on; a plain text of an error is replaced by the error body."""
        if message["type"] == "http.response.start":
            self.began_s = time.monotonic() - self._start
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            if self.status >= _ERRORS_FROM and not headers.get("content-type", "").startswith("application/json"):
                await self._replace(headers)
                return
            headers[HEADER] = self._request_id
        if not self._replaced:
            await self._send(message)

    async def _replace(self, headers: MutableHeaders) -> None:
        self._replaced = True
        kept = {
            name: value for name, value in headers.items() if name not in ("content-length", "content-type", "server")
        }
        reason = f"{self._scope['method']} {self._scope['path'][:200]} cannot be answered"
        response = of_status(self.status, reason, {**kept, HEADER: self._request_id}).response()
        start: Message = {"type": "http.response.start", "status": self.status, "headers": response.raw_headers}
        await self._send(start)
        body = b"" if self._scope["method"] == "HEAD" else bytes(response.body)
        await self._send({"type": "http.response.body", "body": body})

    def facts(self) -> dict[str, Any]:
        """What the log says of the request; its query is left out, for keys end up there."""
        client = self._scope.get("client")
        return {
            "request": self._request_id,
            "method": self._scope["method"],
            "path": self._scope["path"][:500],
            "status": self.status or GONE,
            "ms": round((time.monotonic() - self._start) * 1000, 3),
            "client": client[0] if client else None,
        }

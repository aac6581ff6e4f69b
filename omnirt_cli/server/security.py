"""The door: who may speak to this server at all. Passed by every request and every socket, before anything is read.

Loopback is no wall: any page in a browser on this machine can send requests there. Such a request names a foreign
`Origin`, or reaches the port by a name that somebody else's DNS gave it, which is then its `Host`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from omnirt_cli.errors import NotAuthorisedError, UsageError
from omnirt_cli.server import page
from omnirt_cli.server.api_keys import KeyRing
from omnirt_cli.server.options import LOCALHOST, is_loopback
from omnirt_cli.server.problems import Problem

WITHOUT_KEY = frozenset({"/healthz", "/readyz", *page.FILES})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_BODIES = frozenset({"application/json", "multipart/form-data"})
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_POLICY_VIOLATION = 1008


@dataclass(frozen=True)
class Names:
    """The names by which a server may be called.

    Attributes:
        names: In lower case.
        any_address: A literal address will do: no DNS stands behind it.
        loopback: A literal address of this machine's loopback will do.
    """

    names: frozenset[str]
    any_address: bool
    loopback: bool = True

    @classmethod
    def of(cls, host: str, allowed: Iterable[str]) -> Names:
        """The names of a server that is bound to `host`."""
        names = {host.lower(), LOCALHOST, *(name.lower() for name in allowed)}
        if is_loopback(host):
            return cls(frozenset(names), any_address=False)
        return cls(frozenset({*names, socket.gethostname().lower(), socket.getfqdn().lower()}), any_address=True)

    def take(self, host: str) -> bool:
        """Whether a `Host` header names this server."""
        name = _name(host)
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.any_address or address.is_loopback


class Gate:
    """Lets requests and sockets through, or answers them itself."""

    def __init__(self, app: ASGIApp, names: Names, keys: KeyRing) -> None:
        self._app = app
        self._names = names
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        problem = self._refusal(scope)
        if problem is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # A socket that is closed before it was accepted is answered with 403.
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": problem.error.message[:120]})
        else:
            await problem.response()(scope, receive, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        return (
            self._refuse_name(headers)
            or _refuse_origin(headers)
            or self._refuse_stranger(scope, headers)
            or _refuse_content_type(scope, headers)
        )

    def _refuse_name(self, headers: Headers) -> Problem | None:
        if len(headers.getlist("host")) == 1 and self._names.take(headers["host"]):
            return None
        return Problem(
            NotAuthorisedError("this server does not go by that Host", hint="start it with --allow-host NAME"), 403
        )

    def _refuse_stranger(self, scope: Scope, headers: Headers) -> Problem | None:
        if not self._keys or scope["path"] in WITHOUT_KEY or self._keys.takes(_key(headers)):
            return None
        return Problem(
            NotAuthorisedError("this server wants an API key", hint="send it as Authorization: Bearer KEY"),
            401,
            headers={"WWW-Authenticate": "Bearer"},
        )


def _name(host: str) -> str:
    """A `Host` without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _key(headers: Headers) -> bytes:
    direct = headers.get("x-api-key")
    if direct is not None:
        return direct.encode("latin-1")
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


def _refuse_origin(headers: Headers) -> Problem | None:
    """A page may speak to the server that it came from, and to no other."""
    origins = headers.getlist("origin")
    if not origins:
        return None
    if len(origins) == 1 and _same(origins[0], headers["host"]):
        return None
    return Problem(NotAuthorisedError("a page of another origin may not use this server"), 403)


def _same(origin: str, host: str) -> bool:
    scheme, _, place = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme)
    if port is None:
        return False
    return place.removesuffix(f":{port}") == host.lower().removesuffix(f":{port}")


def _refuse_content_type(scope: Scope, headers: Headers) -> Problem | None:
    """What a form in somebody else's page could send without asking is not taken."""
    if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
        return None
    if headers.get("content-type", "").partition(";")[0].strip().lower() in _BODIES:
        return None
    return Problem(UsageError(f"send a body of {' or '.join(sorted(_BODIES))}"), 415)

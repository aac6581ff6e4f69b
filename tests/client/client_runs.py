"""A server to talk to, and a way to it that can be cut."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omnirt_cli.request import Audio2VideoRequest
from tests.omnirt_cli_runs import ASSETS
from tests.server.server_runs import MODEL, TINY, Server

KEY = "0123456789abcdef-a-key-of-the-tests"


def there(url: str, output: Path, *more: str) -> list[str]:
    """A tiny render on a server."""
    inputs = ["--image", str(ASSETS / "portrait.png"), "--audio", str(ASSETS / "speech.wav")]
    tiny = ["--size", TINY["size"], "--max-chunks", str(TINY["max_chunks"])]
    return ["generate", "--server", url, "--model", MODEL, *inputs, *tiny, "--output", str(output), *more]


def wish(**config: Any) -> Audio2VideoRequest:
    """The same as a Python call's."""
    inputs = {"image": str(ASSETS / "portrait.png"), "audio": str(ASSETS / "speech.wav")}
    return Audio2VideoRequest.model_validate({"model": MODEL, "inputs": inputs, "config": {**TINY, **config}})


def report_beside(output: Path) -> dict[str, Any]:
    found = json.loads(output.with_name(f"{output.stem}.report.json").read_text())
    assert isinstance(found, dict)
    return found


def leftovers(folder: Path) -> list[str]:
    """Files that nobody asked for."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".omnirt-"))


def states(server: Server) -> list[str]:
    """The states of the server's jobs, newest first."""
    with server.client() as client:
        return [job["state"] for job in client.get("/v1/jobs").json()["data"]]


@dataclass
class Wire:
    """A TCP proxy before a server: each connection is passed on, until it is cut.

    Attributes:
        cut_after: How many bytes of answers connections may carry, one number a connection; then no limit.
        target: Where connections go; None where nobody answers.
        connections: How many were made.
    """

    target: tuple[str, int] | None
    cut_after: list[int] = field(default_factory=list)
    connections: int = 0
    url: str = ""
    _ended: threading.Event = field(default_factory=threading.Event)

    def serve(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                near, _ = listener.accept()
                near.settimeout(None)
                threading.Thread(target=self._carry, args=(near,), daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _carry(self, near: socket.socket) -> None:
        self.connections += 1
        left = self.cut_after.pop(0) if self.cut_after else None
        with contextlib.ExitStack() as held:
            held.enter_context(near)
            with contextlib.suppress(OSError):
                if self.target is not None:
                    far = held.enter_context(socket.create_connection(self.target, timeout=10))
                    far.settimeout(None)
                    self._pass(near, far, left)

    def _pass(self, near: socket.socket, far: socket.socket, left: int | None) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(near, selectors.EVENT_READ, far)
            selector.register(far, selectors.EVENT_READ, near)
            while not self._ended.is_set():
                for key, _ in selector.select(0.2):
                    assert isinstance(key.fileobj, socket.socket)
                    data = key.fileobj.recv(65536)
                    if not data:
                        return
                    if key.fileobj is far and left is not None:
                        data, left = data[:left], left - len(data)
                    key.data.sendall(data)
                    if left is not None and left <= 0:
                        return


@contextlib.contextmanager
def wire(server_url: str | None, *cut_after: int) -> Iterator[Wire]:
    """A way to a server; each number cuts one connection after so many bytes of answer."""
    parts = urlsplit(server_url) if server_url else None
    target = (parts.hostname or "", parts.port or 0) if parts else None
    way = Wire(target, list(cut_after))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        way.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=way.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield way
        finally:
            way.end()
            thread.join(5)


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])

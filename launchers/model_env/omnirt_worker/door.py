"""Where requests come in: one client at a time, whose messages are read while the model computes.

Nothing here computes. A request waits for the computing thread in its `Job`; what concerns the one that is being
carried out (cancel it, its next slice of sound) goes there too. A client that is gone has cancelled.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import wire

HEARD_SLICES = 4096
"""Slices of live sound that wait at most: over an hour."""

_SEND_S = 5.0
"""How long a last word may wait for who holds the connection."""


class ClientGoneError(ConnectionError):
    """Nobody wants the answer any more."""


class Client:
    """One connection; messages may be sent by any thread."""

    def __init__(self, sock: socket.socket) -> None:
        """A connection that was accepted."""
        self._sock = sock
        self._sending = threading.Lock()

    def receive(self) -> wire.Message | None:
        """The next message; None when there is no more, for whatever reason.

        Raises:
            wire.WireError: What came is no message.
        """
        try:
            return wire.receive(self._sock)
        except OSError:
            return None

    def send(self, header: Mapping[str, Any], body: bytes | memoryview = b"") -> None:
        """Raises ClientGoneError."""
        with self._sending:
            self._send(header, body)

    def try_send(self, header: Mapping[str, Any]) -> None:
        """As far as anybody is there, and nobody else is in the middle of a message for long."""
        if self._sending.acquire(timeout=_SEND_S):
            try:
                self._send(header, b"")
            except ClientGoneError:
                pass
            finally:
                self._sending.release()

    def close(self) -> None:
        """Also ends a send that another thread is in."""
        with contextlib.suppress(OSError):  # the other end has closed
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _send(self, header: Mapping[str, Any], body: bytes | memoryview) -> None:
        try:
            wire.send(self._sock, header, body)
        except OSError as error:
            raise ClientGoneError(str(error)) from error


@dataclass
class Job:
    """One request, from its coming in to its end."""

    id: str
    header: Mapping[str, Any]
    client: Client
    cancelled: threading.Event = field(default_factory=threading.Event)
    heard: queue.Queue[bytes | None] = field(default_factory=lambda: queue.Queue(HEARD_SLICES))
    """Slices of sound; None where there are no more."""

    def cancel(self) -> None:
        """Between two chunks."""
        self.cancelled.set()
        with contextlib.suppress(queue.Full):  # nobody waits for a slice then
            self.heard.put_nowait(None)


class Door:
    """Rank 0's socket."""

    def __init__(
        self, server: socket.socket, greeting: Mapping[str, Any], status: Callable[[], dict[str, Any]]
    ) -> None:
        """Begin to accept.

        Args:
            server: It listens.
            greeting: The first message to every client.
            status: What is answered who asks.
        """
        self._server = server
        self._greeting = greeting
        self._status = status
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._job: Job | None = None
        threading.Thread(target=self._accept, name="door", daemon=True).start()

    @property
    def job(self) -> Job | None:
        """The request that waits or is being carried out."""
        return self._job

    def next(self) -> Job | None:
        """Wait for a request; None when the worker is to leave."""
        return self._jobs.get()

    def over(self, job: Job) -> None:
        """The request is ended; another may come."""
        with self._lock:
            if self._job is job:
                self._job = None

    # --- the door's thread ------------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            sock, _ = self._server.accept()
            client = Client(sock)
            try:
                self._serve(client)
            except (ClientGoneError, wire.WireError):
                pass  # this client has lost its turn; the next may come
            finally:
                self._forget(client)
                client.close()

    def _serve(self, client: Client) -> None:
        client.send(self._greeting)
        while (message := client.receive()) is not None:
            self._act(client, message)

    def _act(self, client: Client, message: wire.Message) -> None:
        if message.type == "render":
            self._take(client, message.header)
        elif message.type == "status":
            client.send({"type": "status", **self._status()})
        elif message.type == "shutdown":
            self._leave()
        elif (job := self._job) is not None and job.id == message.header.get("id"):
            self._pass_on(job, message)

    def _take(self, client: Client, header: Mapping[str, Any]) -> None:
        request_id = header.get("id")
        with self._lock:
            busy = self._job
            if isinstance(request_id, str) and busy is None:
                self._job = Job(request_id, header, client)
        if not isinstance(request_id, str):
            raise wire.WireError("a render has no id")
        if busy is not None:
            client.send(refused(request_id, f"ValueError: the worker is at request {busy.id}"))
            return
        self._jobs.put(self._job)

    def _pass_on(self, job: Job, message: wire.Message) -> None:
        if message.type == "cancel":
            job.cancel()
        elif message.type in ("audio", "finish"):
            try:
                job.heard.put_nowait(message.body if message.type == "audio" else None)
            except queue.Full:
                job.cancel()

    def _leave(self) -> None:
        if (job := self._job) is not None:
            job.cancel()
        self._jobs.put(None)

    def _forget(self, client: Client) -> None:
        if (job := self._job) is not None and job.client is client:
            job.cancel()


def refused(request_id: str, error: str) -> dict[str, Any]:
    """The answer to a request that cannot be carried out as it is written."""
    return failed(request_id, "refused", error, rank=0, sound=True)


def failed(request_id: str, reason: str, error: str, *, rank: int, sound: bool) -> dict[str, Any]:
    """The answer to a request that did not come to its end."""
    return {"type": "failed", "id": request_id, "reason": reason, "error": error, "rank": rank, "sound": sound}

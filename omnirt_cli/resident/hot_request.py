"""One request to a resident worker, in the form of a guarded process: two descriptors to poll, events, stop and kill.

The loop that watches a cold run can watch this instead. What the daemon knows besides is in `facts` at the end.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from launchers.model_env.omnirt_worker import wire
from launchers.model_env.omnirt_worker.wire import Message, Parser, WireError
from launchers.process import Done, Exited, ExitStatus, GuardEvent, GuardLost
from omnirt_cli.resident.spec import FailureReason, HotFacts, WorkerInfo

_READ_BYTES = 1 << 18


class HotRequest:
    """A request, from its acceptance to `close`.

    Attributes:
        worker: The worker that it was given to, as it was then.
        output_fd: Non-blocking read end of what the worker prints for this request, and while it is waited for to load.
        status_fd: Becomes readable when `read_status` has news.
        pid: The worker's launcher; 0 while there is none.
        exit: 0 or 1, or how the worker's process ended where that ended the request; None while it goes on, and where
            the daemon was lost.
        facts: What it met; None while it goes on.
    """

    def __init__(
        self, sock: socket.socket, output_fd: int, worker: WorkerInfo, on_message: Callable[[Message], None] | None
    ) -> None:
        """For `Connection.render` only."""
        self._sock = sock
        self._on_message = on_message
        self._parser = Parser()
        self._last: Done | GuardLost | None = None
        self._closed = False
        self.worker = worker
        self.output_fd = output_fd
        self.status_fd = sock.fileno()
        self.pid = worker.pid
        self.exit: ExitStatus | None = None
        self.facts: HotFacts | None = None
        self._begun = False
        os.set_blocking(output_fd, False)
        sock.settimeout(None)  # reads say themselves that they do not wait

    @property
    def finished(self) -> bool:
        """Whether the request's last word was said."""
        return self._last is not None

    @property
    def waiting(self) -> bool:
        """Whether the worker has not come to it yet: it loads, or serves others."""
        return not self._begun and not self.finished

    @property
    def guard_lost(self) -> bool:
        """Whether the daemon ended, or was lost, before the request did."""
        return isinstance(self._last, GuardLost)

    def request_stop(self) -> None:
        """Ask the worker to end the request between two chunks."""
        self._order("cancel")

    def kill(self) -> None:
        """Have the request's end now; a worker that does not leave it within the grace is started anew."""
        self._order("drop")

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Send the worker more for this request (live audio).

        Raises:
            OSError: The daemon is gone.
        """
        wire.send(self._sock, header, body)

    def read_status(self) -> list[GuardEvent]:
        """What happened since the last call; never waits."""
        events: list[GuardEvent] = []
        while self._last is None and not self._closed:
            try:
                data = self._sock.recv(_READ_BYTES, socket.MSG_DONTWAIT)
                messages = self._parser.feed(data)
            except BlockingIOError:
                break
            except (OSError, WireError) as error:
                events.append(self._lose(str(error)))
                break
            for message in messages:
                events += self._note(message)
            if not data:
                events.append(self._lose("it ended, or was killed"))
        return events

    def close(self) -> None:
        """Cancel the request if it goes on, and let go of its output. May be called again."""
        if self._closed:
            return
        if not self.finished:
            self.kill()
        self._closed = True
        os.close(self.output_fd)

    def __enter__(self) -> HotRequest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _order(self, what: str) -> None:
        if self.finished or self._closed:
            return
        with contextlib.suppress(OSError):  # a daemon that is gone says so by the end of its messages
            wire.send(self._sock, {"type": what})

    def _note(self, message: Message) -> list[GuardEvent]:
        if message.type == "ended":
            return self._end(message)
        if message.type == "process":
            self.pid = message.header["pid"]
            return []
        self._begun = self._begun or message.type == "started"
        if self._on_message is not None:
            self._on_message(message)
        return []

    def _end(self, message: Message) -> list[GuardEvent]:
        self.facts = HotFacts.from_document(message.header["facts"])
        ending = message.header["exit"]
        if ending is not None and self.facts.reason is not None:
            self.exit = ExitStatus(code=ending["code"], signal=ending["signal"])
        else:
            self.exit = ExitStatus(code=0 if self.facts.reason is None else 1, signal=None)
        self._last = Done()
        return [Exited(self.exit), self._last]

    def _lose(self, why: str) -> GuardLost:
        self.facts = HotFacts(
            self.worker.id, reason=FailureReason.DAEMON_GONE, failure=f"the resident daemon was lost: {why}"
        )
        self._last = GuardLost()
        return self._last

"""One connected Unix socket in an asyncio loop: messages in, messages out, and never a wait.

What the other end does not read is kept up to a bound; past it the connection is given up. Descriptors arrive beside a
message's first bytes; a message that brings some says how many in its header's `fds`.
"""

from __future__ import annotations

import array
import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from launchers.model_env.omnirt_worker.wire import Message, Parser, WireError, pack

MOST_UNSENT_BYTES = 256 << 20
"""About ten chunks of raw frames at 704 x 416."""

MOST_FDS = 64
_READ_BYTES = 1 << 18
_READS_A_TURN = 16
"""So that one busy connection leaves the loop to the others."""


class Channel:
    """The connection, from its making to `close`.

    Attributes:
        closed: Whether it is closed; nothing is called any more then.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_message: Callable[[Message], None],
        on_closed: Callable[[str], None],
        most_unsent: int = MOST_UNSENT_BYTES,
    ) -> None:
        """Begin to read in the running loop.

        Args:
            sock: Connected; the channel's own from now on.
            on_message: Called with each message; the descriptors that came with it are the callee's.
            on_closed: Called once, with why, when the other end is gone or is given up. Not after `close`.
            most_unsent: Bytes that may wait to be sent.
        """
        self._sock = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._most_unsent = most_unsent
        self._parser = Parser()
        self._fds: deque[int] = deque()
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._loop = asyncio.get_running_loop()
        self.closed = False
        sock.settimeout(0)
        self._loop.add_reader(sock, self._read)

    def send(self, header: Mapping[str, Any], body: bytes = b"") -> None:
        """Send a message, now or when there is room."""
        if self.closed:
            return
        writing = bool(self._unsent)
        for buffer in pack(header, body):
            view = memoryview(buffer).cast("B")
            self._unsent.append(view)
            self._unsent_bytes += len(view)
        if not writing:
            self._write()
        if self._unsent_bytes > self._most_unsent:
            unread = f"it left {self._unsent_bytes >> 20} MiB unread"
            self.close()
            # Later, for whoever sends is in the midst of something.
            self._loop.call_soon(self._on_closed, unread)

    def read_rest(self) -> None:
        """Take what has come until nothing more is there, however much that is."""
        while not self.closed and self._read_once():
            continue

    def close(self) -> None:
        """Let go of the socket and of descriptors that nobody took. May be called again."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._unsent.clear()
        for descriptor in self._fds:
            os.close(descriptor)
        self._fds.clear()

    def _give_up(self, why: str) -> None:
        if not self.closed:
            self.close()
            self._on_closed(why)

    def _end_with_its_words(self, why: str) -> None:
        """The other end takes nothing more; what it said before is still here."""
        self.read_rest()
        self._give_up(why)

    def _read(self) -> None:
        for _ in range(_READS_A_TURN):
            if self.closed or not self._read_once():
                return

    def _read_once(self) -> bool:
        """Take what one read gives; False where there is nothing more now."""
        try:
            data, ancillary, flags, _ = self._sock.recvmsg(_READ_BYTES, _FDS_ROOM, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        except OSError as error:
            self._give_up(f"reading failed: {error.strerror}")
            return False
        self._fds += _descriptors(ancillary)
        if not data:
            self._give_up("it closed the connection")
            return False
        if flags & socket.MSG_CTRUNC or len(self._fds) > MOST_FDS:
            self._give_up("it sent too many descriptors")
            return False
        return self._hand_out(data)

    def _hand_out(self, data: bytes) -> bool:
        try:
            messages = [self._with_fds(message) for message in self._parser.feed(data)]
        except WireError as error:
            self._give_up(str(error))
            return False
        for message in messages:
            if self.closed:
                _close_all(message.fds)
                continue
            self._on_message(message)
        return True

    def _with_fds(self, message: Message) -> Message:
        count = message.header.get("fds", 0)
        if not isinstance(count, int) or not 0 <= count <= len(self._fds):
            raise WireError("a message says that it brings descriptors which did not come")
        return replace(message, fds=tuple(self._fds.popleft() for _ in range(count)))

    def _write(self) -> None:
        try:
            while self._unsent:
                self._sent(self._sock.send(self._unsent[0]))
        except BlockingIOError:
            self._loop.add_writer(self._sock, self._write)
        except OSError as error:
            self._unsent.clear()
            self._unsent_bytes = 0
            self._loop.remove_writer(self._sock)
            self._loop.call_soon(self._end_with_its_words, f"writing failed: {error.strerror}")
        else:
            self._loop.remove_writer(self._sock)

    def _sent(self, count: int) -> None:
        self._unsent_bytes -= count
        if count == len(self._unsent[0]):
            self._unsent.popleft()
        else:
            self._unsent[0] = self._unsent[0][count:]


_FDS_ROOM = socket.CMSG_SPACE(MOST_FDS * array.array("i").itemsize)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return list(found)


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)

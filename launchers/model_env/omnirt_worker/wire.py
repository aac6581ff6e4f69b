"""Messages over a Unix socket: a JSON header and raw bytes, and file descriptors beside them where that is wanted.

A message is the header's length (4 bytes, big-endian), the body's (8 bytes), the header (a JSON object in UTF-8 that
has a `type`), and the body. Nothing is ever unpickled, and a length beyond the bounds is an error before anything is
allocated for it. Nothing here knows what the messages mean. The daemon uses it too, so that it imports the standard
library only.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEADER_BYTES = 1 << 20
"""A header has so many at most."""

BODY_BYTES = 1 << 30
"""A body has so many at most."""

_LENGTHS = struct.Struct(">IQ")
_RETRY_S = 0.02
_BACKLOG = 16
_READ_BYTES = 1 << 26
"""Taken at a time: nobody makes this process reserve a gibibyte by a length alone."""


class WireError(ValueError):
    """What came is no message, or ended within one; or what should go is none."""


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        header: The JSON object.
        body: The raw bytes; empty where there are none.
        fds: Descriptors that came with it; they are the receiver's to close.
    """

    header: Mapping[str, Any]
    body: bytes = b""
    fds: tuple[int, ...] = ()

    @property
    def type(self) -> str:
        """What the message is."""
        return str(self.header["type"])


def pack(header: Mapping[str, Any], body: bytes | memoryview = b"") -> list[bytes | memoryview]:
    """A message as buffers to be written one after another; the body is not copied.

    Raises:
        WireError: The header is no JSON object with a `type`, or something is too long.
    """
    _check_type(header)
    try:
        text = json.dumps(header, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise WireError(f"a header is not JSON: {error}") from error
    length = memoryview(body).nbytes
    _check_lengths(len(text), length)
    head = _LENGTHS.pack(len(text), length) + text
    return [head, body] if length else [head]


def send(
    sock: socket.socket, header: Mapping[str, Any], body: bytes | memoryview = b"", *, fds: Sequence[int] = ()
) -> None:
    """Send one message wholly; waits while the other end is full.

    Raises:
        WireError: See `pack`.
        OSError: The other end is gone, or the socket's timeout has passed.
    """
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    left = [memoryview(buffer).cast("B") for buffer in pack(header, body)]
    while left:
        _drop(left, sock.sendmsg(left, rights))
        rights = []


def receive(sock: socket.socket, *, max_fds: int = 0) -> Message | None:
    """Wait for the next message.

    Returns:
        None where the other end has closed and nothing was begun.

    Raises:
        WireError: What came is no message, or ended within one, or brought more descriptors than `max_fds`.
        OSError: The connection broke, or the socket's timeout has passed.
    """
    first, fds = _receive_first(sock, max_fds)
    try:
        if not first:
            return None
        lengths = first + _receive_exactly(sock, _LENGTHS.size - len(first))
        header_length, body_length = _unpack_lengths(lengths)
        header = _unpack_header(_receive_exactly(sock, header_length))
        return Message(header, _receive_exactly(sock, body_length), tuple(fds))
    except BaseException:
        _close_all(fds)
        raise


class Parser:
    """Messages out of pieces as they come, for who may not wait."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._buffer = bytearray()

    @property
    def within(self) -> bool:
        """Whether a message was begun and is not complete."""
        return bool(self._buffer)

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """The messages that these bytes complete.

        Raises:
            WireError: What came is no message; the connection is of no more use.
        """
        self._buffer += data
        return list(self._complete())

    def _complete(self) -> Iterator[Message]:
        while len(self._buffer) >= _LENGTHS.size:
            header_length, body_length = _unpack_lengths(self._buffer)
            body_at = _LENGTHS.size + header_length
            if len(self._buffer) < body_at + body_length:
                return
            header = _unpack_header(bytes(self._buffer[_LENGTHS.size : body_at]))
            with memoryview(self._buffer) as view:
                body = bytes(view[body_at : body_at + body_length])
            del self._buffer[: body_at + body_length]
            yield Message(header, body)


# --- places ---------------------------------------------------------------------------------------


def listen(folder: Path, name: str) -> socket.socket:
    """A Unix socket in a folder, for this user only; one of that name that was left behind is replaced.

    Raises:
        OSError: It cannot be made there.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _address(folder, name) as address:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)  # noqa: PTH108 - by way of the descriptor
            os.fchmod(server.fileno(), 0o600)  # Linux gives the file this mode: at no moment is it wider
            server.bind(address)
            os.chmod(address, 0o600)  # noqa: PTH101
        server.listen(_BACKLOG)
    except BaseException:
        server.close()
        raise
    return server


def connect(folder: Path, name: str, timeout_s: float = 0.0) -> socket.socket:
    """A connection to the socket of that name, which may come to be only within the timeout.

    Raises:
        OSError: Nobody listens there.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _address(folder, name) as address:
                sock.connect(address)
        except (FileNotFoundError, ConnectionRefusedError):
            sock.close()
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)
        except BaseException:
            sock.close()
            raise
        else:
            return sock


@contextlib.contextmanager
def _address(folder: Path, name: str) -> Iterator[str]:
    """A socket's path may have 107 bytes; by way of an open directory it is short whatever the folder's path."""
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{name}"
    finally:
        os.close(directory)


# --- pieces ---------------------------------------------------------------------------------------


def _check_type(header: Any) -> None:
    if not isinstance(header, Mapping) or not isinstance(header.get("type"), str):
        raise WireError("a header is no object with a type")


def _check_lengths(header: int, body: int) -> None:
    if not 0 < header <= HEADER_BYTES:
        raise WireError(f"a header of {header} bytes; 1 to {HEADER_BYTES} are allowed")
    if body > BODY_BYTES:
        raise WireError(f"a body of {body} bytes; {BODY_BYTES} are allowed")


def _unpack_lengths(data: bytes | bytearray) -> tuple[int, int]:
    header, body = _LENGTHS.unpack_from(data)
    _check_lengths(header, body)
    return header, body


def _unpack_header(text: bytes) -> Mapping[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise WireError(f"a header is not JSON: {error}") from error
    _check_type(header)
    found: Mapping[str, Any] = header
    return found


def _receive_first(sock: socket.socket, max_fds: int) -> tuple[bytes, list[int]]:
    """The first bytes of a message, and the descriptors, which come with them or not at all."""
    if not max_fds:
        return sock.recv(_LENGTHS.size), []
    room = socket.CMSG_SPACE(max_fds * array.array("i").itemsize)
    data, ancillary, flags, _ = sock.recvmsg(_LENGTHS.size, room, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    # The room is rounded up, so that one more than was allowed may fit.
    if flags & socket.MSG_CTRUNC or len(fds) > max_fds:
        _close_all(fds)
        raise WireError(f"more than {max_fds} descriptors came")
    return data, list(fds)


def _receive_exactly(sock: socket.socket, count: int) -> bytes:
    pieces = []
    while count:
        piece = sock.recv(min(count, _READ_BYTES), socket.MSG_WAITALL)
        if not piece:
            raise WireError("the connection ended within a message")
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _drop(buffers: list[memoryview], count: int) -> None:
    """Take so many bytes away from the front."""
    while buffers and count >= len(buffers[0]):
        count -= len(buffers.pop(0))
    if count:
        buffers[0] = buffers[0][count:]


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)

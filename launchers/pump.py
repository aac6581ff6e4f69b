"""Copies a child's output from its pipe to the log file, byte for byte, and hands each block on for reading.

Knows nothing of what the bytes mean, and nothing of the process that writes them. It never waits: the
caller's select loop says when the pipe is readable. Standard library only.
"""

from __future__ import annotations

import fcntl
import os
from typing import BinaryIO

BLOCK_BYTES = 1 << 17
"""The most that one read takes: small enough to stay in the processor's cache while it is stored and read."""

PIPE_BYTES = 1 << 20
"""The size asked for the pipe: Linux's limit for an ordinary user."""


class LogPump:
    """One pipe, one log file.

    Attributes:
        bytes_read: What has come through so far; a stall detector watches it grow.
    """

    def __init__(self, fd: int, sink: BinaryIO) -> None:
        self._fd = fd
        self._sink: BinaryIO | None = sink
        self.bytes_read = 0
        os.set_blocking(fd, False)
        _enlarge_pipe(fd)

    def read(self) -> bytes | None:
        """Move one block from the pipe to the log.

        Returns:
            The block; `b""` when nothing is there now; None at end of file.

        Raises:
            OSError: The log could not be written, or the pipe could not be read.
        """
        try:
            block = os.read(self._fd, BLOCK_BYTES)
        except BlockingIOError:
            return b""
        if not block:
            return None
        self.bytes_read += len(block)
        if self._sink is not None:
            write_all(self._sink, block)
        return block

    def discard(self) -> None:
        """Store no more: what comes is still read and handed on, so that a full disk never blocks the child.

        The log then ends where it ended, without a hole.
        """
        self._sink = None


def write_all(sink: BinaryIO, block: bytes) -> None:
    """Write every byte and flush, so that a reader of the log sees what the child has said.

    An unbuffered file may take less than it is given; a full disk shows itself on the next attempt.

    Raises:
        OSError: The file takes no more.
    """
    left = memoryview(block)
    while left:
        left = left[sink.write(left) :]
    sink.flush()


def _enlarge_pipe(fd: int) -> None:
    """Ask for a large pipe, so that a chatty child seldom waits for us."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    except (AttributeError, OSError):
        # Not Linux, not a pipe, or over the user's limit: the default size works too.
        return

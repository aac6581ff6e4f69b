"""A worker's output: read from its pipe, kept in a bounded log, and copied to the requests that it concerns.

A request's copy begins with its render, or with the load that it waits for. Nobody who reads slowly is waited for.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from launchers.pump import BLOCK_BYTES

LOG_BYTES = 10 << 20
"""A log's size; twice as much is kept."""

KEPT_BYTES = 1 << 20
"""Of a load's output, for a request that comes later; and of what a slow reader has not taken."""

TAIL_BYTES = 1 << 14
TAIL_LINES = 20


class BoundedLog:
    """A log file that is renamed to `NAME.1` when it is full."""

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._path = path
        self._limit = limit
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size

    def write(self, block: bytes) -> None:
        """Add bytes; what a full disk refuses is left out."""
        try:
            if self._size + len(block) > self._limit:
                self._rotate()
            self._size += self._file.write(block) or 0
        except OSError:
            return

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        self._path.replace(self._path.with_name(self._path.name + ".1"))
        self._file = self._path.open("ab", buffering=0)
        self._size = 0


class OutputCopy:
    """The write end of a request's output pipe; its reader may be slow, or gone."""

    def __init__(self, fd: int) -> None:
        """Take the descriptor over, in the running loop."""
        self._fd = fd
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._lost = 0
        self._loop = asyncio.get_running_loop()
        self._then: Callable[[], None] | None = None
        self.closed = False
        os.set_blocking(fd, False)

    def write(self, block: bytes) -> None:
        """Hand a block on, now or when there is room; past the bound it is left out, and that is said in its place."""
        if self.closed or not block:
            return
        if self._unsent_bytes + len(block) > KEPT_BYTES:
            self._lost += len(block)
            return
        self._append(block)

    def finish(self, then: Callable[[], None]) -> None:
        """Close the pipe once everything is in it, or nobody reads it; then call."""
        if self.closed:
            then()
            return
        self._then = then
        if not self._unsent:
            self._end()

    def close(self) -> None:
        """Close the pipe now. May be called again."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_writer(self._fd)
        os.close(self._fd)

    def _append(self, block: bytes) -> None:
        writing = bool(self._unsent)
        self._unsent.append(block)
        self._unsent_bytes += len(block)
        if not writing:
            self._write()

    def _write(self) -> None:
        try:
            while self._unsent:
                self._sent(os.write(self._fd, self._unsent[0]))
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._write)
            return
        except OSError:  # its reader is gone
            self._end()
            return
        self._loop.remove_writer(self._fd)
        if self._then is not None:
            self._end()

    def _sent(self, count: int) -> None:
        self._unsent_bytes -= count
        block = self._unsent.popleft()
        if count < len(block):
            self._unsent.appendleft(block[count:])
        elif self._lost:
            note = f"\n[omnirt] {self._lost} bytes are left out here: they were not read in time\n".encode()
            self._lost = 0
            self._unsent.append(note)
            self._unsent_bytes += len(note)

    def _end(self) -> None:
        self.close()
        then, self._then = self._then, None
        if then is not None:
            then()


class WorkerOutput:
    """What one worker says, over all its restarts."""

    def __init__(self, log: Path) -> None:
        self._log = BoundedLog(log)
        self._copies: set[OutputCopy] = set()
        self._load = bytearray()
        self._tail = b""
        self._loading = False
        self._fd: int | None = None

    def begin(self, fd: int) -> None:
        """A process was started: read its pipe in the running loop. What it says first is about loading."""
        self._fd = fd
        self._loading = True
        self._load.clear()
        self._tail = b""
        asyncio.get_running_loop().add_reader(fd, self._read)

    def loading_line(self, literals: Sequence[str]) -> str | None:
        """The first line said while loading that has one of these in it."""
        self.drain()
        lines = self._load.decode(errors="replace").splitlines()
        return next((line.strip() for line in lines if any(literal in line for literal in literals)), None)

    def loaded(self) -> None:
        """What comes now is no more about loading."""
        self.drain()
        self._loading = False
        self._load.clear()
        self._copies.clear()

    def attach(self, copy: OutputCopy) -> None:
        """Copy what comes; while it loads, what was said of that before comes first."""
        if self._loading:
            copy.write(bytes(self._load))
        self._copies.add(copy)

    def detach(self, copy: OutputCopy) -> None:
        """Copy no more, once everything that was said so far is copied."""
        self.drain()
        self._copies.discard(copy)

    def drain(self) -> None:
        """Take everything that is in the pipe now."""
        while self._fd is not None and self._read():
            continue

    def end(self) -> None:
        """The process is gone: take what it said last."""
        self.drain()
        if self._fd is not None:
            self._stop_reading(self._fd)

    def close(self) -> None:
        """The worker is gone for good."""
        self.end()
        self._log.close()

    def tail(self) -> str:
        """The last lines of the process that runs, or ran last."""
        lines = self._tail.decode(errors="replace").splitlines()
        return "\n".join([line for line in lines if line.strip()][-TAIL_LINES:])

    def _read(self) -> bool:
        """Take one block; False where there is none now."""
        if self._fd is None:
            return False
        try:
            block = os.read(self._fd, BLOCK_BYTES)
        except BlockingIOError:
            return False
        if not block:
            self._stop_reading(self._fd)
            return False
        self._log.write(block)
        self._tail = (self._tail + block)[-TAIL_BYTES:]
        if self._loading:
            self._load = (self._load + block)[-KEPT_BYTES:]
        for copy in self._copies:
            copy.write(block)
        return True

    def _stop_reading(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        self._fd = None

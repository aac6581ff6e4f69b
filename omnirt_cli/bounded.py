"""One bounded way to run a short-lived tool: a deadline, a limit on what is read, no standard input, no shell.

The tool is a session of its own, so that the terminal's Ctrl-C is the caller's to handle. It ends together with its
children, and one that a thread still waits for ends with this process. Even one that cannot be killed (it waits in a
driver, uninterruptibly) does not hold its caller up: it is left behind. Nothing here knows what a tool is asked.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import IO

STDERR_LIMIT = 64 * 1024
STDOUT_LIMIT = 4 * 1024 * 1024

_BLOCK = 64 * 1024
_REAP_S = 1.0
"""How long a killed tool is waited for."""

_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class Outcome:
    """How a tool ended.

    Attributes:
        returncode: As `subprocess` has it; negative for a signal.
        stdout: What was collected; empty where the caller read the stream itself, and where it overflowed.
        stderr: The last 64 KiB of what it said.
        timed_out: It was killed at its deadline.
        overflowed: It was killed because it wrote more than it may.
    """

    returncode: int
    stdout: bytes
    stderr: str
    timed_out: bool = False
    overflowed: bool = False

    @property
    def ok(self) -> bool:
        """It ended by itself, and well."""
        return self.returncode == 0 and not self.timed_out and not self.overflowed

    def last_words(self, lines: int = 3) -> str:
        """The last things it said, in one line, for a message."""
        if self.timed_out:
            return "it did not end in time"
        if self.overflowed:
            return "it wrote more than expected"
        said = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        return "; ".join(said[-lines:]) or f"exit status {self.returncode}"


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    stdin: IO[bytes] | None = None,
    limit: int = STDOUT_LIMIT,
) -> Outcome:
    """Run a tool to its end and collect what it says.

    Args:
        argv: The program and its arguments.
        timeout_s: When it is killed, seconds.
        env: Its whole environment; this process's by default.
        stdin: What it reads; nothing by default.
        limit: How many bytes it may write to standard output.

    Raises:
        OSError: It cannot be started.
    """
    process = subprocess.Popen(
        argv,
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        start_new_session=True,
    )
    listener = _Listener(process, limit)
    with ending_with_us(process):
        try:
            fate = listener.listen(time.monotonic() + timeout_s)
        finally:
            _end(process)
    return Outcome(
        returncode=-signal.SIGKILL if process.returncode is None else process.returncode,
        stdout=b"" if fate is _Fate.OVERFLOWED else bytes(listener.stdout),
        stderr=listener.stderr.decode("utf-8", "replace"),
        timed_out=fate is _Fate.TIMED_OUT,
        overflowed=fate is _Fate.OVERFLOWED,
    )


@contextlib.contextmanager
def ending_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While this holds, a tool that leads a session of its own is killed if this process ends."""
    _running.add(process)
    try:
        yield
    finally:
        _running.discard(process)


@atexit.register
def end_all() -> None:
    """Kill the tools that other threads still wait for; for a process that ends without waiting for them."""
    for process in tuple(_running):
        kill(process)


class _Fate(Enum):
    ENDED = "ended"
    TIMED_OUT = "timed out"
    OVERFLOWED = "overflowed"


class _Listener:
    """Reads both streams as they come, so that neither blocks the tool."""

    def __init__(self, process: subprocess.Popen[bytes], limit: int) -> None:
        self._process = process
        self._limit = limit
        self.stdout = bytearray()
        self.stderr = bytearray()

    def listen(self, deadline: float) -> _Fate:
        with selectors.DefaultSelector() as selector:
            selector.register(_open(self._process.stdout), selectors.EVENT_READ, self.stdout)
            selector.register(_open(self._process.stderr), selectors.EVENT_READ, self.stderr)
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    return _Fate.TIMED_OUT
                self._take(selector, left)
                if len(self.stdout) > self._limit:
                    return _Fate.OVERFLOWED
        return self._ended(deadline)

    def _take(self, selector: selectors.BaseSelector, timeout_s: float) -> None:
        for key, _ in selector.select(timeout_s):
            block = os.read(key.fd, _BLOCK)
            if not block:
                selector.unregister(key.fileobj)
            key.data.extend(block)
        del self.stderr[:-STDERR_LIMIT]

    def _ended(self, deadline: float) -> _Fate:
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return _Fate.TIMED_OUT
        return _Fate.ENDED


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of it and of its children."""
    if process.returncode is None:
        kill(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_REAP_S)
    _open(process.stdout).close()
    _open(process.stderr).close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a tool that leads a session of its own, and its children with it; harmless when it has ended already."""
    # Until it is reaped, its group's number is nobody else's.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)

"""Keeps the lines of one chunk together in the log, though the next chunk is begun before its frames are there.

The pipelines print a chunk's steps while they compute it, and whoever reads the log counts them to the next line that
says `Generate video chunk-N done`. So what is printed for a chunk waits, for as long as its frames take to come over,
until the chunk before has its line.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
from collections.abc import Iterator
from typing import Any

from . import script_log


class LogOrder(io.TextIOBase):
    """Stands for standard output while a render lasts. What one thread computes, another tells of."""

    def __init__(self, target: Any) -> None:
        """`target` is the real output."""
        self._target = target
        self._computing = 0
        self._told = 0
        self._held: list[tuple[int, str]] = []
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        """As of a file; the text belongs to the chunk that is being computed."""
        with self._lock:
            if self._computing > self._told:
                self._held.append((self._computing, text))
            else:
                self._target.write(text)
        return len(text)

    def flush(self) -> None:
        """As of a file."""
        with self._lock:
            self._target.flush()

    def writable(self) -> bool:
        """As of a file."""
        return True

    def __getattr__(self, name: str) -> Any:
        """What else a library asks of an output: its bytes, its name."""
        return getattr(self._target, name)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """As of a file."""
        return str(self._target.encoding)

    def fileno(self) -> int:
        """As of a file."""
        return int(self._target.fileno())

    def isatty(self) -> bool:
        """As of a file."""
        return False

    def computing(self, index: int) -> None:
        """From here on, what is printed belongs to this chunk."""
        with self._lock:
            self._computing = index

    def tell_chunk(self, times: str, line: str) -> None:
        """Print the next chunk's times and its line, and then what was held back behind it."""
        with self._lock:
            self._target.write(times)
            self._target.flush()
            script_log.info(line)
            self._told += 1
            self._let_go(self._told)

    def end(self) -> None:
        """Print what is left."""
        with self._lock:
            self._let_go(self._computing)

    def _let_go(self, index: int) -> None:
        for number, text in self._held:
            if number <= index:
                self._target.write(text)
        self._held = [(number, text) for number, text in self._held if number > index]
        self._target.flush()


@contextlib.contextmanager
def kept() -> Iterator[LogOrder]:
    """While this holds, standard output is in order."""
    before = sys.stdout
    order = LogOrder(before)
    sys.stdout = order
    try:
        yield order
    finally:
        sys.stdout = before
        order.end()

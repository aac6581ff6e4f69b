"""A log read line by line: all of it, its end, or on and on while a run writes it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from omnirt_cli.errors import InputMissingError

POLL_S = 0.2
_BLOCK = 1 << 16


class LogReader:
    """An open log; each method goes on where the one before stopped."""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise InputMissingError(f"the log {path} cannot be read: {error.strerror}") from error

    def __enter__(self) -> LogReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def rest(self) -> Iterator[str]:
        """The lines that are there."""
        for line in self._file:
            yield _text(line)

    def last(self, count: int) -> Iterator[str]:
        """The last lines; the rest of the file is not read."""
        end = self._file.seek(0, os.SEEK_END)
        start, found = end, 0
        while start > 0 and found <= count:
            start = max(0, start - _BLOCK)
            self._file.seek(start)
            found += self._file.read(min(_BLOCK, end - start)).count(b"\n")
        self._file.seek(start)
        yield from [_text(line) for line in self._file.readlines()][-count:]

    def follow(self, lives: Callable[[], bool]) -> Iterator[str]:
        """Further lines as they come; ends when the run does, after its last line."""
        while True:
            living = lives()
            yield from self.rest()
            if not living:
                return
            time.sleep(POLL_S)


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r\n")

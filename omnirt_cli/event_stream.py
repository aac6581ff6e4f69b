"""`--events`: the event stream as JSON lines, to a file or to stdout."""

from __future__ import annotations

import contextlib
import sys
from typing import IO

from omnirt_cli.files import storage_error
from omnirt_cli.run.events import BaseEvent


class EventStream:
    """A listener that writes each event on a line of its own and flushes it.

    A full disk or a reader that went away ends the stream, never the run.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file: IO[str] | None = file

    @classmethod
    def open(cls, target: str) -> EventStream:
        """Write to a file, or to stdout for `-`.

        Raises:
            OutputUncreatableError: The file cannot be made.
        """
        if target == "-":
            return cls(sys.stdout)
        try:
            return cls(open(target, "w", encoding="utf-8"))  # noqa: PTH123 - closed by `close`
        except OSError as error:
            raise storage_error(error, "the event file cannot be made") from error

    def __call__(self, event: BaseEvent) -> None:
        """Write one event."""
        if self._file is None:
            return
        try:
            self._file.write(event.model_dump_json() + "\n")
            self._file.flush()
        except (OSError, ValueError):
            self._file = None

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None and self._file is not sys.stdout:
            with contextlib.suppress(OSError):
                self._file.close()

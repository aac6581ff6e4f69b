"""A job's events on disk, one JSON document a line: written by the process that renders, read by whoever streams them.

An event's id is the number of its line, from 1, over all attempts.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 16
_MOST_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class StoredEvent:
    """One event.

    Attributes:
        id: The number of its line.
        text: The JSON document.
    """

    id: int
    text: str


def cut_half_line(path: Path) -> None:
    """Drop the end of a line that a killed writer left unfinished.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        with path.open("r+b") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - _BLOCK)
                file.seek(start)
                found = file.read(end - start).rfind(b"\n")
                if found >= 0:
                    file.truncate(start + found + 1)
                    return
                end = start
            file.truncate(0)
    except FileNotFoundError:
        return


class EventWriter:
    """Adds events to a job's file. A full disk ends that, never the render."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            OSError: It cannot be written.
        """
        cut_half_line(path)
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()

    def write(self, document: str) -> None:
        """Add one."""
        if self._file.closed:
            return
        try:
            self._file.write(document + "\n")
            self._file.flush()
        except OSError:
            self.__exit__()


class EventReader:
    """Reads events in order, as far as there are any; each `more` goes on where the one before stopped."""

    def __init__(self, path: Path, *, after: int = 0) -> None:
        """A reader whose first event comes after the one of that id."""
        self._path = path
        self._after = after
        self._offset = 0
        self.last_id = 0

    def more(self) -> list[StoredEvent]:
        """The next events, about a MiB at most; none where there are no further whole lines yet."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_MOST_AT_ONCE)
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        found = []
        for line in whole.split(b"\n")[:-1]:
            self.last_id += 1
            if self.last_id > self._after:
                found.append(StoredEvent(self.last_id, line.decode("utf-8", "replace")))
        # A whole block of events that are passed over is not the end.
        return found or (self.more() if whole else [])

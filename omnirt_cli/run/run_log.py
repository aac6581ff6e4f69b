"""A run's log file: the env script's words, then the child's output, byte for byte.

It is locked while the run lives, so that two runs to one output never mix their files.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from launchers.pump import write_all
from omnirt_cli.files import is_locked


class RunLog:
    """The open log.

    Attributes:
        file: Unbuffered, for the pump.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    @classmethod
    def open(cls, path: Path) -> RunLog:
        """Make or empty the file and lock it.

        Raises:
            BlockingIOError: Another run holds it.
            OSError: It cannot be made.
        """
        _replace_link(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            if os.path.isfile(path):  # noqa: PTH113 - a log sent to /dev/full or a FIFO is neither locked nor emptied
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(descriptor, 0)
        except OSError:
            os.close(descriptor)
            raise
        return cls(os.fdopen(descriptor, "wb", buffering=0))

    @staticmethod
    def is_held(path: Path) -> bool:
        """Whether a run that lives writes this log now."""
        return is_locked(path)

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            OSError: The disk is full.
        """
        write_all(self.file, data)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _replace_link(path: Path) -> None:
    """A link to a file elsewhere goes, as a rename replaces the video's and the report's: only the link is ours."""
    if path.is_symlink() and (path.is_file() or not path.exists()):
        path.unlink()

"""One line to stdout without importing anything: for `--version`, which must cost next to nothing."""

from __future__ import annotations

import contextlib
import os


def write_line(text: str) -> None:
    """Write a line; a reader that went away is no fault."""
    with contextlib.suppress(OSError):
        os.write(1, text.encode() + b"\n")

"""The one rule of output: stdout carries the result, everything else goes to stderr.

The only module that writes to either. A reader that went away (`| head`) changes no exit code.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import IO, Any

from pydantic import BaseModel

from omnirt_cli.errors import OmniRTError


def say(text: str) -> None:
    """A line of the result."""
    _write(sys.stdout, text + "\n")


def say_json(document: BaseModel | dict[str, Any] | list[Any]) -> None:
    """The result as exactly one JSON document."""
    if isinstance(document, BaseModel):
        say(document.model_dump_json(indent=2))
        return
    import json

    say(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def tell(text: str) -> None:
    """A line for the person: progress, warnings."""
    _write(sys.stderr, text + "\n")


def tell_error(error: OmniRTError) -> None:
    """What went wrong, where, and what to do next."""
    tell(f"error: {error.message}")
    if error.hint:
        tell(f"hint: {error.hint}")


def stderr_is_terminal() -> bool:
    """Whether a live display makes sense."""
    try:
        return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:
        return False


def _write(stream: IO[str] | None, text: str) -> None:
    """Write and flush; a stream that is closed or whose reader is gone is left alone."""
    if stream is None:
        return
    try:
        stream.write(text)
        stream.flush()
    except UnicodeEncodeError:
        with contextlib.suppress(OSError, ValueError):
            stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
            stream.flush()
    except (OSError, ValueError):
        _detach(stream)


def _detach(stream: IO[str]) -> None:
    """Point a dead stream's descriptor at nothing, so that the interpreter's last flush does not complain either."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)

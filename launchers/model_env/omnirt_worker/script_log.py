"""The log, in the words and the form of the scripts' own: loguru's default format on standard error.

`2026-07-03 22:26:28.375 | INFO     | module:function:LINE - message`, local time. Loguru itself is not needed.
"""

from __future__ import annotations

import sys
import traceback
from datetime import datetime


def info(message: str) -> None:
    """One line."""
    _write("INFO", message)


def error(message: str) -> None:
    """One line that tells of a fault."""
    _write("ERROR", message)


def worker(message: str) -> None:
    """A line about the worker itself, which no script has."""
    sys.stdout.flush()  # what was said before stands before
    sys.stderr.write(f"[worker] {message}\n")
    sys.stderr.flush()


def write_traceback(text: str, rank: int | None) -> None:
    """An error with its traceback, as Python itself writes it; among several ranks with torch's mark of the rank."""
    sys.stdout.flush()
    mark = "" if rank is None else f"[rank{rank}]: "
    sys.stderr.write("".join(f"{mark}{line}\n" for line in text.rstrip().splitlines()))
    sys.stderr.flush()


def said(error: BaseException) -> str:
    """An error as the last line of its traceback has it."""
    return "".join(traceback.format_exception_only(type(error), error)).strip()


def times(embedding_s: float, copy_s: float, encode_wait_s: float) -> str:
    """Where a chunk's time went besides its core, in the form of the pipelines' own `[generate]` lines."""
    spans = {"audio embedding": embedding_s, "copy": copy_s, "encode wait": encode_wait_s}
    return "".join(f"[driver] {name}: {seconds:.6f}s\n" for name, seconds in spans.items())


def _write(level: str, message: str) -> None:
    stamp = datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    caller = sys._getframe(2)  # noqa: SLF001 - as every logger finds its caller
    where = f"worker:{caller.f_code.co_name}:{caller.f_lineno}"
    sys.stderr.write(f"{stamp} | {level:<8} | {where} - {message}\n")
    sys.stderr.flush()

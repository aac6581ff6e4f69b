"""Log lines in loguru's default format, on stderr, without loguru.

``2026-07-03 22:26:28.375 | INFO     | module:function:LINE - message``: local time, the level padded to eight.
"""

import sys
from datetime import datetime


def _write(level: str, message: str) -> None:
    caller = sys._getframe(2)  # noqa: SLF001 - as every logger finds its caller
    stamp = datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    where = f"{caller.f_globals['__name__']}:{caller.f_code.co_name}:{caller.f_lineno}"
    sys.stderr.write(f"{stamp} | {level:<8} | {where} - {message}\n")
    sys.stderr.flush()


def info(message: str) -> None:
    _write("INFO", message)


def warning(message: str) -> None:
    _write("WARNING", message)


def error(message: str) -> None:
    _write("ERROR", message)

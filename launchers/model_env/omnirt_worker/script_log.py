"""The log, in the words and the form of the scripts' own: loguru's default format on standard error.

`2026-07-03 22:26:28.375 | INFO     | module:function:LINE - message`, local time. Loguru itself is not needed.
"""

from __future__ import annotations

import sys
from datetime import datetime


def info(message: str) -> None:
    """One line."""
    stamp = datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    caller = sys._getframe(1)  # noqa: SLF001 - as every logger finds its caller
    where = f"worker:{caller.f_code.co_name}:{caller.f_lineno}"
    sys.stderr.write(f"{stamp} | INFO     | {where} - {message}\n")
    sys.stderr.flush()


def times(embedding_s: float, copy_s: float, encode_wait_s: float) -> None:
    """Where a chunk's time went besides its core, in the form of the pipelines' own `[generate]` lines."""
    spans = {"audio embedding": embedding_s, "copy": copy_s, "encode wait": encode_wait_s}
    for name, seconds in spans.items():
        sys.stdout.write(f"[driver] {name}: {seconds:.6f}s\n")
    sys.stdout.flush()

"""A run that is stopped still finishes its file.

SIGTERM may come while the main thread waits inside a collective for a rank that is gone; no handler of Python's runs
then. The signal's number is written to a descriptor at once all the same, and a thread that reads it does the rest.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

_STOPPING = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def finish_when_stopped(finish: Callable[[], None]) -> Iterator[None]:
    """While this holds, SIGTERM and SIGINT call `finish` and then end the process. For the main thread."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, _noted) for number in _STOPPING}
    thread = threading.Thread(target=_wait, args=(reader, finish), name="stopping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.close(writer)
        thread.join()
        os.close(reader)


def _noted(_number: int, _frame: Any) -> None:
    """The number is read from the descriptor instead."""


def _wait(reader: int, finish: Callable[[], None]) -> None:
    while numbers := os.read(reader, 64):
        asked = next((number for number in numbers if number in _STOPPING), None)
        if asked is None:
            continue
        try:
            finish()
        finally:
            os._exit(128 + asked)

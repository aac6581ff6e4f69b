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
_OVER = b"\0"

_armed = threading.Event()


@contextlib.contextmanager
def finish_when_stopped(finish: Callable[[], None]) -> Iterator[None]:
    """While this holds, SIGTERM and SIGINT call `finish` and then end the process. For the main thread."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, _noted) for number in _STOPPING}
    _armed.set()
    thread = threading.Thread(target=_wait, args=(reader, finish), name="stopping", daemon=True)
    thread.start()
    try:
        yield
    finally:
        _armed.clear()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        os.write(writer, _OVER)  # its end of file would not come while a fork has a copy
        thread.join()
        os.close(writer)
        os.close(reader)


def _wait(reader: int, finish: Callable[[], None]) -> None:
    while (number := os.read(reader, 1)) != _OVER:
        if number[0] in _STOPPING:
            try:
                finish()
            finally:
                os._exit(128 + number[0])


def _noted(_number: int, _frame: Any) -> None:
    """The number is read from the descriptor instead."""


def _disarm() -> None:
    """In a fork: a signal to it is no signal to this process, whose descriptor it shares."""
    if _armed.is_set():
        signal.set_wakeup_fd(-1)
        for number in _STOPPING:
            signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_disarm)

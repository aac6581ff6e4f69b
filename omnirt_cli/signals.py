"""Signals of the command line: INT, TERM and HUP ask the run to stop; a second one means at once.

Only the command line installs these. The Python API changes no signal handler of its caller.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from omnirt_cli.run.cancel import CancelToken


@contextlib.contextmanager
def cancelling(token: CancelToken) -> Iterator[None]:
    """While this holds, signals cancel the token. A HUP that is ignored (nohup) stays ignored."""

    def handle(number: int, _frame: FrameType | None) -> None:
        token.interrupt(number)

    watched = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        watched.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in watched}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

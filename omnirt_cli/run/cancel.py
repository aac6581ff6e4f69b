"""Asking a run to stop, from a signal handler, another thread or the engine's own caller.

A second ask means at once. The token has a descriptor that becomes readable, so that the engine's one loop can wait
on it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator


class Interrupted(BaseException):
    """Raised by a signal's handler where a run waits for something that no loop of its own watches.

    Like KeyboardInterrupt it passes through handlers of ordinary errors.
    """


class CancelToken:
    """Shared by a run and whoever may stop it.

    Attributes:
        signal_number: The signal of the first ask, None while nobody asked.
        asks: How often it was asked.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.signal_number: int | None = None
        self.asks = 0
        self._interruptible = False

    def cancel(self, signal_number: int = signal.SIGINT) -> None:
        """Ask the run to stop; safe in a signal handler and in any thread."""
        self.asks += 1
        if self.signal_number is None:
            self.signal_number = int(signal_number)
        try:
            os.write(self._write, b"\0")
        except (BlockingIOError, OSError):
            return  # already readable, or closed with the run over

    def interrupt(self, signal_number: int) -> None:
        """Ask from a signal's handler in the main thread.

        Raises:
            Interrupted: The run waits where only this ends the wait.
        """
        self.cancel(signal_number)
        if self._interruptible:
            self._interruptible = False
            raise Interrupted

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """While this holds (sourcing a script, checking a video), a signal ends the wait by an exception.

        Raises:
            Interrupted: It was asked before, or is asked meanwhile.
        """
        self._interruptible = True
        try:
            if self.asked:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    @contextlib.contextmanager
    def interruptible_again(self) -> Iterator[None]:
        """The same for what is still worth doing after a first ask; a further one ends the wait.

        Raises:
            Interrupted: It is asked meanwhile, or was asked more than once before.
        """
        self._interruptible = True
        try:
            if self.at_once:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    @property
    def asked(self) -> bool:
        """True once anybody asked."""
        return self.asks > 0

    @property
    def at_once(self) -> bool:
        """True once it was asked again."""
        return self.asks > 1

    def fileno(self) -> int:
        """Readable after each ask."""
        return self._read

    def drain(self) -> None:
        """Make the descriptor unreadable again."""
        try:
            while os.read(self._read, 64):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptors back; later asks do nothing."""
        os.close(self._read)
        os.close(self._write)

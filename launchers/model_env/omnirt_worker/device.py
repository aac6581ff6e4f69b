"""The device that a pipeline computes on, as far as handing work between threads and timing it need to know it.

CUDA and Ascend have streams and events, under the same names in `torch.cuda` and `torch.npu`; on a CPU everything is
done when a call returns, and the clock says how long it took. A device of another kind is asked for nothing: whoever
uses it waits as the scripts do. Nothing here adds a synchronisation to the computing thread.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

_STREAMED = ("cuda", "npu")


class Mark(Protocol):
    """A point in the device's work."""

    def wait(self) -> None:
        """Wait until the work has come here."""


class Device(Protocol):
    """What is asked of a device.

    Attributes:
        name: As torch says it, e.g. `cuda:0`.
        beside: Whether two threads may have it work at once.
    """

    name: str
    beside: bool

    def enter_thread(self) -> None:
        """Make it the calling thread's own: each thread has a current device."""

    def side_stream(self, task: str) -> AbstractContextManager[Any]:
        """What is done within is done beside the computing; one task in the order in which it is asked for."""

    def mark(self) -> Mark:
        """The point that the calling thread's work has come to."""

    def ms_between(self, start: Mark, end: Mark) -> float:
        """Milliseconds between two points; both have been come to."""

    def follow(self, mark: Mark, value: Any) -> None:
        """What the calling thread asks for next begins after that point; it uses this value."""

    def synchronize(self) -> None:
        """Wait for all work; raises if some of it failed."""

    def random_state(self) -> bytes:
        """Of the device's own global generator."""

    def begin_peak(self) -> None:
        """Memory is measured from here on."""

    def peak_bytes(self) -> int | None:
        """The most memory that this process has held since; None where nobody counts."""


def device_of(pipeline: Any) -> Device:
    """The device that a loaded pipeline computes on."""
    name = str(getattr(pipeline, "device", "cpu"))
    kind = name.partition(":")[0]
    backend = getattr(sys.modules.get("torch"), kind, None)
    if kind in _STREAMED and backend is not None:
        return StreamedDevice(name, backend)
    if kind == "cpu":
        return HostDevice(name)
    return WaitingDevice(name, getattr(backend, "synchronize", None))


# --- a CPU ----------------------------------------------------------------------------------------


class _Moment:
    def __init__(self) -> None:
        self.at_s = time.monotonic()

    def wait(self) -> None:
        """It is past."""


class HostDevice:
    """The CPU: what was asked for is done."""

    beside = True

    def __init__(self, name: str = "cpu") -> None:
        """By its name."""
        self.name = name

    def enter_thread(self) -> None:
        """See Device."""

    def side_stream(self, task: str) -> AbstractContextManager[Any]:  # noqa: ARG002
        """See Device."""
        return contextlib.nullcontext()

    def mark(self) -> Mark:
        """See Device."""
        return _Moment()

    def ms_between(self, start: Any, end: Any) -> float:
        """See Device."""
        return float((end.at_s - start.at_s) * 1000)

    def follow(self, mark: Mark, value: Any) -> None:
        """See Device."""

    def synchronize(self) -> None:
        """See Device."""

    def random_state(self) -> bytes:
        """See Device."""
        return b""

    def begin_peak(self) -> None:
        """See Device."""

    def peak_bytes(self) -> int | None:
        """See Device."""
        return None


class WaitingDevice(HostDevice):
    """A device of a kind that is not known here: every mark waits for it, as the scripts do before they take a time."""

    beside = False

    def __init__(self, name: str, synchronize: Callable[[], Any] | None) -> None:
        """By its name and its backend's function, where it has one."""
        super().__init__(name)
        self._synchronize = synchronize

    def mark(self) -> Mark:
        """See Device."""
        self.synchronize()
        return super().mark()

    def synchronize(self) -> None:
        """See Device."""
        if self._synchronize is not None:
            self._synchronize()


# --- an accelerator -------------------------------------------------------------------------------


class _Event:
    def __init__(self, backend: Any) -> None:
        # Who waits for it sleeps: spinning would take a core from the thread that launches the model's work.
        self.event = backend.Event(enable_timing=True, blocking=True)
        self.event.record()

    def wait(self) -> None:
        self.event.synchronize()


class StreamedDevice:
    """CUDA or Ascend, by the part of torch that serves it."""

    beside = True

    def __init__(self, name: str, backend: Any) -> None:
        """`backend` is `torch.cuda` or `torch.npu`; the calling thread's current device is the pipeline's."""
        self.name = name
        self._backend = backend
        self._index = int(name.partition(":")[2] or backend.current_device())
        self._streams: dict[str, Any] = {}

    def enter_thread(self) -> None:
        """See Device."""
        self._backend.set_device(self._index)

    def side_stream(self, task: str) -> AbstractContextManager[Any]:
        """See Device. One for a task, whichever threads do it: torch keeps memory apart for each stream."""
        if task not in self._streams:
            self._streams[task] = self._backend.Stream(self._index)
        context: AbstractContextManager[Any] = self._backend.stream(self._streams[task])
        return context

    def mark(self) -> Mark:
        """See Device."""
        return _Event(self._backend)

    def ms_between(self, start: Any, end: Any) -> float:
        """See Device."""
        return float(start.event.elapsed_time(end.event))

    def follow(self, mark: Any, value: Any) -> None:
        """See Device. The value's memory is not given away before this thread's stream is done with it."""
        stream = self._backend.current_stream(self._index)
        stream.wait_event(mark.event)
        record = getattr(value, "record_stream", None)
        if record is not None and str(value.device).partition(":")[0] == self.name.partition(":")[0]:
            record(stream)

    def synchronize(self) -> None:
        """See Device."""
        self._backend.synchronize(self._index)

    def random_state(self) -> bytes:
        """See Device."""
        state: bytes = self._backend.get_rng_state(self._index).numpy().tobytes()
        return state

    def begin_peak(self) -> None:
        """See Device."""
        self._backend.reset_peak_memory_stats(self._index)

    def peak_bytes(self) -> int | None:
        """See Device. What torch holds of it, used or kept for later: what other programs cannot have."""
        return int(self._backend.max_memory_reserved(self._index))

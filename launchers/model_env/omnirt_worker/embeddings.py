"""The next chunk's embedding, made by a second thread while the core computes this one.

It is made in the computing thread where a thread beside it would be no help: where the device is of a kind that this
program does not know, where the weights move between host and device, and for a process's first chunks, while the
model is being compiled: torch's tracer must have the modules to itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from .device import Device, Mark


@dataclass(frozen=True)
class Embedding:
    """What a chunk hears, for its core, and where the device began and ended to make it."""

    value: Any
    began: Mark
    ended: Mark


class Helper:
    """The second thread, one for a process."""

    def __init__(self, device: Device) -> None:
        """It works on the same device, on a stream of its own where there are such."""
        self._device = device
        self._thread = ThreadPoolExecutor(1, "embedding", initializer=device.enter_thread)

    def start(self, source: Iterator[Any]) -> Future[Embedding]:
        """Have the next of a source made."""
        return self._thread.submit(self._make, source, _gradients())

    def _make(self, source: Iterator[Any], gradients: AbstractContextManager[Any]) -> Embedding:
        with gradients, self._device.side_stream("embedding"):
            return make(source, self._device)


class Embeddings:
    """One render's embeddings, in order."""

    def __init__(self, source: Iterator[Any], device: Device) -> None:
        """`source` makes the next one when it is asked for it."""
        self._source = source
        self._device = device
        self._next: Future[Embedding] | None = None

    def take(self) -> Embedding:
        """The next one; waits for it if it is being made.

        Raises:
            Exception: Whatever went wrong when it was made, in whichever thread.
        """
        coming, self._next = self._next, None
        if coming is None:
            return make(self._source, self._device)
        embedding = coming.result()
        self._device.follow(embedding.ended, embedding.value)
        return embedding

    def begin_next(self, helper: Helper) -> None:
        """Have the one after made beside what follows."""
        self._next = helper.start(self._source)

    def settle(self) -> None:
        """Wait until nothing is being made any more; what comes of it is not wanted."""
        if self._next is not None:
            self._next.exception()
            self._next = None


def make(source: Iterator[Any], device: Device) -> Embedding:
    """Make the next of a source in the calling thread."""
    began = device.mark()
    value = next(source)
    return Embedding(value, began, device.mark())


def _gradients() -> AbstractContextManager[Any]:
    """The calling thread's setting, for another: torch has it for each thread apart."""
    torch = sys.modules.get("torch")
    if torch is None:
        return nullcontext()
    context: AbstractContextManager[Any] = torch.set_grad_enabled(torch.is_grad_enabled())
    return context

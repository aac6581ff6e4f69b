"""Takes chunks away from the computing thread: brings their frames over, hands them on, and tells of them.

A thread of its own, with a queue that holds one chunk: whoever computes faster than frames can be taken away waits, so
that memory stays the same however long the render. A fault here is raised in the computing thread, when it next hands
a chunk over or closes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from . import script_log
from .copying import Copied, to_host
from .device import Device
from .encoder import Encoder
from .log_order import LogOrder
from .render import Chunk

QUEUE_CHUNKS = 1
"""Chunks of float frames that wait, beside the one that is copied."""


@dataclass(frozen=True)
class Delivered:
    """A chunk whose frames are there.

    Attributes:
        pixels: 8 bit red, green and blue, one frame after another.
        embedding_ms: Time to encode the chunk's sound.
        core_ms: Time of `run_pipeline` alone.
        copy_ms: Time of making bytes of the frames and bringing them over.
        encode_wait_ms: How long the encoder's queue was full.
    """

    index: int
    frames: int
    height: int
    width: int
    pixels: memoryview
    embedding_ms: float
    core_ms: float
    copy_ms: float
    encode_wait_ms: float


class Delivery:
    """One render's. Call it from one thread; it is a context that closes."""

    def __init__(
        self, device: Device, order: LogOrder, encoder: Encoder | None, taken: Callable[[Delivered], None] | None = None
    ) -> None:
        """Begin.

        Args:
            device: Where chunks come from.
            order: The log that each chunk gets its line in.
            encoder: Gets the pixels, if there is one.
            taken: Called with each chunk before its line is written, in the delivery's thread.
        """
        self._device = device
        self._order = order
        self._encoder = encoder
        self._taken = taken
        self._queue: queue.Queue[Chunk | None] = queue.Queue(QUEUE_CHUNKS)
        self._fault: BaseException | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
        self._thread.start()

    def put(self, chunk: Chunk) -> None:
        """Hand a chunk over; waits while the one before waits.

        Raises:
            Exception: What went wrong with an earlier one.
        """
        self._queue.put(chunk)
        if self._fault is not None:
            self.close()

    def close(self) -> None:
        """Have the rest delivered.

        Raises:
            Exception: What went wrong.
        """
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def __enter__(self) -> Delivery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        try:
            self.close()
        except BaseException:
            if error is None:
                raise
            # What came first tells more.

    def _run(self) -> None:
        """Deliver until the mark of the end; after a fault, take chunks away so that nobody waits."""
        self._device.enter_thread()
        while (chunk := self._queue.get()) is not None:
            if self._fault is None:
                try:
                    self._deliver(chunk)
                except BaseException as fault:  # noqa: BLE001 - it is raised again in the computing thread
                    self._fault = fault
            del chunk  # its frames are not kept while the next one is waited for

    def _deliver(self, chunk: Chunk) -> None:
        copied = to_host(chunk.frames, chunk.ended, self._device)
        chunk.ended.wait()
        wait_ms = self._encode(copied)
        delivered = self._measured(chunk, copied, wait_ms)
        if self._taken is not None:
            self._taken(delivered)
        self._tell(delivered)

    def _encode(self, copied: Copied) -> float:
        if self._encoder is None:
            return 0.0
        began = time.monotonic()
        self._encoder.put(copied.pixels)
        return (time.monotonic() - began) * 1000

    def _measured(self, chunk: Chunk, copied: Copied, wait_ms: float) -> Delivered:
        between = self._device.ms_between
        frames, height, width, _ = chunk.frames.shape
        return Delivered(
            chunk.index,
            frames,
            height,
            width,
            copied.pixels,
            embedding_ms=between(chunk.embedding.began, chunk.embedding.ended),
            core_ms=between(chunk.began, chunk.ended),
            copy_ms=copied.ms,
            encode_wait_ms=wait_ms,
        )

    def _tell(self, made: Delivered) -> None:
        """In the script's words, and the times that no script prints."""
        times = script_log.times(made.embedding_ms / 1000, made.copy_ms / 1000, made.encode_wait_ms / 1000)
        line = f"Generate video chunk-{made.index} done, cost time: {made.core_ms / 1000:.3f}s"
        self._order.tell_chunk(times, line)

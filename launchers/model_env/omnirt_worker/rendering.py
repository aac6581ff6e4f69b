"""Rank 0's part of one request of a resident worker: the steps in order, and what the client is told on the way."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

from . import log_order, script_log
from .accept import Accepted, RefusedError
from .delivery import Delivered, Delivery
from .door import Job
from .encoder import Encoder, EncoderError
from .lockstep import Lockstep
from .requests import PictureRequest
from .session import Session
from .windows import Slices, samples_of

_SAMPLE_BYTES = 2


class CancelledError(Exception):
    """The client wants no more of it."""


class Rendering:
    """One request that was accepted.

    Attributes:
        begun: The other ranks have heard of it, so that they must hear of its end.
        chunks: How many were generated.
    """

    def __init__(self, job: Job, accepted: Accepted, session: Session, lockstep: Lockstep) -> None:
        """Start the encoder, if there is to be a picture.

        Raises:
            RefusedError: It cannot be started.
        """
        self._job = job
        self._accepted = accepted
        self._session = session
        self._lockstep = lockstep
        self._encoder = _encoder(accepted.picture)
        self.begun = False
        self.chunks = 0

    def run(self) -> None:
        """Carry it out. Whatever ends it, what was computed goes into the file.

        Raises:
            CancelledError: The client has cancelled it.
            RefusedError: A slice of its sound is of another length.
            ClientGoneError: Nobody takes its frames.
            Exception: Whatever went wrong, on whichever rank.
        """
        with self._encoder or contextlib.nullcontext(), log_order.kept() as order:
            self._say("started")
            self._prepare()
            script_log.info("Data preparation done. Start to generate video...")
            with Delivery(self._session.checkout.device, order, self._encoder, self._hand_on) as delivery:
                for index, heard in self._due():
                    order.computing(index)
                    delivery.put(self._step(index, heard))
                    self.chunks += 1
        if self._accepted.picture is not None:
            script_log.info(f"Saving generated video to {self._accepted.picture.path}")
        script_log.info("Finished.")

    def finish_picture(self) -> None:
        """End the file with what the encoder has, from any thread, while the render is stuck."""
        if self._encoder is not None:
            with contextlib.suppress(EncoderError):
                self._encoder.close()

    # --- steps ------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        began = time.monotonic()
        render, key = self._accepted.render, self._accepted.key
        self.begun = True
        own, others = self._lockstep.together(
            {"type": "begin", "render": asdict(render), "key": key}, partial(self._session.begin, render, key)
        )
        known = own and all(answer["known"] for answer in others)
        self._lockstep.together({"type": "prepare", "known": known}, partial(self._session.prepare, known=known))
        self._say("prepared", reused=known, ms=_rounded((time.monotonic() - began) * 1000))

    def _step(self, index: int, heard: bytes) -> Any:
        sound = samples_of(heard) if heard else None
        chunk, _ = self._lockstep.together(
            {"type": "chunk", "index": index}, partial(self._session.step, index, sound), heard
        )
        return chunk

    def _due(self) -> Iterator[tuple[int, bytes]]:
        """Each chunk's number, and its slice of sound where that comes by message."""
        if self._accepted.render.audio is None:
            yield from self._due_as_heard()
            return
        for index in range(self._accepted.render.chunks):
            self._check_wanted()
            yield index, b""

    def _due_as_heard(self) -> Iterator[tuple[int, bytes]]:
        length = Slices.of(self._session.checkout.params).samples * _SAMPLE_BYTES
        for index in itertools.count():
            heard = self._job.heard.get()
            self._check_wanted()
            if heard is None:
                return
            if len(heard) != length:
                raise RefusedError(f"ValueError: a slice of sound has {len(heard)} bytes; it must have {length}")
            yield index, heard

    def _check_wanted(self) -> None:
        if self._job.cancelled.is_set():
            raise CancelledError

    # --- words ------------------------------------------------------------------------------------

    def _hand_on(self, made: Delivered) -> None:
        self._job.client.send(
            {
                "type": "chunk",
                "id": self._job.id,
                "index": made.index,
                "frames": made.frames,
                "width": made.width,
                "height": made.height,
                "core_ms": _rounded(made.core_ms),
                "embedding_ms": _rounded(made.embedding_ms),
                "copy_ms": _rounded(made.copy_ms),
                "encode_wait_ms": _rounded(made.encode_wait_ms),
            },
            made.pixels if self._accepted.raw else b"",
        )

    def _say(self, what: str, **more: Any) -> None:
        self._job.client.send({"type": what, "id": self._job.id, **more})


def _encoder(picture: PictureRequest | None) -> Encoder | None:
    if picture is None:
        return None
    try:
        return Encoder(picture)
    except OSError as error:
        raise RefusedError(script_log.said(error)) from error


def _rounded(ms: float) -> float:
    return round(ms, 3)

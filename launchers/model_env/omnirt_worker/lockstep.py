"""Rank 0 tells the other ranks each step, and learns from each how it went.

The model's collectives need every rank in every step, and none between: a rank that waits for a request waits in a
read, so that no collective's timeout can pass while a worker is idle. A step is over when every rank has answered for
it. A rank's error ends the step; where the others come out of it as well within a short time, the ranks stand together
again and the model is as good as before. Otherwise one of them waits in a collective for ever, and so does whoever
called: a thread sees to that and says so.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from . import wire
from .script_log import said

T = TypeVar("T")


class RankError(RuntimeError):
    """A step failed on another rank, which has printed its traceback."""

    def __init__(self, rank: int, text: str) -> None:
        """`text` is the error's kind and message there."""
        super().__init__(text)
        self.rank = rank


@dataclass(frozen=True)
class Apart:
    """Why the ranks stand together no more.

    Attributes:
        rank: The one that failed, or is gone.
        text: Its error's kind and message.
    """

    rank: int
    text: str


class Lockstep:
    """The other ranks, seen from rank 0; none of them in a process of its own."""

    def __init__(self, ranks: Mapping[int, socket.socket], apart: Callable[[Apart], None], settle_s: float) -> None:
        """Begin.

        Args:
            ranks: Their connections.
            apart: Called once, in another thread, when the ranks stand together no more; it ends the process.
            settle_s: Within this time of the first error all ranks must have come out of the step.
        """
        self._ranks = dict(ranks)
        self._apart = apart
        self._settle_s = settle_s
        self._state = threading.Condition()
        self._step = 0
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._first_error: RankError | None = None
        self._deadline: float | None = None
        self._leaving = False
        if self._ranks:
            threading.Thread(target=self._watch, name="lockstep", daemon=True).start()

    def together(
        self, header: Mapping[str, Any], own: Callable[[], T], body: bytes = b""
    ) -> tuple[T, list[Mapping[str, Any]]]:
        """Have every rank take one step.

        Args:
            header: What the others are told.
            own: This rank's part of it.
            body: What they are told besides.

        Returns:
            What `own` gave, and the others' answers.

        Raises:
            RankError: It failed on another rank first.
            Exception: `own` failed.
        """
        self._tell(header, body)
        try:
            result = own()
        except Exception as error:
            self._note_error(None)
            self._gather()
            if self._first_error is None or str(self._first_error) == said(error):
                raise
            raise self._first_error from error
        self._gather()
        if self._first_error is not None:
            raise self._first_error
        return result, list(self._answers.values())

    def stop(self) -> None:
        """Tell the others to leave; they answer no more."""
        with self._state:
            self._leaving = True
        self._send({"type": "stop"}, b"")

    # --- one step ---------------------------------------------------------------------------------

    def _tell(self, header: Mapping[str, Any], body: bytes) -> None:
        with self._state:
            self._step += 1
            self._answers = {}
            self._first_error = None
            self._deadline = None
        self._send({**header, "step": self._step}, body)

    def _send(self, header: Mapping[str, Any], body: bytes) -> None:
        for rank in self._ranks:
            self._send_to(rank, header, body)

    def _send_to(self, rank: int, header: Mapping[str, Any], body: bytes) -> None:
        try:
            wire.send(self._ranks[rank], header, body)
        except OSError:
            self._call_apart(Apart(rank, f"rank {rank} is gone"))

    def _gather(self) -> None:
        """Wait for every answer. After an error that takes no longer than the settle time, or the process ends."""
        with self._state:
            self._state.wait_for(lambda: len(self._answers) == len(self._ranks))
            self._deadline = None

    def _note_error(self, error: RankError | None) -> None:
        """An error of this rank, or another's: the others must come out of the step soon."""
        with self._state:
            if self._deadline is None:
                self._deadline = time.monotonic() + self._settle_s
                self._first_error = error
            self._state.notify_all()

    # --- the other thread -------------------------------------------------------------------------

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for rank, sock in self._ranks.items():
                selector.register(sock, selectors.EVENT_READ, rank)
            while True:
                for key, _ in selector.select(timeout=min(0.2, self._settle_s / 4)):
                    self._hear(key.data)
                self._check_deadline()

    def _hear(self, rank: int) -> None:
        try:
            answer = wire.receive(self._ranks[rank])
        except (OSError, wire.WireError):
            answer = None
        if answer is None:
            self._call_apart(Apart(rank, f"rank {rank} is gone"))
            return
        if answer.header.get("step") != self._step:
            self._call_apart(Apart(rank, f"rank {rank} answered for another step"))
        if answer.header.get("error") is not None:
            self._note_error(RankError(rank, str(answer.header["error"])))
        with self._state:
            self._answers[rank] = answer.header
            self._state.notify_all()

    def _check_deadline(self) -> None:
        with self._state:
            late = self._deadline is not None and time.monotonic() > self._deadline
            error = self._first_error
            missing = sorted(set(self._ranks) - set(self._answers))
        if not late:
            return
        if error is not None:
            self._call_apart(Apart(error.rank, str(error)))
        self._call_apart(Apart(0, f"rank 0 failed, and rank {missing} did not come out of the step"))

    def _call_apart(self, why: Apart) -> None:
        with self._state:
            if self._leaving:
                threading.Event().wait()  # whoever leaves ends this process
            self._leaving = True
        self._apart(why)

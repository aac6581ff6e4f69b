"""Rank 0 of a resident worker: one request after the other, each with its answer, until it is told to leave.

It leaves by itself where the ranks stand together no more, where the device is not well after an error, and after two
errors in a row: whoever started it starts another one.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import ranks, script_log
from .accept import RefusedError, accept
from .door import ClientGoneError, Door, Job, failed, refused
from .encoder import EncoderError
from .lockstep import Apart, Lockstep, RankError
from .rendering import CancelledError, Rendering
from .session import Session
from .stopping import finish_when_stopped

ERRORS_IN_A_ROW = 2
"""After so many a worker is not trusted any more."""

_LAST_WORDS_S = 5.0


class Server:
    """The whole worker, seen from rank 0."""

    def __init__(self, session: Session, others: Mapping[int, socket.socket], settle_s: float) -> None:
        """For a loaded model and the other ranks' connections."""
        self._session = session
        self._lockstep = Lockstep(others, self._end_apart, settle_s)
        self._several = bool(others)
        self._rendering: Rendering | None = None
        self._door: Door | None = None
        self._ending = threading.Lock()
        """Held by who says a request's last word."""
        self._errors = 0
        self._done = 0

    def run(self, listening: socket.socket) -> None:
        """Serve; returns when told to leave, and the other ranks have been told."""
        device = self._session.checkout.device
        self._door = Door(listening, self._greeting(), self._status)
        with finish_when_stopped(self._finish_stopped):
            while (job := self._door.next()) is not None:
                device.begin_peak()
                if not self._carry_out(job):
                    _leave_at_once()
            self._lockstep.stop()

    # --- one request ------------------------------------------------------------------------------

    def _carry_out(self, job: Job) -> bool:
        """Whether another one may follow."""
        script_log.worker(f"request {job.id}")
        answer = self._answer(job)
        with self._ending:
            self._close(job, answer)
        return bool(answer.get("sound", True))

    def _answer(self, job: Job) -> dict[str, Any]:
        try:
            accepted = accept(job.header, self._session.checkout)
            self._rendering = Rendering(job, accepted, self._session, self._lockstep)
        except RefusedError as error:
            script_log.error(str(error))
            return refused(job.id, str(error))
        try:
            return self._rendered(job, self._rendering)
        finally:
            self._rendering = None

    def _rendered(self, job: Job, rendering: Rendering) -> dict[str, Any]:
        try:
            answer = self._ran(job, rendering)
            if rendering.begun:
                self._lockstep.together({"type": "end"}, self._session.end)
        except Exception as error:  # noqa: BLE001 - the ranks did not come to the request's end together
            return self._failed(job, error, sound=False)
        return answer

    def _ran(self, job: Job, rendering: Rendering) -> dict[str, Any]:
        try:
            rendering.run()
        except RefusedError as error:
            script_log.error(str(error))
            return refused(job.id, str(error))
        except (CancelledError, ClientGoneError):
            script_log.worker(f"request {job.id} was cancelled")
            return failed(job.id, "cancelled", "the request was cancelled", rank=0, sound=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's, and the worker goes on
            return self._failed(job, error, sound=True)
        self._errors = 0
        return {"type": "done", "id": job.id, "chunks": rendering.chunks, "memory": self._memory()}

    def _failed(self, job: Job, error: Exception, *, sound: bool) -> dict[str, Any]:
        if not isinstance(error, EncoderError):  # a full disk says nothing of the model
            self._errors += 1
        if isinstance(error, RankError):
            script_log.error(f"rank {error.rank} failed: {error}")
            rank, text = error.rank, str(error)
        else:
            script_log.write_traceback(traceback.format_exc(), 0 if self._several else None)
            rank, text = 0, script_log.said(error)
        return failed(job.id, "error", text, rank=rank, sound=sound and self._errors < ERRORS_IN_A_ROW)

    def _close(self, job: Job, answer: Mapping[str, Any]) -> None:
        """The request's last line, then its answer; then the next may come."""
        script_log.worker(f"request {job.id} ended")
        self._done += 1
        assert self._door is not None
        self._door.over(job)
        job.client.try_send(answer)

    # --- ends that other threads see --------------------------------------------------------------

    def _end_apart(self, why: Apart) -> None:
        """The ranks stand together no more, and this process's own thread may never come back."""
        self._say_last_words(why.rank, why.text)
        _leave_at_once()

    def _finish_stopped(self) -> None:
        """A signal ends this process; what was computed goes into the file first."""
        self._say_last_words(0, "the worker was stopped by a signal")

    def _say_last_words(self, rank: int, text: str) -> None:
        """For good: nobody else says anything afterwards."""
        self._ending.acquire(timeout=_LAST_WORDS_S)
        job = self._door.job if self._door is not None else None
        if job is None:
            script_log.worker(text)
            return
        script_log.error(text)
        if (rendering := self._rendering) is not None:
            rendering.finish_picture()
        self._close(job, failed(job.id, "error", text, rank=rank, sound=False))

    # --- facts ------------------------------------------------------------------------------------

    def _greeting(self) -> dict[str, Any]:
        checkout = self._session.checkout
        return {
            "type": "ready",
            "pid": os.getpid(),
            "world_size": ranks.world_size(),
            "params": {name: value for name, value in checkout.params.items() if _is_json(value)},
            "device": checkout.device.name,
        }

    def _status(self) -> dict[str, Any]:
        job = self._door.job if self._door is not None else None
        return {
            "state": "ready" if job is None else "busy",
            "request": None if job is None else job.id,
            "rss_bytes": _rss_bytes(),
            "requests_done": self._done,
        }

    def _memory(self) -> dict[str, int | None]:
        return {"rss_bytes": _rss_bytes(), "device_peak_bytes": self._session.checkout.device.peak_bytes()}


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _leave_at_once() -> None:
    """Without the group's barrier, which would wait for a rank that does not come."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)

"""A job's events from beginning to end, over cut connections and restarts of the server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from omnirt_cli.client.answers import CUTS, CutOffError
from omnirt_cli.client.documents import Job, read
from omnirt_cli.client.event_lines import SentEvent, parse
from omnirt_cli.errors import OmniRTError
from omnirt_cli.server.jobs.states import JobState

if TYPE_CHECKING:
    from omnirt_cli.client.transport import Transport

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 3.0
_TELL_AFTER_S = 3.0

ENDS = {f"job_{state.value}": state for state in JobState if state.final}
"""Name of a stream's last event -> how the job ended."""


def job_path(job_id: str, part: str = "") -> str:
    """Where a job, or one of its parts, is on a server."""
    base = f"/v1/jobs/{quote(job_id, safe='')}"
    return f"{base}/{part}" if part else base


class Patience:
    """How long a server may be out of reach, and what is done meanwhile."""

    def __init__(
        self,
        seconds: float,
        *,
        pause: Callable[[float], object] = time.sleep,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        """Patience for so many seconds without a sign of life.

        Args:
            seconds: How long.
            pause: Waits that many seconds, or less.
            on_note: Told in words when the server has been away for a while, and when it is back.
        """
        self._seconds = seconds
        self._pause = pause
        self._on_note = on_note
        self._lost_at: float | None = None
        self._pause_s = _FIRST_PAUSE_S
        self._told = False

    def heard(self) -> None:
        """The server gave a sign of life."""
        if self._told and self._on_note is not None:
            self._on_note("the server answers again")
        self._lost_at, self._pause_s, self._told = None, _FIRST_PAUSE_S, False

    def bear(self, cut: OmniRTError) -> None:
        """Wait a little before the next try.

        Raises:
            OmniRTError: The cut itself, when the server has been away for too long.
        """
        now = time.monotonic()
        self._lost_at = now if self._lost_at is None else self._lost_at
        away_s = now - self._lost_at
        if away_s >= self._seconds:
            raise cut
        if away_s >= _TELL_AFTER_S and not self._told and self._on_note is not None:
            self._told = True
            self._on_note(f"{cut.message}; trying again for {self._seconds:.0f} s")
        self._pause(self._pause_s)
        self._pause_s = min(self._pause_s * 1.6, _LONGEST_PAUSE_S)


def follow(transport: Transport, job_id: str, patience: Patience, *, after: int = 0) -> Iterator[SentEvent]:
    """Every event of a job after the one of that number; the last one is named in `ENDS`.

    Raises:
        UnreachableError, CutOffError: The server was away for longer than there is patience.
        OmniRTError: The server refused.
    """
    last = after
    while True:
        try:
            for event in _connected(transport, job_id, last, patience):
                last = max(last, event.id)
                yield event
                if event.name in ENDS:
                    return
            job = read(Job, transport.ask("GET", job_path(job_id)), transport.url)
            if job.state.final:
                yield SentEvent(last, f"job_{job.state.value}", job.model_dump_json())
                return
            # A server that ends closes its streams before the jobs in them are done.
            raise CutOffError(f"{transport.url} closed the stream of events")
        except CUTS as cut:  # noqa: PERF203 - each connection may be cut by itself
            patience.bear(cut)


def _connected(transport: Transport, job_id: str, last: int, patience: Patience) -> Iterator[SentEvent]:
    headers = {"Last-Event-ID": str(last)} if last else {}
    with transport.stream(job_path(job_id, "events"), headers) as incoming:
        patience.heard()
        yield from parse(incoming.blocks)

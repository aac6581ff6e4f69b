"""One request on its way through the pool: what it met, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launchers.process import ExitStatus
from omnirt_cli.resident.spec import FailureReason, HotFacts


@dataclass(frozen=True)
class Outcome:
    """How a request ended.

    Attributes:
        reason: None for a good end.
        failure: Why not, in words.
        rank: The rank that said so.
        exit: How the worker's process ended, where that ended the request.
        chunks: Chunks that were made.
        rss_bytes: Resident memory of the worker, by its own account.
        device_peak_bytes: The most device memory of rank 0 so far.
    """

    reason: FailureReason | None = None
    failure: str | None = None
    rank: int | None = None
    exit: ExitStatus | None = None
    chunks: int | None = None
    rss_bytes: int | None = None
    device_peak_bytes: int | None = None


@dataclass(eq=False)
class Ticket:
    """One request. Times are on the pool's clock.

    Attributes:
        id: The client's run id.
        document: The worker's `render` message, without its id.
        submitted_at: When the client sent it.
        given_at: When the worker was given it last.
        started: Whether the worker has begun with it, so that a crash from then on is taken for its work.
        retried: Whether a crash that it did not cause has cost it its one retry.
        cancelled: Whether its worker was asked to leave it.
        unwanted: Whether its client asked for its end.
        abandoned: Whether its client has had its answer, or is gone.
    """

    id: str
    document: Mapping[str, Any]
    submitted_at: float
    worker_id: str = ""
    given_at: float | None = None
    started: bool = False
    retried: bool = False
    cancelled: bool = False
    unwanted: bool = False
    abandoned: bool = False
    reused: bool | None = None
    prepare_ms: float | None = None
    chunks: int = 0
    _load_s: float | None = None
    _load_began: float | None = field(default=None)

    def load_begins(self, now: float) -> None:
        """It waits for a model to load."""
        self._load_began = now
        self._load_s = self._load_s or 0.0

    def load_ends(self, now: float) -> None:
        """The model is loaded, or loading has failed."""
        if self._load_began is not None:
            self._load_s = (self._load_s or 0.0) + now - self._load_began
            self._load_began = None

    def facts(self, outcome: Outcome, now: float) -> HotFacts:
        """What it met, once it has ended."""
        self.load_ends(now)
        waited_s = (self.given_at if self.given_at is not None else now) - self.submitted_at
        return HotFacts(
            worker_id=self.worker_id,
            was_loading=self._load_s is not None,
            queue_wait_ms=_ms(max(0.0, waited_s - (self._load_s or 0.0))),
            load_ms=None if self._load_s is None else _ms(self._load_s),
            retried=self.retried,
            reused=self.reused,
            prepare_ms=self.prepare_ms,
            reason=outcome.reason,
            failure=outcome.failure,
            rank=outcome.rank,
            chunks=outcome.chunks if outcome.chunks is not None else self.chunks,
            rss_bytes=outcome.rss_bytes,
            device_peak_bytes=outcome.device_peak_bytes,
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)

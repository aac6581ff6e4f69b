"""A job as the store keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omnirt_cli.report import ErrorInfo
from omnirt_cli.server.jobs.states import JobState

RANKS = {"high": 0, "normal": 1, "low": 2}
"""Priority -> its place in the order; the store keeps the number."""

NAMES = {rank: name for name, rank in RANKS.items()}


@dataclass(frozen=True)
class Order:
    """What is to be rendered.

    Attributes:
        id: The job's id; names its folder.
        request: The request as it came in, for whoever looks at the job.
        render: The request that is rendered: its inputs are the job's own files.
        awaited: Whoever asked waits on the connection; without it nobody wants the result.
    """

    id: str
    model: str
    backend: str | None
    priority: str
    request: dict[str, Any]
    render: dict[str, Any]
    awaited: bool


@dataclass(frozen=True)
class Job:
    """An order, and what became of it.

    Attributes:
        sequence: Counts up over all jobs of a server.
        attempt: The number of starts; a result is taken from the last one only.
        enqueued_at_ms: Milliseconds since the epoch, as the other two.
    """

    order: Order
    sequence: int
    state: JobState
    attempt: int
    cancel_requested: bool
    enqueued_at_ms: int
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    run_id: str | None = None
    worker_id: str | None = None
    execution_mode: str | None = None
    error: ErrorInfo | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.order.id


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    Attributes:
        state: What the job becomes.
    """

    state: JobState
    run_id: str | None = None
    worker_id: str | None = None
    execution_mode: str | None = None
    error: ErrorInfo | None = None

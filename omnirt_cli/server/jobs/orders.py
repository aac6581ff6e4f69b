"""What server and render process say to each other, as types: an order to render, and how its run ended.

Both travel as JSON lines; `slot` is the server's end, `render_process` the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from omnirt_cli.report import ErrorInfo, RunReport, RunStatus


@dataclass(frozen=True)
class RenderOrder:
    """One attempt to be made.

    Attributes:
        folder: The job's.
        render: The request, its inputs being the job's own files.
        resident: Use a resident worker where the model can be kept loaded and no setting says how to run it.
        device_wait_s: Seconds to wait for devices that others hold.
        queued_ms: How long the job waited for its turn.
    """

    job_id: str
    folder: str
    attempt: int
    render: dict[str, Any]
    resident: bool
    device_wait_s: float
    enqueued_at_ms: int
    queued_ms: int

    def to_line(self) -> dict[str, Any]:
        """As it travels."""
        return asdict(self)


@dataclass(frozen=True)
class RunEnd:
    """How a run ended.

    Attributes:
        status: None where the process that rendered died.
        cache_hits: Things that the run found prepared.
        memory_peak_gib: Device -> the most that it held.
    """

    status: RunStatus | None
    run_id: str | None = None
    worker_id: str | None = None
    execution_mode: str | None = None
    cache_hits: int = 0
    memory_peak_gib: Mapping[str, float] = field(default_factory=dict)
    error: ErrorInfo | None = None

    @classmethod
    def of(cls, report: RunReport | None, error: ErrorInfo | None) -> RunEnd:
        """What a report says; a run that was refused before it had one has failed."""
        if report is None:
            return cls(RunStatus.FAILED, error=error)
        used = report.devices.used if report.devices else []
        return cls(
            status=report.status,
            run_id=report.run_id,
            worker_id=report.worker_id,
            execution_mode=report.execution_mode,
            cache_hits=len(report.cache_hits),
            memory_peak_gib={one.id: one.memory_peak_gib for one in used if one.memory_peak_gib is not None},
            error=error,
        )

    @property
    def died(self) -> bool:
        """Whether the process that rendered died."""
        return self.status is None

    def to_line(self) -> dict[str, Any]:
        """As it travels."""
        assert self.status is not None, "who died says nothing"
        error = self.error.model_dump() if self.error else None
        return {**asdict(self), "status": self.status.value, "error": error}

    @classmethod
    def from_line(cls, line: Mapping[str, Any]) -> RunEnd:
        """As it arrived."""
        facts = dict(line)
        error = facts.pop("error")
        return cls(
            **{**facts, "status": RunStatus(facts["status"])}, error=ErrorInfo.model_validate(error) if error else None
        )

"""One run as the index has it: what a listing and a comparison need without opening its report.

The fields are the columns. Knows neither SQLite nor where anything is kept.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field

from launchers.proctable import read_process
from omnirt_cli.report import Document, RunReport, RunStatus
from omnirt_cli.runs.past import PastRun
from omnirt_cli.runs.place import RUN_ID

_NO_MATTER_OF_SPEED = frozenset(
    {"seed", "edit_prompt", "max_chunks", "color_correction_strength", "audio_loudness_norm", "profile"}
)
"""Knobs that two runs may differ in and still be compared; so may those that name a directory."""


class Origin(Document):
    """Where a run's own files are, and which process it belongs to.

    Attributes:
        report_path: The report beside the video; None where the run had no place for one.
        log_path: The log beside it.
        host: The machine.
        boot: The machine's boot id; another one means that it went down since.
        pid: OmniRT's process.
        pid_start: Clock ticks from boot to that process's start, which tells it from a later one of that number.
    """

    report_path: str | None = None
    log_path: str | None = None
    host: str | None = None
    boot: str | None = None
    pid: int | None = None
    pid_start: int | None = None

    @classmethod
    def here(cls, report_path: Path | None, log_path: Path | None) -> Origin:
        """A run of this process."""
        process = read_process(os.getpid())
        return cls(
            report_path=str(report_path.absolute()) if report_path else None,
            log_path=str(log_path.absolute()) if log_path else None,
            host=socket.gethostname(),
            boot=boot_id(),
            pid=os.getpid(),
            pid_start=process.start if process else None,
        )


def boot_id() -> str | None:
    """What tells this boot of the machine from another; None where the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


class RunEntry(Document):
    """One row of the index; a figure is None where the run did not have it.

    Attributes:
        heat: `hot` where the model was loaded already.
        core_scope: What `steady_chunk_ms` covers; None where it is the wall time between chunks.
        steady_chunk_ms: The mean of the chunks after the first.
        knobs: The knobs that decide how long a chunk takes.
        frames: Of the finished video, else those expected.
        output: The video, where it was delivered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    run_id: str = Field(pattern=RUN_ID)
    status: RunStatus
    model: str | None = None
    variant: str | None = None
    backend: str | None = None
    device_kind: str | None = None
    device_name: str | None = None
    processes: int | None = None
    execution_mode: str = "subprocess"
    heat: Literal["cold", "hot"] = "cold"
    started_at: str
    finished_at: str | None = None
    total_ms: float | None = None
    model_load_ms: float | None = None
    first_chunk_ms: float | None = None
    steady_chunk_ms: float | None = None
    core_scope: str | None = None
    rtf: float | None = None
    steady_rtf: float | None = None
    save_ms: float | None = None
    chunk_count: int | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    revision: str | None = None
    knobs: dict[str, Any] = Field(default_factory=dict)
    output: str | None = None
    error_code: str | None = None
    report_path: str | None = None
    log_path: str | None = None
    host: str | None = None
    boot: str | None = Field(default=None, exclude=True)
    pid: int | None = None
    pid_start: int | None = Field(default=None, exclude=True)

    @classmethod
    def of(cls, report: RunReport, origin: Origin) -> RunEntry:
        """What the index keeps of a report."""
        timings, devices = report.timings, report.devices
        video = next((found for found in report.artifacts if found.kind == "video"), None)
        chunk_count = timings.get("chunk_count")
        return cls(
            run_id=report.run_id,
            status=report.status,
            model=report.model,
            variant=report.checkout.variant if report.checkout else None,
            backend=report.backend,
            device_kind=devices.kind if devices else None,
            device_name=devices.used[0].name if devices and devices.used else None,
            processes=_processes(report),
            execution_mode=report.execution_mode,
            heat="hot" if report.execution_mode == "persistent_worker" and "model_load_ms" not in timings else "cold",
            started_at=report.started_at,
            finished_at=report.finished_at,
            total_ms=timings.get("total_ms"),
            model_load_ms=timings.get("model_load_ms"),
            first_chunk_ms=timings.get("first_chunk_ms"),
            steady_chunk_ms=timings.get("steady_chunk_core_ms_avg", timings.get("steady_chunk_interval_ms_avg")),
            core_scope=core_scope(report),
            rtf=timings.get("rtf"),
            steady_rtf=timings.get("steady_rtf"),
            save_ms=timings.get("save_ms"),
            chunk_count=int(chunk_count) if chunk_count is not None else None,
            width=report.expected.width if report.expected else None,
            height=report.expected.height if report.expected else None,
            frames=(video.num_frames if video else None) or (report.expected.frames if report.expected else None),
            revision=report.checkout.revision if report.checkout else None,
            knobs=speed_knobs(report.config_resolved),
            output=video.path if video else None,
            error_code=report.error.code if report.error else None,
            report_path=origin.report_path,
            log_path=origin.log_path or report.log_path,
            host=origin.host or report.host.get("name"),
            boot=origin.boot,
            pid=origin.pid,
            pid_start=origin.pid_start,
        )

    @property
    def origin(self) -> Origin:
        """Where its own files are, and whose it is."""
        return Origin(
            report_path=self.report_path,
            log_path=self.log_path,
            host=self.host,
            boot=self.boot,
            pid=self.pid,
            pid_start=self.pid_start,
        )

    def as_past(self) -> PastRun:
        """As a later run is compared with it."""
        return PastRun(
            run_id=self.run_id,
            total_ms=self.total_ms,
            model_load_ms=self.model_load_ms,
            first_chunk_ms=self.first_chunk_ms,
            steady_chunk_ms=self.steady_chunk_ms,
            rtf=self.rtf,
            steady_rtf=self.steady_rtf,
            save_ms=self.save_ms,
            chunk_count=self.chunk_count,
            started_at=self.started_at,
        )


@dataclass(frozen=True)
class Likeness:
    """What two runs must share before their times say anything about each other; None matches None."""

    host: str | None
    model: str | None
    variant: str | None
    backend: str | None
    device_name: str | None
    processes: int | None
    width: int | None
    height: int | None
    knobs: dict[str, Any]
    core_scope: str | None
    execution_mode: str
    heat: str

    @classmethod
    def of(cls, report: RunReport) -> Likeness:
        """What runs like this one share."""
        entry = RunEntry.of(report, Origin(host=socket.gethostname()))
        return cls(
            host=entry.host,
            model=entry.model,
            variant=entry.variant,
            backend=entry.backend,
            device_name=entry.device_name,
            processes=entry.processes,
            width=entry.width,
            height=entry.height,
            knobs=entry.knobs,
            core_scope=entry.core_scope,
            execution_mode=entry.execution_mode,
            heat=entry.heat,
        )


def _processes(report: RunReport) -> int | None:
    """Ranks; reports that do not say so had one a device."""
    if report.command is not None and report.command.processes is not None:
        return report.command.processes
    return len(report.devices.used) or None if report.devices else None


def core_scope(report: RunReport) -> str | None:
    """What the chunk times that the script printed cover; None where it printed none for a steady chunk."""
    if "steady_chunk_core_ms_avg" not in report.timings:
        return None
    return next((chunk.core_scope for chunk in report.chunks if chunk.core_ms is not None), None)


def speed_knobs(config: dict[str, Any]) -> dict[str, Any]:
    """The knobs that decide how long a chunk takes, those without a value left out."""
    return {
        name: value
        for name, value in sorted(config.items())
        if value is not None and name not in _NO_MATTER_OF_SPEED and not name.endswith("_dir")
    }

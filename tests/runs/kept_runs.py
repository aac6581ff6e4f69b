"""Runs for the tests: reports made by hand, and noted as the engine notes them."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnirt_cli.files import write_atomic
from omnirt_cli.report import (
    Artifact,
    CheckoutInfo,
    ChunkInfo,
    DeviceInfo,
    DevicesInfo,
    ErrorInfo,
    ExpectedInfo,
    RunReport,
    RunStatus,
)
from omnirt_cli.runs.notes import note_finished, note_started

TALK = "soulx-flashtalk-14b"
HEAD = "soulx-flashhead-1.3b"
TIMINGS = {
    "prepare_conditions_ms": 500.0,
    "model_load_ms": 80_000.0,
    "generation_ms": 12_000.0,
    "save_ms": 700.0,
    "total_ms": 95_000.0,
    "chunk_count": 3.0,
    "first_chunk_ms": 6_000.0,
    "steady_chunk_core_ms_avg": 900.0,
    "steady_chunk_interval_ms_avg": 1_000.0,
    "rtf": 0.9,
    "steady_rtf": 0.8,
}


def make_report(folder: Path, name: str = "talk", **changed: Any) -> RunReport:
    """A run that succeeded; fields of the report by name change it."""
    scope = changed.pop("core_scope", "core")
    fields: dict[str, Any] = {
        "run_id": str(uuid.uuid4()),
        "status": RunStatus.SUCCEEDED,
        "model": TALK,
        "backend": "ascend",
        "started_at": "2026-11-20T10:00:00.000Z",
        "finished_at": "2026-11-20T10:01:35.000Z",
        "config_resolved": {"sample_steps": 4, "size": "416*704", "seed": 9999, "quantize": None},
        "config_sources": {"sample_steps": "flag", "size": "model default", "seed": "model default"},
        "checkout": CheckoutInfo(path=str(folder / "checkout"), revision="688982e", variant="public-new"),
        "devices": DevicesInfo(kind="ascend", used=[DeviceInfo(id=str(n), name="910B2") for n in range(8)]),
        "expected": ExpectedInfo(chunks=3, frames=89, fps=25, duration_s=3.56, width=416, height=704),
        "timings": TIMINGS,
        "chunks": [ChunkInfo(index=n, core_ms=900.0 + n, core_scope=scope, interval_ms=1_000.0 + n) for n in range(3)],
        "artifacts": [Artifact(path=str(folder / f"{name}.mp4"), num_frames=89)],
        "log_path": str(folder / f"{name}.log"),
    }
    return RunReport(**{**fields, **changed})


def make_running(folder: Path, name: str = "talk", **changed: Any) -> RunReport:
    """A run that has just started."""
    return make_report(
        folder,
        name,
        **{"status": RunStatus.RUNNING, "finished_at": None, "timings": {}, "chunks": [], "artifacts": []} | changed,
    )


def failure() -> ErrorInfo:
    return ErrorInfo(code="model_failed", message="rank 3 ended with 1", hint="see the log", exit_code=10, rank=3)


@dataclass(frozen=True)
class Beside:
    """What a run leaves beside its video."""

    folder: Path
    name: str = "talk"

    @property
    def report(self) -> Path:
        return self.folder / f"{self.name}.report.json"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def save(self, report: RunReport, log: str = "one\ntwo\nthree\n") -> None:
        write_atomic(self.report, report.model_dump_json().encode())
        self.log.write_text(log)


@dataclass(frozen=True)
class Runs:
    """A folder of outputs whose runs are noted."""

    folder: Path
    names: Iterator[int] = field(default_factory=lambda: iter(range(1_000_000)))

    def noted(
        self,
        *,
        log: str = "one\ntwo\nthree\n",
        name: str | None = None,
        keep_days: float | None = None,
        **changed: Any,
    ) -> RunReport:
        """A run that started, ended and was noted."""
        beside = Beside(self.folder, name or f"talk{next(self.names)}")
        report = make_report(self.folder, beside.name, **changed)
        beside.save(report, log)
        running = report.model_copy(update={"status": RunStatus.RUNNING})
        warning = note_started(running, beside.report, beside.log) or note_finished(
            report, beside.report, beside.log, keep_days=keep_days
        )
        assert warning is None, warning
        return report


_LIVES = """
import sys, time
from pathlib import Path
from omnirt_cli.report import RunReport
from omnirt_cli.run.run_log import RunLog
from omnirt_cli.runs.notes import note_started
report_path, log_path = map(Path, sys.argv[1:])
with RunLog.open(log_path) as log:
    log.write(b"the model is loading\\n")
    assert note_started(RunReport.model_validate_json(report_path.read_bytes()), report_path, log_path) is None
    print("noted", flush=True)
    time.sleep(60)
"""


@contextmanager
def living(beside: Beside, report: RunReport) -> Iterator[subprocess.Popen[str]]:
    """A process that has noted its run and holds its log."""
    write_atomic(beside.report, report.model_dump_json().encode())
    process = subprocess.Popen(
        [sys.executable, "-c", _LIVES, str(beside.report), str(beside.log)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "noted\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def dead_pid() -> int:
    """The number of a process that has just ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid

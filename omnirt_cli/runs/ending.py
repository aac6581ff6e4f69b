"""What became of a run that the index shows as running: it runs, its report says how it ended, or nobody could say.

Decided from locks, processes and files, never from how long ago it began.
"""

from __future__ import annotations

import json
import os
import socket
import time
from datetime import datetime, timezone
from pathlib import Path

from launchers.proctable import read_process
from omnirt_cli.files import is_locked
from omnirt_cli.report import ErrorInfo, RunReport, RunStatus
from omnirt_cli.runs.entry import Origin, RunEntry, boot_id
from omnirt_cli.runs.kept import KeptRun, read_report
from omnirt_cli.runs.place import DataPlace


def ended_report(place: DataPlace, entry: RunEntry) -> RunReport | None:
    """The report of a run that ended; None while it lives, and where nothing of it can be read.

    A report on disk that tells the end is taken as it is; one that still says `running`, of a run that is gone, is
    completed in memory as interrupted.
    """
    kept = KeptRun.of(place, entry.run_id)
    beside = read_report(Path(entry.report_path) if entry.report_path else None, entry.run_id)
    for report in (read_report(kept.report, entry.run_id), beside):
        if report is not None and report.status is not RunStatus.RUNNING:
            return report
    replaced = beside is None and _tells_of_another(entry)
    if not replaced and is_alive(entry.origin):
        return None
    return _interrupted(beside or _bare(entry))


def is_alive(origin: Origin) -> bool:
    """Whether a run's processes are there.

    Its log is locked until the last of them is gone, whatever became of OmniRT. Where there is no log, OmniRT's own
    process is looked for; on another machine it cannot be, and counts as there.
    """
    if origin.log_path is not None and os.path.isfile(origin.log_path):  # noqa: PTH113 - one look, no exception
        return is_locked(Path(origin.log_path))
    if origin.host != socket.gethostname():
        return True
    if origin.pid is None or origin.boot != boot_id():
        return False
    process = read_process(origin.pid)
    return process is not None and process.alive and process.start == origin.pid_start


def _tells_of_another(entry: RunEntry) -> bool:
    """Whether a later run to the same output has put its own report there; the log's lock is that run's then."""
    try:
        found = json.loads(Path(entry.report_path or os.devnull).read_bytes())
        return bool(found["run_id"] != entry.run_id)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _interrupted(report: RunReport) -> RunReport:
    """The same report, completed."""
    error = ErrorInfo(
        code="interrupted",
        message="OmniRT ended without finishing this run (killed, or the machine went down)",
        hint="run it again: `omnirt runs rerun`",
        exit_code=137,
    )
    return report.model_copy(
        update={"status": RunStatus.INTERRUPTED, "finished_at": report.finished_at or _now(), "error": error}
    )


def _bare(entry: RunEntry) -> RunReport:
    """What the index alone knows of a run whose report is gone."""
    return RunReport(
        run_id=entry.run_id,
        status=RunStatus.RUNNING,
        model=entry.model,
        backend=entry.backend,
        started_at=entry.started_at,
        log_path=entry.log_path,
    )


def _now() -> str:
    return utc(time.time())


def utc(moment_s: float) -> str:
    """A moment of the wall clock as reports have it: UTC, ISO 8601, to the millisecond."""
    stamp = datetime.fromtimestamp(moment_s, timezone.utc)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")

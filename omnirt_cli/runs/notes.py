"""What the engine calls: note that a run started, note that it ended.

A run is never refused, delayed by more than about two seconds or failed for the sake of its note. What goes wrong
becomes one line of warning, the same for both calls. Imported only when a run starts, for SQLite takes time to load.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from omnirt_cli.report import RunReport
from omnirt_cli.runs.entry import Origin, RunEntry
from omnirt_cli.runs.index import Index, use
from omnirt_cli.runs.kept import KeptRun
from omnirt_cli.runs.place import DataPlace
from omnirt_cli.runs.pruning import prune_index

KEEP_DAYS = 90.0


def note_started(report: RunReport, report_path: Path | None, log_path: Path | None) -> str | None:
    """Note a run that is about to start; its report with status `running` is on disk.

    Args:
        report: The report.
        report_path: Where it is.
        log_path: The run's log, locked while it lives.

    Returns:
        A warning for the person, or None.
    """
    try:
        place = DataPlace.current()
        place.make()
        origin = Origin.here(report_path, log_path)
        KeptRun.of(place, report.run_id).begin(origin)
        _, warning = use(place, lambda index: index.put(RunEntry.of(report, origin)))
    except (OSError, sqlite3.Error, ValueError) as error:
        return _not_kept(error)
    return warning


def note_finished(
    report: RunReport, report_path: Path | None, log_path: Path | None, *, keep_days: float | None = None
) -> str | None:
    """Note a run's end, keep its report and log, and once a day forget old runs.

    Args:
        report: The completed report.
        report_path: Where it was saved; None where it could not be.
        log_path: The run's log; None for a run that never had one.
        keep_days: The setting `keep_runs_days`; 0 keeps runs for ever.

    Returns:
        A warning for the person, or None.
    """
    now_s = time.time()
    days = KEEP_DAYS if keep_days is None else keep_days
    try:
        place = DataPlace.current()
        place.make()
        origin = Origin.here(report_path, log_path)
        kept = KeptRun.of(place, report.run_id)
        kept.begin(origin)
        kept.keep(report, log_path)

        def note(index: Index) -> None:
            index.put(RunEntry.of(report, origin))
            if index.claim_pruning(now_s):
                prune_index(place, index, days, now_s)

        _, warning = use(place, note)
    except (OSError, sqlite3.Error, ValueError) as error:
        return _not_kept(error)
    return warning


def _not_kept(error: Exception) -> str:
    return f"`omnirt runs` may not know this run: {error}"

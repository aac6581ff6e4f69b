"""Forgetting old runs. Removes rows of the index and folders of the data directory, and nothing else."""

from __future__ import annotations

import contextlib

from omnirt_cli.report import RunStatus
from omnirt_cli.runs.ending import ended_report, utc
from omnirt_cli.runs.index import Index, use
from omnirt_cli.runs.kept import KeptRun
from omnirt_cli.runs.place import DataPlace

MOST_AT_ONCE = 200
_DAY_S = 86_400.0


def prune(place: DataPlace, keep_days: float, now_s: float) -> int:
    """Forget runs that started more than `keep_days` ago; 0 keeps them for ever.

    Args:
        place: The data directory.
        keep_days: How long runs are kept.
        now_s: Seconds since the epoch.

    Returns:
        How many were forgotten, at most 200 a call.

    Raises:
        OSError, sqlite3.Error: The index cannot be had.
    """
    return use(place, lambda index: prune_index(place, index, keep_days, now_s))[0]


def prune_index(place: DataPlace, index: Index, keep_days: float, now_s: float) -> int:
    """The same with an index that is open."""
    if keep_days <= 0:
        return 0
    forgotten = 0
    for entry in index.entries(before=utc(max(0.0, now_s - keep_days * _DAY_S)), limit=MOST_AT_ONCE):
        if entry.status is RunStatus.RUNNING and ended_report(place, entry) is None:
            continue
        # The folder goes first: a row without one is found again the next time, a folder without a row is not.
        with contextlib.suppress(OSError):
            KeptRun.of(place, entry.run_id).remove()
            index.remove(entry.run_id)
            forgotten += 1
    return forgotten

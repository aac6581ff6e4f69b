"""Reading what was run here. The index answers; the runs' folders are the truth it is brought up to date from.

A reader adds runs that the index does not know and completes those that ended without a word. Where the place cannot
be written, or the index is held for good, it reads the reports themselves into memory: slower, and never wrong.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from omnirt_cli.errors import InputMissingError, UsageError
from omnirt_cli.report import RunReport, RunStatus
from omnirt_cli.runs.ending import ended_report, is_alive
from omnirt_cli.runs.entry import Likeness, RunEntry
from omnirt_cli.runs.index import Index, renew, use
from omnirt_cli.runs.kept import KeptRun, kept_entries, read_report
from omnirt_cli.runs.past import PastRun
from omnirt_cli.runs.place import DataPlace
from omnirt_cli.yaml_document import nearest

LAST = "last"

Answer = TypeVar("Answer")


class History:
    """The runs of this machine.

    Attributes:
        warnings: What a person should know of the index.
    """

    def __init__(self, place: DataPlace) -> None:
        self.warnings: list[str] = []
        self._place = place

    @classmethod
    def current(cls) -> History:
        """This user's.

        Raises:
            InputMissingError: The user has no home.
        """
        try:
            return cls(DataPlace.current())
        except OSError as error:
            raise InputMissingError(f"there is no data directory: {error}") from error

    def entries(
        self,
        *,
        status: RunStatus | None = None,
        model: str | None = None,
        since: str | None = None,
        limit: int | None = None,
    ) -> list[RunEntry]:
        """Runs, newest first.

        Args:
            status: Only with this status.
            model: Only of this model's id.
            since: Started at this moment or later (UTC, ISO 8601).
            limit: At most so many.
        """
        name = status.value if status else None
        return self._ask(lambda index: index.entries(status=name, model=model, since=since, limit=limit))

    def find(self, text: str) -> RunEntry:
        """The run with an id, the beginning of one, or `last`.

        Raises:
            UsageError: There is none, or several begin so.
        """
        entries = self.entries()
        if not entries:
            raise UsageError("no run is kept here yet", hint="`omnirt generate` makes one")
        if text == LAST:
            return entries[0]
        found = [entry for entry in entries if entry.run_id == text] or [
            entry for entry in entries if text and entry.run_id.startswith(text.lower())
        ]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(entry.run_id for entry in found[:4])
            raise UsageError(f"{len(found)} runs begin with {text}: {some}", hint="write more of the id")
        raise UsageError(f"no run is called {text}", hint=_nearest_hint(text, entries))

    def report(self, entry: RunEntry) -> RunReport:
        """A run's report.

        Raises:
            InputMissingError: Neither the copy nor the one beside the video can be read.
        """
        kept = KeptRun.of(self._place, entry.run_id)
        beside = read_report(Path(entry.report_path) if entry.report_path else None, entry.run_id)
        if entry.status is not RunStatus.RUNNING:
            report = read_report(kept.report, entry.run_id) or ended_report(self._place, entry) or beside
        else:
            report = beside or kept.read()
        if report is None:
            raise InputMissingError(f"the report of run {entry.run_id} cannot be read", hint=f"looked at {kept.report}")
        return report

    def log(self, entry: RunEntry) -> Path:
        """A run's log: the one beside the video while that is still this run's, else what was kept of it.

        Raises:
            InputMissingError: Neither is there.
        """
        kept = KeptRun.of(self._place, entry.run_id)
        if entry.status is not RunStatus.RUNNING and kept.log_is_whole():
            return kept.log
        own = read_report(Path(entry.report_path) if entry.report_path else None, entry.run_id) is not None
        beside = Path(entry.log_path) if own and entry.log_path else None
        for path in (beside, kept.log):
            if path is not None and path.is_file():
                return path
        raise InputMissingError(f"run {entry.run_id} has no log", hint="it ended before anything was started")

    def is_running(self, entry: RunEntry) -> bool:
        """Whether a run lives now."""
        return entry.status is RunStatus.RUNNING and is_alive(entry.origin)

    def earlier(self, likeness: Likeness, *, but: str | None = None, limit: int = 20) -> list[PastRun]:
        """Runs that succeeded under the same conditions, newest first.

        Args:
            likeness: The conditions, of a run or of a plan.
            but: The run that is compared, to be left out.
            limit: At most so many.

        Raises:
            OSError, sqlite3.Error: The index cannot be used; the reports are not read instead, for that may take long.
        """
        return self._ask_index(lambda index: [past.as_past() for past in index.alike(likeness, but=but, limit=limit)])

    def rebuild(self) -> int:
        """Make the index anew from the runs' reports.

        Returns:
            How many runs it has.

        Raises:
            OSError, sqlite3.Error: The place cannot be written, or the index is held.
        """
        entries = list(kept_entries(self._place, self._place.run_ids()))
        self._place.make()
        renew(self._place, entries)
        return len(entries)

    def _ask(self, question: Callable[[Index], Answer]) -> Answer:
        """Ask the index, or the reports where that cannot be used."""
        try:
            return self._ask_index(question)
        except (OSError, sqlite3.Error) as error:
            self._warn(f"the index of runs cannot be used ({error}); the reports were read instead")
            with contextlib.closing(Index.in_memory()) as index:
                self._catch_up(index)
                return question(index)

    def _ask_index(self, question: Callable[[Index], Answer]) -> Answer:
        """Bring the index up to date and ask it."""

        def act(index: Index) -> Answer:
            self._catch_up(index)
            return question(index)

        answer, warning = use(self._place, act)
        self._warn(warning)
        return answer

    def _catch_up(self, index: Index) -> None:
        unknown = sorted(set(self._place.run_ids()) - index.ids())
        if unknown:
            index.add_missing(kept_entries(self._place, unknown))
        for entry in index.entries(status=RunStatus.RUNNING.value):
            report = ended_report(self._place, entry)
            if report is not None:
                index.settle(RunEntry.of(report, entry.origin))
                self._keep_end(report, entry)

    def _keep_end(self, report: RunReport, entry: RunEntry) -> None:
        """Keep what a run left that could not do so itself; where the place cannot be written, it stays as it is."""
        kept = KeptRun.of(self._place, entry.run_id)
        if kept.report.exists():
            return
        own = read_report(Path(entry.report_path) if entry.report_path else None, entry.run_id) is not None
        with contextlib.suppress(OSError):
            kept.begin(entry.origin)
            kept.keep(report, Path(entry.log_path) if own and entry.log_path else None)

    def _warn(self, text: str | None) -> None:
        if text is not None and text not in self.warnings:
            self.warnings.append(text)


def earlier(report: RunReport, *, limit: int = 20) -> list[PastRun]:
    """Earlier runs that this one can be compared with; none where they cannot be read, for no run fails on that."""
    try:
        return History(DataPlace.current()).earlier(Likeness.of(report), but=report.run_id, limit=limit)
    except (OSError, sqlite3.Error):
        return []


def _nearest_hint(text: str, entries: list[RunEntry]) -> str:
    beginnings = {entry.run_id[: max(len(text), 4)]: entry.run_id for entry in reversed(entries)}
    guess = nearest(text, set(beginnings))
    if guess:
        return f"the nearest is {beginnings[guess]}; `omnirt runs list` shows them all"
    return f"the last one is {entries[0].run_id}; `omnirt runs list` shows them all"

"""What is kept of one run as files: its report, its log, and where they came from.

The report is a copy of its own, because the one beside the video may be moved or replaced. So is the log: the next run
to the same output empties the log beside the video in place, and a hard link would be emptied with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.files import write_atomic
from omnirt_cli.report import RunReport
from omnirt_cli.runs.entry import Origin, RunEntry
from omnirt_cli.runs.place import DataPlace

MOST_LOG_BYTES = 16 << 20
CUT_MARK = b"[omnirt] the log is longer; this is its end\n"


@dataclass(frozen=True)
class KeptRun:
    """One run's folder in the data directory."""

    folder: Path

    @classmethod
    def of(cls, place: DataPlace, run_id: str) -> KeptRun:
        """The folder of a run, there or not.

        Raises:
            ValueError: The id could name something outside the data directory.
        """
        return cls(place.folder(run_id))

    @property
    def report(self) -> Path:
        """The report's copy; there once the run has ended."""
        return self.folder / "report.json"

    @property
    def log(self) -> Path:
        """The log's copy; there once the run has ended."""
        return self.folder / "run.log"

    @property
    def _origin(self) -> Path:
        return self.folder / "origin.json"

    def begin(self, origin: Origin) -> None:
        """Make the folder, in a data directory that is there, and note where the run's own files are.

        Raises:
            OSError: The place cannot be written.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._origin.write_text(origin.model_dump_json(), encoding="utf-8")

    def keep(self, report: RunReport, log: Path | None) -> None:
        """Keep an ended run's report and log.

        Raises:
            OSError: The place cannot be written.
        """
        write_atomic(self.report, report.model_dump_json(indent=2).encode() + b"\n")
        if log is not None and log.is_file():
            _copy_end(log, self.log)

    def origin(self) -> Origin:
        """Where the run's own files are, as far as that was noted."""
        try:
            return Origin.model_validate_json(self._origin.read_bytes())
        except (OSError, ValueError):
            return Origin()

    def read(self) -> RunReport | None:
        """The run's report, best first: the copy of an ended run, else the one beside the video."""
        origin = self.origin()
        for path in (self.report, Path(origin.report_path) if origin.report_path else None):
            report = read_report(path, self.folder.name)
            if report is not None:
                return report
        return None

    def entry(self) -> RunEntry | None:
        """The run's row for the index, or None where no report can be read."""
        report = self.read()
        return RunEntry.of(report, self.origin()) if report else None

    def log_is_whole(self) -> bool:
        """Whether the log's copy is there and nothing was left out of it."""
        try:
            with self.log.open("rb") as file:
                return file.read(len(CUT_MARK)) != CUT_MARK
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the folder with what is in it; a folder that is not there is no fault.

        Raises:
            OSError: It cannot be removed, or it is a link to somewhere else.
        """
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder)


def read_report(path: Path | None, run_id: str) -> RunReport | None:
    """A report, or None where the file is not there, cannot be read, or tells of another run."""
    if path is None:
        return None
    try:
        report = RunReport.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return report if report.run_id == run_id else None


def kept_entries(place: DataPlace, run_ids: list[str]) -> Iterator[RunEntry]:
    """The rows of runs from their folders; folders without a readable report are passed over."""
    for run_id in run_ids:
        entry = KeptRun.of(place, run_id).entry()
        if entry is not None:
            yield entry


def _copy_end(source: Path, target: Path) -> None:
    """Copy a log; of one that is too long the last lines, below a line that says so."""
    with source.open("rb") as log, target.open("wb") as copy:
        size = os.fstat(log.fileno()).st_size
        if size > MOST_LOG_BYTES:
            log.seek(size - MOST_LOG_BYTES)
            log.readline(1 << 16)
            copy.write(CUT_MARK)
        shutil.copyfileobj(log, copy, 1 << 20)

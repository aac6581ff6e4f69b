"""The names of a job's files: its own copies of the inputs, its events, what each attempt left. Their one place."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from omnirt_cli.output_paths import OutputPaths

_ID = re.compile(r"[0-9a-f]{32}")


def is_job_id(text: str) -> bool:
    """Whether a text can be a job's id, and so the name of its folder."""
    return _ID.fullmatch(text) is not None


@dataclass(frozen=True)
class Attempt:
    """One start of a job."""

    folder: Path

    @property
    def outputs(self) -> OutputPaths:
        """The video, and the report and the log beside it."""
        return OutputPaths(self.folder / "video.mp4")

    @property
    def lock(self) -> Path:
        """Held by the process that renders."""
        return self.folder / "lock"


@dataclass(frozen=True)
class JobFolder:
    """One job's folder."""

    path: Path

    @property
    def inputs(self) -> Path:
        """Copies of what is rendered."""
        return self.path / "inputs"

    @property
    def events(self) -> Path:
        """One event a line, over all attempts."""
        return self.path / "events.jsonl"

    def attempt(self, number: int) -> Attempt:
        """The attempt of that number, from 1."""
        return Attempt(self.path / f"attempt-{number}")

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.path, ignore_errors=True)


@dataclass(frozen=True)
class StatePlace:
    """A server's own directory; nobody else may read it."""

    root: Path

    @property
    def database(self) -> Path:
        """The index of jobs."""
        return self.root / "jobs.sqlite3"

    @property
    def lock(self) -> Path:
        """Held by the server that uses the directory."""
        return self.root / "server.lock"

    @property
    def spool(self) -> Path:
        """Uploads on their way in; emptied at each start."""
        return self.root / "spool"

    @property
    def jobs(self) -> Path:
        """One folder a job."""
        return self.root / "jobs"

    def job(self, job_id: str) -> JobFolder:
        """One job's folder.

        Raises:
            ValueError: The id could name something else.
        """
        if not is_job_id(job_id):
            raise ValueError(f"{job_id!r} is not a job's id")
        return JobFolder(self.jobs / job_id)

    def make(self) -> None:
        """Make what is missing and empty the spool.

        Raises:
            OSError: It cannot be made.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self.spool, ignore_errors=True)
        for folder in (self.jobs, self.spool):
            folder.mkdir(mode=0o700, exist_ok=True)

    def job_ids(self) -> set[str]:
        """The jobs that have a folder."""
        return {entry.name for entry in self.jobs.iterdir() if is_job_id(entry.name)}

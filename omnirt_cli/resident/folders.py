"""A worker's private working directory and its log's place, and what a killed daemon left of them.

A directory's lock is held by this process and by the worker's guard: as long as one rank lives it is taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from launchers.sweep import kill_marked
from omnirt_cli.files import is_locked
from omnirt_cli.resident.spec import SpecError

MARK_PREFIX = "omnirt-worker-"
KEPT_LOGS = 10
"""Logs of workers that are gone: so many of the newest stay."""

_LOCK_NAME = ".lock"


@dataclass(frozen=True)
class WorkerFolder:
    """One worker's place, the same for all its restarts.

    Attributes:
        path: The working directory, named by the mark of its processes.
        lock_fd: Its lock, for the guard to inherit.
    """

    path: Path
    lock_fd: int

    @classmethod
    def create(cls, workers: Path, worker_id: str, files: Mapping[str, bytes]) -> WorkerFolder:
        """Make the directory with its files.

        Raises:
            SpecError: A file's name leads out of the directory.
            OSError: It cannot be written.
        """
        for name in files:
            _refuse_outside(name)
        workers.mkdir(mode=0o700, exist_ok=True)
        path = folder_path(workers, worker_id)
        path.mkdir(mode=0o700)
        try:
            lock_fd = os.open(path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock_fd, fcntl.LOCK_EX)
            for name, content in files.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)
        except OSError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        return cls(path, lock_fd)

    @property
    def mark(self) -> str:
        """What its processes carry as `OMNIRT_RUN_ID`."""
        return self.path.name

    @property
    def log(self) -> Path:
        """The worker's log; it outlives the directory for a while."""
        return log_path(self.path.parent, self.path.name.removeprefix(MARK_PREFIX))

    def remove(self) -> None:
        """Remove it with all that the worker left in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock_fd)
        remove_old_logs(self.path.parent)


def folder_path(workers: Path, worker_id: str) -> Path:
    """A worker's private directory."""
    return workers / f"{MARK_PREFIX}{worker_id}"


def log_path(workers: Path, worker_id: str) -> Path:
    """Where a worker's log is or was."""
    return workers / f"{worker_id}.log"


def remove_abandoned(workers: Path, mine: Container[str]) -> bool:
    """Remove the directories of workers whose daemon is gone; only the daemon may call this.

    Args:
        workers: Where they lie.
        mine: Names of this daemon's own.

    Returns:
        Whether some must wait, because processes of theirs still live.
    """
    waiting = False
    for folder in workers.glob(f"{MARK_PREFIX}*"):
        if folder.name in mine:
            continue
        if is_locked(folder / _LOCK_NAME):
            waiting = True
            continue
        # Its guard held the lock until the last rank was gone; only if that was killed too can there be any left.
        kill_marked(folder.name)
        shutil.rmtree(folder, ignore_errors=True)
    remove_old_logs(workers)
    return waiting


def remove_old_logs(workers: Path) -> None:
    """Keep the newest logs of those that are gone."""
    gone = [log for log in workers.glob("*.log") if not (workers / f"{MARK_PREFIX}{log.stem}").exists()]
    for log in sorted(gone, key=_age, reverse=True)[KEPT_LOGS:]:
        for part in (log, log.with_suffix(".log.1")):
            with contextlib.suppress(OSError):
                part.unlink()


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _refuse_outside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise SpecError(f"a worker's file is named {name!r}, which leads out of its directory")

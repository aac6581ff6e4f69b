"""The index of jobs: one SQLite table. Every change of state is one transaction that names the state before.

A result is taken only from the attempt that the table names: whoever was given up for dead and comes back changes
nothing. To be used by one thread at a time.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omnirt_cli.errors import IOFailureError
from omnirt_cli.report import ErrorInfo
from omnirt_cli.server.jobs.job import NAMES, RANKS, Ending, Job, Order
from omnirt_cli.server.jobs.states import JobState, check_step

SCHEMA = 1

_CREATE = f"""
CREATE TABLE jobs (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    model TEXT NOT NULL,
    backend TEXT,
    priority INTEGER NOT NULL,
    request TEXT NOT NULL,
    render TEXT NOT NULL,
    awaited INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    enqueued_at_ms INTEGER NOT NULL,
    started_at_ms INTEGER,
    finished_at_ms INTEGER,
    run_id TEXT,
    worker_id TEXT,
    execution_mode TEXT,
    error TEXT
);
CREATE INDEX jobs_by_state ON jobs (state, priority, sequence);
CREATE INDEX jobs_by_end ON jobs (finished_at_ms);
PRAGMA user_version = {SCHEMA};
"""
_COLUMNS = (
    "sequence, id, model, backend, priority, request, render, awaited, state, attempt, cancel_requested, "
    "enqueued_at_ms, started_at_ms, finished_at_ms, run_id, worker_id, execution_mode, error"
)
_SELECT = f"SELECT {_COLUMNS} FROM jobs"  # noqa: S608 - our own names
_FINAL = tuple(state.value for state in JobState if state.final)


class QueueFullError(Exception):
    """No more jobs may wait."""


class JobStore:
    """An open index of jobs."""

    def __init__(self, path: Path) -> None:
        """Open it, or make it.

        Raises:
            IOFailureError: It cannot be opened, or is not one of this version's.
        """
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._prepare()
        except sqlite3.Error as error:
            raise IOFailureError(
                f"the index of jobs {path} cannot be used: {error}",
                hint="move it aside, with its -wal file, to start without the jobs in it; or give another --state-dir",
            ) from error

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        # A job that was accepted must be there after a power cut.
        self._connection.execute("PRAGMA synchronous = FULL")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            self._connection.executescript(_CREATE)
        elif version != SCHEMA:
            raise sqlite3.DatabaseError(f"it has schema {version}, this OmniRT has {SCHEMA}")

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    # Changes

    def add(self, order: Order, most_waiting: int) -> Job:
        """Accept an order.

        Raises:
            QueueFullError: So many jobs wait already.
        """
        with self._transaction():
            if self.waiting() >= most_waiting:
                raise QueueFullError
            self._connection.execute(
                "INSERT INTO jobs (id, model, backend, priority, request, render, awaited, state, enqueued_at_ms) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    order.id,
                    order.model,
                    order.backend,
                    RANKS[order.priority],
                    json.dumps(order.request),
                    json.dumps(order.render),
                    order.awaited,
                    JobState.QUEUED.value,
                    _now_ms(),
                ),
            )
            return self._the(order.id)

    def claim(self) -> Job | None:
        """Take the next job and start its next attempt; None where none waits."""
        with self._transaction():
            row = self._connection.execute(
                "SELECT id FROM jobs WHERE state = ? ORDER BY priority, sequence LIMIT 1", (JobState.QUEUED.value,)
            ).fetchone()
            if row is None:
                return None
            check_step(JobState.QUEUED, JobState.RUNNING)
            self._connection.execute(
                "UPDATE jobs SET state = ?, attempt = attempt + 1, started_at_ms = ?, run_id = NULL WHERE id = ?",
                (JobState.RUNNING.value, _now_ms(), row[0]),
            )
            return self._the(row[0])

    def finish(self, job: Job, ending: Ending) -> bool:
        """Publish how a job's attempt ended.

        Returns:
            Whether it was published: not if the job has ended already, or is at another attempt.
        """
        check_step(JobState.RUNNING, ending.state)
        error = ending.error.model_dump_json() if ending.error else None
        done = self._connection.execute(
            "UPDATE jobs SET state = ?, finished_at_ms = ?, run_id = ?, worker_id = ?, execution_mode = ?, error = ? "
            "WHERE id = ? AND state = ? AND attempt = ?",
            (
                ending.state.value,
                _now_ms(),
                ending.run_id,
                ending.worker_id,
                ending.execution_mode,
                error,
                job.id,
                JobState.RUNNING.value,
                job.attempt,
            ),
        )
        return done.rowcount == 1

    def put_back(self, job: Job) -> bool:
        """Have a job whose attempt came to nothing wait again; its place in the queue is the one it had."""
        check_step(JobState.RUNNING, JobState.QUEUED)
        done = self._connection.execute(
            "UPDATE jobs SET state = ?, started_at_ms = NULL WHERE id = ? AND state = ? AND attempt = ?",
            (JobState.QUEUED.value, job.id, JobState.RUNNING.value, job.attempt),
        )
        return done.rowcount == 1

    def cancel(self, job_id: str) -> Job | None:
        """End a job that waits; note the wish for one that runs. None where there is no such job."""
        with self._transaction():
            job = self.get(job_id)
            if job is None or job.state.final:
                return job
            if job.state is JobState.QUEUED:
                check_step(job.state, JobState.CANCELLED)
                self._connection.execute(
                    "UPDATE jobs SET state = ?, finished_at_ms = ?, cancel_requested = 1 WHERE id = ?",
                    (JobState.CANCELLED.value, _now_ms(), job_id),
                )
            else:
                self._connection.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", (job_id,))
            return self._the(job_id)

    def cancel_awaited(self) -> int:
        """End the waiting jobs whose callers were cut off with an earlier server; returns how many."""
        check_step(JobState.QUEUED, JobState.CANCELLED)
        done = self._connection.execute(
            "UPDATE jobs SET state = ?, finished_at_ms = ? WHERE state = ? AND awaited",
            (JobState.CANCELLED.value, _now_ms(), JobState.QUEUED.value),
        )
        return done.rowcount

    def remove(self, job_id: str) -> None:
        """Forget a job that has ended."""
        self._connection.execute(
            f"DELETE FROM jobs WHERE id = ? AND state IN ({', '.join('?' * len(_FINAL))})",  # noqa: S608 - marks
            (job_id, *_FINAL),
        )

    # Questions

    def get(self, job_id: str) -> Job | None:
        """One job."""
        row = self._connection.execute(f"{_SELECT} WHERE id = ?", (job_id,)).fetchone()
        return _job(row) if row else None

    def page(self, *, state: str | None, model: str | None, before: int | None, limit: int) -> list[Job]:
        """Jobs, the newest first.

        Args:
            state: Only in this state.
            model: Only of this model.
            before: Only with a lower sequence.
            limit: At most so many.
        """
        tests = {"state = ?": state, "model = ?": model, "sequence < ?": before}
        asked = {test: value for test, value in tests.items() if value is not None}
        where = f" WHERE {' AND '.join(asked)}" if asked else ""
        rows = self._connection.execute(
            f"{_SELECT}{where} ORDER BY sequence DESC LIMIT ?", (*asked.values(), limit)
        ).fetchall()
        return [_job(row) for row in rows]

    def running(self) -> list[Job]:
        """Jobs that are marked as running."""
        rows = self._connection.execute(f"{_SELECT} WHERE state = ?", (JobState.RUNNING.value,)).fetchall()
        return [_job(row) for row in rows]

    def waiting(self) -> int:
        """How many jobs wait."""
        return sum(self.waiting_by_priority().values())

    def waiting_by_priority(self) -> dict[str, int]:
        """How many jobs wait, of each priority."""
        rows = self._connection.execute(
            "SELECT priority, COUNT(*) FROM jobs WHERE state = ? GROUP BY priority", (JobState.QUEUED.value,)
        ).fetchall()
        found = {NAMES[rank]: count for rank, count in rows}
        return {name: found.get(name, 0) for name in RANKS}

    def position(self, job: Job) -> int:
        """How many waiting jobs come before this one."""
        row = self._connection.execute(
            "SELECT COUNT(*) FROM jobs WHERE state = ? AND (priority, sequence) < (?, ?)",
            (JobState.QUEUED.value, RANKS[job.order.priority], job.sequence),
        ).fetchone()
        return int(row[0])

    def expired(self, before_ms: int, most_kept: int) -> list[str]:
        """Finished jobs that ended before a moment, and the oldest of those beyond `most_kept`."""
        marks = ", ".join("?" * len(_FINAL))
        rows = self._connection.execute(
            f"SELECT id FROM (SELECT id, finished_at_ms, ROW_NUMBER() OVER (ORDER BY finished_at_ms DESC) AS place "  # noqa: S608 - marks
            f"FROM jobs WHERE state IN ({marks})) WHERE finished_at_ms < ? OR place > ?",
            (*_FINAL, before_ms, most_kept),
        ).fetchall()
        return [row[0] for row in rows]

    def ids(self) -> set[str]:
        """Every job's id."""
        return {row[0] for row in self._connection.execute("SELECT id FROM jobs")}

    def _the(self, job_id: str) -> Job:
        job = self.get(job_id)
        assert job is not None
        return job

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _job(row: tuple[Any, ...]) -> Job:
    (sequence, job_id, model, backend, rank, request, render, awaited, state, attempt, cancelled, *rest) = row
    enqueued, started, finished, run_id, worker_id, mode, error = rest
    order = Order(
        id=job_id,
        model=model,
        backend=backend,
        priority=NAMES[rank],
        request=json.loads(request),
        render=json.loads(render),
        awaited=bool(awaited),
    )
    return Job(
        order=order,
        sequence=sequence,
        state=JobState(state),
        attempt=attempt,
        cancel_requested=bool(cancelled),
        enqueued_at_ms=enqueued,
        started_at_ms=started,
        finished_at_ms=finished,
        run_id=run_id,
        worker_id=worker_id,
        execution_mode=mode,
        error=ErrorInfo.model_validate_json(error) if error else None,
    )

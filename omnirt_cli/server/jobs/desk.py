"""The jobs as the event loop sees them: every look at the store is in a thread, and every change is told to who waits.

Routes ask here; the runner works from here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from omnirt_cli.run.events import BaseEvent, ChunkFinished, RunStarted, StageStarted
from omnirt_cli.server.jobs.job import Ending, Job, Order
from omnirt_cli.server.jobs.states import JobState
from omnirt_cli.server.jobs.store import JobStore

_FIRST_GUESS_S = 30.0
_WEIGHT = 0.3

Answer = TypeVar("Answer")


@dataclass
class Progress:
    """How far a running job is."""

    stage: str | None = None
    chunks_done: int = 0
    chunks: int | None = None
    eta_s: float | None = None

    def note(self, event: BaseEvent) -> None:
        """Take over what an event says."""
        if isinstance(event, RunStarted):
            self.chunks = event.chunks
        elif isinstance(event, StageStarted):
            self.stage = event.stage.value
        elif isinstance(event, ChunkFinished):
            self.chunks_done = event.index + 1
            self.chunks = event.total or self.chunks
            self.eta_s = event.eta_s


class Desk:
    """One server's jobs.

    Attributes:
        work: Set while there may be a job to claim.
        closing: Set when those who wait for something should give up: the server ends.
        draining: No new jobs are taken.
        progress: Of the running jobs.
    """

    def __init__(self, store: JobStore, most_waiting: int) -> None:
        self._store = store
        self._most_waiting = most_waiting
        # One thread: SQLite is written by one at a time in any case, and the order of changes is the order of calls.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._seconds = _FIRST_GUESS_S
        self.work = asyncio.Event()
        self.closing = asyncio.Event()
        self.draining = False
        self.progress: dict[str, Progress] = {}
        self.work.set()

    # Changes

    async def submit(self, order: Order) -> Job:
        """Accept a job.

        Raises:
            QueueFullError: Too many wait.
        """
        job = await self._do(self._store.add, order, self._most_waiting)
        self.work.set()
        return job

    async def claim(self) -> Job | None:
        """The next job, now running; None where none waits."""
        self.work.clear()
        job = await self._do(self._store.claim)
        if job is not None:
            self.work.set()
            self.progress[job.id] = Progress()
            self.tell(job.id)
        return job

    async def finish(self, job: Job, ending: Ending) -> bool:
        """Publish an attempt's end; False where the job was at another attempt."""
        published = await self._do(self._store.finish, job, ending)
        self._settled(job)
        return published

    async def put_back(self, job: Job) -> None:
        """Have a job wait again."""
        await self._do(self._store.put_back, job)
        self._settled(job)
        self.work.set()

    async def cancel(self, job_id: str) -> Job | None:
        """End a waiting job, or note that a running one shall end."""
        job = await self._do(self._store.cancel, job_id)
        self.tell(job_id)
        return job

    async def cancel_awaited(self) -> None:
        """End the waiting jobs whose callers were cut off with an earlier server."""
        await self._do(self._store.cancel_awaited)

    async def remove(self, job_id: str) -> None:
        """Forget a finished job."""
        await self._do(self._store.remove, job_id)
        self.tell(job_id)

    def took(self, seconds: float) -> None:
        """Note how long a job ran, for later guesses."""
        self._seconds += _WEIGHT * (seconds - self._seconds)

    # Questions

    async def get(self, job_id: str) -> Job | None:
        """One job."""
        return await self._do(self._store.get, job_id)

    async def page(self, *, state: str | None, model: str | None, before: int | None, limit: int) -> list[Job]:
        """Jobs, the newest first."""
        return await self._do(partial(self._store.page, state=state, model=model, before=before, limit=limit))

    async def position(self, job: Job) -> int | None:
        """How many jobs come before this one; None where it does not wait."""
        if job.state is not JobState.QUEUED:
            return None
        return await self._do(self._store.position, job)

    async def running(self) -> list[Job]:
        """Jobs that are marked as running."""
        return await self._do(self._store.running)

    async def waiting(self) -> dict[str, int]:
        """How many wait, of each priority."""
        return await self._do(self._store.waiting_by_priority)

    async def is_full(self) -> bool:
        """Whether another job would be refused."""
        return await self._do(self._store.waiting) >= self._most_waiting

    async def expired(self, before_ms: int, most_kept: int) -> list[str]:
        """Finished jobs that need not be kept."""
        return await self._do(self._store.expired, before_ms, most_kept)

    async def ids(self) -> set[str]:
        """Every job's id."""
        return await self._do(self._store.ids)

    def retry_after_s(self, concurrency: int) -> int:
        """When a place in a full queue is likely to be free: about when the next job ends."""
        return max(1, min(3600, round(self._seconds / concurrency)))

    # Waiting for changes

    @contextlib.contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something happens to the job; who waits clears it."""
        event = asyncio.Event()
        self._watchers.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            self._watchers[job_id].discard(event)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    def tell(self, job_id: str) -> None:
        """Something happened to the job."""
        for event in self._watchers.get(job_id, ()):
            event.set()

    async def wait_until_final(self, job_id: str) -> Job | None:
        """The job once it is final; None where it is gone, and as it is where the server ends before."""
        with self.watch(job_id) as changed:
            while True:
                changed.clear()
                job = await self.get(job_id)
                if job is None or job.state.final or self.closing.is_set():
                    return job
                await changed.wait()

    def give_up_waiting(self) -> None:
        """Wake everybody: the server ends."""
        self.closing.set()
        for job_id in list(self._watchers):
            self.tell(job_id)

    def close(self) -> None:
        """Let go of the store; nothing may be asked afterwards."""
        self._thread.shutdown(wait=True)
        self._store.close()

    def _settled(self, job: Job) -> None:
        self.progress.pop(job.id, None)
        self.tell(job.id)

    async def _do(self, action: Callable[..., Answer], *args: Any) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(action, *args))

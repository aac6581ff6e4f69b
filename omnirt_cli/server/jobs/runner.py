"""Runs jobs: takes them from the desk, has them rendered, publishes how they ended; and finds those of a dead server.

Execution is at least once: an attempt whose process or server was killed is made again, up to `MOST_ATTEMPTS`.
Publication is exactly once: the store takes the result of the attempt that it names, and no other.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections import OrderedDict

from omnirt_cli.errors import CancelledRunError, ModelFailedError
from omnirt_cli.files import is_locked
from omnirt_cli.report import RunReport, RunStatus
from omnirt_cli.run.events import BaseEvent
from omnirt_cli.run.reporting import error_info
from omnirt_cli.server.jobs.desk import Desk
from omnirt_cli.server.jobs.folder import StatePlace
from omnirt_cli.server.jobs.job import Ending, Job
from omnirt_cli.server.jobs.orders import RenderOrder, RunEnd
from omnirt_cli.server.jobs.slot import ProcessDiedError, Slot
from omnirt_cli.server.jobs.states import JobState
from omnirt_cli.server.metrics import Metrics
from omnirt_cli.server.options import ServerOptions
from omnirt_cli.server.traces import Traces

MOST_ATTEMPTS = 3
"""A job that takes its process, or the server, with it is not tried for ever."""

ORPHAN_BOUND_S = 120.0
"""How long a dead server's render may take to stop: its own grace, and the force behind it."""

_LOOK_S = 0.1
_PAUSE_S = 1.0

logger = logging.getLogger("omnirt.server")


class Runner:
    """All slots of a server."""

    def __init__(
        self, desk: Desk, place: StatePlace, options: ServerOptions, metrics: Metrics, traces: Traces | None = None
    ) -> None:
        self._desk = desk
        self._place = place
        self._options = options
        self._metrics = metrics
        self._traces = traces
        self._slots = [Slot() for _ in range(options.max_concurrency)]
        self._at: dict[str, Slot] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._settling: list[asyncio.Task[None]] = []
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._workers: OrderedDict[str, None] = OrderedDict()

    @property
    def running(self) -> int:
        """How many jobs are being rendered."""
        return len(self._at)

    @property
    def alive(self) -> bool:
        """Whether jobs are taken: every slot's loop goes on."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    async def start(self) -> None:
        """Begin; jobs that a dead server left are settled in the background."""
        await self._desk.cancel_awaited()
        self._settling = [asyncio.create_task(self._settle_left(job)) for job in await self._desk.running()]
        self._tasks = [asyncio.create_task(self._work(slot)) for slot in self._slots]

    async def cancel(self, job_id: str) -> None:
        """Stop a job's render, if it is at one."""
        slot = self._at.get(job_id)
        if slot is not None:
            slot.cancel()

    async def drain(self, seconds: float) -> None:
        """Take no more jobs, and give the running ones so long; then they are stopped, and wait for the next server."""
        self._desk.draining = True
        self._stopping = True
        self._desk.work.set()
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except asyncio.TimeoutError:
            await self.stop_now()

    async def stop_now(self) -> None:
        """Stop what runs; such jobs are put back."""
        self._stopping = True
        for slot in list(self._at.values()):
            slot.cancel()
        await self._idle.wait()

    async def close(self) -> None:
        """End the processes."""
        for task in (*self._tasks, *self._settling):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._settling, return_exceptions=True)
        await asyncio.gather(*(slot.close() for slot in self._slots))

    # One slot

    async def _work(self, slot: Slot) -> None:
        await self._warm(slot)
        # What a dead server was at may still hold devices; its jobs come first, in any case.
        await asyncio.gather(*self._settling, return_exceptions=True)
        while not self._stopping:
            await self._desk.work.wait()
            if self._stopping:
                return
            try:
                job = await self._desk.claim()
                if job is not None and self._stopping:
                    await self._desk.put_back(job)
                elif job is not None:
                    await self._run(slot, job)
            except Exception:
                # This loop's edge: a full disk or a bug may cost a job, and must not cost all that come after it.
                logger.exception("a job could not be handled")
                await asyncio.sleep(_PAUSE_S)
                self._desk.work.set()

    async def _warm(self, slot: Slot) -> None:
        try:
            await slot.start()
        except (ProcessDiedError, OSError) as error:
            logger.warning("a render process cannot be started", extra={"facts": {"error": str(error)}})

    async def _run(self, slot: Slot, job: Job) -> None:
        self._at[job.id] = slot
        self._idle.clear()
        began = time.monotonic()
        try:
            told = {"job": job.id, "attempt": job.attempt, "model": job.order.model}
            logger.info("job started", extra={"facts": told})
            end = await self._render(slot, job)
            await self._settle_attempt(job, end, time.monotonic() - began)
        finally:
            self._at.pop(job.id, None)
            if not self._at:
                self._idle.set()
        await self._keep_workers(slot, end.worker_id)

    async def _render(self, slot: Slot, job: Job) -> RunEnd:
        """How the attempt's run ended."""

        def on_event(event: BaseEvent) -> None:
            progress = self._desk.progress.get(job.id)
            if progress is not None:
                progress.note(event)
            self._metrics.happened(job, event)
            if self._traces is not None:
                self._traces.happened(job, event)
            self._desk.tell(job.id)

        try:
            return await slot.render(self._order(job), on_event)
        except ProcessDiedError as died:
            logger.warning("render process died", extra={"facts": {"job": job.id, "status": died.status}})
            how = f"signal {-died.status}" if died.status and died.status < 0 else f"exit status {died.status}"
            return RunEnd(None, error=error_info(ModelFailedError(f"the process that rendered was killed ({how})")))
        except (OSError, ValueError) as error:
            # It cannot be started, or says what makes no sense; another one may do better.
            logger.exception("render process failed", extra={"facts": {"job": job.id}})
            await slot.close()
            return RunEnd(None, error=error_info(ModelFailedError(f"there was no process to render it: {error}")))

    def _order(self, job: Job) -> RenderOrder:
        assert job.started_at_ms is not None
        return RenderOrder(
            job_id=job.id,
            folder=str(self._place.job(job.id).path),
            attempt=job.attempt,
            render=job.order.render,
            resident=self._options.resident,
            device_wait_s=self._options.device_wait_s,
            enqueued_at_ms=job.enqueued_at_ms,
            queued_ms=max(0, job.started_at_ms - job.enqueued_at_ms),
        )

    async def _settle_attempt(self, job: Job, end: RunEnd, seconds: float) -> None:
        """Put an end into the index, once there is room for it; a server that ends leaves that to the next one."""
        while not await self._settled(job, end, seconds) and not self._stopping:
            await asyncio.sleep(_PAUSE_S)

    async def _settled(self, job: Job, end: RunEnd, seconds: float) -> bool:
        try:
            state = await self._verdict(job, end)
            if state is JobState.QUEUED:
                await self._put_back(job)
            else:
                await self._publish(job, state, end, seconds)
        except sqlite3.Error as error:
            logger.warning("a job's end cannot be stored", extra={"facts": {"job": job.id, "error": str(error)}})
            return False
        return True

    async def _put_back(self, job: Job) -> None:
        await self._desk.put_back(job)
        logger.info("job put back", extra={"facts": {"job": job.id, "attempt": job.attempt}})

    async def _publish(self, job: Job, state: JobState, end: RunEnd, seconds: float) -> None:
        ending = Ending(state, end.run_id, end.worker_id, end.execution_mode, end.error)
        published = await self._desk.finish(job, ending)
        code = end.error.code if end.error else None
        told = {"job": job.id, "state": state.value, "code": code, "seconds": round(seconds, 3), "published": published}
        logger.info("job ended", extra={"facts": told})
        if published:
            self._desk.took(seconds)
            self._metrics.ended(job, state, end, seconds)
            if self._traces is not None:
                self._traces.ended(job, state, end)

    async def _verdict(self, job: Job, end: RunEnd) -> JobState:
        """What becomes of a job whose attempt ended so."""
        if end.status is RunStatus.SUCCEEDED:
            return JobState.SUCCEEDED
        now = await self._desk.get(job.id)
        if now is not None and now.cancel_requested:
            return JobState.CANCELLED
        cancelled = end.status is RunStatus.CANCELLED
        if self._stopping and (cancelled or end.died):
            return JobState.CANCELLED if job.order.awaited else JobState.QUEUED
        if end.died and job.attempt < MOST_ATTEMPTS:
            return JobState.QUEUED
        return JobState.CANCELLED if cancelled else JobState.FAILED

    async def _keep_workers(self, slot: Slot, worker_id: str | None) -> None:
        """Stop the resident workers that were not used for the longest time, where there are too many."""
        if worker_id is not None:
            self._workers[worker_id] = None
            self._workers.move_to_end(worker_id)
        excess = list(self._workers)[: max(0, len(self._workers) - self._options.pipeline_cache_size)]
        if not excess:
            return
        try:
            gone = await slot.evict(excess)
        except ProcessDiedError:
            return
        for worker in gone:
            self._workers.pop(worker, None)

    # What a dead server left

    async def _settle_left(self, job: Job) -> None:
        try:
            await self._settle(job)
        except Exception:
            # This task's edge: the job stays as it is, and the next server looks at it again.
            logger.exception("a job of an earlier server could not be settled", extra={"facts": {"job": job.id}})

    async def _settle(self, job: Job) -> None:
        """Wait for the render of a dead server to stop, then take its result, or have the job rendered again."""
        attempt = self._place.job(job.id).attempt(job.attempt)
        give_up = time.monotonic() + ORPHAN_BOUND_S
        while await asyncio.to_thread(is_locked, attempt.lock) and time.monotonic() < give_up:
            await asyncio.sleep(_LOOK_S)
        report = await asyncio.to_thread(read_report, self._place, job)
        logger.info("job found", extra={"facts": {"job": job.id, "report": report.status.value if report else None}})
        if report is not None and report.status is RunStatus.SUCCEEDED and attempt.outputs.video.is_file():
            ending = Ending(JobState.SUCCEEDED, report.run_id, report.worker_id, report.execution_mode)
            await self._desk.finish(job, ending)
        elif job.cancel_requested:
            await self._desk.finish(job, Ending(JobState.CANCELLED))
        elif job.order.awaited:
            gone = CancelledRunError("the server ended, and with it the connection that waited for this render")
            await self._desk.finish(job, Ending(JobState.CANCELLED, error=error_info(gone)))
        elif job.attempt >= MOST_ATTEMPTS:
            killed = ModelFailedError(f"the server was killed {job.attempt} times while it rendered this")
            await self._desk.finish(job, Ending(JobState.FAILED, error=error_info(killed)))
        else:
            await self._desk.put_back(job)


def read_report(place: StatePlace, job: Job) -> RunReport | None:
    """The report of a job's last attempt; None where there is none, or no whole one."""
    if job.attempt == 0:
        return None
    try:
        return RunReport.model_validate_json(place.job(job.id).attempt(job.attempt).outputs.report.read_bytes())
    except (OSError, ValueError):
        return None

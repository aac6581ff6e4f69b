"""Forgetting: finished jobs go when their time is over or there are too many, strays go when a server starts."""

from __future__ import annotations

import asyncio
import logging
import time

from omnirt_cli.server.jobs.desk import Desk
from omnirt_cli.server.jobs.folder import StatePlace

EVERY_S = 30.0

logger = logging.getLogger("omnirt.server")


async def sweep(desk: Desk, place: StatePlace, *, ttl_s: float, most_kept: int) -> int:
    """Forget what need not be kept; returns how many jobs.

    A job leaves the index first: then nobody asks for its files while they go. What a crash leaves of them is found at
    the next start.
    """
    gone = await desk.expired(int((time.time() - ttl_s) * 1000), most_kept)
    for job_id in gone:
        await desk.remove(job_id)
        await asyncio.to_thread(place.job(job_id).remove)
    return len(gone)


async def remove_strays(desk: Desk, place: StatePlace) -> None:
    """Remove folders that no job has: of requests that were never accepted, and of jobs that were being forgotten."""
    known = await desk.ids()
    for job_id in await asyncio.to_thread(place.job_ids) - known:
        await asyncio.to_thread(place.job(job_id).remove)


async def keep_sweeping(desk: Desk, place: StatePlace, *, ttl_s: float, most_kept: int) -> None:
    """Sweep for as long as the server lives."""
    while True:
        try:
            await sweep(desk, place, ttl_s=ttl_s, most_kept=most_kept)
        except Exception:
            # This task's edge: what cannot be forgotten now can be later.
            logger.exception("old jobs could not be removed")
        await asyncio.sleep(min(EVERY_S, max(0.2, ttl_s / 4)))

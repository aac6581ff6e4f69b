"""A job's events as server-sent events: with ids, so that who was cut off goes on where it stopped, and an end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from omnirt_cli.server.documents import document_of
from omnirt_cli.server.jobs.event_file import EventReader, StoredEvent
from omnirt_cli.server.jobs.job import Job
from omnirt_cli.server.routes.answers import ERRORS, JobId, find
from omnirt_cli.server.state import Services, UseServices

router = APIRouter(tags=["jobs"])

PING_S = 15


@router.get(
    "/v1/jobs/{job_id}/events",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {}}}, **ERRORS},
)
async def events(
    job_id: JobId,
    services: UseServices,
    last_event_id: Annotated[str | None, Header(description="Go on after this event.")] = None,
    after: Annotated[int, Query(description="The same, for those who cannot set headers.", ge=0, le=2**53)] = 0,
) -> EventSourceResponse:
    """The job's events from the first one on, or after a given one, as they happen.

    Each has an id, and its name is the `event` of its document. The last is `job_succeeded`, `job_failed` or
    `job_cancelled`, with the job as its data; then the stream ends. A server that ends closes the stream without that.
    """
    await find(job_id, services)
    start = int(last_event_id) if last_event_id and last_event_id.isascii() and last_event_id.isdigit() else after
    stream = _stream(job_id, min(start, 2**53), services)
    return EventSourceResponse(stream, ping=PING_S)


async def _stream(job_id: str, after: int, services: Services) -> AsyncIterator[ServerSentEvent]:
    reader = EventReader(services.place.job(job_id).events, after=after)
    with services.desk.watch(job_id) as changed:
        while True:
            changed.clear()
            # The job first, then its events: what was written before it became final is read before its end is told.
            job = await services.desk.get(job_id)
            while found := await asyncio.to_thread(reader.more):
                for event in found:
                    yield _sent(event)
            if job is None or services.desk.closing.is_set():
                return
            if job.state.final:
                if reader.last_id >= after:
                    yield await _end(job, reader.last_id + 1, services)
                return
            await changed.wait()


def _sent(event: StoredEvent) -> ServerSentEvent:
    name = json.loads(event.text).get("event", "message")
    return ServerSentEvent(event.text, event=str(name), id=str(event.id))


async def _end(job: Job, number: int, services: Services) -> ServerSentEvent:
    document = await document_of(job, services, whole=False)
    return ServerSentEvent(document.model_dump_json(), event=f"job_{job.state.value}", id=str(number))

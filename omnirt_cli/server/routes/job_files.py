"""A job's files: video, report, log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import anyio
from fastapi import APIRouter, Query, Response
from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse

from omnirt_cli.errors import BusyError, OmniRTError
from omnirt_cli.report import RunReport
from omnirt_cli.runs.log_lines import LogReader
from omnirt_cli.server.jobs.folder import Attempt
from omnirt_cli.server.jobs.job import Job
from omnirt_cli.server.jobs.runner import read_report
from omnirt_cli.server.jobs.states import JobState
from omnirt_cli.server.problems import Problem, not_found
from omnirt_cli.server.routes.answers import ERRORS, JobId, find
from omnirt_cli.server.state import Services, UseServices

router = APIRouter(tags=["jobs"])

_BLOCK = 1 << 16
_MOST_LINES = 10_000
# What a model printed is shown, never run.
_AS_IT_IS = {"X-Content-Type-Options": "nosniff"}


@router.head("/v1/jobs/{job_id}/video", include_in_schema=False)
@router.get(
    "/v1/jobs/{job_id}/video",
    response_class=FileResponse,
    responses={200: {"content": {"video/mp4": {}}}, 206: {"content": {"video/mp4": {}}}, **ERRORS},
)
async def video(job_id: JobId, services: UseServices) -> FileResponse:
    """The video of a job that succeeded; takes `Range`."""
    job = await find(job_id, services)
    if job.state is not JobState.SUCCEEDED:
        raise _no_video(job)
    path = _attempt(job, services).outputs.video
    if not await asyncio.to_thread(path.is_file):
        raise not_found("the job's video is gone")
    return FileResponse(path, media_type="video/mp4", filename=f"{job.order.model}-{job.id[:8]}.mp4", headers=_AS_IT_IS)


def _no_video(job: Job) -> Problem:
    if job.state.final:
        return not_found(f"the job has no video: it {job.state.value}")
    return Problem(BusyError(f"the job is {job.state.value}", hint="its events tell when it is done"), 409)


@router.get("/v1/jobs/{job_id}/report", response_model=RunReport, responses=ERRORS)
async def report(job_id: JobId, services: UseServices) -> Response:
    """The report of the job's last attempt; it is there as soon as the render has begun."""
    job = await find(job_id, services)
    found = await asyncio.to_thread(read_report, services.place, job)
    if found is None:
        raise not_found("the job has no report: its render did not begin")
    return Response(found.model_dump_json(), media_type="application/json")


@router.get(
    "/v1/jobs/{job_id}/log",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {}}}, **ERRORS},
)
async def log(
    job_id: JobId,
    services: UseServices,
    tail: Annotated[int | None, Query(description="Only the last lines.", ge=1, le=_MOST_LINES)] = None,
) -> Response:
    """What the model's processes printed in the job's last attempt, as far as it has come."""
    job = await find(job_id, services)
    path = _attempt(job, services).outputs.log
    try:
        size = (await asyncio.to_thread(path.stat)).st_size
        if tail is not None:
            return PlainTextResponse(await asyncio.to_thread(_last, path, tail), headers=_AS_IT_IS)
    except (OSError, OmniRTError):
        raise not_found("the job has no log: its render did not begin") from None
    headers = {"Content-Length": str(size), **_AS_IT_IS}
    return StreamingResponse(_blocks(path, size), media_type="text/plain; charset=utf-8", headers=headers)


def _last(path: Path, count: int) -> str:
    with LogReader(path) as reader:
        return "".join(f"{line}\n" for line in reader.last(count))


async def _blocks(path: Path, size: int) -> AsyncIterator[bytes]:
    """The file as long as it was: a running job's log goes on growing."""
    async with await anyio.open_file(path, "rb") as file:
        while size > 0 and (block := await file.read(min(_BLOCK, size))):
            size -= len(block)
            yield block


def _attempt(job: Job, services: Services) -> Attempt:
    return services.place.job(job.id).attempt(job.attempt)

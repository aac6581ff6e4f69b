"""Asking for a render: waited for, or as a job."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from omnirt_cli.errors import BusyError, CancelledRunError, InternalError
from omnirt_cli.report import ErrorInfo
from omnirt_cli.run.reporting import error_info
from omnirt_cli.server.bodies import GenerateBody, JobBody, JobDocument, ServedResult
from omnirt_cli.server.documents import document_of, links_of, served
from omnirt_cli.server.intake import read_submission
from omnirt_cli.server.jobs.job import Job
from omnirt_cli.server.jobs.runner import read_report
from omnirt_cli.server.jobs.states import JobState
from omnirt_cli.server.jobs.store import QueueFullError
from omnirt_cli.server.problems import Problem, RunProblem
from omnirt_cli.server.routes.answers import ERRORS
from omnirt_cli.server.state import Services, UseServices

router = APIRouter(tags=["renders"])

JOB_HEADER = "X-OmniRT-Job"


@router.post(
    "/v1/generate",
    response_model=ServedResult,
    responses={202: {"model": JobDocument, "description": "With `async_run`: the job."}, **ERRORS},
)
async def generate(request: Request, response: Response, services: UseServices) -> ServedResult | Response:
    """Render one video and answer with its report, or with `async_run` answer at once with a job.

    The render of a caller who waits is cancelled when the caller goes away.
    """
    job = await _accept(request, GenerateBody, services)
    if not job.order.awaited:
        return await _accepted(job, services)
    ended = await _wait(request, job, services)
    if ended is not None and not ended.state.final:
        # The server ends: its successor shall not render what nobody will get.
        await services.desk.cancel(job.id)
    response.headers[JOB_HEADER] = job.id
    return await _result(ended, job.id, services)


@router.post("/v1/jobs", response_model=JobDocument, status_code=202, responses=ERRORS)
async def create_job(request: Request, services: UseServices) -> Response:
    """Have a video rendered in the background."""
    return await _accepted(await _accept(request, JobBody, services), services)


async def _accepted(job: Job, services: Services) -> Response:
    document = await document_of(job, services, whole=False)
    headers = {"Location": links_of(job.id).self, JOB_HEADER: job.id}
    return Response(document.model_dump_json(), 202, headers, "application/json")


async def _accept(request: Request, kind: type[JobBody], services: Services) -> Job:
    """Read a request and put it into the queue.

    Raises:
        Problem: It cannot be taken, or not now.
    """
    # Before the body is read: an upload that would be thrown away costs nobody anything.
    if services.desk.draining:
        raise Problem(BusyError("the server is about to end"), 503, headers={"Retry-After": "30"})
    if await services.desk.is_full():
        raise _full(services)
    submission = await read_submission(request, kind)
    try:
        order, folder = await services.intake.order(submission)
    finally:
        await submission.close()
    try:
        return await services.desk.submit(order)
    except QueueFullError:
        await asyncio.to_thread(folder.remove)
        raise _full(services) from None
    except BaseException:
        await asyncio.to_thread(folder.remove)
        raise


def _full(services: Services) -> Problem:
    wait = services.desk.retry_after_s(services.options.max_concurrency)
    return Problem(
        BusyError(f"{services.options.max_queue} jobs wait already", hint=f"try again in about {wait} s"),
        429,
        headers={"Retry-After": str(wait)},
    )


async def _wait(request: Request, job: Job, services: Services) -> Job | None:
    """Wait for a job's end; whoever goes away takes the render with them."""
    waiting = asyncio.create_task(services.desk.wait_until_final(job.id))
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientDisconnect
        return waiting.result()
    except BaseException:
        await services.desk.cancel(job.id)
        await services.runner.cancel(job.id)
        raise
    finally:
        for task in (waiting, leaving):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


async def _result(job: Job | None, job_id: str, services: Services) -> ServedResult:
    """What the caller gets.

    Raises:
        RunProblem: The run failed.
    """
    if job is not None and job.state is JobState.SUCCEEDED:
        report = await asyncio.to_thread(read_report, services.place, job)
        if report is not None:
            return served(report, job.id)
    raise RunProblem(_why(job), job_id)


def _why(job: Job | None) -> ErrorInfo:
    if job is not None and job.error is not None:
        return job.error
    if job is None or not job.state.final:
        return error_info(BusyError("the server ends; the job was not finished"))
    if job.state is JobState.CANCELLED:
        return error_info(CancelledRunError("the job was cancelled"))
    return error_info(InternalError("the job left no report"))

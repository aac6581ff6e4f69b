"""The jobs: looked at, listed, cancelled."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from omnirt_cli.errors import UsageError
from omnirt_cli.server.bodies import JobDocument, JobList
from omnirt_cli.server.documents import document_of
from omnirt_cli.server.jobs.states import JobState
from omnirt_cli.server.problems import Problem
from omnirt_cli.server.routes.answers import ERRORS, JobId, find
from omnirt_cli.server.state import UseServices

router = APIRouter(tags=["jobs"])

_MOST = 200


@router.get("/v1/jobs", responses=ERRORS)
async def list_jobs(
    services: UseServices,
    state: Annotated[JobState | None, Query(description="Only in this state.")] = None,
    model: Annotated[str | None, Query(description="Only of this model.", max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST)] = 50,
    cursor: Annotated[str | None, Query(description="`next` of the page before.", max_length=20)] = None,
) -> JobList:
    """The jobs, newest first, page by page."""
    before = _sequence(cursor)
    found = await services.desk.page(state=state.value if state else None, model=model, before=before, limit=limit + 1)
    shown = found[:limit]
    return JobList(
        data=[await document_of(job, services, whole=False) for job in shown],
        next=str(shown[-1].sequence) if len(found) > limit else None,
    )


def _sequence(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    if not (cursor.isascii() and cursor.isdigit()) or int(cursor) >= 2**63:
        raise Problem(UsageError("cursor: give the `next` of an earlier page"), 422)
    return int(cursor)


@router.get("/v1/jobs/{job_id}", responses=ERRORS)
async def show_job(job_id: JobId, services: UseServices) -> JobDocument:
    """One job; with its result, once it has one."""
    return await document_of(await find(job_id, services), services, whole=True)


@router.delete("/v1/jobs/{job_id}", responses={202: {"model": JobDocument}, **ERRORS})
async def cancel_job(job_id: JobId, services: UseServices, response: Response) -> JobDocument:
    """End a job: one that waits at once; one that runs is stopped, and 202 says that it is on its way.

    A job that has ended stays as it is.
    """
    before = await find(job_id, services)
    job = await services.desk.cancel(job_id) or await find(job_id, services)
    if job.attempt == 0 and job.state.final and not before.state.final:
        services.metrics.never_started(job)
    if not job.state.final:
        await services.runner.cancel(job_id)
        response.status_code = 202
    return await document_of(job, services, whole=False)

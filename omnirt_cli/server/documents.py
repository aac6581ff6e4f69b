"""A job as the API shows it."""

from __future__ import annotations

import asyncio

from omnirt_cli.report import RunReport
from omnirt_cli.server.bodies import JobDocument, Links, Priority, Progress, ServedArtifact, ServedResult
from omnirt_cli.server.jobs.job import Job
from omnirt_cli.server.jobs.runner import read_report
from omnirt_cli.server.jobs.states import JobState
from omnirt_cli.server.state import Services


def links_of(job_id: str) -> Links:
    """Where a job's parts are."""
    base = f"/v1/jobs/{job_id}"
    return Links(self=base, events=f"{base}/events", log=f"{base}/log", report=f"{base}/report", video=f"{base}/video")


def served(report: RunReport, job_id: str) -> ServedResult:
    """A result whose video has an address."""
    video = links_of(job_id).video
    outputs = [
        ServedArtifact(**artifact.model_dump(), url=video if artifact.kind == "video" else None)
        for artifact in report.artifacts
    ]
    return ServedResult(outputs=outputs, metadata=report)


async def document_of(job: Job, services: Services, *, whole: bool) -> JobDocument:
    """The job's document.

    Args:
        job: The job.
        services: Where its files and its progress are.
        whole: With the result, which holds the report.
    """
    report = None
    if whole and job.state is JobState.SUCCEEDED:
        report = await asyncio.to_thread(read_report, services.place, job)
    progress = services.desk.progress.get(job.id)
    return JobDocument(
        id=job.id,
        state=job.state,
        model=job.order.model,
        backend=job.order.backend,
        priority=Priority(job.order.priority),
        request=job.order.request,
        attempt=job.attempt,
        position=await services.desk.position(job),
        cancel_requested=job.cancel_requested,
        enqueued_at_ms=job.enqueued_at_ms,
        started_at_ms=job.started_at_ms,
        finished_at_ms=job.finished_at_ms,
        execution_mode=job.execution_mode,
        run_id=job.run_id,
        worker_id=job.worker_id,
        progress=Progress(**vars(progress)) if progress and job.state is JobState.RUNNING else None,
        result=served(report, job.id) if report else None,
        error=job.error,
        links=links_of(job.id),
    )

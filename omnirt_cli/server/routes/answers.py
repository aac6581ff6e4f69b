"""What several routes share: the job behind an address, and how error answers look in the API's schema."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path

from omnirt_cli.server.jobs.folder import is_job_id
from omnirt_cli.server.jobs.job import Job
from omnirt_cli.server.problems import ErrorBody, not_found
from omnirt_cli.server.state import Services

JobId = Annotated[str, Path(description="A job's id.", max_length=64)]

_ERROR: dict[str, Any] = {
    "description": "The one error body.",
    "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}}},
}

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": _ERROR, "5XX": _ERROR}
"""What every route may answer besides; `openapi` adds the schema that this refers to."""


async def find(job_id: str, services: Services) -> Job:
    """The job of that id.

    Raises:
        Problem: There is none.
    """
    job = await services.desk.get(job_id) if is_job_id(job_id) else None
    if job is None:
        raise not_found(f"there is no job {job_id[:64]}")
    return job

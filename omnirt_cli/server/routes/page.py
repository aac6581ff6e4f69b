"""The page at `/`, and the picture of a job's run that it shows."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse

from omnirt_cli.picture.document import run_document, style_source
from omnirt_cli.picture.run_view import run_view
from omnirt_cli.picture.video import VideoLink
from omnirt_cli.report import RunReport
from omnirt_cli.server.documents import links_of
from omnirt_cli.server.jobs.job import Job
from omnirt_cli.server.jobs.runner import read_report
from omnirt_cli.server.jobs.states import JobState
from omnirt_cli.server.page import FILES
from omnirt_cli.server.problems import not_found
from omnirt_cli.server.routes.answers import ERRORS, JobId, find
from omnirt_cli.server.state import UseServices

router = APIRouter(tags=["page"])

_HARDENING = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_NOTHING_ELSE = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _page_policy() -> str:
    """What the page may load: its own files, the API, and files that a person put in.

    A picture is shown in a frame, which inherits this policy; so the picture's one style element is named here.
    """
    own = {
        "script-src": "'self'",
        "style-src": f"'self' {style_source()}",
        "connect-src": "'self'",
        "img-src": "'self' blob:",
        "media-src": "'self' blob:",
    }
    return "; ".join((_NOTHING_ELSE, *(f"{name} {sources}" for name, sources in own.items())))


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
@router.api_route("/page/{name}", methods=["GET", "HEAD"], include_in_schema=False)
async def page(request: Request) -> Response:
    """One of the page's files."""
    file = FILES.get(request.url.path)
    if file is None:
        raise not_found("the page has no such file")
    content = await asyncio.to_thread(file.content)
    headers = {**_HARDENING, "Content-Security-Policy": _page_policy(), "Content-Type": file.media_type}
    return Response(content, headers=headers)


@router.get("/v1/jobs/{job_id}/page", response_class=HTMLResponse, responses=ERRORS)
async def picture(job_id: JobId, services: UseServices) -> Response:
    """The picture of the job's last attempt, as `omnirt runs show --html` draws it; of one that still runs too."""
    job = await find(job_id, services)
    report = await asyncio.to_thread(read_report, services.place, job)
    if report is None:
        raise not_found("the job has no report: its render did not begin")
    document = await asyncio.to_thread(_drawn, report, job)
    policy = f"{_NOTHING_ELSE}; style-src {style_source()}; media-src 'self'"
    return HTMLResponse(document, headers={**_HARDENING, "Content-Security-Policy": policy})


def _drawn(report: RunReport, job: Job) -> str:
    return run_document(run_view(report, _video(job)))


def _video(job: Job) -> VideoLink:
    if job.state is JobState.SUCCEEDED:
        return VideoLink(href=links_of(job.id).video)
    return VideoLink(words="There is no video." if job.state.final else "The video is not done yet.")

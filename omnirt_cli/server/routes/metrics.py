"""What Prometheus scrapes."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.responses import PlainTextResponse

from omnirt_cli.server.metrics import CONTENT_TYPE
from omnirt_cli.server.state import UseServices

router = APIRouter(tags=["operations"])


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(services: UseServices) -> Response:
    """The server's figures in Prometheus's text format."""
    figures = services.metrics
    figures.ready.set(services.why_not_ready() is None)
    figures.running.set(services.runner.running)
    for priority, count in (await services.desk.waiting()).items():
        figures.waiting.labels(priority).set(count)
    return Response(figures.text(), media_type=CONTENT_TYPE)

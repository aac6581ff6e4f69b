"""The API's reference for people."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from omnirt_cli.server.reference import reference_page

router = APIRouter(include_in_schema=False)

_NO_SCRIPTS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


@router.get("/docs")
async def docs(request: Request) -> HTMLResponse:
    """Every route and document, as a page that needs nothing from anywhere else."""
    schema = request.app.openapi()
    return HTMLResponse(await asyncio.to_thread(reference_page, schema), headers=_NO_SCRIPTS)

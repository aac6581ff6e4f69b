"""The ASGI app: routes and error bodies inside, and around them the doors that every request passes."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp

from omnirt_cli import __version__
from omnirt_cli.server import openapi, problems
from omnirt_cli.server.api_keys import KeyRing
from omnirt_cli.server.limits import Limits
from omnirt_cli.server.request_log import RequestLog
from omnirt_cli.server.routes import docs, generate, health, job_events, job_files, jobs, metrics, models, page
from omnirt_cli.server.security import Gate, Names
from omnirt_cli.server.state import Services

_ROUTES = (generate, jobs, job_events, job_files, models, health, metrics, docs, page)

DESCRIPTION = "Talking-head videos from a portrait and a recording."


def build_app(services: Services) -> ASGIApp:
    """The app of one server."""
    inner = FastAPI(title="OmniRT", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    inner.state.services = services
    for module in _ROUTES:
        inner.include_router(module.router)
    problems.install(inner)
    openapi.install(inner)
    options = services.options
    gate = Gate(
        Limits(inner, most_bytes=options.max_upload_bytes),
        Names.of(options.host, options.allowed_hosts),
        KeyRing(options.api_keys),
    )
    return RequestLog(gate, services.metrics)

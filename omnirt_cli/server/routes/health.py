"""Whether the server lives, and whether it can serve."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from omnirt_cli.server.state import UseServices

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """It answers, so it lives."""

    ok: bool = True


class ModelReadiness(BaseModel):
    """Whether a model can be rendered, and why not."""

    ok: bool
    reason: str | None = None
    hint: str | None = None


class Readiness(BaseModel):
    """Whether something can be rendered.

    Attributes:
        ok: A request can be taken, and some model can be rendered.
        reason: Why not.
        running: Jobs that are being rendered.
        waiting: Jobs that wait.
        job_store_backend: The published server's name for where jobs are kept.
    """

    ok: bool
    reason: str | None = None
    models: dict[str, ModelReadiness] = Field(default_factory=dict)
    running: int
    waiting: int
    max_concurrency: int
    job_store_backend: str = "sqlite"


@router.get("/healthz")
async def healthz() -> Health:
    """The process lives and its event loop turns."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness}})
async def readyz(services: UseServices, response: Response) -> Readiness:
    """Whether a render asked for now could begin: 503 while nothing can serve."""
    reason = services.why_not_ready()
    if reason is not None:
        response.status_code = 503
    states = services.survey.states or {}
    return Readiness(
        ok=reason is None,
        reason=reason,
        models={name: ModelReadiness(**vars(state)) for name, state in states.items()},
        running=services.runner.running,
        waiting=sum((await services.desk.waiting()).values()),
        max_concurrency=services.options.max_concurrency,
    )

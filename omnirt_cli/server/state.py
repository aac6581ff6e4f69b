"""What the routes work with, put together once when the server starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from omnirt_cli.server.intake import Intake
from omnirt_cli.server.jobs.desk import Desk
from omnirt_cli.server.jobs.folder import StatePlace
from omnirt_cli.server.jobs.runner import Runner
from omnirt_cli.server.metrics import Metrics
from omnirt_cli.server.options import ServerOptions
from omnirt_cli.server.survey import Survey


@dataclass(frozen=True)
class Services:
    """One server's parts."""

    options: ServerOptions
    place: StatePlace
    desk: Desk
    runner: Runner
    intake: Intake
    survey: Survey
    metrics: Metrics

    def why_not_ready(self) -> str | None:
        """Why a render asked for now could not begin; None where it could."""
        if self.desk.draining:
            return "the server is about to end"
        if not self.runner.alive:
            return "no render process takes jobs"
        if self.survey.states is None:
            return self.survey.problem or "the models have not been looked at yet"
        if not self.survey.any_ok:
            return "no model can be rendered here"
        return None


def _services(request: Request) -> Services:
    return cast("Services", request.app.state.services)


UseServices = Annotated[Services, Depends(_services)]
"""A route's parameter."""

"""The JSON that a failed command prints: `generate` its result envelope, every other command its error."""

from __future__ import annotations

import uuid
from typing import Any

from omnirt_cli.errors import OmniRTError
from omnirt_cli.report import GenerateResult, RunReport, RunStatus
from omnirt_cli.run.reporting import error_info
from omnirt_cli.run.stamps import utc_now


def error_envelope(error: OmniRTError, argv: list[str]) -> GenerateResult | dict[str, Any]:
    """The one document for stdout, by the command that was called."""
    if "generate" in argv[:1]:
        report = error.report or _bare_report(error)
        return GenerateResult(outputs=report.artifacts, metadata=report)
    return {"error": error_info(error).model_dump()}


def _bare_report(error: OmniRTError) -> RunReport:
    """The report of a call that did not get as far as a plan."""
    now = utc_now()
    return RunReport(
        run_id=str(uuid.uuid4()), status=RunStatus.FAILED, started_at=now, finished_at=now, error=error_info(error)
    )

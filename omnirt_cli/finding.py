"""A finding: one conclusion that was drawn from a finished run's report.

The report's `error` says why a run failed; findings say what else a person should know of it.
"""

from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict


class Severity(str, Enum):
    """Whether a person should do something about it."""

    INFO = "info"
    WARNING = "warning"


class Finding(BaseModel):
    """One conclusion about a run.

    Attributes:
        code: Its stable name.
        what: What happened, with the run's own figures.
        why: What that comes from.
        do: What to do next.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str
    severity: Severity
    what: str
    why: str
    do: str

"""A named check and its verdict: the one form for preflight, for the finished video, and for `doctor`."""

from __future__ import annotations

from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict


class CheckStatus(str, Enum):
    """A check that could not run is `skipped`, never `passed`."""

    PASSED = "passed"
    FAILED = "failed"
    WARNED = "warned"
    SKIPPED = "skipped"


class Check(BaseModel):
    """One check: what was expected, what was found, and the verdict.

    Attributes:
        hint: What to do next, where something is to be done.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    status: CheckStatus
    expected: Any = None
    actual: Any = None
    detail: str | None = None
    hint: str | None = None


def passed(name: str, *, expected: Any = None, actual: Any = None, detail: str | None = None) -> Check:
    """A check that held."""
    return Check(name=name, status=CheckStatus.PASSED, expected=expected, actual=actual, detail=detail)


def failed(
    name: str, *, expected: Any = None, actual: Any = None, detail: str | None = None, hint: str | None = None
) -> Check:
    """A check that did not hold."""
    return Check(name=name, status=CheckStatus.FAILED, expected=expected, actual=actual, detail=detail, hint=hint)


def warned(
    name: str, *, expected: Any = None, actual: Any = None, detail: str | None = None, hint: str | None = None
) -> Check:
    """A check whose finding a person should see, though it stops nothing."""
    return Check(name=name, status=CheckStatus.WARNED, expected=expected, actual=actual, detail=detail, hint=hint)


def skipped(name: str, detail: str, *, expected: Any = None, hint: str | None = None) -> Check:
    """A check that could not run, and why."""
    return Check(name=name, status=CheckStatus.SKIPPED, expected=expected, detail=detail, hint=hint)

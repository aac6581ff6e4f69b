"""Wall-clock labels: UTC, ISO 8601. Durations never come from here; they are differences of the monotonic clock."""

from __future__ import annotations

from datetime import datetime, timezone


def utc_now() -> str:
    """Now, to the millisecond, e.g. `2026-11-20T10:12:55.948Z`."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")

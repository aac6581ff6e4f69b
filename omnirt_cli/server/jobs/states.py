"""Where a job stands, and which steps there are between its states."""

from __future__ import annotations

from enum import Enum


class JobState(str, Enum):
    """A job's state; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether nothing more happens to the job."""
        return not TRANSITIONS[self]


TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
"""State -> what may follow. From running back to queued: whoever ran it was killed, or the server ends."""


class IllegalTransitionError(RuntimeError):
    """A bug: there is no such step."""


def check_step(before: JobState, after: JobState) -> None:
    """Refuse a step that the table does not have.

    Raises:
        IllegalTransitionError: It does not.
    """
    if after not in TRANSITIONS[before]:
        raise IllegalTransitionError(f"a job cannot go from {before.value} to {after.value}")

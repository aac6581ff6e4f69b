"""The document that `omnirt doctor` prints: sections of checks, and whether a render can work."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from omnirt_cli.checks import Check, CheckStatus


class DeviceSight(BaseModel):
    """One device as it is now.

    Attributes:
        leased_by: The run of OmniRT that has it, in its own words.
        holders: Processes that hold its memory, where the vendor's tool tells.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    id: str
    key: str
    name: str | None = None
    health: str | None = None
    memory_total_gib: float | None = None
    memory_free_gib: float | None = None
    leased_by: str | None = None
    holders: list[str] = Field(default_factory=list)


class Section(BaseModel):
    """What was looked at together.

    Attributes:
        needed: Whether a render needs it to be well: a model that is not configured is no fault.
    """

    model_config = ConfigDict(frozen=True)

    title: str
    checks: list[Check]
    needed: bool = True

    @property
    def well(self) -> bool:
        """No check failed."""
        return all(check.status is not CheckStatus.FAILED for check in self.checks)


class Examination(BaseModel):
    """Everything that doctor found.

    Attributes:
        ok: A render can work: the machine is well, and so is every model that is configured (or asked about).
        only_miniature: What can work is OmniRT's stand-in alone, because no model is configured.
        settings: Key -> value and source, for each model's section title.
    """

    model_config = ConfigDict(frozen=True)

    ok: bool
    only_miniature: bool = False
    sections: list[Section]
    devices: list[DeviceSight]
    settings: dict[str, dict[str, str]] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)

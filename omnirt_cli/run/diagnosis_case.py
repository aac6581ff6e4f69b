"""A finished run to look at, with the questions that several rules ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omnirt_cli.checks import Check, CheckStatus
from omnirt_cli.finding import Finding, Severity
from omnirt_cli.models.base import Backend, Carrier
from omnirt_cli.models.card import ModelCard
from omnirt_cli.report import DeviceInfo, RunReport, RunStatus
from omnirt_cli.run.log_facts import LogFacts


@dataclass(frozen=True)
class Case:
    """A run to look at.

    Attributes:
        card: The model's card; None where the run got no further than an unknown model.
        slow: Whether it was slower than it should have been.
    """

    report: RunReport
    log: LogFacts
    card: ModelCard | None = None
    slow: bool = False

    @property
    def failed(self) -> bool:
        """Whether it ended badly; an interrupted or cancelled run did not."""
        return self.report.status in (RunStatus.FAILED, RunStatus.TIMED_OUT)

    @property
    def code(self) -> str | None:
        """The error's code."""
        return self.report.error.code if self.report.error else None

    @property
    def message(self) -> str:
        """The error's message."""
        return self.report.error.message if self.report.error else ""

    @property
    def on_ascend(self) -> bool:
        """Whether it computed on NPUs."""
        return self.report.backend == Backend.ASCEND.value

    @property
    def cold(self) -> bool:
        """Whether the model was loaded for this run."""
        return self.report.execution_mode == "subprocess" or "model_load_ms" in self.report.timings

    @property
    def devices(self) -> Sequence[DeviceInfo]:
        """Those that the run used."""
        return self.report.devices.used if self.report.devices else ()

    @property
    def processes(self) -> int:
        """How many ranks there were."""
        return max(len(self.log.devices), len(self.devices), 1)

    def knob(self, name: str) -> Any:
        """A knob's value as the script ran it."""
        return self.report.config_resolved.get(name)

    def knows(self, knob: str) -> bool:
        """Whether the model has such a knob, in some checkout."""
        return self.card is not None and knob in self.card.knobs

    def carries(self, knob: str) -> bool:
        """Whether this checkout could be told it."""
        return self.report.config_carriers.get(knob) not in (None, Carrier.FIXED.value)

    def check(self, name: str, status: CheckStatus) -> Check | None:
        """The check of that name, where it ended so."""
        return next((check for check in self.report.checks if (check.name, check.status) == (name, status)), None)

    def media(self, which: str, key: str) -> Any:
        """A fact of an input."""
        found = self.report.inputs.get(which)
        return found.media.get(key) if found else None

    def ms(self, name: str) -> float:
        """A time; 0 where it was not seen."""
        return self.report.timings.get(name, 0.0)

    @property
    def host_share(self) -> float | None:
        """How much of the machine's memory the run held at its peak; None where that is not known."""
        peak = self.report.memory.get("host_peak_gib")
        limits = [self.report.host.get(key) for key in ("memory_gib", "memory_limit_gib")]
        known = [float(limit) for limit in limits if isinstance(limit, (int, float)) and limit > 0]
        return peak / min(known) if peak and known else None


def warning(code: str, what: str, why: str, do: str) -> Finding:
    """A finding that a person should do something about."""
    return Finding(code=code, severity=Severity.WARNING, what=what, why=why, do=do)


def info(code: str, what: str, why: str, do: str) -> Finding:
    """A finding that explains."""
    return Finding(code=code, severity=Severity.INFO, what=what, why=why, do=do)


def duration(ms: float) -> str:
    """A time for people, with as many digits as they need."""
    if ms < 1000:
        return f"{ms:.0f} ms"
    return f"{ms / 1000:.1f} s" if ms < 100_000 else f"{ms / 1000:.0f} s"


def flag(knob: str) -> str:
    """A knob as it is written on the command line."""
    return f"`--{knob.replace('_', '-')}`"

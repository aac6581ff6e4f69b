"""Requirements on figures, such as `steady_rtf<=1.0`, and the acceptance criteria that go by a name.

A requirement without `cold.` or `hot.` before it holds for every row that was measured. What was not measured was not
reached: it misses.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydantic import BaseModel, ConfigDict

from omnirt_cli.bench.document import Row
from omnirt_cli.bench.figures import METRICS
from omnirt_cli.checks import Check, CheckStatus, failed, passed
from omnirt_cli.config_data import config_text
from omnirt_cli.errors import UsageError
from omnirt_cli.yaml_document import load_yaml, nearest

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"\s*(?:(\w+)\.)?(\w+)\s*(<=|>=|==|<|>)\s*(-?\d+(?:\.\d+)?)\s*")
_HEATS = ("cold", "hot")


@dataclass(frozen=True)
class Requirement:
    """One figure's limit.

    Attributes:
        heat: The part that it is for; None for every one that was measured.
    """

    metric: str
    sign: str
    limit: float
    heat: str | None = None

    def holds(self, value: float) -> bool:
        """Whether a figure keeps within the limit."""
        return _OPERATORS[self.sign](value, self.limit)


class GateProfile(BaseModel):
    """Requirements that go by a name, from `configs/bench/profiles.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    summary: str
    require: list[str]
    source: str


@lru_cache
def profiles() -> Mapping[str, GateProfile]:
    """Every profile by its name."""
    found = load_yaml(config_text("bench", "profiles.yaml"))
    return {name: GateProfile.model_validate(value) for name, value in found.items()}


def parse_requirement(text: str) -> Requirement:
    """Read one requirement.

    Raises:
        UsageError: It has another form, or speaks of a figure that does not exist.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise UsageError(
            f"--require {text}: not a requirement", hint="write it as FIGURE<=NUMBER, e.g. 'steady_rtf<=1.0'"
        )
    heat, metric, sign, limit = found.groups()
    if heat is not None and heat not in _HEATS:
        raise UsageError(f"--require {text}: there is no part called {heat}", hint="write cold. or hot.")
    if metric not in METRICS:
        guess = nearest(metric, METRICS)
        hint = f"did you mean {guess}?" if guess else "the figures are listed in docs/bench.md"
        raise UsageError(f"--require {text}: there is no figure called {metric}", hint=hint)
    return Requirement(metric, sign, float(limit), heat)


def requirements(texts: Iterable[str], profile_names: Iterable[str]) -> tuple[Requirement, ...]:
    """All requirements, each once, those of profiles first.

    Raises:
        UsageError: One is malformed, or a profile does not exist.
    """
    named = [text for name in profile_names for text in _profile(name).require]
    return tuple(dict.fromkeys(parse_requirement(text) for text in (*named, *texts)))


def _profile(name: str) -> GateProfile:
    if name not in profiles():
        guess = nearest(name, profiles())
        raise UsageError(
            f"--gates {name}: there is no such profile",
            hint=f"did you mean {guess}?" if guess else f"one of {', '.join(profiles())}",
        )
    return profiles()[name]


def judge(wanted: Iterable[Requirement], rows: Sequence[Row]) -> list[Check]:
    """One verdict for each requirement and each row that it is for."""
    return [check for requirement in wanted for check in _judge(requirement, rows)]


def _judge(requirement: Requirement, rows: Sequence[Row]) -> list[Check]:
    meant = [row for row in rows if requirement.heat in (None, row.heat)]
    if not meant:
        heat = requirement.heat
        name = f"{heat}.{requirement.metric}" if heat else requirement.metric
        what = f"no {heat} request was" if heat else "nothing was"
        return [failed(name, expected=_limit(requirement), detail=f"{what} measured")]
    return [_verdict(requirement, row) for row in meant]


def _verdict(requirement: Requirement, row: Row) -> Check:
    name = ".".join([row.heat, requirement.metric])
    if row.case:
        name = f"{name} ({row.case})"
    value = row.figures.get(requirement.metric)
    limit = _limit(requirement)
    if value is None:
        return failed(name, expected=limit, detail="it was not measured")
    if requirement.holds(value):
        return passed(name, expected=limit, actual=value)
    hint = None if requirement.heat else f"hot.{requirement.metric} or cold.{requirement.metric} asks it of one part"
    return failed(name, expected=limit, actual=value, hint=hint)


def _limit(requirement: Requirement) -> str:
    return f"{requirement.sign} {requirement.limit:g}"


def missed(checks: Iterable[Check]) -> list[Check]:
    """The gates that were not kept."""
    return [check for check in checks if check.status is CheckStatus.FAILED]

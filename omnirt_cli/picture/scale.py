"""An axis from 0: where a value lies in percent of it, and which round values are marked. Knows no report."""

from __future__ import annotations

import math
from dataclasses import dataclass

from omnirt_cli.picture.words import number, span

_SECOND, _MINUTE, _HOUR = 1_000, 60_000, 3_600_000
_TIME_STEPS_MS = (
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(step * _SECOND for step in (1, 2, 5, 10, 15, 30)),
    *(step * _MINUTE for step in (1, 2, 5, 10, 15, 30)),
    *(step * _HOUR for step in (1, 2, 5, 10, 24, 48, 120)),
)
_ROUND_STEPS = (1, 2, 5, 10)
_SMALLEST_PERCENT = 0.35
"""What is there at all is seen, however short it is."""


@dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
        top: The value at its end; more than 0.
        step: Between two marks.
        is_time: The values are milliseconds.
    """

    top: float
    step: float
    is_time: bool = True

    @classmethod
    def time(cls, top_ms: float, marks: int = 6) -> Scale:
        """An axis of times with about so many marks."""
        top = max(top_ms, 1.0)
        return cls(top, next((step for step in _TIME_STEPS_MS if step * marks >= top), top / marks))

    @classmethod
    def plain(cls, top: float, marks: int = 4) -> Scale:
        """An axis of plain figures with about so many marks."""
        top = max(top, 0.001)
        power = 10.0 ** math.floor(math.log10(top / marks))
        return cls(
            top, next(step * power for step in _ROUND_STEPS if step * power * marks >= top * 0.999), is_time=False
        )

    @property
    def marks(self) -> tuple[tuple[float, str], ...]:
        """The round values and their words, without 0."""
        values = [self.step * count for count in range(1, math.floor(self.top / self.step) + 1)]
        return tuple((value, _round_time(value) if self.is_time else number(value)) for value in values)

    def part(self, value: float) -> float:
        """Where a value lies, as a percentage of the axis; what is outside lies at its end."""
        return min(max(value / self.top, 0.0), 1.0) * 100

    def at(self, value: float) -> str:
        """The same as a coordinate from the left, or from the bottom of a bar."""
        return percent(self.part(value))

    def down(self, value: float) -> str:
        """The same as a coordinate from above."""
        return percent(100 - self.part(value))

    def length(self, start: float, end: float) -> str:
        """What lies between two values."""
        return percent(max(self.part(end) - self.part(start), _SMALLEST_PERCENT))


def percent(value: float) -> str:
    """A percentage as a coordinate."""
    return f"{value:.2f}".rstrip("0").rstrip(".") + "%"


def _round_time(milliseconds: float) -> str:
    """A mark's words: as short as a round value can be said."""
    for unit, name in ((_HOUR, "h"), (_MINUTE, "min"), (_SECOND, "s")):
        if milliseconds >= unit:
            return f"{number(milliseconds / unit)} {name}"
    return span(milliseconds)

"""A device's memory and use over a run of any length, in a bounded number of points.

When all points are taken, neighbours are put together and the resolution halves. The highest memory survives that; the
use becomes the average.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from omnirt_cli.report import UsePoint

POINTS_AT_MOST = 60


@dataclass(frozen=True)
class Moment:
    """One look, or several put together; None where nothing was told.

    Attributes:
        at_s: Seconds since the run began, of the last of them.
    """

    at_s: float
    memory_gib: float | None = None
    use_percent: float | None = None


class UseSeries:
    """Takes one look after the other."""

    def __init__(self) -> None:
        self._points: list[Moment] = []
        self._open: list[Moment] = []
        self._looks_a_point = 1

    def add(self, moment: Moment) -> None:
        """Take a look, later than those before."""
        self._open.append(moment)
        if len(self._open) < self._looks_a_point:
            return
        self._points.append(_together(self._open))
        self._open = []
        if len(self._points) == POINTS_AT_MOST:
            self._points = [_together(self._points[at : at + 2]) for at in range(0, POINTS_AT_MOST, 2)]
            self._looks_a_point *= 2

    def points(self) -> tuple[UsePoint, ...]:
        """The series so far, at most `POINTS_AT_MOST` points."""
        last = [_together(self._open)] if self._open else []
        return tuple(_point(moment) for moment in (*self._points, *last))


def _together(moments: Sequence[Moment]) -> Moment:
    memory = [it.memory_gib for it in moments if it.memory_gib is not None]
    use = [it.use_percent for it in moments if it.use_percent is not None]
    return Moment(moments[-1].at_s, max(memory, default=None), statistics.fmean(use) if use else None)


def _point(moment: Moment) -> UsePoint:
    return UsePoint(
        at_ms=round(moment.at_s * 1000),
        memory_gib=None if moment.memory_gib is None else round(moment.memory_gib, 3),
        use_percent=None if moment.use_percent is None else round(moment.use_percent, 1),
    )

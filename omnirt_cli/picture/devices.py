"""What the devices held and did while a run went on, as one small chart for each measure of each device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from omnirt_cli.picture.scale import Scale
from omnirt_cli.picture.words import Listing, number, span
from omnirt_cli.report import DeviceInfo, RunReport

MOST_DEVICES = 16
"""Of one run; as many as the largest machine that the models are run on has."""

CANVAS = (1000, 100)
"""Width and height of the coordinates in which a line is given; a page stretches them."""

_MOST_POINTS = 120


@dataclass(frozen=True)
class UseLine:
    """One measure of a device over the run.

    Attributes:
        points: Milliseconds since the run began, and the value.
        limit: The most that there is of it; None where that is not known.
    """

    name: str
    unit: str
    points: tuple[tuple[float, float], ...]
    limit: float | None
    across: Scale
    up: Scale

    @property
    def peak(self) -> float:
        """The highest value."""
        return max(value for _, value in self.points)

    @property
    def words(self) -> str:
        """The line in one sentence."""
        of = f" of {number(self.limit)}" if self.limit is not None else ""
        return f"{self.name}: at most {number(self.peak)}{of} {self.unit}"

    @property
    def line(self) -> str:
        """The line's points on the canvas."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self._placed())

    @property
    def area(self) -> str:
        """The line, closed along the bottom."""
        placed = list(self._placed())
        return f"{placed[0][0]:.1f},{CANVAS[1]} {self.line} {placed[-1][0]:.1f},{CANVAS[1]}"

    def _placed(self) -> Iterator[tuple[float, float]]:
        width, height = CANVAS
        for at, value in self.points:
            yield self.across.part(at) / 100 * width, height - self.up.part(value) / 100 * height


@dataclass(frozen=True)
class DeviceCharts:
    """One device.

    Attributes:
        facts: Its figures in words.
    """

    name: str
    facts: tuple[str, ...]
    lines: tuple[UseLine, ...]


def device_charts(report: RunReport, across: Scale) -> Listing[DeviceCharts]:
    """The devices of which anything was seen."""
    used = report.devices.used if report.devices else []
    seen = [_charts(device, across) for device in used]
    return Listing.of((found for found in seen if found.facts or found.lines), MOST_DEVICES)


def _charts(device: DeviceInfo, across: Scale) -> DeviceCharts:
    memory = [(point.at_ms, point.memory_gib) for point in device.use_series]
    use = [(point.at_ms, point.use_percent) for point in device.use_series]
    lines = (
        _line("memory", "GiB", memory, device.memory_total_gib, across),
        _line("use", "%", use, 100.0, across),
    )
    name = device.id if device.name is None else f"{device.id} ({device.name})"
    return DeviceCharts(name, tuple(_facts(device)), tuple(line for line in lines if line is not None))


def _line(
    name: str, unit: str, looks: Iterable[tuple[float, float | None]], limit: float | None, across: Scale
) -> UseLine | None:
    points = tuple((at, value) for at, value in looks if value is not None)[:_MOST_POINTS]
    if not points:
        return None
    top = max(limit or 0.0, *(value for _, value in points))
    return UseLine(name, unit, points, limit, across, Scale.plain(top, marks=2))


def _facts(device: DeviceInfo) -> Iterator[str]:
    if device.memory_peak_gib is not None:
        told = f" (told by {device.memory_peak_source})" if device.memory_peak_source else ""
        yield f"held at most {number(device.memory_peak_gib)} GiB{told}"
    if device.memory_own_peak_gib is not None:
        yield f"of which the run's own {number(device.memory_own_peak_gib)} GiB"
    if device.memory_growth_gib is not None:
        yield f"{number(device.memory_growth_gib)} GiB more than before the launch"
    if device.memory_total_gib is not None:
        yield f"has {number(device.memory_total_gib)} GiB"
    if device.use_percent_avg is not None:
        yield f"computed {number(device.use_percent_avg)} % on average"


def sampling_words(report: RunReport) -> str | None:
    """How the devices were looked at; None where nothing was."""
    sampling = report.devices.sampling if report.devices else None
    if sampling is None:
        return None
    how = f"{sampling.looks} look{'' if sampling.looks == 1 else 's'}"
    if sampling.source:
        how += f" by {sampling.source}"
    if sampling.interval_ms is not None:
        how += f", one every {span(sampling.interval_ms)}"
    return f"{how}. {sampling.problem}" if sampling.problem else f"{how}."

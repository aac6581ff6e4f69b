"""A run's chunk times as columns beside the line of real time, in a bounded number however long the run was.

The first chunk, which holds compilation and warm-up, always has a column of its own. The others share columns where
there are too many: neighbours are put together, their average is drawn, and the slowest of them is kept.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from omnirt_cli.picture.scale import Scale, percent
from omnirt_cli.picture.words import span
from omnirt_cli.report import ChunkInfo, RunReport

MOST_COLUMNS = 120
"""So many are still told apart on a phone."""

_FIRST_IS_CUT = 2.5
"""A first chunk so many times as high as all that follows would make the others unreadable; its column is cut."""

_REAL_TIME_IN_SIGHT = 6.0
"""The line of real time is drawn up to so many times as high as the highest column."""

_HEADROOM = 1.08
_FILLED = 0.76
_NAMED = 9


class Part(str, Enum):
    """What a column is made of, from the bottom."""

    EMBEDDING = "embedding"
    CORE = "core"
    COPY = "copy"
    INTERVAL = "interval"
    """Wall time since the chunk before: the column itself only where nothing better is known."""


WORDS = {
    Part.EMBEDDING: "sound embedding",
    Part.CORE: "the script's own time",
    Part.COPY: "copy to the host",
    Part.INTERVAL: "wall time since the chunk before",
}


class Measure(str, Enum):
    """Which times the columns show."""

    PARTS = "parts"
    CORE = "core"
    INTERVAL = "interval"


@dataclass(frozen=True)
class Layer:
    """One part of a column, from so many milliseconds to so many."""

    part: Part
    start_ms: float
    end_ms: float

    @property
    def length_ms(self) -> float:
        """How long it took."""
        return self.end_ms - self.start_ms


@dataclass(frozen=True)
class Column:
    """One chunk, or several neighbours with their averages; numbered from 1 as people count.

    Attributes:
        interval_ms: Average wall time since the chunk before, to be marked beside the layers; None where it is not
            known or not shown.
        slowest_ms: The longest of their times, by what the column shows.
        at_ms: When the last of them was done, since the run began.
    """

    first: int
    last: int
    layers: tuple[Layer, ...]
    interval_ms: float | None
    slowest_ms: float | None
    at_ms: float | None

    @property
    def name(self) -> str:
        """Its chunk or chunks."""
        return str(self.first) if self.first == self.last else f"{self.first}\N{EN DASH}{self.last}"

    @property
    def height_ms(self) -> float:
        """The top of its layers."""
        return max((layer.end_ms for layer in self.layers), default=0.0)

    @property
    def top_ms(self) -> float:
        """The highest that is drawn in it."""
        return max(self.height_ms, self.interval_ms or 0.0, self.slowest_ms or 0.0)

    def length_of(self, part: Part) -> float | None:
        """Its time for one part; None where that is not known."""
        return next((layer.length_ms for layer in self.layers if layer.part is part), None)

    @property
    def title(self) -> str:
        """The column in one sentence."""
        many = self.first != self.last
        words = [f"{WORDS[layer.part]} {span(layer.length_ms)}" for layer in self.layers]
        if self.interval_ms is not None:
            words.append(f"{WORDS[Part.INTERVAL]} {span(self.interval_ms)}")
        if many and self.slowest_ms is not None:
            words.append(f"the slowest {span(self.slowest_ms)}")
        return f"{'chunks' if many else 'chunk'} {self.name}{' on average' if many else ''}: {', '.join(words)}"


@dataclass(frozen=True)
class ChunkChart:
    """Chunk times as columns.

    Attributes:
        count: Chunks of the run.
        together: Chunks that share a column, the first aside; 1 where none do.
        real_time_ms: How long the new frames of a chunk last; None where that is not known.
        core_scope: What the script's own time covers.
        places: Columns that there is room for; more than there are where a longer run is compared with.
    """

    columns: tuple[Column, ...]
    count: int
    together: int
    real_time_ms: float | None
    core_scope: str | None
    measure: Measure
    scale: Scale
    places: int

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that occur, from the bottom."""
        there = {layer.part for column in self.columns for layer in column.layers}
        return tuple(part for part in Part if part in there)

    @property
    def marks_interval(self) -> bool:
        """Whether the wall time is drawn as a mark of its own."""
        return any(column.interval_ms is not None for column in self.columns)

    @property
    def cut(self) -> Column | None:
        """The first chunk's column where it is higher than the chart."""
        first = self.columns[0] if self.columns else None
        return first if first is not None and first.top_ms > self.scale.top else None

    @property
    def shows_real_time(self) -> bool:
        """Whether the line of real time lies inside the chart."""
        return self.real_time_ms is not None and self.real_time_ms <= self.scale.top

    @property
    def highest_ms(self) -> float:
        """What the axis must reach for everything but an overlong first chunk to be seen."""
        rest = max((column.top_ms for column in self.columns[1:]), default=0.0)
        first = self.columns[0].top_ms if self.columns else 0.0
        base = max(rest, self.real_time_ms or 0.0) if rest else first
        columns = max(rest, first) if first <= base * _FIRST_IS_CUT else rest
        real = self.real_time_ms or 0.0
        return max(columns, real if real <= columns * _REAL_TIME_IN_SIGHT else 0.0)

    def left(self, place: int) -> str:
        """Where a column begins, counted from 0."""
        return percent((place + (1 - _FILLED) / 2) * 100 / self.places)

    def right(self, place: int) -> str:
        """Where it ends."""
        return percent((place + (1 + _FILLED) / 2) * 100 / self.places)

    def middle(self, place: int) -> str:
        """Its middle."""
        return percent((place + 0.5) * 100 / self.places)

    @property
    def width(self) -> str:
        """How wide a column is."""
        return percent(_FILLED * 100 / self.places)

    @property
    def named_places(self) -> tuple[int, ...]:
        """The columns whose numbers stand under the axis."""
        return tuple(range(0, len(self.columns), math.ceil(self.places / _NAMED)))

    @property
    def summary(self) -> str:
        """The chart in one sentence, for who does not see it."""
        words = [f"Times of {self.count} chunk{'' if self.count == 1 else 's'}"]
        steady = [column.height_ms for column in self.columns[1:]]
        if steady:
            words.append(f"after the first between {span(min(steady))} and {span(max(steady))}")
        if self.real_time_ms is not None:
            words.append(f"real time is {span(self.real_time_ms)} a chunk")
        return "; ".join(words)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know to read the chart."""
        notes = []
        if self.together > 1:
            notes.append(
                f"{self.count} chunks: after the first, each column is the average of up to {self.together} "
                "neighbours, and the dot the slowest of them."
            )
        if self.cut is not None:
            notes.append(f"The first chunk took {span(self.cut.top_ms)}; its column is cut.")
        if self.real_time_ms is not None and not self.shows_real_time:
            notes.append(f"Real time, {span(self.real_time_ms)} a chunk, is far above the chart.")
        if self.core_scope not in (None, "core") and Part.CORE in self.parts:
            notes.append(f"The script's own time covers: {self.core_scope}.")
        return tuple(notes)

    def up_to(self, top_ms: float) -> ChunkChart:
        """The same on another axis, so that another run's columns can be compared with these."""
        return replace(self, scale=Scale.time(top_ms * _HEADROOM, marks=4))

    def across(self, places: int) -> ChunkChart:
        """The same with room for another run's columns, so that chunks of one number stand over one another."""
        return replace(self, places=max(places, len(self.columns)))


def chunk_chart(
    report: RunReport, *, measure: Measure = Measure.PARTS, together: int | None = None
) -> ChunkChart | None:
    """The chunk times of a run; None where no chunk has one.

    Args:
        report: The run.
        measure: Which times the columns show.
        together: So many chunks a column, for charts that are compared; otherwise as many as it takes.
    """
    share = together or chunks_together(len(report.chunks))
    columns = tuple(_column(group, measure) for group in _groups(report.chunks, share))
    if not any(column.layers for column in columns):
        return None
    chart = ChunkChart(
        columns=columns,
        count=len(report.chunks),
        together=share,
        real_time_ms=real_time_ms(report),
        core_scope=next((chunk.core_scope for chunk in report.chunks if chunk.core_scope), None),
        measure=measure,
        scale=Scale.time(1.0),
        places=len(columns),
    )
    return chart.up_to(chart.highest_ms)


def chunks_together(count: int) -> int:
    """How many chunks must share a column for there to be no more than `MOST_COLUMNS`."""
    return max(1, math.ceil((count - 1) / (MOST_COLUMNS - 1)))


def real_time_ms(report: RunReport) -> float | None:
    """How long a chunk's new frames last: what the report's rates were computed with.

    `steady_rtf` is the steady interval over it; where there was one chunk only, its frames follow from the rate.
    """
    timings, fps = report.timings, report.expected.fps if report.expected else None
    if not fps:
        return None
    steady, rtf = timings.get("steady_chunk_interval_ms_avg"), timings.get("steady_rtf")
    if steady and rtf:
        return max(1, round(steady / rtf * fps / 1000)) / fps * 1000
    rate, spent, count = (timings.get(key) for key in ("frames_per_second", "generation_ms", "chunk_count"))
    if rate and spent and count:
        return max(1, round(rate * spent / 1000 / count)) / fps * 1000
    return None


def _groups(chunks: Sequence[ChunkInfo], together: int) -> Iterable[Sequence[ChunkInfo]]:
    if chunks:
        yield chunks[:1]
    for at in range(1, len(chunks), together):
        yield chunks[at : at + together]


def _column(group: Sequence[ChunkInfo], measure: Measure) -> Column:
    layers = tuple(_stacked(_lengths(group, measure)))
    by_parts = measure is Measure.PARTS and any(layer.part is not Part.INTERVAL for layer in layers)
    shown = [time for chunk in group if (time := _shown_ms(chunk, measure)) is not None]
    return Column(
        first=group[0].index + 1,
        last=group[-1].index + 1,
        layers=layers,
        interval_ms=_mean(chunk.interval_ms for chunk in group) if by_parts else None,
        slowest_ms=max(shown, default=None),
        at_ms=group[-1].at_ms,
    )


def _lengths(group: Sequence[ChunkInfo], measure: Measure) -> dict[Part, float | None]:
    """The average of each part that the columns show; the wall time stands in where nothing else is known."""
    interval = _mean(chunk.interval_ms for chunk in group)
    if measure is Measure.INTERVAL:
        return {Part.INTERVAL: interval}
    core = _mean(chunk.core_ms for chunk in group)
    if measure is Measure.CORE:
        return {Part.CORE: core}
    if core is None:
        return {Part.INTERVAL: interval}
    return {
        Part.EMBEDDING: _mean(chunk.audio_embedding_ms for chunk in group),
        Part.CORE: core,
        Part.COPY: _mean(chunk.chunk_copy_ms for chunk in group),
    }


def _stacked(lengths: dict[Part, float | None]) -> Iterable[Layer]:
    reached = 0.0
    for part, length in lengths.items():
        if length is not None:
            yield Layer(part, reached, reached + length)
            reached += length


def _shown_ms(chunk: ChunkInfo, measure: Measure) -> float | None:
    if measure is Measure.INTERVAL or chunk.core_ms is None:
        return chunk.interval_ms if measure is not Measure.CORE else None
    extra = 0.0 if measure is Measure.CORE else (chunk.audio_embedding_ms or 0.0) + (chunk.chunk_copy_ms or 0.0)
    return chunk.core_ms + extra


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def rtf_words(rate: float) -> str:
    """What a real-time factor means."""
    if rate == 1:
        return "exactly real time"
    return f"{'faster' if rate < 1 else 'slower'} than real time"

"""Everything that the page of two runs shows: their pictures on common axes, ratios, and what they did differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from omnirt_cli.picture import facts
from omnirt_cli.picture.chunks import ChunkChart, Measure, chunk_chart, chunks_together
from omnirt_cli.picture.facts import Fact, Failure
from omnirt_cli.picture.phases import Waterfall, waterfall
from omnirt_cli.picture.video import VideoLink
from omnirt_cli.picture.words import NOTHING, Listing, number, span, value
from omnirt_cli.report import RunReport
from omnirt_cli.runs.compare import PHASES, Comparison, Difference, Pair


@dataclass(frozen=True)
class SideView:
    """One of the two runs.

    Attributes:
        letter: `A` or `B`.
    """

    letter: str
    run_id: str
    status: str
    failure: Failure | None
    video: VideoLink
    identity: Listing[Fact]
    waterfall: Waterfall
    chunks: ChunkChart | None


@dataclass(frozen=True)
class PairRow:
    """One figure of both runs, in words.

    Attributes:
        ratio: `B / A`; None where one of them has no such figure.
    """

    name: str
    a: str
    b: str
    ratio: float | None

    @property
    def ratio_words(self) -> str:
        """The ratio with two digits."""
        return NOTHING if self.ratio is None else f"{self.ratio:.2f}"


@dataclass(frozen=True)
class ComparisonView:
    """Two runs side by side.

    Attributes:
        notes: What was not compared, and what makes the comparison doubtful.
        chunk_times: What the columns of the chunks show.
    """

    title: str
    sides: tuple[SideView, SideView]
    notes: Listing[str]
    phases: Listing[PairRow]
    figures: Listing[PairRow]
    chunk_times: str
    knobs: Listing[PairRow]
    conditions: Listing[PairRow]


def comparison_view(
    found: Comparison, reports: tuple[RunReport, RunReport], videos: tuple[VideoLink, VideoLink]
) -> ComparisonView:
    """What a page shows of two runs.

    Args:
        found: Their comparison.
        reports: Both, in its order.
        videos: Theirs, as the page can reach them.
    """
    by_core = found.chunk_times == "core"
    falls = _on_one_axis([waterfall(report) for report in reports])
    charts = _charts(reports, Measure.CORE if by_core else Measure.INTERVAL)
    first, second = (
        SideView(
            letter=letter,
            run_id=report.run_id,
            status=report.status.value,
            failure=facts.failure(report.error) if report.error else None,
            video=video,
            identity=Listing.of(facts.identity(report)),
            waterfall=fall,
            chunks=chart,
        )
        for letter, report, video, fall, chart in zip("AB", reports, videos, falls, charts, strict=True)
    )
    return ComparisonView(
        title=f"Runs {found.a.run_id[:8]} and {found.b.run_id[:8]}",
        sides=(first, second),
        notes=Listing.of(found.notes),
        phases=Listing.of(_rows(found.phases)),
        figures=Listing.of(_rows(found.figures)),
        chunk_times="the script's own time" if by_core else "wall time since the chunk before",
        knobs=Listing.of(_differences(found.knobs)),
        conditions=Listing.of(_differences(found.conditions)),
    )


def _on_one_axis(falls: Sequence[Waterfall]) -> list[Waterfall]:
    top = max(fall.scale.top for fall in falls)
    return [fall.on(top) for fall in falls]


def _charts(reports: Sequence[RunReport], measure: Measure) -> list[ChunkChart | None]:
    """Both charts with as many chunks a column, on an axis that both fit."""
    together = max(chunks_together(len(report.chunks)) for report in reports)
    charts = [chunk_chart(report, measure=measure, together=together) for report in reports]
    top = max((chart.highest_ms for chart in charts if chart), default=0.0)
    columns = max((len(chart.columns) for chart in charts if chart), default=0)
    return [chart.up_to(top).across(columns) if chart else None for chart in charts]


def _rows(pairs: Sequence[Pair]) -> Iterator[PairRow]:
    for pair in pairs:
        shown = span if "_ms" in pair.name else number
        yield PairRow(PHASES.get(pair.name, pair.name), shown(pair.a), shown(pair.b), pair.ratio)


def _differences(found: Sequence[Difference]) -> Iterator[PairRow]:
    for difference in found:
        yield PairRow(difference.name, value(difference.a), value(difference.b), None)

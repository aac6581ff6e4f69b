"""Everything that the page of one run shows, as frozen data: made from its report, drawn by the templates."""

from __future__ import annotations

from dataclasses import dataclass

from omnirt_cli.finding import Finding
from omnirt_cli.picture import facts
from omnirt_cli.picture.chunks import ChunkChart, chunk_chart
from omnirt_cli.picture.devices import DeviceCharts, device_charts, sampling_words
from omnirt_cli.picture.facts import Fact, Failure, Knob, Verdict
from omnirt_cli.picture.phases import Waterfall, waterfall
from omnirt_cli.picture.video import VideoLink
from omnirt_cli.picture.words import Listing
from omnirt_cli.report import RunReport


@dataclass(frozen=True)
class RunView:
    """One run.

    Attributes:
        status: The report's word for it.
        title: What a browser's tab says.
        chunks: None where no chunk was timed.
        sampling: How the devices were looked at.
    """

    run_id: str
    status: str
    title: str
    failure: Failure | None
    video: VideoLink
    headline: Listing[Fact]
    identity: Listing[Fact]
    waterfall: Waterfall
    chunks: ChunkChart | None
    devices: Listing[DeviceCharts]
    sampling: str | None
    findings: Listing[Finding]
    warnings: Listing[str]
    checks: Listing[Verdict]
    knobs: Listing[Knob]
    figures: Listing[Fact]
    inputs: Listing[Fact]
    files: Listing[Fact]
    machine: Listing[Fact]


def run_view(report: RunReport, video: VideoLink) -> RunView:
    """What a page shows of a run, of one that failed, was interrupted or still goes on too.

    Args:
        report: The run.
        video: Its video, as the page can reach it.
    """
    fall = waterfall(report)
    return RunView(
        run_id=report.run_id,
        status=report.status.value,
        title=f"Run {report.run_id[:8]}: {report.model or 'no model'}, {report.status.value}",
        failure=facts.failure(report.error) if report.error else None,
        video=video,
        headline=Listing.of(facts.headline(report)),
        identity=Listing.of(facts.identity(report)),
        waterfall=fall,
        chunks=chunk_chart(report),
        devices=device_charts(report, fall.scale),
        sampling=sampling_words(report),
        findings=Listing.of(report.findings),
        warnings=Listing.of(report.warnings),
        checks=Listing.of(facts.verdicts(report)),
        knobs=Listing.of(facts.knobs(report)),
        figures=Listing.of(facts.figures(report)),
        inputs=Listing.of(facts.inputs(report)),
        files=Listing.of(facts.files(report)),
        machine=Listing.of(facts.machine(report)),
    )

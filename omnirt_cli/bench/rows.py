"""One row of the table: the figures of its samples, and the conditions under which they were taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omnirt_cli.bench.document import Conditions, Heat, Published, Row, Sample
from omnirt_cli.bench.figures import ChunkFacts, summarise
from omnirt_cli.models.card import ModelCard
from omnirt_cli.plan import Plan
from omnirt_cli.report import ExpectedInfo, RunReport
from omnirt_cli.run.published_times import comparable


def finished_row(
    plan: Plan,
    samples: Sequence[Sample],
    last: RunReport | None,
    *,
    case: str,
    heat: Heat,
    warmup_chunks: int,
    folder: Path,
) -> Row:
    """Put a row together.

    Args:
        plan: Of a request of the row.
        samples: The row's, all of them.
        last: The report of its last good request, which tells the conditions.
        case: The row's name in a sweep.
        heat: Cold or hot.
        warmup_chunks: Chunks of each request that are no steady ones.
        folder: Where the videos and reports are.
    """
    facts = chunk_facts(plan, warmup_chunks)
    good = [sample for sample in samples if sample.succeeded]
    return Row(
        case=case,
        heat=heat,
        figures=summarise(samples, facts),
        conditions=conditions(last, plan, facts) if last else None,
        run_ids=[sample.run_id for sample in samples if sample.run_id],
        folder=str(folder),
        picture=next((sample.picture for sample in reversed(good) if sample.picture), None),
        checks=worst_checks(good),
        published=published(last, plan.adapter.card) if last and good else [],
    )


def chunk_facts(plan: Plan, warmup_chunks: int) -> ChunkFacts:
    """What a chunk of this plan adds."""
    geometry = plan.geometry
    return ChunkFacts(warmup_chunks, geometry.slice_frames / geometry.fps * 1000, geometry.slice_frames)


def conditions(report: RunReport, plan: Plan, facts: ChunkFacts) -> Conditions:
    """What the figures were measured under, as the last run's report has it."""
    checkout, expected, devices = report.checkout, report.expected, report.devices
    return Conditions(
        model=report.model,
        variant=checkout.variant if checkout else None,
        revision=checkout.revision if checkout else None,
        dirty=checkout.dirty if checkout else None,
        backend=report.backend,
        execution_mode=report.execution_mode,
        devices=[device.name or device.id for device in devices.used] if devices else [],
        processes=plan.launch.processes,
        picture=f"{expected.width}*{expected.height}, {expected.fps:g} FPS, {expected.frames} frames"
        if expected
        else None,
        knobs=report.config_resolved,
        sources=report.config_sources,
        core_scope=next((chunk.core_scope for chunk in report.chunks if chunk.core_scope), None),
        chunk_media_ms=round(facts.media_ms, 3),
        chunk_frames=facts.frames,
        warmup_chunks=facts.warmup,
        host=report.host,
        versions=report.versions,
    )


def _picture(expected: ExpectedInfo) -> str:
    return f"{expected.width}*{expected.height}, {expected.fps:g} FPS, {expected.frames} frames"


def worst_checks(samples: Sequence[Sample]) -> dict[str, str]:
    """The verdicts on all videos of a row; where they differ, the worst."""
    order = ("passed", "skipped", "warned", "failed")
    found: dict[str, str] = {}
    for sample in samples:
        for name, verdict in sample.checks.items():
            found[name] = max(found.get(name, verdict), verdict, key=order.index)
    return found


def published(report: RunReport, card: ModelCard) -> list[Published]:
    """The model's published times that hold for this run's hardware and settings."""
    found = []
    for row in card.timing:
        took = comparable(report, row)
        if took is not None:
            found.append(
                Published(
                    what=row.what,
                    published_ms=row.value_ms,
                    measured_ms=took,
                    ratio=round(took / row.value_ms, 3),
                    hardware=row.hardware,
                    settings=row.settings,
                    source=row.source,
                )
            )
    return found

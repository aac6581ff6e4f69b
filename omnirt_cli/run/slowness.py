"""Tells a slow run, by its like: this machine's own earlier runs, else the figures published for its model and device.

Only like is compared with like: cold and hot are apart, the first chunk and the steady ones are apart. Where nothing is
alike, nothing is said.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from omnirt_cli.finding import Finding, Severity
from omnirt_cli.models.card import ModelCard
from omnirt_cli.report import RunReport, RunStatus
from omnirt_cli.run.diagnosis_case import duration
from omnirt_cli.run.published_times import slower_than_published
from omnirt_cli.runs.entry import Origin, RunEntry
from omnirt_cli.runs.past import PastRun

RUNS_AT_LEAST = 3
RUNS_AT_MOST = 20
SLOW_FACTOR = 1.3
SPREADS = 3.0
"""A slow phase is outside so many median absolute deviations."""
NOTICEABLE_MS = 1000.0
"""Less than that, over the whole run, nobody waits for."""


def slow_findings(report: RunReport, past: Sequence[PastRun], card: ModelCard | None) -> list[Finding]:
    """Whether a run was slower than its like.

    Args:
        report: The finished run's; one that did not succeed is compared with nothing.
        past: Earlier runs of this machine that share model, devices, process count, knobs, the scope of the chunk
            times, and whether the model was loaded.
        card: The model's published figures.
    """
    if report.status is not RunStatus.SUCCEEDED:
        return []
    own = RunEntry.of(report, Origin()).as_past()
    like = [run for run in past if run.run_id != own.run_id and _same_heat(run, own)]
    like = sorted(like, key=lambda run: run.started_at)[-RUNS_AT_MOST:]
    if len(like) >= RUNS_AT_LEAST:
        grown = _grown_phases(own, like)
        return [_slower_than_before(grown)] if grown else []
    published = slower_than_published(report, card) if card else None
    return [published] if published else []


def _same_heat(run: PastRun, own: PastRun) -> bool:
    return (run.model_load_ms is None) == (own.model_load_ms is None)


@dataclass(frozen=True)
class Phase:
    """A part of a run that is compared by itself.

    Attributes:
        take: Its time; None where a run did not have it.
        times: How often it happens in a run.
        per_length: Whether only runs of as many chunks are alike in it.
        why: What usually makes it grow.
    """

    name: str
    take: Callable[[PastRun], float | None]
    why: str
    do: str
    times: Callable[[PastRun], int] = lambda _: 1
    per_length: bool = False


PHASES = (
    Phase(
        "loading the model",
        lambda run: run.model_load_ms,
        "weights came from the disk instead of the page cache, or from a slower disk",
        "See what else reads the disk (`iostat -x 5`), and whether enough memory is free to keep the weights cached.",
    ),
    Phase(
        "the first chunk",
        lambda run: run.first_chunk_ms,
        "kernels were compiled anew: their caches were cleared, or torch, CANN or the checkout changed",
        "Run once more; if it stays, compare `versions` and `checkout.revision` with those of an earlier run.",
    ),
    Phase(
        "a steady chunk",
        lambda run: run.steady_chunk_ms,
        "the devices computed for somebody else too, were throttled by heat or power, or computed differently",
        "Look at `nvidia-smi` or `npu-smi info` during a run for other processes, clocks and temperature.",
        times=lambda run: max(1, (run.chunk_count or 1) - 1),
    ),
    Phase(
        "saving the video",
        lambda run: run.save_ms,
        "the processor or the output's disk was busy",
        "See what else runs (`top`), and write to a local disk.",
        per_length=True,
    ),
)


@dataclass(frozen=True)
class Grown:
    """A phase that took longer than it used to.

    Attributes:
        lost_ms: What that cost over the whole run.
    """

    phase: Phase
    took_ms: float
    usual: tuple[float, ...]
    lost_ms: float

    def told(self) -> str:
        """For people."""
        median = statistics.median(self.usual)
        return (
            f"{self.phase.name} took {duration(self.took_ms)} instead of {duration(median)} "
            f"({self.took_ms / median:.1f} times; {len(self.usual)} earlier runs, {duration(min(self.usual))} to "
            f"{duration(max(self.usual))})"
        )


def _grown_phases(own: PastRun, like: Sequence[PastRun]) -> list[Grown]:
    """The phases that took longer than they used to, the costliest first."""
    found = [grown for phase in PHASES if (grown := _grown(phase, own, like))]
    return sorted(found, key=lambda grown: -grown.lost_ms)


def _grown(phase: Phase, own: PastRun, like: Sequence[PastRun]) -> Grown | None:
    took = phase.take(own)
    runs = [run for run in like if not phase.per_length or run.chunk_count == own.chunk_count]
    usual = tuple(value for run in runs if (value := phase.take(run)) is not None)
    if took is None or len(usual) < RUNS_AT_LEAST:
        return None
    median = statistics.median(usual)
    spread = statistics.median(abs(value - median) for value in usual)
    lost = (took - median) * phase.times(own)
    slow = took > SLOW_FACTOR * median and took > median + SPREADS * spread and lost >= NOTICEABLE_MS
    return Grown(phase, took, usual, lost) if slow else None


def _slower_than_before(grown: Sequence[Grown]) -> Finding:
    return Finding(
        code="slower_than_before",
        severity=Severity.WARNING,
        what="slower than this machine's earlier runs of this kind: " + "; ".join(phase.told() for phase in grown),
        why=grown[0].phase.why,
        do=grown[0].phase.do,
    )

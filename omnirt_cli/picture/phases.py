"""A run's phases as a waterfall: where each began and ended, and the time between them that none accounts for.

Reports keep how long a phase took. Where it began follows from their order, from the last chunk's end, and from the
end of the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from omnirt_cli.picture.scale import Scale
from omnirt_cli.picture.words import span
from omnirt_cli.report import RunReport, RunStatus
from omnirt_cli.runs.compare import PHASES

_WHAT = {
    "prepare_conditions_ms": "planning, checks, prepared sound, and all that happens before the launch",
    "launch_ms": "from the launch to the first output of the process",
    "model_load_ms": "until the model was ready to generate",
    "generation_ms": "all chunks",
    "save_ms": "encoding the frames and joining the sound",
    "export_ms": "the checks of the video, until it was in its place",
}
_BEFORE_GENERATION = ("prepare_conditions_ms", "launch_ms", "model_load_ms")
_PREPARE, _GENERATE, _EXPORT = "prepare_conditions_ms", "generation_ms", "export_ms"
_NO_PHASES = {*PHASES, "denoise_loop_ms", "first_chunk_ms"}

_SMALLEST_GAP_MS = 5.0
_SMALLEST_GAP_SHARE = 0.01
_SMALLEST_WAIT_MS = 1.0

_ENDS = {
    RunStatus.FAILED: "until it failed",
    RunStatus.CANCELLED: "until it was cancelled",
    RunStatus.TIMED_OUT: "until its time was up",
    RunStatus.INTERRUPTED: "until it was interrupted",
    RunStatus.RUNNING: "until now",
}


class BarKind(str, Enum):
    """What a bar stands for: a phase, a part of the one above it, waiting, or time of no phase."""

    WORK = "work"
    PART = "part"
    WAIT = "wait"
    GAP = "gap"


@dataclass(frozen=True)
class Bar:
    """One row of the waterfall, in milliseconds since the run began."""

    name: str
    kind: BarKind
    start_ms: float
    end_ms: float
    what: str

    @property
    def length_ms(self) -> float:
        """How long it took."""
        return self.end_ms - self.start_ms

    @property
    def title(self) -> str:
        """The row in one sentence."""
        return f"{self.name}: {span(self.length_ms)}, from {span(self.start_ms)} to {span(self.end_ms)} ({self.what})"


@dataclass(frozen=True)
class Waterfall:
    """A run's phases on one time axis.

    Attributes:
        whole_ms: The whole run; None where not even that is known.
        notes: What the bars' places do not tell.
    """

    bars: tuple[Bar, ...]
    whole_ms: float | None
    scale: Scale
    notes: tuple[str, ...] = ()

    def on(self, top_ms: float) -> Waterfall:
        """The same on a longer axis, so that another run's bars can be compared with these."""
        return replace(self, scale=Scale.time(top_ms))


def waterfall(report: RunReport) -> Waterfall:
    """The phases of a run, of one that failed too."""
    bars = list(_bars(report))
    seen_ms = max((bar.end_ms for bar in bars), default=0.0)
    whole = report.timings.get("total_ms") or _lifetime_ms(report)
    top = max(whole or 0.0, seen_ms)
    return Waterfall(
        bars=tuple(_with_gaps(bars, top, _ENDS.get(report.status, "the rest"))) if bars else (),
        whole_ms=whole if whole is not None else (seen_ms or None),
        scale=Scale.time(top),
        notes=tuple(_notes(report, bars)),
    )


def _bars(report: RunReport) -> Iterator[Bar]:
    """The phases that were seen, each no earlier than the one before it ended."""
    reached = 0.0
    for key, what in _WHAT.items():
        if key in report.timings:
            start = max(reached, _known_start(key, report, reached))
            reached = start + report.timings[key]
            yield Bar(PHASES[key], BarKind.WORK, start, reached, what)
        if key == _PREPARE:
            for bar in _beside_preparing(report, reached):
                reached = max(reached, bar.end_ms)
                yield bar


def _known_start(key: str, report: RunReport, otherwise: float) -> float:
    """Where a phase began, where something else than its order tells."""
    last = report.chunks[-1].at_ms if report.chunks else None
    if key == _GENERATE and last is not None:
        return last - report.timings[key]
    if key == _EXPORT and not _is_workers(report) and _PREPARE in report.timings:
        return report.timings[_PREPARE] + report.timings.get("denoise_loop_ms", 0.0)
    return otherwise


def _beside_preparing(report: RunReport, prepared_ms: float) -> Iterator[Bar]:
    """Steps before the script, and waiting: inside the preparation, but after it where a worker was waited for."""
    end = prepared_ms
    for name, length in reversed(_earlier_steps(report)):
        start = max(0.0, end - length)
        yield Bar(name, BarKind.PART, start, end, "a step before the script, part of preparing")
        end = start
    waited = report.queue_wait_ms or 0.0
    if waited < _SMALLEST_WAIT_MS:
        return
    if _is_workers(report):
        length = min(waited, _room_for_wait(report, prepared_ms, waited))
        yield Bar("wait", BarKind.WAIT, prepared_ms, prepared_ms + length, "for a device, or for the worker's turn")
    else:
        yield Bar("wait", BarKind.WAIT, max(0.0, end - waited), end, "for devices, part of preparing")


def _room_for_wait(report: RunReport, prepared_ms: float, otherwise: float) -> float:
    if _GENERATE not in report.timings:
        return otherwise
    begins = _known_start(_GENERATE, report, prepared_ms + otherwise)
    return max(0.0, begins - prepared_ms - report.timings.get("model_load_ms", 0.0))


def _earlier_steps(report: RunReport) -> list[tuple[str, float]]:
    """Keys that are no phase and no figure of the chunks are steps before the script, e.g. `text_context_ms`."""
    return [
        (key.removesuffix("_ms").replace("_", " "), length)
        for key, length in report.timings.items()
        if is_earlier_step(key)
    ]


def is_earlier_step(key: str) -> bool:
    """Whether a timing is that of a step before the script."""
    return key.endswith("_ms") and key not in _NO_PHASES


def _with_gaps(bars: list[Bar], top_ms: float, last_name: str) -> Iterator[Bar]:
    """The bars, and between them the time that none accounts for."""
    smallest = max(_SMALLEST_GAP_MS, top_ms * _SMALLEST_GAP_SHARE)
    reached, before = 0.0, "the beginning"
    for bar in bars:
        if bar.start_ms - reached > smallest:
            yield Bar("between", BarKind.GAP, reached, bar.start_ms, f"after {before}, before {bar.name}")
        yield bar
        if bar.end_ms > reached:
            reached, before = bar.end_ms, bar.name
    if top_ms - reached > smallest:
        yield Bar(last_name, BarKind.GAP, reached, top_ms, f"after {before}")


def _notes(report: RunReport, bars: list[Bar]) -> Iterator[str]:
    if not bars:
        yield "The report has no phases: the run ended, or its report was written, before the first was over."
    if any(bar.kind is not BarKind.WORK for bar in bars) and not _is_workers(report):
        yield "Waiting and earlier steps are part of preparing; where in it they lay is not recorded."
    if _is_workers(report) and bars:
        yield "In a worker's run, some of the preparing is done by the worker, after the wait and the load."


def _is_workers(report: RunReport) -> bool:
    return report.execution_mode == "persistent_worker"


def _lifetime_ms(report: RunReport) -> float | None:
    """From the stamps, where the run could not measure itself."""
    # Of an interrupted run the last stamp is when that was noticed, which may be days later.
    if report.finished_at is None or report.status is RunStatus.INTERRUPTED:
        return None
    try:
        began, ended = (
            datetime.fromisoformat(stamp.replace("Z", "+00:00")) for stamp in (report.started_at, report.finished_at)
        )
        return max((ended - began).total_seconds() * 1000, 0.0)
    except (ValueError, TypeError):
        return None

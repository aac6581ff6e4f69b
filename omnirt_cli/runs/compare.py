"""Two runs side by side: their phases and chunks with ratios, and what they did differently.

Decides what may be compared: times that cover unlike things are left out, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from omnirt_cli.report import ChunkInfo, Document, RunReport
from omnirt_cli.runs.entry import RunEntry, core_scope

PHASES = {
    "prepare_conditions_ms": "prepare",
    "launch_ms": "launch",
    "model_load_ms": "load",
    "generation_ms": "generate",
    "save_ms": "save",
    "export_ms": "check and publish",
    "total_ms": "total",
}
"""The phases of a run, in their order: the report's key and its name for people."""

_CORE_FIGURES = ("chunk_core_ms_avg", "steady_chunk_core_ms_avg", "chunk_core_ms_p50", "chunk_core_ms_p95")
_FIGURES = ("first_chunk_ms", "steady_chunk_interval_ms_avg", *_CORE_FIGURES, "frames_per_second", "rtf", "steady_rtf")


class Pair(Document):
    """One figure of both runs.

    Attributes:
        ratio: `b / a`; None where one of them has no such figure.
    """

    name: str
    a: float | None = None
    b: float | None = None
    ratio: float | None = None


class Difference(Document):
    """Something that the runs did differently."""

    name: str
    a: Any = None
    b: Any = None


class Comparison(Document):
    """What `omnirt runs compare --json` prints.

    Attributes:
        phases: Milliseconds.
        figures: The report's averages and rates.
        chunks: Milliseconds a chunk, by its number: the script's own time where both have that and it covers the same,
            else the wall time between chunks.
        chunk_times: Which of the two that is.
        knobs: Knobs that differ.
        conditions: Other things that differ: device, checkout, versions, frames.
        notes: What was not compared, and what makes a comparison doubtful.
    """

    a: RunEntry
    b: RunEntry
    phases: list[Pair]
    figures: list[Pair]
    chunks: list[Pair]
    chunk_times: str
    knobs: list[Difference]
    conditions: list[Difference]
    notes: list[str]


def compare(a: RunEntry, b: RunEntry, reports: tuple[RunReport, RunReport]) -> Comparison:
    """Put two runs side by side."""
    first, second = reports
    same_scope = core_scope(first) == core_scope(second) and core_scope(first) is not None
    figures = [name for name in _FIGURES if same_scope or name not in _CORE_FIGURES]
    return Comparison(
        a=a,
        b=b,
        phases=_pairs(PHASES, first.timings, second.timings),
        figures=_pairs(figures, first.timings, second.timings),
        chunks=_chunk_pairs(first.chunks, second.chunks, core=same_scope),
        chunk_times="core" if same_scope else "interval",
        knobs=differences(first.config_resolved, second.config_resolved),
        conditions=differences(_conditions(a, first), _conditions(b, second)),
        notes=_notes(a, b, first, second),
    )


def _pairs(names: Iterable[str], a: dict[str, float], b: dict[str, float]) -> list[Pair]:
    return [pair(name, a.get(name), b.get(name)) for name in names if name in a or name in b]


def pair(name: str, a: float | None, b: float | None) -> Pair:
    """One figure of both, with their ratio."""
    return Pair(name=name, a=a, b=b, ratio=round(b / a, 3) if a and b is not None else None)


def _chunk_pairs(a: list[ChunkInfo], b: list[ChunkInfo], *, core: bool) -> list[Pair]:
    def times(chunks: list[ChunkInfo]) -> dict[int, float | None]:
        return {chunk.index: chunk.core_ms if core else chunk.interval_ms for chunk in chunks}

    first, second = times(a), times(b)
    return [pair(str(index), first.get(index), second.get(index)) for index in sorted({*first, *second})]


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    """What is not the same in both."""
    return [
        Difference(name=name, a=a.get(name), b=b.get(name)) for name in sorted({*a, *b}) if a.get(name) != b.get(name)
    ]


def _conditions(entry: RunEntry, report: RunReport) -> dict[str, Any]:
    """What else decides how long a run takes."""
    shown = ("model", "variant", "backend", "device_name", "processes", "heat", "host", "revision", "frames")
    size = f"{entry.width}*{entry.height}" if entry.width else None
    return {**{name: getattr(entry, name) for name in shown}, "picture": size, **report.versions}


def _notes(a: RunEntry, b: RunEntry, first: RunReport, second: RunReport) -> list[str]:
    notes = []
    if a.heat != b.heat:
        notes.append(f"{a.heat} against {b.heat}: the {a.heat if a.heat == 'hot' else b.heat} run loaded no model")
    scopes = core_scope(first), core_scope(second)
    if scopes[0] != scopes[1]:
        words = [scope or "nothing printed" for scope in scopes]
        notes.append(f"the chunk times cover unlike things ({words[0]}; {words[1]}) and are not compared")
    if a.model != b.model:
        notes.append("they are runs of two models")
    notes += [
        f"{name} ended {entry.status.value}: its figures are those of a part"
        for name, entry in (("A", a), ("B", b))
        if entry.status.value != "succeeded"
    ]
    return notes

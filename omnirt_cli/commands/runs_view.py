"""Runs as text for people: a table that fits 80 columns, one run's summary, two runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from omnirt_cli.checks import CheckStatus
from omnirt_cli.models.base import MODEL_DEFAULT
from omnirt_cli.report import RunReport
from omnirt_cli.runs.compare import PHASES, Comparison, Difference, Pair
from omnirt_cli.runs.entry import RunEntry

_BAR = 24
_MOST_CHUNKS = 12
_ROW = "{:<8} {:<16} {:<11} {:<20} {:<6} {:>7} {:>6}"
_PAIR = "  {:<30} {:>12} {:>12} {:>8}"


def run_table(entries: Sequence[RunEntry]) -> Iterator[str]:
    """The listing, one line a run."""
    if not entries:
        yield "no runs"
        return
    yield _ROW.format("ID", "STARTED (UTC)", "STATUS", "MODEL", "ON", "TIME", "RTF").rstrip()
    for entry in entries:
        yield _ROW.format(
            entry.run_id[:8],
            _minute(entry.started_at),
            entry.status.value,
            (entry.model or "-")[:20],
            entry.backend or "-",
            duration(entry.total_ms),
            _number(entry.rtf),
        ).rstrip()


def run_summary(entry: RunEntry, report: RunReport) -> Iterator[str]:
    """One run: what, when, how it ended, where the time went, what it left."""
    yield f"run      {entry.run_id}"
    yield f"status   {entry.status.value}" + ("" if entry.total_ms is None else f", {duration(entry.total_ms)}")
    yield f"started  {entry.started_at}"
    yield f"model    {' '.join(part for part in (entry.model, entry.variant and f'({entry.variant})') if part) or '-'}"
    yield f"on       {_device(entry)}"
    for name, info in report.inputs.items():
        yield f"{name:<8} {info.path}"
    if report.expected:
        expected = report.expected
        yield (
            f"makes    {expected.frames} frames, {expected.duration_s:g} s at {expected.fps:g} fps, "
            f"{expected.width}x{expected.height} (width x height)"
        )
    yield from _error(report)
    yield from _findings(report)
    yield from _phases(report)
    yield from _chunks(report)
    yield from _knobs(report)
    yield from _checks(report)
    yield from _files(entry, report)


def comparison_text(found: Comparison) -> Iterator[str]:
    """Two runs side by side."""
    yield f"A  {_title(found.a)}"
    yield f"B  {_title(found.b)}"
    for note in found.notes:
        yield f"note: {note}"
    yield ""
    yield _PAIR.format("", "A", "B", "B/A").rstrip()
    yield from _pairs((pair.model_copy(update={"name": PHASES[pair.name]}) for pair in found.phases), milliseconds=True)
    for pair in found.figures:
        yield from _pairs([pair], milliseconds="_ms" in pair.name)
    if found.chunks:
        what = "the script's own time" if found.chunk_times == "core" else "wall time since the one before"
        yield f"chunks, {what}"
        yield from _pairs(_shortened(found.chunks), milliseconds=True)
    yield from _differing("knobs that differ", found.knobs)
    yield from _differing("conditions that differ", found.conditions)


def duration(milliseconds: float | None) -> str:
    """A time in at most 7 characters."""
    if milliseconds is None:
        return "-"
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.1f} m" if minutes < 100 else f"{minutes / 60:.1f} h"


def _title(entry: RunEntry) -> str:
    return f"{entry.run_id[:8]}  {_minute(entry.started_at)}  {entry.status.value}  {entry.heat}  {entry.model or '-'}"


def _minute(stamp: str) -> str:
    return stamp[:16].replace("T", " ")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _device(entry: RunEntry) -> str:
    words = [entry.backend or "-"]
    if entry.device_name:
        words.append(entry.device_name)
    if entry.processes and entry.processes > 1:
        words.append(f"x {entry.processes}")
    return " ".join((*words, f"({entry.heat})"))


def _error(report: RunReport) -> Iterator[str]:
    error = report.error
    if error is None:
        return
    yield ""
    yield f"error    {error.code} (exit code {error.exit_code}): {error.message}"
    if error.hint:
        yield f"hint     {error.hint}"


def _findings(report: RunReport) -> Iterator[str]:
    for finding in report.findings:
        yield ""
        yield f"finding  {finding.what}"
        yield f"why      {finding.why}"
        yield f"do       {finding.do}"


def _phases(report: RunReport) -> Iterator[str]:
    times = {name: report.timings[key] for key, name in PHASES.items() if key in report.timings}
    if not times:
        return
    whole = max(times.values())
    yield ""
    yield "phases"
    for name, spent in times.items():
        yield f"  {name:<18} {duration(spent):>8}  {'#' * round(spent / whole * _BAR)}".rstrip()


def _chunks(report: RunReport) -> Iterator[str]:
    times = [(chunk.index + 1, chunk.interval_ms or chunk.core_ms) for chunk in report.chunks]
    known = [(number, spent) for number, spent in times if spent is not None]
    if not known:
        return
    slowest = max(spent for _, spent in known)
    yield ""
    yield f"chunks ({len(report.chunks)})"
    for number, spent in known[:_MOST_CHUNKS]:
        yield f"  {number:<18} {duration(spent):>8}  {'#' * round(spent / slowest * _BAR if slowest else 0)}".rstrip()
    if len(known) > _MOST_CHUNKS:
        yield f"  and {len(known) - _MOST_CHUNKS} more"
    rates = [f"{name} {report.timings[name]:.2f}" for name in ("rtf", "steady_rtf") if name in report.timings]
    if rates:
        yield f"  {', '.join(rates)} (under 1 is faster than real time)"


def _knobs(report: RunReport) -> Iterator[str]:
    chosen = {
        name: value
        for name, value in report.config_resolved.items()
        if report.config_sources.get(name, MODEL_DEFAULT) != MODEL_DEFAULT
    }
    if chosen:
        yield ""
        yield "knobs"
        for name, value in chosen.items():
            yield f"  {name} = {value}  ({report.config_sources[name]})"


def _checks(report: RunReport) -> Iterator[str]:
    counts = [
        f"{count} {status.value}"
        for status in CheckStatus
        if (count := sum(check.status is status for check in report.checks))
    ]
    yield ""
    yield f"checks   {', '.join(counts) or 'none'}"
    for check in report.checks:
        if check.status in (CheckStatus.FAILED, CheckStatus.WARNED):
            detail = check.detail or f"expected {check.expected}, found {check.actual}"
            yield f"  {check.status.value} {check.name}: {detail}"
    for warning in report.warnings:
        yield f"  warning: {warning}"


def _files(entry: RunEntry, report: RunReport) -> Iterator[str]:
    yield ""
    named: list[tuple[str, str | None]] = [("video", found.path) for found in report.artifacts]
    named += [("kept", path) for path in report.kept]
    named += [("report", entry.report_path), ("log", entry.log_path), ("scratch", report.scratch_dir)]
    for name, path in named:
        if path:
            yield f"{name:<8} {path}"


def _pairs(pairs: Iterable[Pair], *, milliseconds: bool) -> Iterator[str]:
    shown = duration if milliseconds else _number
    for pair in pairs:
        ratio = "-" if pair.ratio is None else f"{pair.ratio:.2f}"
        yield _PAIR.format(pair.name, shown(pair.a), shown(pair.b), ratio)


def _shortened(chunks: Sequence[Pair]) -> list[Pair]:
    """The first chunks, numbered from 1 as people count."""
    return [pair.model_copy(update={"name": str(int(pair.name) + 1)}) for pair in chunks[:_MOST_CHUNKS]]


def _differing(title: str, differences: Sequence[Difference]) -> Iterator[str]:
    if not differences:
        return
    yield title
    for found in differences:
        yield f"  {found.name}: {_word(found.a)} -> {_word(found.b)}"


def _word(value: object) -> str:
    return "-" if value is None else str(value)

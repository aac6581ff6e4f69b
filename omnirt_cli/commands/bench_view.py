"""A benchmark as text for people: Rich tables in Markdown's form, so that they can be pasted into a document."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from omnirt_cli.bench.document import BenchReport, Overhead, Row, RowComparison
from omnirt_cli.checks import CheckStatus
from omnirt_cli.commands.runs_view import duration
from omnirt_cli.runs.compare import PHASES, Pair

_WIDE = 1000
_SIGNS = {
    CheckStatus.PASSED: "ok",
    CheckStatus.FAILED: "MISSED",
    CheckStatus.WARNED: "warn",
    CheckStatus.SKIPPED: "skip",
}

_TABLE = (
    ("requests", "requests"),
    ("end to end p50", "end_to_end_ms_p50"),
    ("load", "load_ms_p50"),
    ("first chunk", "first_chunk_ms_p50"),
    ("steady chunk", "steady_chunk_ms_mean"),
    ("process", "denoise_loop_ms"),
    ("export", "export_ms"),
    ("RTF", "steady_rtf"),
    ("GiB", "memory_peak_gib"),
)
"""The overview's columns; one that no row has is left out."""

_SPREADS = (
    ("end to end", "end_to_end_ms"),
    ("load", "load_ms"),
    ("first chunk", "first_chunk_ms"),
    ("request to first chunk", "time_to_first_chunk_ms"),
    ("steady chunk", "steady_chunk_ms"),
    ("steady chunk, core", "steady_chunk_core_ms"),
    ("queue", "queue_wait_ms"),
)
_PARTS = ("mean", "std", "min", "p50", "p95", "p99", "max")
_SINGLES = (
    "audio_embedding_ms_avg",
    "chunk_core_ms_avg",
    "steady_chunk_core_ms_avg",
    "chunk_copy_ms_avg",
    "chunk_total_ms_avg",
    "steady_chunk_total_ms_avg",
    "end_to_end_over_core",
    "frames_per_second",
    "steady_frames_per_second",
    "rtf",
    "steady_rtf",
    "goodput",
    "requests_per_second",
    "memory_peak_gib",
    "host_memory_peak_gib",
)

_SCRIPT_PARTS = {
    "denoise_loop_ms": "the script's process",
    "first_chunk_ms": "first chunk",
    "steady_chunk_interval_ms_avg": "steady chunk",
    "steady_chunk_core_ms_avg": "steady chunk, core",
}


def bench_text(report: BenchReport) -> Iterator[str]:
    """The whole benchmark."""
    if report.rows:
        yield from _about(report)
        yield _overview(report.rows)
        for row in report.rows:
            yield from _row(row)
        yield "\nVideos\n\n" + _artifacts(report.rows)
    yield from _failures(report)
    for info in report.harness:
        title = f"{info.case}: the checkout's own table" if info.case else "The checkout's own table"
        yield f"\n{title}\n\n" + _plain_table(("", ""), info.table.items())
    if report.overhead is not None:
        yield from _overhead(report.overhead)
    for comparison in report.comparisons:
        yield from _comparison(comparison)
    if report.gates:
        yield "\nGates\n\n" + _gates(report)
    yield f"\nresults  {report.folder}/bench.json"


def _about(report: BenchReport) -> Iterator[str]:
    known = next((row.conditions for row in report.rows if row.conditions), None)
    if known is None:
        return
    devices = f"{len(known.devices)} x {known.devices[0]}" if known.devices else "-"
    yield f"{known.model} ({known.variant}), {known.picture} (width*height), {known.backend}: {devices}"
    revision = f"checkout {known.revision}{', changed' if known.dirty else ''}; " if known.revision else ""
    versions = ", ".join(f"{name} {version}" for name, version in known.versions.items())
    chunks = f"{known.warmup_chunks} warm-up chunks; a chunk adds {known.chunk_media_ms:g} ms of video"
    yield f"{revision}{versions}; {chunks}\n"


def _title(heat: str, case: str) -> str:
    return f"{heat}, {case}" if case else heat


def _overview(rows: Sequence[Row]) -> str:
    columns = [(title, key) for title, key in _TABLE if any(key in row.figures for row in rows)]
    lines = [
        [_title(row.heat, row.case), *(_figure(key, row.figures.get(key)) for _, key in columns), row.picture or "-"]
        for row in rows
    ]
    return _plain_table(("", *(title for title, _ in columns), "video"), lines)


def _row(row: Row) -> Iterator[str]:
    spreads = [(title, name) for title, name in _SPREADS if f"{name}_mean" in row.figures]
    if spreads:
        yield f"\n{_title(row.heat, row.case).capitalize()}, milliseconds\n"
        lines = [[title, *(_plain(row.figures[f"{name}_{part}"]) for part in _PARTS)] for title, name in spreads]
        yield _plain_table(("", *_PARTS), lines)
    singles = [(name, _plain(row.figures[name])) for name in _SINGLES if name in row.figures]
    if singles:
        yield "\n" + _plain_table((_title(row.heat, row.case).capitalize(), "value"), singles)
    for found in row.published:
        yield (
            f"published  {found.what}: {duration(found.published_ms)} on {found.hardware}; "
            f"here {duration(found.measured_ms)}, {found.ratio:.2f} times ({found.source})"
        )


def _artifacts(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        checks = "; ".join(f"{name} {verdict}" for name, verdict in row.checks.items() if verdict != "passed")
        good = sum(verdict == "passed" for verdict in row.checks.values())
        verdicts = f"{good} passed" + (f"; {checks}" if checks else "") if row.checks else "-"
        lines.append([_title(row.heat, row.case), "; ".join(row.run_ids[:4]) or "-", row.folder, verdicts])
    return _plain_table(("", "run_id", "folder", "checks"), lines)


def _failures(report: BenchReport) -> Iterator[str]:
    for sample in report.samples:
        if sample.error is not None:
            yield f"failed   {sample.number}. {_title(sample.heat, sample.case)}: {sample.error.message}"


def _overhead(found: Overhead) -> Iterator[str]:
    yield f"\nThe plain script (A) and OmniRT (B), medians of {found.pairs} pairs\n"
    yield _pairs_table(found.phases, names=PHASES | _SCRIPT_PARTS)
    if found.overhead_ms_p50 is not None:
        yield (
            f"\noverhead {found.overhead_ms_p50:.0f} ms (p90 {found.overhead_ms_p90 or 0:.0f}), "
            f"without checking and publishing {found.unverified_ms_p50 or 0:.0f} ms"
        )
    yield from (f"failed   plain script: {error}" for error in found.errors)


def _comparison(found: RowComparison) -> Iterator[str]:
    yield f"\n{_title(found.heat, found.case).capitalize()}: the baseline (A) and this (B)\n"
    yield from (f"note: {note}" for note in found.notes)
    for difference in (*found.conditions, *found.knobs):
        yield f"  {difference.name}: {difference.a} -> {difference.b}"
    if found.pairs:
        yield _pairs_table(found.pairs, names={})


def _pairs_table(pairs: Sequence[Pair], *, names: dict[str, str]) -> str:
    lines = [
        [
            names.get(pair.name, pair.name),
            _figure(pair.name, pair.a),
            _figure(pair.name, pair.b),
            "-" if pair.ratio is None else f"{pair.ratio:.2f}",
        ]
        for pair in pairs
    ]
    return _plain_table(("", "A", "B", "B/A"), lines)


def _gates(report: BenchReport) -> str:
    lines = [
        [
            _SIGNS[gate.status],
            gate.name,
            str(gate.expected or ""),
            "-" if gate.actual is None else f"{gate.actual:g}",
            gate.detail or gate.hint or "",
        ]
        for gate in report.gates
    ]
    return _plain_table(("", "gate", "required", "measured", ""), lines)


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if "_ms" in name:
        return duration(value)
    return f"{value:g}" if name.endswith("requests") else f"{value:.3f}"


def _plain(value: float) -> str:
    return f"{value:.3f}"


def _plain_table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """One table; as wide as it needs where nobody looks at a terminal."""
    table = Table(box=box.MARKDOWN, show_edge=True)
    for number, title in enumerate(titles):
        table.add_column(title, justify="left" if number == 0 else "right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return _drawn(table)


def _drawn(table: Table) -> str:
    text = io.StringIO()
    Console(file=text, width=_WIDE, color_system=None, force_terminal=False, markup=False, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())

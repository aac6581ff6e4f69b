"""A report's plain facts as rows of words: what ran, its figures, knobs, checks, inputs and files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from omnirt_cli.checks import Check, CheckStatus
from omnirt_cli.models.base import MODEL_DEFAULT
from omnirt_cli.picture import words
from omnirt_cli.picture.chunks import rtf_words
from omnirt_cli.picture.phases import is_earlier_step
from omnirt_cli.report import Artifact, ErrorInfo, RunReport
from omnirt_cli.runs.compare import PHASES

_HASH_SHOWN = 16
_GIB = "_gib"


@dataclass(frozen=True)
class Fact:
    """A name and what is to be said of it.

    Attributes:
        note: What the value means, where that is worth a word.
    """

    name: str
    value: str
    note: str | None = None


@dataclass(frozen=True)
class Knob:
    """A setting: its value, who gave it, how it reached the script.

    Attributes:
        chosen: Somebody set it; it is not the model's default.
    """

    name: str
    value: str
    source: str
    carrier: str
    chosen: bool


@dataclass(frozen=True)
class Verdict:
    """A check and its outcome.

    Attributes:
        telling: A person should look at it.
    """

    name: str
    status: str
    detail: str
    hint: str | None
    telling: bool


@dataclass(frozen=True)
class Failure:
    """Why the run ended badly."""

    title: str
    message: str
    hint: str | None
    log_tail: words.Listing[str]


def headline(report: RunReport) -> Iterator[Fact]:
    """The few figures that a person looks for first."""
    timings = report.timings
    wanted = (
        ("whole run", "total_ms"),
        ("loading", "model_load_ms"),
        ("first chunk", "first_chunk_ms"),
        ("a steady chunk", "steady_chunk_interval_ms_avg"),
    )
    for name, key in wanted:
        if key in timings:
            yield Fact(name, words.span(timings[key]))
    for name, key in (("real-time factor", "rtf"), ("steady real-time factor", "steady_rtf")):
        if key in timings:
            yield Fact(name, words.number(timings[key]), rtf_words(timings[key]))


def heat(report: RunReport) -> str:
    """Whether the model had to be loaded."""
    if report.hot:
        return "hot: a worker had the model loaded"
    if report.execution_mode == "persistent_worker":
        return "cold: the worker still had to load the model"
    return "cold: a process of its own"


def identity(report: RunReport) -> Iterator[Fact]:
    """What ran, where, when."""
    yield Fact("run", report.run_id)
    variant = report.checkout.variant if report.checkout else None
    yield Fact("model", f"{report.model or words.NOTHING}{f' ({variant})' if variant else ''}")
    yield Fact("backend", report.backend or words.NOTHING)
    if devices := _devices(report):
        yield Fact("devices", devices)
    yield Fact("start", heat(report))
    yield Fact("started", words.moment(report.started_at))
    if report.expected:
        it = report.expected
        yield Fact(
            "makes",
            f"{it.frames} frames in {it.chunks} chunks, {words.number(it.duration_s)} s at {words.number(it.fps)} fps, "
            f"{it.width}x{it.height}",
        )


def machine(report: RunReport) -> Iterator[Fact]:
    """The machine, the checkout and the versions."""
    for name, found in report.host.items():
        unit = " GiB" if name.endswith(_GIB) else ""
        yield Fact(_plain(name), f"{words.value(found)}{unit}")
    if report.checkout:
        yield Fact("checkout", report.checkout.path)
        yield Fact("revision", _revision(report))
    for name, found in report.versions.items():
        yield Fact(name, found)
    for name, peak in report.memory.items():
        if name.endswith(_GIB):
            yield Fact(f"memory, {_plain(name)}", f"{words.number(peak)} GiB")


def figures(report: RunReport) -> Iterator[Fact]:
    """The timings that are no phases: counts, averages, rates."""
    for key, found in report.timings.items():
        if key in PHASES or is_earlier_step(key):
            continue
        yield Fact(key, words.span(found) if "_ms" in key else words.number(found))


def knobs(report: RunReport) -> Iterator[Knob]:
    """Every knob, those that somebody set first."""
    rows = [
        Knob(
            name=name,
            value=words.value(found),
            source=report.config_sources.get(name, words.NOTHING),
            carrier=report.config_carriers.get(name, words.NOTHING),
            chosen=report.config_sources.get(name, MODEL_DEFAULT) != MODEL_DEFAULT,
        )
        for name, found in report.config_resolved.items()
    ]
    yield from sorted(rows, key=lambda row: not row.chosen)


def verdicts(report: RunReport) -> Iterator[Verdict]:
    """Every check, those that failed or warn first."""
    order = (CheckStatus.FAILED, CheckStatus.WARNED, CheckStatus.PASSED, CheckStatus.SKIPPED)
    for check in sorted(report.checks, key=lambda check: order.index(check.status)):
        yield Verdict(
            name=check.name,
            status=check.status.value,
            detail=_detail(check),
            hint=check.hint,
            telling=check.status in (CheckStatus.FAILED, CheckStatus.WARNED),
        )


def failure(error: ErrorInfo) -> Failure:
    """Why the run ended badly, in words."""
    where = [
        f"rank {error.rank}" if error.rank is not None else None,
        f"signal {error.signal}" if error.signal else None,
        f"the process ended with {error.child_exit_code}" if error.child_exit_code is not None else None,
        f"exit code {error.exit_code}",
    ]
    title = f"{error.code} ({', '.join(part for part in where if part)})"
    return Failure(title, error.message, error.hint, words.Listing.of(error.log_tail))


def inputs(report: RunReport) -> Iterator[Fact]:
    """The input files and what they are."""
    for name, info in report.inputs.items():
        parts = [info.path]
        if info.media:
            parts.append(words.value(info.media))
        if info.sha256:
            parts.append(f"SHA-256 {info.sha256[:_HASH_SHOWN]}…")
        yield Fact(name, "\n".join(parts))


def files(report: RunReport) -> Iterator[Fact]:
    """What the run left."""
    for artifact in report.artifacts:
        yield Fact(artifact.kind, "\n".join(filter(None, (artifact.path, _shape(artifact)))))
    for path in report.kept:
        yield Fact("kept", path)
    if report.log_path:
        yield Fact("log", report.log_path)
    if report.scratch_dir:
        yield Fact("scratch", report.scratch_dir)


def _devices(report: RunReport) -> str | None:
    used = report.devices.used if report.devices else []
    if not used:
        return None
    names = sorted({device.name for device in used if device.name})
    ids = ", ".join(device.id for device in used[: words.MOST_ITEMS])
    return f"{ids} ({', '.join(names)})" if names else ids


def _plain(name: str) -> str:
    return name.removesuffix(_GIB).replace("_", " ")


def _revision(report: RunReport) -> str:
    assert report.checkout is not None
    dirty = " with local changes" if report.checkout.dirty else ""
    return f"{report.checkout.revision or 'not known'}{dirty}"


def _shape(artifact: Artifact) -> str:
    parts = [
        f"{artifact.num_frames} frames" if artifact.num_frames is not None else None,
        f"{words.number(artifact.duration_s)} s" if artifact.duration_s is not None else None,
        f"{words.number(artifact.fps)} fps" if artifact.fps is not None else None,
        f"{artifact.width}x{artifact.height}" if artifact.width is not None else None,
        words.amount(artifact.size_bytes) if artifact.size_bytes is not None else None,
    ]
    return ", ".join(part for part in parts if part)


def _detail(check: Check) -> str:
    if check.detail:
        return check.detail
    known = (("expected", check.expected), ("found", check.actual))
    return ", ".join(f"{name} {words.value(found)}" for name, found in known if found is not None)

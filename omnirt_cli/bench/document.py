"""What `omnirt bench` saves and prints: the samples as they were, the figures made of them, and under which conditions.

Times are milliseconds, memory GiB, rates ratios. A figure that was not measured is absent, never zero.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from pydantic import ConfigDict, Field

from omnirt_cli.checks import Check
from omnirt_cli.report import ChunkInfo, Document, ErrorInfo, RunStatus
from omnirt_cli.runs.compare import Difference, Pair

SCHEMA_VERSION = "1.0.0"

Heat = Literal["cold", "hot"]


class BenchStatus(str, Enum):
    """How a benchmark ended. `running` is what a killed one leaves behind."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Sample(Document):
    """One request: its report's own figures, raw.

    Attributes:
        number: From 1, in the order of their ends.
        case: The row of a sweep that it belongs to; empty where there is one row only.
        measured: It counts in the figures. A failed request counts among the failures.
        left_out: Why it does not count.
        began_ms: When it began, since the benchmark began.
        end_to_end_ms: From the request to the verified video in its place (the report's `total_ms`).
        picture: The finished video, e.g. `416x704 / 25 FPS / 10 s / 250 frames`.
        memory: `device_peak_gib`, `host_peak_gib` (the model's processes) and `own_rss_gib` (this process, afterwards).
        checks: The verdicts on the finished video.
        fell_back: The warning of a checkout that gave quantizing up and went on without; None where there is none.
    """

    number: int = 0
    case: str = ""
    heat: Heat
    measured: bool = True
    left_out: str | None = None
    status: RunStatus
    run_id: str | None = None
    worker_id: str | None = None
    began_ms: float = 0.0
    end_to_end_ms: float | None = None
    queue_wait_ms: float | None = None
    picture: str | None = None
    timings: dict[str, float] = Field(default_factory=dict)
    chunks: list[ChunkInfo] = Field(default_factory=list)
    memory: dict[str, float] = Field(default_factory=dict)
    checks: dict[str, str] = Field(default_factory=dict)
    fell_back: str | None = None
    output: str | None = None
    report_path: str | None = None
    log_path: str | None = None
    error: ErrorInfo | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the request gave its video (or its table)."""
        return self.status is RunStatus.SUCCEEDED


class Conditions(Document):
    """What a part's figures were measured under: what must be alike before two of them are compared.

    Attributes:
        devices: The devices' names, one entry for each device.
        knobs: Every knob as it ran; `sources` says where each came from.
        core_scope: What the script's own chunk time covers.
        chunk_media_ms: How much video one chunk adds.
        chunk_frames: The frames that one chunk adds.
    """

    model: str | None = None
    variant: str | None = None
    revision: str | None = None
    dirty: bool | None = None
    backend: str | None = None
    execution_mode: str | None = None
    devices: list[str] = Field(default_factory=list)
    processes: int | None = None
    picture: str | None = None
    knobs: dict[str, Any] = Field(default_factory=dict)
    sources: dict[str, str] = Field(default_factory=dict)
    core_scope: str | None = None
    chunk_media_ms: float
    chunk_frames: int
    warmup_chunks: int
    host: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)


class Published(Document):
    """A published figure that this measurement may be compared with.

    Attributes:
        ratio: Measured over published.
    """

    what: str
    published_ms: float
    measured_ms: float
    ratio: float
    hardware: str
    settings: str
    source: str


class Row(Document):
    """One line of the table: one case, cold or hot, never both.

    Attributes:
        case: What sets it apart from the other rows, e.g. `max_chunks=3`; empty where there is one case only.
        figures: Name -> value, as `cold` and `hot` have them.
    """

    case: str = ""
    heat: Heat
    figures: dict[str, float] = Field(default_factory=dict)
    conditions: Conditions | None = None
    run_ids: list[str] = Field(default_factory=list)
    folder: str
    picture: str | None = None
    checks: dict[str, str] = Field(default_factory=dict)
    published: list[Published] = Field(default_factory=list)


class RowComparison(Document):
    """A row beside the same row of the baseline (`a` is the baseline's, `b` this one's; ratio `b / a`).

    Attributes:
        comparable: False where hardware, model or speed-deciding knobs differ: then there are no pairs.
    """

    case: str = ""
    heat: Heat
    comparable: bool
    pairs: list[Pair] = Field(default_factory=list)
    knobs: list[Difference] = Field(default_factory=list)
    conditions: list[Difference] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class Overhead(Document):
    """The plain script against OmniRT's run of it, by phase, over interleaved pairs.

    Attributes:
        pairs: How many pairs count.
        phases: Medians in milliseconds; `a` is the plain script's, `b` OmniRT's.
        overhead_ms_p50: Median of OmniRT's whole time less the script's, pair by pair.
        unverified_ms_p50: The same without checking and publishing the video, which OmniRT does on purpose.
        plain: The plain script's own times, run by run.
    """

    pairs: int
    phases: list[Pair] = Field(default_factory=list)
    overhead_ms_p50: float | None = None
    overhead_ms_p90: float | None = None
    unverified_ms_p50: float | None = None
    plain: list[dict[str, float]] = Field(default_factory=list)
    errors: list[str] = Field(default_factory=list)


class Growth(Document):
    """What one kind of memory did over the requests of a soak.

    Attributes:
        requests: How many points the line was laid through.
        start_gib: The line at its first point.
        slope_mib: MiB more with each request.
        grown_gib: What the line rises from its first to its last point.
    """

    name: str
    requests: int
    start_gib: float
    slope_mib: float
    grown_gib: float


class HarnessInfo(Document):
    """The table that the checkout's own benchmark printed for one row.

    Attributes:
        table: The table's rows as printed.
        quantization: The mode that it says it ran in, whether it did or not.
    """

    case: str = ""
    table: dict[str, str] = Field(default_factory=dict)
    quantization: str | None = None


class Asked(Document):
    """What was to be measured."""

    scenario: str | None = None
    harness: str | None = None
    heats: list[Heat]
    warmup_chunks: int
    num_chunks: int | None = None
    requests: dict[str, int] = Field(default_factory=dict)
    concurrency: int = 1
    duration_s: float | None = None
    against_script: bool = False
    request: dict[str, Any] = Field(default_factory=dict)


class BenchReport(Document):
    """The whole benchmark.

    Attributes:
        cold, hot: Figures by name; of the last row, where a sweep has several; null where that was not measured.
        rows: Every row, with its conditions.
        gates: What was required, and whether it held.
    """

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), defer_build=True)

    schema_version: str = SCHEMA_VERSION
    bench_id: str
    status: BenchStatus = BenchStatus.RUNNING
    started_at: str
    finished_at: str | None = None
    folder: str
    asked: Asked
    cold: dict[str, float] | None = None
    hot: dict[str, float] | None = None
    rows: list[Row] = Field(default_factory=list)
    samples: list[Sample] = Field(default_factory=list)
    gates: list[Check] = Field(default_factory=list)
    baseline: str | None = None
    comparisons: list[RowComparison] = Field(default_factory=list)
    overhead: Overhead | None = None
    growth: list[Growth] = Field(default_factory=list)
    harness: list[HarnessInfo] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    error: ErrorInfo | None = None

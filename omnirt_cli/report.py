"""The documents a run leaves: RunReport, Artifact, GenerateResult. `omnirt schema report` prints their JSON Schema.

Every key of the published report (schema 1.0.0) is kept; `error` is an object since 2.0.0. Times are milliseconds,
memory GiB, stamps UTC in ISO 8601.
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from omnirt_cli.checks import Check
from omnirt_cli.finding import Finding

SCHEMA_VERSION = "2.0.0"


class RunStatus(str, Enum):
    """Where a run stands. `running` becomes exactly one of the others, once."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    INTERRUPTED = "interrupted"


class Document(BaseModel):
    """Base of what leaves the process.

    A part that is never made by itself is not worth a validator of its own: those are built when they are needed.
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=False, defer_build=True)


class Artifact(Document):
    """A file that the run left."""

    kind: Literal["image", "video", "audio", "text"] = "video"
    path: str
    mime: str = "video/mp4"
    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    size_bytes: int | None = None
    sha256: str | None = None
    transport: Literal["path", "inline_bytes"] = "path"
    data_b64: str | None = None


class ErrorInfo(Document):
    """Why a run ended badly."""

    code: str
    message: str
    hint: str | None = None
    exit_code: int
    rank: int | None = None
    signal: str | None = None
    child_exit_code: int | None = None
    log_tail: list[str] = Field(default_factory=list)


class CommandInfo(Document):
    """What was started; `env` holds only what OmniRT set.

    Attributes:
        processes: Ranks.
    """

    argv: list[str]
    cwd: str
    processes: int | None = None
    env: dict[str, str] = Field(default_factory=dict)
    env_script: str | None = None


class CheckoutInfo(Document):
    """The external checkout as it was."""

    path: str
    revision: str | None = None
    variant: str | None = None
    dirty: bool | None = None


class UsePoint(Document):
    """What a device held and did at one time of the run, or between the point before and this one.

    Attributes:
        at_ms: Milliseconds since the run began.
        memory_gib: The most that was held, by whomever.
        use_percent: How much it computed, on average.
    """

    at_ms: int
    memory_gib: float | None = None
    use_percent: float | None = None


class DeviceInfo(Document):
    """One device that the run used.

    Attributes:
        memory_peak_gib: The most that it was seen to hold, whoever held it.
        memory_growth_gib: That less what it held before the launch.
        memory_own_peak_gib: The most that the run's own processes were seen to hold, where the vendor's tool tells.
        memory_peak_source: Who told the peak: `nvml`, `nvidia-smi`, `npu-smi`, or `torch` in the model's process.
        use_percent_avg: How much it computed, over all looks, loading included.
        use_series: How both went, in a bounded number of points.
    """

    id: str
    name: str | None = None
    memory_total_gib: float | None = None
    memory_free_before_gib: float | None = None
    memory_peak_gib: float | None = None
    memory_growth_gib: float | None = None
    memory_own_peak_gib: float | None = None
    memory_peak_source: str | None = None
    use_percent_avg: float | None = None
    use_series: list[UsePoint] = Field(default_factory=list)


class SamplingInfo(Document):
    """How the devices were looked at while the run went on.

    Attributes:
        source: Who told: `nvml`, `nvidia-smi` or `npu-smi`; None where nobody did.
        looks: How often it did.
        interval_ms: The mean time between two looks.
        problem: Why there are fewer looks than there could be, or none, in one sentence.
    """

    source: str | None = None
    looks: int = 0
    interval_ms: float | None = None
    problem: str | None = None


class DevicesInfo(Document):
    """Which devices were asked for and which were used."""

    kind: str
    requested: str | None = None
    used: list[DeviceInfo] = Field(default_factory=list)
    sampling: SamplingInfo | None = None


class CompileCacheInfo(Document):
    """Where compiled kernels were kept for the next run.

    Attributes:
        directory: None where the user's own settings rule, on the CPU, and where none could be made.
        warm: Something compiled was there already.
        note: Why there is none although one was wanted.
    """

    directory: str | None = None
    warm: bool = False
    note: str | None = None


class ReadAheadInfo(Document):
    """What was read into the page cache while the model's interpreter started.

    Attributes:
        already_cached_bytes: How much of it was there before; None where the kernel does not tell.
        complete: It came to the end of what was planned before the weights were loaded.
    """

    files: int
    bytes: int
    ms: float
    already_cached_bytes: int | None = None
    complete: bool


class InputInfo(Document):
    """One input file: where it is, what it is."""

    path: str
    sha256: str | None = None
    media: dict[str, Any] = Field(default_factory=dict)


class ExpectedInfo(Document):
    """What the run was going to produce, known before it started."""

    chunks: int
    frames: int
    fps: float
    duration_s: float
    width: int
    height: int


class ChunkInfo(Document):
    """One generation step as the log shows it; keys are absent where the checkout does not print them.

    Attributes:
        core_ms: The time the script prints for the chunk.
        core_scope: What that time covers; unlike scopes are not compared.
        interval_ms: Wall time since the previous chunk's end (or the start of the loop, for the first).
        chunk_total_ms: Sum of its phases: embedding, core and copy. Where these overlap with other chunks', the
            interval is shorter.
    """

    index: int
    core_ms: float | None = None
    core_scope: str | None = None
    interval_ms: float | None = None
    at_ms: float | None = None
    denoise_steps_ms: list[float] = Field(default_factory=list)
    vae_decode_ms: float | None = None
    color_correction_ms: float | None = None
    motion_encode_ms: float | None = None
    audio_embedding_ms: float | None = None
    chunk_copy_ms: float | None = None
    encode_wait_ms: float | None = None
    chunk_total_ms: float | None = None


class RunReport(Document):
    """Everything that is known of one run, for success and failure alike.

    Attributes:
        hot: A resident worker had the model loaded already; null for a run without one.
    """

    schema_version: str = SCHEMA_VERSION
    run_id: str
    status: RunStatus
    task: str = "audio2video"
    model: str | None = None
    backend: str | None = None
    execution_mode: Literal["subprocess", "persistent_worker"] = "subprocess"
    started_at: str
    finished_at: str | None = None
    request: dict[str, Any] = Field(default_factory=dict)
    config_resolved: dict[str, Any] = Field(default_factory=dict)
    config_sources: dict[str, str] = Field(default_factory=dict)
    config_carriers: dict[str, str] = Field(default_factory=dict)
    command: CommandInfo | None = None
    checkout: CheckoutInfo | None = None
    devices: DevicesInfo | None = None
    inputs: dict[str, InputInfo] = Field(default_factory=dict)
    expected: ExpectedInfo | None = None
    timings: dict[str, float] = Field(default_factory=dict)
    chunks: list[ChunkInfo] = Field(default_factory=list)
    checks: list[Check] = Field(default_factory=list)
    skipped_checks: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    artifacts: list[Artifact] = Field(default_factory=list)
    kept: list[str] = Field(default_factory=list)
    log_path: str | None = None
    job_id: str | None = None
    trace_id: str | None = None
    worker_id: str | None = None
    hot: bool | None = None
    enqueued_at_ms: int | None = None
    queue_wait_ms: float | None = None
    memory: dict[str, float] = Field(default_factory=dict)
    backend_timeline: list[dict[str, Any]] = Field(default_factory=list)
    device_placement: dict[str, str] = Field(default_factory=dict)
    cache_hits: list[str] = Field(default_factory=list)
    compile_cache: CompileCacheInfo | None = None
    read_ahead: ReadAheadInfo | None = None
    batch_size: int = 1
    batch_group_id: str | None = None
    latent_stats: dict[str, Any] | None = None
    stream_events: list[dict[str, Any]] = Field(default_factory=list)
    error: ErrorInfo | None = None
    findings: list[Finding] = Field(default_factory=list)
    host: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    scratch_dir: str | None = None


class GenerateResult(Document):
    """What `generate` returns, and `--json` prints: the outputs and the report."""

    outputs: list[Artifact]
    metadata: RunReport

    @property
    def path(self) -> Path:
        """The delivered video.

        Raises:
            IndexError: The run left no video.
        """
        return Path(self.outputs[0].path)

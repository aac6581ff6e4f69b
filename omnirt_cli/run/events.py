"""What happens during a run, as typed events in order.

The progress display, `--events`, the report and later servers listen to this one stream; none of them parses logs.
`omnirt schema event` prints the JSON Schema.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from omnirt_cli.finding import Finding
from omnirt_cli.report import RunStatus


class Stage(str, Enum):
    """The phases of a render, in order."""

    WAIT = "wait"
    """For devices that other runs hold."""
    PREPARE = "prepare"
    EARLIER = "earlier"
    """A step before the script, e.g. a text encoder's own launch."""
    LAUNCH = "launch"
    LOAD = "load"
    GENERATE = "generate"
    SAVE = "save"
    VERIFY = "verify"


class BaseEvent(BaseModel):
    """Common to every event.

    Attributes:
        sequence: Counts up from 1 without gaps within a run.
        at_ms: Milliseconds since the run began, monotonic.
    """

    # A run tells two events before its launch; the others' validators are built when the first of a kind happens.
    model_config = ConfigDict(frozen=True, defer_build=True)

    run_id: str = ""
    sequence: int = 0
    at_ms: float = 0.0


class RunStarted(BaseEvent):
    """The run exists; its report with status `running` is on disk."""

    event: Literal["run_started"] = "run_started"
    model: str
    output: str
    log_path: str
    chunks: int | None = None
    frames: int | None = None
    duration_s: float | None = None


class StageStarted(BaseEvent):
    """A phase began.

    Attributes:
        detail: What it is about, where its name does not say: who is waited for, which earlier step.
    """

    event: Literal["stage_started"] = "stage_started"
    stage: Stage
    detail: str | None = None


class StageFinished(BaseEvent):
    """A phase ended."""

    event: Literal["stage_finished"] = "stage_finished"
    stage: Stage
    duration_ms: float


class StepFinished(BaseEvent):
    """One denoising step of the current chunk ended (where the checkout prints it)."""

    event: Literal["step_finished"] = "step_finished"
    chunk: int
    step: int
    duration_ms: float


class ChunkFinished(BaseEvent):
    """A chunk of frames was generated.

    Attributes:
        index: From 0.
        total: Chunks expected, None where the arithmetic is unknown.
        core_ms: The time the script printed.
        interval_ms: Wall time since the previous chunk ended.
        rtf: Processing time over media time so far, from intervals.
        eta_s: Time left until the last chunk, from the steady interval; None before two chunks are done.
    """

    event: Literal["chunk_finished"] = "chunk_finished"
    index: int
    total: int | None = None
    core_ms: float | None = None
    interval_ms: float | None = None
    rtf: float | None = None
    eta_s: float | None = None


class LogLine(BaseEvent):
    """A warning or an error of the script's own logger; the first fifty of a run."""

    event: Literal["log_line"] = "log_line"
    text: str
    rank: int | None = None


class Warned(BaseEvent):
    """Something a person should know, though it stops nothing."""

    event: Literal["warning"] = "warning"
    message: str


class Diagnosed(BaseEvent):
    """What the finished report shows to a reader who knows the models: what was slow or missing, why, what to do."""

    event: Literal["finding"] = "finding"
    finding: Finding


class RunFinished(BaseEvent):
    """The run is over and its report is on disk."""

    event: Literal["run_finished"] = "run_finished"
    status: RunStatus
    exit_code: int
    report_path: str | None = None
    output: str | None = None
    error: str | None = None


Event = Annotated[
    RunStarted
    | StageStarted
    | StageFinished
    | StepFinished
    | ChunkFinished
    | LogLine
    | Warned
    | Diagnosed
    | RunFinished,
    Field(discriminator="event"),
]
"""Any event; its `event` key tells which."""

Listener = Callable[[BaseEvent], None]
"""Called in the engine's thread, in order; it must not block."""

"""What goes in and out over HTTP, as documents. Says nothing of how a job is run."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnirt_cli.errors import NotAuthorisedError
from omnirt_cli.report import Artifact, ErrorInfo, RunReport
from omnirt_cli.request import BackendChoice, PathText, Text
from omnirt_cli.server.jobs.states import JobState
from omnirt_cli.server.knobs import OPERATORS, GenerationConfig
from omnirt_cli.server.problems import Problem, refuse_values

MOST_PROMPT_CHARACTERS = 10_000


class Priority(str, Enum):
    """Which of the waiting jobs comes first; within one, they come in turn."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class RequestInputs(BaseModel):
    """The inputs: paths under the server's media root, where it has one. Files are uploaded as multipart/form-data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: PathText | None = Field(default=None, description="The face portrait.", max_length=4096)
    audio: PathText | None = Field(default=None, description="The speech.", max_length=4096)
    prompt: Text | None = Field(
        default=None,
        description="A hint at expression and emotion, where the model takes one.",
        max_length=MOST_PROMPT_CHARACTERS,
    )


class JobBody(BaseModel):
    """One render. Presets, settings and defaults apply as they do on the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=True, protected_namespaces=())

    task: Literal["audio2video"] = "audio2video"
    model: str = Field(description="Model id, e.g. soulx-flashtalk-14b.", max_length=100)
    backend: BackendChoice | None = Field(default=None, description="auto, ascend, cuda or cpu.")
    inputs: RequestInputs = Field(default_factory=RequestInputs)
    config: GenerationConfig = Field(default_factory=GenerationConfig, description="Generation knobs.")
    adapters: None = Field(default=None, description="For requests of other servers; always null.")
    priority: Priority = Field(default=Priority.NORMAL, description="high, normal or low.")


class GenerateBody(JobBody):
    """A render, waited for or not."""

    async_run: bool = Field(default=False, description="Answer at once with a job, and render in the background.")


class Progress(BaseModel):
    """How far a running job is.

    Attributes:
        stage: wait, prepare, launch, load, generate, save or verify.
        chunks_done: Generation steps that are done.
        chunks: Generation steps in all.
        eta_s: Seconds until the last one, where that can be told.
    """

    stage: str | None = None
    chunks_done: int = 0
    chunks: int | None = None
    eta_s: float | None = None


class ServedArtifact(Artifact):
    """A file of a job, and where it can be fetched."""

    url: str | None = None


class ServedResult(BaseModel):
    """What a synchronous `generate` answers: the published GenerateResult, its files with addresses."""

    outputs: list[ServedArtifact]
    metadata: RunReport


class Links(BaseModel):
    """Where a job's parts are."""

    self: str
    events: str
    log: str
    report: str
    video: str


class JobDocument(BaseModel):
    """A job.

    Attributes:
        id: Its id, in every address of it.
        state: queued, running, succeeded, failed or cancelled.
        request: As it came in.
        attempt: How often it was started; more than once only if the server or the render's process was killed.
        position: Jobs that come before it, while it waits.
        cancel_requested: Somebody asked for its end, and it is being stopped.
        execution_mode: `persistent_worker` where a resident worker rendered it, else `subprocess`.
        run_id: Of the last attempt, as `omnirt runs` has it.
        result: The files and the report of a job that succeeded; left out of lists.
        error: Why it failed.
    """

    id: str
    state: JobState
    model: str
    backend: str | None = None
    priority: Priority
    request: dict[str, Any]
    attempt: int
    position: int | None = None
    cancel_requested: bool = False
    enqueued_at_ms: int
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    execution_mode: str | None = None
    run_id: str | None = None
    worker_id: str | None = None
    progress: Progress | None = None
    result: ServedResult | None = None
    error: ErrorInfo | None = None
    links: Links


class JobList(BaseModel):
    """A page of jobs, newest first.

    Attributes:
        next: The `cursor` of the next page; null on the last.
    """

    object: Literal["list"] = "list"
    data: list[JobDocument]
    next: str | None = None


def parse_body(kind: type[JobBody], text: bytes) -> JobBody:
    """A JSON body as a request.

    Raises:
        Problem: It does not fit the schema, or sets what only the operator sets.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise _refused(error) from error


def _refused(error: ValidationError) -> Problem:
    for found in error.errors():
        place = found["loc"]
        if len(place) == 2 and place[0] == "config" and place[1] in OPERATORS:
            return Problem(
                NotAuthorisedError(
                    f"config.{place[1]} is set by who runs the server, not by a request",
                    hint="leave it out; the server's settings are its environment and omnirt.yaml",
                )
            )
    return refuse_values(error)

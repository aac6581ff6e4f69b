"""What a server says of its jobs and models. Keys that a newer server adds are passed over."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from omnirt_cli.client.answers import not_a_server
from omnirt_cli.report import ErrorInfo
from omnirt_cli.server.jobs.states import JobState

Kind = TypeVar("Kind", bound=BaseModel)


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Progress(_Answer):
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


class Job(_Answer):
    """A job on a server.

    Attributes:
        state: queued, running, succeeded, failed or cancelled.
        request: As it was asked for.
        attempt: How often it was started.
        position: Jobs that come before it, while it waits.
        cancel_requested: It is being stopped.
        enqueued_at_ms: Milliseconds since the epoch, as the other two.
        run_id: Of the last attempt, as `omnirt runs` has it there.
        error: Why it failed.
    """

    id: str
    state: JobState
    model: str
    backend: str | None = None
    priority: str = "normal"
    request: dict[str, Any] = Field(default_factory=dict)
    attempt: int = 0
    position: int | None = None
    cancel_requested: bool = False
    enqueued_at_ms: int = 0
    started_at_ms: int | None = None
    finished_at_ms: int | None = None
    execution_mode: str | None = None
    run_id: str | None = None
    worker_id: str | None = None
    progress: Progress | None = None
    error: ErrorInfo | None = None


class JobPage(_Answer):
    """Some of a server's jobs.

    Attributes:
        next: The cursor of the next page.
    """

    data: list[Job]
    next: str | None = None


class Model(_Answer):
    """A model of a server.

    Attributes:
        presets: Preset -> what it sets, in words.
        knobs: Knob that a request may set -> what it does.
        ready: Whether it can be rendered right now; None while nobody has looked.
    """

    id: str
    summary: str = ""
    default_backend: str | None = None
    inputs: list[str] = Field(default_factory=list)
    optional_inputs: list[str] = Field(default_factory=list)
    presets: dict[str, str] = Field(default_factory=dict)
    knobs: dict[str, str] = Field(default_factory=dict)
    ready: bool | None = None


class ModelPage(_Answer):
    """Every model of a server."""

    data: list[Model]


class ModelHealth(_Answer):
    """Whether a model can be rendered, why not, and what to do about it."""

    ok: bool
    reason: str | None = None
    hint: str | None = None


class Health(_Answer):
    """Whether a server can render.

    Attributes:
        ok: A request can be taken, and some model can be rendered.
        reason: Why not.
        running: Jobs that are being rendered.
        waiting: Jobs that wait.
    """

    ok: bool
    reason: str | None = None
    models: dict[str, ModelHealth] = Field(default_factory=dict)
    running: int = 0
    waiting: int = 0
    max_concurrency: int | None = None


def read(kind: type[Kind], document: Any, url: str) -> Kind:
    """A document of a server.

    Args:
        kind: What it is.
        document: As JSON has it.
        url: The server, for messages.

    Raises:
        InputMissingError: It is something else: no OmniRT server, or one of another time.
    """
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        unknown = [found["loc"] for found in error.errors() if found["type"] == "extra_forbidden"]
    try:
        return kind.model_validate(_without(document, unknown))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise not_a_server(url, f"its {kind.__name__} has a {where} that does not fit") from error


def read_text(kind: type[Kind], text: str, url: str) -> Kind:
    """The same of a document's text.

    Raises:
        InputMissingError: It is something else.
    """
    try:
        document = json.loads(text)
    except ValueError:
        raise not_a_server(url, f"its {kind.__name__} is not JSON") from None
    return read(kind, document, url)


def _without(document: Any, places: list[tuple[int | str, ...]]) -> Any:
    kept = deepcopy(document)
    for *way, key in places:
        part = kept
        for step in way:
            part = part[step]
        del part[key]
    return kept

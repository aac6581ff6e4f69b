"""What a client and the daemon tell each other of workers: the key, the launch, the state, and what a request met.

Frozen types, each with its JSON form. Neither side's behaviour is in here, and nothing of any model.
"""

from __future__ import annotations

import base64
import binascii
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer, TypeAdapter, ValidationError

DEFAULT_IDLE_TIMEOUT_S = 15 * 60.0
DEFAULT_START_TIMEOUT_S = 1800.0
"""As long as a cold run may be silent while it loads."""

DEFAULT_GRACE_S = 5.0
DEFAULT_LEAVE_S = 120.0
"""A chunk is left when it is done, and with weights in host memory one takes most of a minute."""


class SpecError(ValueError):
    """A document of the other side's is not what it should be."""


def _unpacked(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"no base64: {error}") from error


def _packed(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


Packed = Annotated[bytes, BeforeValidator(_unpacked), PlainSerializer(_packed, when_used="json")]
"""Bytes that are base64 in JSON."""

Self = TypeVar("Self", bound="Document")


class Document:
    """A frozen dataclass with a JSON form."""

    def to_document(self) -> dict[str, Any]:
        """This as JSON-able values."""
        document: dict[str, Any] = self._form().dump_python(self, mode="json")
        return document

    @classmethod
    def from_document(cls: type[Self], document: object) -> Self:
        """The reverse of `to_document`.

        Raises:
            SpecError: A field is missing or has another type.
        """
        try:
            made: Self = cls._form().validate_python(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise SpecError(f"{cls.__name__}: {where}: {first['msg']}") from error
        return made

    @classmethod
    @functools.cache
    def _form(cls) -> TypeAdapter[Any]:
        return TypeAdapter(cls)


@dataclass(frozen=True)
class WorkerKey(Document):
    """What a loaded model is good for: two requests with equal keys can share a worker, others cannot.

    What a request may choose anew each time (seed, prompt, audio mode, how many chunks) is no part of it.

    Attributes:
        model: The model's id.
        checkout: The checkout's real path.
        revision: Its commit, None where it has none.
        devices_kind: `cuda`, `ascend` or `cpu`.
        processes: Ranks.
        ckpt_dir, wav2vec_dir: Real paths of the weights.
        width, height: Of the picture, in pixels.
        frame_num: Frames of a chunk.
        motion_frames_num: Frames that two chunks share.
        fps: Frames per second.
        quantization: How the weights are stored, None as they are.
        cpu_offload: Whether parts of the model wait in the machine's memory.
        model_type: Which of a checkpoint's models, for models that have several.
        settled: Digest of whatever else a checkout reads only once: interpreter, launcher, environment, private files.
    """

    model: str
    checkout: str
    revision: str | None
    devices_kind: str
    processes: int
    ckpt_dir: str
    wav2vec_dir: str
    width: int
    height: int
    frame_num: int
    motion_frames_num: int
    fps: float
    quantization: str | None = None
    cpu_offload: bool = False
    model_type: str | None = None
    settled: str = ""


@dataclass(frozen=True)
class WorkerSpec(Document):
    """How a worker is started. It stays the same for every restart.

    Attributes:
        device_ids: The devices as the child's visibility variable names them, in its order; empty on the CPU.
        argv: The whole command line; `argv[0]` is a path. Other paths are absolute, or relative to the worker's
            private directory.
        env: The whole environment.
        files: What is written into the private directory first, by relative name (`serve.json` among them).
        title: What people are told that this is, e.g. `flashtalk 416x704`.
        idle_timeout_s: Without a request for so long, it is stopped; 0 is never.
        start_timeout_s: Not ready after so long, it is killed; 0 is never.
        grace_s: Between a request to end and force, at each step of a stop.
        leave_s: It may take so long to leave a request whose client has given it up; then it is started anew.
        socket: The worker's own socket in its private directory.
        umask: Permissions that no file of the worker gets; None leaves the daemon's own.
        unfit: Literals of which one in a line that is printed while it loads means that it gave up something that the
            key says it has; it serves nobody then.
    """

    key: WorkerKey
    device_ids: tuple[str, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    files: Mapping[str, Packed]
    title: str
    idle_timeout_s: float = DEFAULT_IDLE_TIMEOUT_S
    start_timeout_s: float = DEFAULT_START_TIMEOUT_S
    grace_s: float = DEFAULT_GRACE_S
    leave_s: float = DEFAULT_LEAVE_S
    socket: str = "worker.sock"
    umask: int | None = None
    unfit: tuple[str, ...] = ()


class WorkerState(str, Enum):
    """Where a worker stands; `TRANSITIONS` says what follows what."""

    LOADING = "loading"
    READY = "ready"
    BUSY = "busy"
    FAILED = "failed"
    STOPPING = "stopping"


TRANSITIONS: Mapping[WorkerState, frozenset[WorkerState]] = {
    # A restart, its wait included, is loading again.
    WorkerState.LOADING: frozenset({WorkerState.READY, WorkerState.FAILED, WorkerState.STOPPING}),
    WorkerState.READY: frozenset({WorkerState.BUSY, WorkerState.LOADING, WorkerState.FAILED, WorkerState.STOPPING}),
    WorkerState.BUSY: frozenset({WorkerState.READY, WorkerState.LOADING, WorkerState.FAILED, WorkerState.STOPPING}),
    # Both are ends: what failed has no process and no device, what stops is forgotten once it is gone.
    WorkerState.FAILED: frozenset(),
    WorkerState.STOPPING: frozenset(),
}
"""A worker's states and those that may follow each."""


@dataclass(frozen=True)
class WorkerInfo(Document):
    """A worker as the daemon sees it at one moment.

    Attributes:
        id: Eight hexadecimal digits.
        pid: The launcher's process number; 0 while there is none.
        queue: Requests that wait for it; the one that it is at is not counted.
        requests_done: Requests that ended, well or not.
        restarts: Times that it was started again.
        started_at: When the daemon was given it, UTC, ISO 8601.
        uptime_s: Seconds since then.
        idle_s: Seconds since its last request ended; None while it is not idle.
        last_error: Why it failed or was restarted last.
        rss_bytes: Resident memory of its processes together; None while there is none.
        loaded_s: How long the model took to load.
        request: The request that it is at.
        log: Its log's path.
        folder: The private directory that it runs in.
        device: What its rank 0 computes on, e.g. `cuda:0`.
        world_size: Its ranks.
        params: The checkout's `infer_params` as they were after loading, as far as JSON has them.
    """

    id: str
    key: WorkerKey
    title: str
    state: WorkerState
    device_ids: tuple[str, ...]
    pid: int
    queue: int
    requests_done: int
    restarts: int
    started_at: str
    uptime_s: float
    log: str
    folder: str
    idle_s: float | None = None
    last_error: str | None = None
    rss_bytes: int | None = None
    loaded_s: float | None = None
    request: str | None = None
    device: str | None = None
    world_size: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost by stopping it but its loaded model."""
        return self.state is WorkerState.READY and self.queue == 0


@dataclass(frozen=True)
class DaemonInfo(Document):
    """The daemon as a client sees it.

    Attributes:
        pid: Its process number.
        version: The code that it is of, see `resident.version`.
        folder: Its runtime directory.
        log: Its own log's path.
    """

    pid: int
    version: str
    folder: str
    log: str


class FailureReason(str, Enum):
    """Why a request ended badly."""

    REFUSED = "refused"
    """The worker cannot carry it out as it is written; no rank heard of it."""
    ERROR = "error"
    """A rank raised an error; the worker lives if the model's state is sound."""
    CANCELLED = "cancelled"
    CRASHED = "crashed"
    """The worker's process ended, or was unsound, while it was at the request."""
    NO_WORKER = "no_worker"
    """The worker did not load, crashed too often, or was stopped before it came to the request."""
    DAEMON_GONE = "daemon_gone"


@dataclass(frozen=True)
class HotFacts(Document):
    """What a request met in the daemon, known once it has ended.

    Attributes:
        worker_id: The worker that it was given to.
        was_loading: Whether it had to wait for the model to load.
        queue_wait_ms: How long it waited for other requests.
        load_ms: How long it waited for loading; None where it did not.
        retried: Whether it was given to the worker again, after a crash that it did not cause.
        reused: Whether the portrait's and the prompt's preparation was there already; None where that is unknown.
        prepare_ms: How long that preparation took.
        reason: Why it failed; None for a good end.
        failure: The same in words, e.g. a rank's `ValueError: ...`.
        rank: The rank that said so.
        chunks: Chunks that were made.
        rss_bytes: Resident memory of the worker at the end, by its own account.
        device_peak_bytes: The most device memory of rank 0 so far; None where it cannot be told.
    """

    worker_id: str
    was_loading: bool = False
    queue_wait_ms: float = 0.0
    load_ms: float | None = None
    retried: bool = False
    reused: bool | None = None
    prepare_ms: float | None = None
    reason: FailureReason | None = None
    failure: str | None = None
    rank: int | None = None
    chunks: int | None = None
    rss_bytes: int | None = None
    device_peak_bytes: int | None = None

"""The plan of one render: frozen data that says exactly what will be started, where, and what it will leave.

`--dry-run` prints it. Nothing here decides, starts or writes: the planner makes plans, executors carry them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from launchers.command import Launcher
from omnirt_cli.devices.device import Device
from omnirt_cli.devices.selection import DeviceRequest
from omnirt_cli.devices.visibility import VARIABLES, Visibility
from omnirt_cli.models.base import (
    MODEL_DEFAULT,
    AudioPlan,
    Backend,
    Geometry,
    KnobValue,
    ModelAdapter,
    ScratchNames,
    ScriptCall,
    Variant,
)
from omnirt_cli.output_paths import OutputPaths
from omnirt_cli.report import ExpectedInfo
from omnirt_cli.request import ExecutorChoice

if TYPE_CHECKING:
    from omnirt_cli.checkout import CheckoutFacts
    from omnirt_cli.checkpoints import FileSet
    from omnirt_cli.media.audio import Speech
    from omnirt_cli.media.image import Portrait


@dataclass(frozen=True)
class Launch:
    """How the script's processes are started."""

    launcher: Launcher
    python: Path
    processes: int
    accelerate: Path | None
    in_checkout: bool


@dataclass(frozen=True)
class Limits:
    """When a run is stopped, in seconds; 0 is never.

    Attributes:
        stall_timeout_s: None is the default rule.
        idle_timeout_s: When a worker that the run starts is stopped for want of work; None is the daemon's default.
    """

    timeout_s: float
    stall_timeout_s: float | None
    grace_s: float
    idle_timeout_s: float | None = None


@dataclass(frozen=True)
class VerifyOptions:
    """How the finished video is judged."""

    mode: str
    allow_black: bool
    allow_frozen: bool
    skip: frozenset[str]


@dataclass(frozen=True)
class PublishOptions:
    """What is done with the finished video and the scratch."""

    no_clobber: bool
    metadata: bool
    keep_scratch: bool


@dataclass(frozen=True)
class Plan:
    """One render, decided.

    Attributes:
        executor: Who runs the chunks; `call` is the call of the script, or of the program in its place.
        argv: The whole command; the devices are in `env`.
        env: What OmniRT sets in the child's environment, before the user's own `user_env`.
        devices: What it asks for; None on the CPU, and where no device can be told from another.
        wait_s: How long it may wait for them.
        weights: The checkpoint's files, in the order of loading; empty for a miniature.
        compile_cache: Keep compiled kernels for the next run.
        read_ahead: Read the weights into the page cache while the interpreter starts.
        names: Bare names of the inputs in the scratch directory.
        config: Knob -> value, source and carrier, as the script will really run it.
    """

    run_id: str
    adapter: ModelAdapter
    backend: Backend
    checkout: CheckoutFacts
    variant: Variant
    launch: Launch
    executor: ExecutorChoice
    executor_source: str
    call: ScriptCall
    argv: tuple[str, ...]
    env: Mapping[str, str]
    user_env: Mapping[str, str]
    env_script: Path | None
    names: ScratchNames
    visibility: Visibility
    devices: DeviceRequest | None
    wait_s: float
    geometry: Geometry
    audio: AudioPlan
    encode_mode: str
    expected: ExpectedInfo
    portrait: Portrait
    speech: Speech
    outputs: OutputPaths
    scratch: Path
    config: Mapping[str, KnobValue]
    ckpt_dir: Path
    wav2vec_dir: Path
    weights: tuple[FileSet, ...]
    compile_cache: bool
    read_ahead: bool
    keep_runs_days: float | None
    limits: Limits
    verify: VerifyOptions
    publish: PublishOptions
    warnings: tuple[str, ...]
    skipped_checks: tuple[str, ...]

    def bind(self, devices: Sequence[Device]) -> Plan:
        """The same plan on exactly these devices; nothing else is decided by it."""
        if not devices:
            return self
        visibility = Visibility(self.backend, tuple(device.id for device in devices), self.visibility.source)
        assert visibility.value is not None
        return replace(self, visibility=visibility, env={**self.env, VARIABLES[self.backend]: visibility.value})

    @property
    def driven(self) -> bool:
        """Whether OmniRT's worker program runs the chunks and writes the frames as they come."""
        return self.executor is not ExecutorChoice.SCRIPT

    @property
    def resident(self) -> bool:
        """Whether a worker runs them that keeps its model loaded."""
        return self.executor is ExecutorChoice.RESIDENT

    @property
    def size_is_known(self) -> bool:
        """Whether the checkout or the user says how large the picture is; else the model's usual size is a guess."""
        size = self.config.get("size")
        return bool(self.checkout.infer_params) or (size is not None and size.source != MODEL_DEFAULT)

    @property
    def cwd(self) -> Path:
        """Where the script runs."""
        return self.checkout.path if self.launch.in_checkout else self.scratch


class EarlierDocument(BaseModel):
    """A step before the script, as `--dry-run --json` prints it.

    Attributes:
        device: Null for the first of the run's.
        makes: What it leaves; it is left out where that is there already.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    name: str
    argv: list[str]
    device: str | None = None
    makes: list[str] = Field(default_factory=list)


class PlanDocument(BaseModel):
    """What `--dry-run --json` prints under `plan`; a key is null where a failed check left it unknown.

    Attributes:
        worker_request: What a resident worker is asked for; `argv`, `env` and `files` are those of its start.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    run_id: str
    model: str | None = None
    backend: str | None = None
    variant: str | None = None
    earlier: list[EarlierDocument] = Field(default_factory=list)
    argv: list[str] | None = None
    cwd: str | None = None
    env: dict[str, str] = Field(default_factory=dict)
    env_removed: list[str] = Field(default_factory=list)
    env_script: str | None = None
    files: dict[str, str] = Field(default_factory=dict)
    devices: dict[str, Any] = Field(default_factory=dict)
    expected: ExpectedInfo | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    sources: dict[str, str] = Field(default_factory=dict)
    carriers: dict[str, str] = Field(default_factory=dict)
    outputs: dict[str, str] = Field(default_factory=dict)
    worker_request: dict[str, Any] | None = None
    warnings: list[str] = Field(default_factory=list)

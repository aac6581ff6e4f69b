"""A plan in the making, and what `--dry-run` and `validate` show of it, finished or not."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchers.environment import clean_environment
from omnirt_cli.devices.device import Inventory
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
from omnirt_cli.output_paths import OutputPaths, scratch_place
from omnirt_cli.plan import EarlierDocument, Launch, Plan, PlanDocument
from omnirt_cli.preflight import CheckList
from omnirt_cli.report import ExpectedInfo
from omnirt_cli.request import ExecutorChoice
from omnirt_cli.secrets import without_secrets
from omnirt_cli.settings import Settings

if TYPE_CHECKING:
    from omnirt_cli.checkout import CheckoutFacts
    from omnirt_cli.checkpoints import FileSet
    from omnirt_cli.media.audio import Speech
    from omnirt_cli.media.image import Portrait


@dataclass
class Draft:
    """A plan in the making: what is known so far, and every check's verdict."""

    run_id: str
    checks: CheckList
    asked: dict[str, Any] = field(default_factory=dict)
    settings: Settings = field(default_factory=lambda: Settings({}))
    adapter: ModelAdapter | None = None
    executor: ExecutorChoice = ExecutorChoice.SCRIPT
    backend: Backend | None = None
    checkout: CheckoutFacts | None = None
    implicit_miniature: bool = False
    variant: Variant | None = None
    python: Path | None = None
    env_script: Path | None = None
    ckpt_dir: Path | None = None
    wav2vec_dir: Path | None = None
    portrait: Portrait | None = None
    speech: Speech | None = None
    inventory: Inventory | None = None
    visibility: Visibility | None = None
    devices: DeviceRequest | None = None
    weights: tuple[FileSet, ...] = ()
    config: dict[str, KnobValue] = field(default_factory=dict)
    launch: Launch | None = None
    geometry: Geometry | None = None
    audio: AudioPlan | None = None
    call: ScriptCall | None = None
    argv: tuple[str, ...] | None = None
    env: dict[str, str] = field(default_factory=dict)
    outputs: OutputPaths | None = None
    names: ScratchNames | None = None
    warnings: list[str] = field(default_factory=list)
    plan: Plan | None = None

    @property
    def executor_source(self) -> str:
        """Where the choice of who runs the chunks came from."""
        return self.settings.source("executor") or MODEL_DEFAULT

    def require(self) -> Plan:
        """The finished plan.

        Raises:
            OmniRTError: The most telling failure.
        """
        error = self.checks.error()
        if error is not None:
            raise error
        assert self.plan is not None, "no check failed, and yet there is no plan"
        return self.plan


def expected_info(geometry: Geometry, audio: AudioPlan) -> ExpectedInfo:
    """What the run is going to produce."""
    return ExpectedInfo(
        chunks=audio.chunks,
        frames=audio.frames,
        fps=geometry.fps,
        duration_s=round(audio.frames / geometry.fps, 6),
        width=geometry.width,
        height=geometry.height,
    )


def plan_document(draft: Draft) -> PlanDocument:
    """What `--dry-run` shows of a draft, finished or not."""
    outputs, call = draft.outputs, draft.call
    return PlanDocument(
        run_id=draft.run_id,
        model=draft.adapter.info.id if draft.adapter else None,
        backend=draft.backend.value if draft.backend else None,
        variant=draft.variant.name if draft.variant else None,
        earlier=_earlier(draft),
        argv=list(draft.argv) if draft.argv else None,
        cwd=_cwd(draft),
        env=without_secrets(draft.env | (draft.settings.get("env") or {})),
        env_removed=sorted(set(os.environ) - set(clean_environment(os.environ, visibility=_kept(draft)))),
        env_script=str(draft.env_script) if draft.env_script else None,
        files={name: content.decode("utf-8", "replace") for name, content in call.files.items()} if call else {},
        devices=_devices(draft),
        expected=expected_info(draft.geometry, draft.audio) if draft.geometry and draft.audio else None,
        config={"executor": draft.executor.value} | {name: knob.value for name, knob in draft.config.items()},
        sources={"executor": draft.executor_source}
        | {name: knob.source for name, knob in draft.config.items()}
        | _setting_sources(draft),
        carriers={name: knob.carrier.value for name, knob in draft.config.items() if knob.carrier},
        outputs={"video": str(outputs.video), "report": str(outputs.report), "log": str(outputs.log)}
        if outputs
        else {},
        worker_request=dict(call.worker.request) if call and call.worker else None,
        warnings=draft.warnings,
    )


def _earlier(draft: Draft) -> list[EarlierDocument]:
    if draft.call is None or draft.launch is None:
        return []
    python = str(draft.launch.python)
    return [
        EarlierDocument(
            name=step.name,
            argv=[python, str(step.script), *step.args],
            device=step.device,
            makes=[str(path) for path in step.makes],
        )
        for step in draft.call.earlier
    ]


def _setting_sources(draft: Draft) -> dict[str, str]:
    return {key: setting.source for key, setting in draft.settings.values.items() if key not in draft.config}


def _kept(draft: Draft) -> str | None:
    return VARIABLES.get(draft.backend) if draft.backend else None


def _cwd(draft: Draft) -> str | None:
    if draft.launch is None or draft.checkout is None or draft.outputs is None:
        return None
    if draft.executor is ExecutorChoice.RESIDENT:
        return None  # the daemon makes it
    if draft.launch.in_checkout:
        return str(draft.checkout.path)
    return str(scratch_place(draft.outputs, draft.run_id, in_checkout=False))


def _devices(draft: Draft) -> dict[str, Any]:
    visibility = draft.visibility
    return {
        "kind": draft.backend.value if draft.backend else None,
        "visible": list(visibility.ids) if visibility and visibility.ids else None,
        "source": visibility.source if visibility else None,
        "processes": draft.launch.processes if draft.launch else None,
    }

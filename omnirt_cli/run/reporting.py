"""What goes into a run's report, and which error an ended child stands for.

Reads plans and outcomes; starts nothing but the look-ups that can be done while the model loads.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from omnirt_cli import __version__, host_memory
from omnirt_cli.checks import Check, CheckStatus
from omnirt_cli.devices.device import Device
from omnirt_cli.draft import Draft, plan_document
from omnirt_cli.errors import (
    CancelledRunError,
    ModelFailedError,
    OmniRTError,
    OutOfDeviceMemoryError,
    RunTimeoutError,
)
from omnirt_cli.files import storage_error
from omnirt_cli.models.base import Backend, EarlierStep
from omnirt_cli.plan import Plan
from omnirt_cli.report import (
    CheckoutInfo,
    CommandInfo,
    DeviceInfo,
    DevicesInfo,
    ErrorInfo,
    InputInfo,
    RunReport,
    RunStatus,
)
from omnirt_cli.run.stamps import utc_now
from omnirt_cli.run.timings import TimingBuilder
from omnirt_cli.run.watch import ChildOutcome, StopReason
from omnirt_cli.secrets import without_secrets

if TYPE_CHECKING:
    from omnirt_cli.run.failure import Failure

LOG_TAIL_LINES = 40
MUX_RULE = "ffmpeg_failed"


def new_report(plan: Plan, checks: Iterable[Check]) -> RunReport:
    """The report of a run that is about to start."""
    return RunReport(
        run_id=plan.run_id,
        status=RunStatus.RUNNING,
        model=plan.adapter.info.id,
        backend=plan.backend.value,
        execution_mode="persistent_worker" if plan.resident else "subprocess",
        started_at=utc_now(),
        config_resolved={"executor": plan.executor.value} | {name: knob.value for name, knob in plan.config.items()},
        config_sources={"executor": plan.executor_source} | {name: knob.source for name, knob in plan.config.items()},
        config_carriers={name: knob.carrier.value for name, knob in plan.config.items() if knob.carrier},
        command=CommandInfo(
            argv=list(plan.argv),
            cwd=str(plan.cwd),
            processes=plan.launch.processes,
            env=without_secrets({**plan.env, **plan.user_env}),
            env_script=str(plan.env_script) if plan.env_script else None,
        ),
        checkout=CheckoutInfo(
            path=str(plan.checkout.path),
            revision=plan.checkout.revision,
            variant=plan.variant.name,
            dirty=plan.checkout.dirty,
        ),
        devices=devices_info(plan, ()),
        inputs={
            "image": InputInfo(path=str(plan.portrait.path), media=plan.portrait.facts()),
            "audio": InputInfo(path=str(plan.speech.path), media=plan.speech.facts()),
        },
        expected=plan.expected,
        checks=list(checks),
        skipped_checks=list(plan.skipped_checks),
        log_path=str(plan.outputs.log),
        host=_host(),
        versions={"omnirt": __version__, "python": platform.python_version()},
    )


def refused_report(draft: Draft, error: OmniRTError) -> RunReport:
    """The report of a request that was refused before anything started."""
    document = plan_document(draft)
    now = utc_now()
    return RunReport(
        run_id=draft.run_id,
        status=RunStatus.FAILED,
        model=document.model,
        backend=document.backend,
        started_at=now,
        finished_at=now,
        request=draft.asked,
        config_resolved=document.config,
        config_sources=document.sources,
        expected=document.expected,
        checks=draft.checks.checks,
        warnings=draft.warnings,
        error=error_info(error),
        host=_host(),
        versions={"omnirt": __version__, "python": platform.python_version()},
    )


def devices_info(plan: Plan, devices: Sequence[Device]) -> DevicesInfo:
    """The report's `devices`: what was asked for, and what the run got."""
    named = devices or [Device(device, device) for device in (plan.visibility.ids or ())]
    used = [_device_info(device) for device in named]
    if plan.backend is Backend.CPU:
        used = [DeviceInfo(id="cpu", name=platform.processor() or None)]
    asked = plan.visibility.value
    if asked is None and plan.devices is not None:
        asked = f"{plan.devices.count} of {','.join(device.id for device in plan.devices.candidates)}"
    return DevicesInfo(kind=plan.backend.value, requested=asked, used=used)


def _device_info(device: Device) -> DeviceInfo:
    return DeviceInfo(
        id=device.id,
        name=device.name,
        memory_total_gib=device.total_gib,
        memory_free_before_gib=device.free_gib,
    )


def _host() -> dict[str, Any]:
    return {
        "name": socket.gethostname(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        **_memory_limit(),
    }


def _memory_limit() -> dict[str, float]:
    """What a control group leaves of the memory, where one limits it."""
    there = host_memory.available()
    if there.bytes is None or not there.limited_by.startswith("cgroup"):
        return {}
    return {"memory_limit_gib": round(there.bytes / 2**30, 1)}


def only_mux_failed(outcome: ChildOutcome) -> bool:
    """True where the child did everything but join its picture with the sound."""
    return outcome.stop is None and outcome.failure is not None and outcome.failure.rule == MUX_RULE


def refuse_bad_ending(
    report: RunReport,
    outcome: ChildOutcome,
    cancelled: Callable[[], CancelledRunError],
    *,
    step: EarlierStep | None = None,
) -> None:
    """Raise what an ended child stands for; return for a good end.

    Args:
        report: Gets what is known of the child's end.
        outcome: How it ended.
        cancelled: Makes the error of a cancelled run.
        step: What the child was for, where it was not the script itself.

    Raises:
        OmniRTError: It was stopped, it failed, or it could not be stopped.
    """
    if outcome.stop is StopReason.CANCELLED and outcome.storage is None and not outcome.survivors:
        raise cancelled()
    error = _ending(outcome)
    if error is None:
        return
    if step is not None:
        hint = step.memory_hint if isinstance(error, OutOfDeviceMemoryError) else None
        error = type(error)(f"the {step.name} step: {error.message}", hint=hint or error.hint)
    raise _noted(report, error, outcome)


def _ending(outcome: ChildOutcome) -> OmniRTError | None:
    """What a child's end stands for, unless it was cancelled; None for a good one."""
    if outcome.storage is not None:
        return storage_error(outcome.storage, "the log cannot be written")
    if outcome.survivors:
        return _unstoppable(outcome)
    if outcome.stop is not None:
        return _timed_out(outcome.stop)
    if outcome.failure is not None:
        return outcome.failure.to_error()
    if outcome.exit is None:
        return ModelFailedError(
            "the guard that watched the launcher was killed; what was left of the run was ended",
            hint="something outside OmniRT killed it (the out-of-memory killer, `pkill python`): see dmesg",
        )
    return None


def _unstoppable(outcome: ChildOutcome) -> ModelFailedError:
    pids = ", ".join(str(pid) for pid in outcome.survivors)
    return ModelFailedError(
        f"processes could not be stopped: {pids}",
        hint="they hang in the driver (state D): their devices stay occupied until the driver lets go or a reboot",
    )


def _timed_out(stop: StopReason) -> RunTimeoutError:
    if stop is StopReason.STALL:
        return RunTimeoutError(
            "the script printed nothing for longer than --stall-timeout; it was stopped",
            hint="a lost rank can hang the others for good; `py-spy dump --pid PID` shows where, while it does; "
            "raise --stall-timeout only if the model was really working",
        )
    return RunTimeoutError("the run took longer than --timeout; it was stopped", hint="raise --timeout, or shorten it")


def _noted(report: RunReport, error: OmniRTError, outcome: ChildOutcome) -> OmniRTError:
    """Put what is known of the child's end beside the error."""
    failure = outcome.failure
    report.error = error_info(error, failure=failure, tail=outcome.log_tail)
    return error


def error_info(error: OmniRTError, *, failure: Failure | None = None, tail: Iterable[str] = ()) -> ErrorInfo:
    """The report's `error`."""
    number = getattr(error, "signal_number", None)
    return ErrorInfo(
        code=error.code,
        message=error.message,
        hint=error.hint,
        exit_code=error.exit_status,
        rank=failure.rank if failure else None,
        signal=failure.signal if failure else (signal.Signals(number).name if number else None),
        child_exit_code=failure.child_exit_code if failure else None,
        log_tail=list(tail)[-LOG_TAIL_LINES:],
    )


def complete(report: RunReport, plan: Plan, timings: TimingBuilder, error: OmniRTError | None) -> None:
    """Fill in what is known only at the end."""
    report.finished_at = utc_now()
    set_error(report, error)
    built = timings.build(
        media_duration_s=plan.expected.duration_s if error is None else None,
        frames_per_chunk=plan.geometry.slice_frames,
        generated_frames=plan.audio.generated_frames if error is None else None,
        fps=plan.geometry.fps,
        core_scope=plan.adapter.core_scope(plan.encode_mode),
    )
    report.timings, report.chunks = dict(built.values), list(built.chunks)


def set_error(report: RunReport, error: OmniRTError | None) -> None:
    """Say how the run ended; what is known of its error already stays."""
    report.status = _status(error)
    if error is not None and report.error is None:
        report.error = error_info(error)


def _status(error: OmniRTError | None) -> RunStatus:
    if error is None:
        return RunStatus.SUCCEEDED
    if isinstance(error, CancelledRunError):
        return RunStatus.CANCELLED
    return RunStatus.TIMED_OUT if isinstance(error, RunTimeoutError) else RunStatus.FAILED


def warned_checks(checks: Iterable[Check]) -> list[str]:
    """Warnings for checks that a person should look at."""
    return [
        f"{check.name}: {check.detail or f'expected {check.expected}, found {check.actual}'}"
        for check in checks
        if check.status is CheckStatus.WARNED
    ]

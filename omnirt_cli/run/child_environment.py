"""The child's whole environment: OmniRT's own, what the env script makes of it, and what this run sets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from launchers.command import Launcher
from launchers.env_script import capture_env_script
from launchers.environment import compose_environment
from launchers.errors import EnvScriptFailedError, EnvScriptUnreadableError, ProgramMissingError
from launchers.proctable import RUN_MARK
from omnirt_cli.devices.visibility import VARIABLES
from omnirt_cli.errors import ConfigInvalidError, InputMissingError
from omnirt_cli.plan import Plan
from omnirt_cli.report import CompileCacheInfo
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.compile_cache import arrange_compile_cache, default_root
from omnirt_cli.run.recorder import Recorder
from omnirt_cli.run.run_log import RunLog
from omnirt_cli.secrets import without_secrets

TORCHRUN_LOGS = ".torchrun"
_OWN_ROOT = Path(__file__).resolve().parents[2]


def child_environment(plan: Plan, recorder: Recorder, cancel: CancelToken, log: RunLog) -> dict[str, str]:
    """Compose it, and note in the report what OmniRT set.

    Raises:
        InputMissingError: The env script cannot be read.
        ConfigInvalidError: The env script failed.
        Interrupted: A signal came while it was sourced.
    """
    base = dict(os.environ)
    composed = compose_environment(
        base,
        visibility=VARIABLES.get(plan.backend),
        own_roots=(_OWN_ROOT,),
        script_env=_source(plan.env_script, base, recorder, cancel, log) if plan.env_script else None,
        overlay={**plan.env, **_launcher_env(plan), RUN_MARK: plan.run_id},
        user=plan.user_env,
    )
    cache = _compile_cache(plan, composed.env, recorder)
    command = recorder.report.command
    assert command is not None
    command.env = without_secrets({**composed.assigned, **cache})
    return {**composed.env, **cache}


def _launcher_env(plan: Plan) -> dict[str, str]:
    """Where torchrun makes the directory for logs that nobody asked for: in the scratch, with which it goes."""
    if plan.launch.launcher is not Launcher.TORCHRUN:
        return {}
    return {"PET_LOG_DIR": str(plan.scratch / TORCHRUN_LOGS)}


def _compile_cache(plan: Plan, env: Mapping[str, str], recorder: Recorder) -> Mapping[str, str]:
    """Variables that lead the child to kernels which an earlier run compiled; none where the user chose for it."""
    if not plan.compile_cache:
        return {}
    cache = arrange_compile_cache(
        plan.backend,
        checkout=plan.checkout.path,
        revision=plan.checkout.revision,
        python=plan.launch.python,
        environ=env,
        root=default_root(),
    )
    recorder.report.compile_cache = CompileCacheInfo(
        directory=str(cache.directory) if cache.directory else None, warm=cache.warm, note=cache.note
    )
    return cache.env


def _source(script: Path, base: dict[str, str], recorder: Recorder, cancel: CancelToken, log: RunLog) -> dict[str, str]:
    try:
        with cancel.interruptible():
            captured = capture_env_script(script, base)
    except (EnvScriptUnreadableError, ProgramMissingError) as error:
        raise InputMissingError(error.message, hint=error.hint) from error
    except EnvScriptFailedError as error:
        log.write(error.output)
        raise ConfigInvalidError(error.message, hint=error.hint) from error
    log.write(captured.output)
    for warning in captured.warnings:
        recorder.warn(warning)
    return dict(captured.env)

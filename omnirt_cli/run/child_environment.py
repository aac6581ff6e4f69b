"""The child's whole environment: OmniRT's own, what the env script makes of it, and what this run sets."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from launchers.command import Launcher
from launchers.env_script import CapturedEnv, capture_env_script
from launchers.environment import compose_environment
from launchers.errors import EnvScriptFailedError, EnvScriptUnreadableError, ProgramMissingError
from launchers.proctable import RUN_MARK
from omnirt_cli.devices.visibility import VARIABLES
from omnirt_cli.errors import ConfigInvalidError, InputMissingError
from omnirt_cli.plan import Plan
from omnirt_cli.report import CompileCacheInfo
from omnirt_cli.run.cancel import CancelToken
from omnirt_cli.run.compile_cache import CompileCache, arrange_compile_cache, default_root
from omnirt_cli.secrets import without_secrets

TORCHRUN_LOGS = ".torchrun"
_OWN_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class ChildEnvironment:
    """What a child gets, and what of it is worth telling.

    Attributes:
        env: The whole environment.
        assigned: What OmniRT set of it, without secrets.
        compile_cache: Where compiled kernels are kept; None where that was not wanted.
        warnings: What the env script made doubtful.
    """

    env: Mapping[str, str]
    assigned: Mapping[str, str]
    compile_cache: CompileCacheInfo | None
    warnings: tuple[str, ...]


def child_environment(
    plan: Plan, cancel: CancelToken, on_output: Callable[[bytes], object] | None = None
) -> ChildEnvironment:
    """Compose it.

    Args:
        plan: Whose.
        cancel: Lets a signal end the env script.
        on_output: Gets what the env script printed, also where it failed.

    Raises:
        InputMissingError: The env script cannot be read.
        ConfigInvalidError: The env script failed.
        Interrupted: A signal came while it was sourced.
    """
    base = dict(os.environ)
    script = _source(plan.env_script, base, cancel, on_output) if plan.env_script else None
    composed = compose_environment(
        base,
        visibility=VARIABLES.get(plan.backend),
        own_roots=(_OWN_ROOT,),
        script_env=dict(script.env) if script else None,
        overlay={**plan.env, **_launcher_env(plan), RUN_MARK: plan.run_id},
        user=plan.user_env,
    )
    cache = _compile_cache(plan, composed.env) if plan.compile_cache else None
    kept = cache.env if cache else {}
    return ChildEnvironment(
        env={**composed.env, **kept},
        assigned=without_secrets({**composed.assigned, **kept}),
        compile_cache=_told(cache) if cache else None,
        warnings=script.warnings if script else (),
    )


def _launcher_env(plan: Plan) -> dict[str, str]:
    """Where torchrun makes the directory for logs that nobody asked for: where it runs, with which it goes."""
    if plan.launch.launcher is not Launcher.TORCHRUN:
        return {}
    return {"PET_LOG_DIR": TORCHRUN_LOGS if plan.resident else str(plan.scratch / TORCHRUN_LOGS)}


def _compile_cache(plan: Plan, env: Mapping[str, str]) -> CompileCache:
    """What leads the child to kernels that an earlier run compiled; nothing where the user chose for it."""
    return arrange_compile_cache(
        plan.backend,
        checkout=plan.checkout.path,
        revision=plan.checkout.revision,
        python=plan.launch.python,
        environ=env,
        root=default_root(),
    )


def _told(cache: CompileCache) -> CompileCacheInfo:
    return CompileCacheInfo(
        directory=str(cache.directory) if cache.directory else None, warm=cache.warm, note=cache.note
    )


def _source(
    script: Path, base: dict[str, str], cancel: CancelToken, on_output: Callable[[bytes], object] | None
) -> CapturedEnv:
    try:
        with cancel.interruptible():
            captured = capture_env_script(script, base)
    except (EnvScriptUnreadableError, ProgramMissingError) as error:
        raise InputMissingError(error.message, hint=error.hint) from error
    except EnvScriptFailedError as error:
        if on_output is not None:
            on_output(error.output)
        raise ConfigInvalidError(error.message, hint=error.hint) from error
    if on_output is not None:
        on_output(captured.output)
    return captured

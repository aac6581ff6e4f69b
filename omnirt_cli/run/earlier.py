"""Steps that a model wants before its script: run once, on one device, and not again while what they made is there.

What they make lies at a place of the script's choosing, which may be open to every user of the machine. The script
loads it without asking, so only a file that is this user's own and that nobody else can write is let through.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from omnirt_cli.devices.visibility import VARIABLES
from omnirt_cli.errors import InputInvalidError, ModelFailedError
from omnirt_cli.files import write_atomic
from omnirt_cli.models.base import EarlierStep
from omnirt_cli.plan import Plan
from omnirt_cli.run.cold import ColdLaunch
from omnirt_cli.run.events import Stage


def write_cache_files(files: Mapping[Path, bytes]) -> None:
    """Put content-addressed files into the user's cache; one that is there with this content stays as it is.

    Raises:
        OSError: The cache cannot be written.
    """
    for path, content in files.items():
        if path.is_file() and path.read_bytes() == content:
            continue
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, content)


def is_done(step: EarlierStep) -> bool:
    """Whether everything that a step makes is there.

    Raises:
        InputInvalidError: Something is there that the script would load and that cannot be trusted.
    """
    if not step.makes:
        return False
    # Each of them is judged, also where one is missing.
    there = [_is_there(path) for path in step.makes]
    return all(there) and not step.always


def _is_there(path: Path) -> bool:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return False
    others_may_write = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or others_may_write:
        raise InputInvalidError(
            f"{path} is not this user's own file, or others can write it; the script would load it as it is",
            hint=f"look at who made it, remove it, and run again (ls -l {path})",
        )
    return facts.st_size > 0


def launch_of(step: EarlierStep, plan: Plan, env: Mapping[str, str]) -> ColdLaunch:
    """One process on one device, in the run's own directory."""
    variable = VARIABLES.get(plan.backend)
    device = step.device or (plan.visibility.ids[0] if plan.visibility.ids else None)
    placed = {variable: device} if variable and device else {}
    return ColdLaunch(
        argv=(str(plan.launch.python), str(step.script), *step.args),
        cwd=plan.cwd,
        env={**env, **placed, **step.env, **plan.user_env},
        rules=(),
        stage=Stage.EARLIER,
        detail=step.name,
    )


def refuse_undone(step: EarlierStep) -> None:
    """See that a step that ended well made what it should.

    Raises:
        ModelFailedError: It did not.
    """
    missing = [path for path in step.makes if not _is_there(path)]
    if missing:
        raise ModelFailedError(
            f"the {step.name} step ended well, but left no {missing[0]}",
            hint="this checkout keeps it elsewhere; leave the step out where the script can do without it",
        )

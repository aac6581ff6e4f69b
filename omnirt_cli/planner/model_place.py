"""Where the model is: its checkout, its Python, its env script, its weights."""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from omnirt_cli.checkpoints import FileSet, file_sets, require_whole
from omnirt_cli.errors import InputMissingError, OmniRTError, UsageError
from omnirt_cli.models import registry
from omnirt_cli.models.base import Backend, ModelAdapter
from omnirt_cli.planner.planning import Planning
from omnirt_cli.preflight import CheckName
from omnirt_cli.request import ExecutorChoice

if TYPE_CHECKING:
    from omnirt_cli.checkout import CheckoutFacts


def look_at_model(planning: Planning) -> None:
    """Find everything that a launch needs besides the inputs and the devices."""
    draft = planning.draft
    run = draft.checks.run
    run(CheckName.CHECKOUT, lambda: _find_checkout(planning))
    draft.python = run(CheckName.INTERPRETER, lambda: _find_python(planning))
    draft.env_script = run(CheckName.ENV_SCRIPT, lambda: _find_env_script(planning))
    if draft.checkout is not None:
        info = planning.adapter.info
        draft.ckpt_dir = _model_folder(planning, "ckpt_dir", info.ckpt_dir)
        draft.wav2vec_dir = _model_folder(planning, "wav2vec_dir", info.wav2vec_dir)


def look_at_weights(planning: Planning) -> None:
    """See that the weights are there and whole; which files these are depends on the knobs."""
    checks = planning.draft.checks
    planning.draft.weights = _file_sets(planning)
    checks.run(CheckName.CHECKPOINT, lambda: _see_checkpoint(planning))
    checks.run(CheckName.WAV2VEC, lambda: _see_wav2vec(planning))


def _see_checkpoint(planning: Planning) -> None:
    _refuse_no_folder("ckpt_dir", planning.draft.ckpt_dir)
    for files in planning.draft.weights:
        if files.name != "wav2vec_dir":
            _require_whole(planning, CheckName.CHECKPOINT, files)


def _see_wav2vec(planning: Planning) -> None:
    _refuse_no_folder("wav2vec_dir", planning.draft.wav2vec_dir)
    for files in planning.draft.weights:
        if files.name == "wav2vec_dir":
            _require_whole(planning, CheckName.WAV2VEC, files)


def _require_whole(planning: Planning, name: CheckName, files: FileSet) -> None:
    """An unknown adaptation may keep its weights otherwise: there, what is missing is only told."""
    variant = planning.draft.variant
    try:
        require_whole(files)
    except InputMissingError as error:
        if variant is None or variant.recognised:
            raise
        planning.draft.checks.warn(name, error.message)
        planning.draft.warnings.append(error.message)


def _file_sets(planning: Planning) -> tuple[FileSet, ...]:
    draft = planning.draft
    assert draft.checkout is not None
    assert draft.ckpt_dir is not None
    assert draft.wav2vec_dir is not None
    return file_sets(
        planning.adapter, draft.checkout, draft.config, ckpt_dir=draft.ckpt_dir, wav2vec_dir=draft.wav2vec_dir
    )


def _find_checkout(planning: Planning) -> None:
    from omnirt_cli.checkout import inspect_checkout

    draft, info = planning.draft, planning.adapter.info
    configured = planning.get("repo_path")
    if configured is None and draft.backend is Backend.CPU:
        configured = str(registry.miniature_checkout(info))
        draft.implicit_miniature = True
        draft.warnings.append(
            "no checkout is configured: rendering with OmniRT's own miniature, a CPU stand-in without a neural network"
        )
    if configured is None:
        raise _not_configured(planning, "repo_path", "the external checkout")
    draft.checkout = inspect_checkout(Path(configured), info.script)
    variant = planning.adapter.recognise(draft.checkout)
    if planning.get("no_checkout_checks"):
        variant = replace(variant, recognised=False)
    draft.variant = variant
    draft.warnings += draft.checkout.notes
    _choose_executor(planning, draft.checkout)


def _choose_executor(planning: Planning, checkout: CheckoutFacts) -> None:
    draft = planning.draft
    choice = ExecutorChoice(planning.get("executor") or ExecutorChoice.SCRIPT)
    if choice is ExecutorChoice.DRIVER:
        draft.adapter = planning.adapter.driven(checkout)
    elif choice is ExecutorChoice.RESIDENT:
        draft.adapter = _resident(planning, checkout)
    draft.executor = choice


def _resident(planning: Planning, checkout: CheckoutFacts) -> ModelAdapter:
    adapter = planning.adapter.resident(checkout)
    if planning.runs_in_checkout:
        raise UsageError(
            "--working-directory checkout does not go with a resident worker, which has a directory of its own",
            hint="leave it out, or leave out --resident",
        )
    return adapter


def _not_configured(planning: Planning, key: str, what: str) -> OmniRTError:
    info = planning.adapter.info
    name = f"OMNIRT_{info.key.upper()}_{key.upper()}".replace("PYTHON_EXECUTABLE", "PYTHON")
    return UsageError(
        f"{what} is not configured for {info.id}",
        hint=f"give --{key.replace('_', '-')}, set {name}, or add `{key}` to omnirt.yaml",
    )


def _find_python(planning: Planning) -> Path:
    configured = planning.get("python_executable")
    if planning.draft.implicit_miniature and planning.source("python_executable") != "flag":
        configured = sys.executable
    if configured is None:
        raise _not_configured(planning, "python_executable", "the model's Python")
    return program(Path(configured), "python_executable")


def _find_env_script(planning: Planning) -> Path | None:
    configured = planning.get("env_script")
    if configured is None:
        return None
    path = Path(configured)
    if not stat.S_ISREG(_mode("env script", path, "--env-script")) or not os.access(path, os.R_OK):
        raise InputMissingError(f"env script {path} is not a readable file", hint="check --env-script")
    return path


def _model_folder(planning: Planning, key: str, usual: str) -> Path:
    draft = planning.draft
    assert draft.checkout is not None
    value = None if draft.implicit_miniature and planning.source(key) != "flag" else planning.get(key)
    return draft.checkout.path / Path(value or usual).expanduser()


def _refuse_no_folder(key: str, path: Path | None) -> None:
    flag = _flag(key)
    if path is None or not stat.S_ISDIR(_mode(key, path, flag)):
        raise InputMissingError(
            f"{key} {path} is not a directory", hint=f"check {flag}; relative paths start at the checkout"
        )
    if not os.access(path, os.X_OK):
        raise _closed(key, path, flag)


def program(path: Path, key: str) -> Path:
    """An executable file that a setting names.

    Raises:
        InputMissingError: It is not there, lies where this user may not look, or is not executable.
    """
    flag = _flag(key)
    if not stat.S_ISREG(_mode(key, path, flag)):
        raise InputMissingError(f"{key} {path} is not there", hint=f"check {flag}")
    if not os.access(path, os.X_OK):
        raise InputMissingError(f"{key} {path} is not executable", hint=f"check {flag}")
    return path


def _flag(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _mode(what: str, path: Path, flag: str) -> int:
    """The mode of what is there, 0 where nothing is.

    Raises:
        InputMissingError: A folder above it is closed to this user, so that nobody can tell.
    """
    try:
        return path.stat().st_mode
    except PermissionError:
        raise _closed(what, path, flag) from None
    except OSError:
        return 0


def _closed(what: str, path: Path, flag: str) -> InputMissingError:
    return InputMissingError(
        f"{what} {path} cannot be read by this user", hint=f"check {flag} and the permissions of its folders"
    )

"""A run once more: the request that a report stands for, and whether what it was made of is still the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from omnirt_cli.checkout import inspect_checkout
from omnirt_cli.errors import ConfigInvalidError, InputInvalidError, InputMissingError, OmniRTError
from omnirt_cli.media.files import sha256_of
from omnirt_cli.models import registry
from omnirt_cli.models.base import MODEL_DEFAULT
from omnirt_cli.report import CheckoutInfo, InputInfo, RunReport
from omnirt_cli.request import Audio2VideoRequest, Config
from omnirt_cli.secrets import HIDDEN
from omnirt_cli.settings import ENV_PREFIX, Surroundings

_PLACES = ("output", "output_dir", "no_clobber")
_ACCEPT = "`--accept-changes` goes on all the same"


@dataclass(frozen=True)
class Repeat:
    """What to render, and under which settings.

    Attributes:
        surroundings: Without settings files and `OMNIRT_*` variables, where the report says everything itself.
        warnings: What is not as it was.
    """

    request: Audio2VideoRequest
    surroundings: Surroundings
    warnings: tuple[str, ...]


def repeat_of(report: RunReport, *, output: str | None = None) -> Repeat:
    """The request that a report stands for.

    Args:
        report: The run to repeat.
        output: The new video, or the directory for it; beside the old one by default, under a new name.

    Raises:
        InputInvalidError: The report does not say what was asked for, or in words of another version.
    """
    if report.model is None or not {"image", "audio"} <= set(report.inputs):
        raise InputInvalidError(
            f"the report of run {report.run_id} does not say what was rendered",
            hint="it was refused before it got that far; give the request anew",
        )
    warnings: list[str] = []
    document = dict(report.request) or _document_of(report, warnings)
    document["config"] = _config(document.get("config", {}), report, output, warnings)
    try:
        request = Audio2VideoRequest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputInvalidError(
            f"the report of run {report.run_id} cannot be repeated: {where}: {first['msg']}",
            hint="another version of OmniRT wrote it; give the request anew",
        ) from error
    return Repeat(request, _surroundings(alone=bool(report.request)), tuple(warnings))


def changes(report: RunReport) -> list[OmniRTError]:
    """What is not as it was: each missing or changed input, and the checkout."""
    found = [_changed_input(name, info) for name, info in report.inputs.items()]
    if report.checkout is not None and report.model is not None:
        found.append(_changed_checkout(report.checkout, report.model))
    return [error for error in found if error is not None]


def unknown_before(report: RunReport) -> list[str]:
    """What the report does not tell, so that it cannot be compared."""
    texts = [
        f"the {name} was not hashed in that run; whether {info.path} changed is unknown"
        for name, info in report.inputs.items()
        if info.sha256 is None
    ]
    if report.checkout is not None and report.checkout.dirty:
        texts.append(f"{report.checkout.path} had local changes in that run; whether they are the same is unknown")
    return texts


def _document_of(report: RunReport, warnings: list[str]) -> dict[str, Any]:
    """A request from a report that does not hold it whole."""
    warnings.append("this report does not hold every setting; the others are those of today (`omnirt config show`)")
    config: dict[str, Any] = {}
    checkout = report.checkout
    if checkout is not None and not _is_miniature(checkout, report.model or ""):
        config["repo_path"] = checkout.path
    if report.command is not None and report.command.env_script:
        config["env_script"] = report.command.env_script
    inputs = {name: info.path for name, info in report.inputs.items()}
    return {"model": report.model, "backend": report.backend, "inputs": inputs, "config": config}


def _config(said: dict[str, Any], report: RunReport, output: str | None, warnings: list[str]) -> dict[str, Any]:
    """The settings: those said then, the knobs that a preset gave, and a place for the new video."""
    knobs = {
        name: value
        for name, value in report.config_resolved.items()
        if value is not None and report.config_sources.get(name, MODEL_DEFAULT) != MODEL_DEFAULT
    }
    config = {name: value for name, value in {**said, **knobs}.items() if name not in _PLACES}
    unknown = sorted(set(config) - set(Config.model_fields))
    if unknown:
        warnings.append(f"settings that this version does not have were left out: {', '.join(unknown)}")
    if config.get("env"):
        config["env"] = _known_values(config["env"], warnings)
    config["output_dir"] = str(Path(output).absolute()) if output else _old_folder(report)
    return {name: value for name, value in config.items() if name not in unknown and value is not None}


def _known_values(env: dict[str, str], warnings: list[str]) -> dict[str, str]:
    """The variables whose values were kept; secrets come from this environment, which the script inherits."""
    hidden = sorted(name for name, value in env.items() if value == HIDDEN)
    missing = [name for name in hidden if name not in os.environ]
    if missing:
        warnings.append(f"{', '.join(missing)} was given then and is no part of the report; set it before you rerun")
    return {name: value for name, value in env.items() if name not in hidden}


def _old_folder(report: RunReport) -> str:
    place = report.artifacts[0].path if report.artifacts else report.log_path
    return str(Path(place).parent if place else Path.cwd())


def _surroundings(*, alone: bool) -> Surroundings:
    here = Surroundings.current()
    if not alone:
        return here
    of_models = tuple(f"{ENV_PREFIX}{key.upper()}_" for key in registry.model_keys())
    environ = {name: value for name, value in here.environ.items() if not name.startswith(of_models)}
    # No project file lies below /dev/null: today's settings have no part in the run.
    return Surroundings(environ=environ, cwd=Path(os.devnull), user_files=(), home=None)


def _changed_input(name: str, info: InputInfo) -> OmniRTError | None:
    path = Path(info.path)
    try:
        path.stat()
        now = sha256_of(path) if info.sha256 else None
    except FileNotFoundError:
        return InputMissingError(f"the {name} {path} is gone", hint="put it back, or give the request anew")
    except OSError as error:
        return InputMissingError(f"the {name} {path} cannot be read: {error.strerror}", hint="check its permissions")
    if now == info.sha256:
        return None
    return InputInvalidError(f"the {name} {path} is not the file that was rendered then", hint=_ACCEPT)


def _changed_checkout(then: CheckoutInfo, model: str) -> OmniRTError | None:
    try:
        now = inspect_checkout(Path(then.path), registry.adapter(model).info.script)
    except InputMissingError as error:
        return error
    if now.revision != then.revision:
        return ConfigInvalidError(
            f"the checkout {then.path} is at {now.revision or 'no commit'}, then it was at {then.revision or 'none'}",
            hint=f"check out that revision; {_ACCEPT}",
        )
    if bool(now.dirty) != bool(then.dirty):
        state = "has local changes that it had not" if now.dirty else "has no longer the local changes that it had"
        return ConfigInvalidError(f"the checkout {then.path} {state} then", hint=f"put it as it was; {_ACCEPT}")
    return None


def _is_miniature(checkout: CheckoutInfo, model: str) -> bool:
    try:
        return inspect_checkout(Path(checkout.path), registry.adapter(model).info.script).miniature
    except OmniRTError:
        return False

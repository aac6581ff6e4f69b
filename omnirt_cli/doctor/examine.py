"""Everything that `omnirt doctor` looks at, put together."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from omnirt_cli import __version__
from omnirt_cli.doctor.devices import look_at_devices
from omnirt_cli.doctor.examination import Examination, Section
from omnirt_cli.doctor.machine import look_at_machine
from omnirt_cli.doctor.models import ModelSight, look_at_model, look_without_models
from omnirt_cli.models import registry
from omnirt_cli.request import BackendChoice
from omnirt_cli.settings import Surroundings


def examine(
    *, model: str | None, backend: BackendChoice | None, deep: bool, surroundings: Surroundings | None = None
) -> Examination:
    """Look at this machine and at its models.

    Args:
        model: Only this one, and it must work; every configured one by default.
        backend: What to compute on; as configured, else what is there, by default.
        deep: Import the models' packages and ask their torch for the devices.
        surroundings: Environment, working directory and user files; this process's by default.

    Raises:
        UsageError: There is no such model.
        ConfigInvalidError: A settings file is wrong.
    """
    around = surroundings or Surroundings.current()
    models = list(_models(model, backend, around, deep=deep))
    devices, sights = look_at_devices(around.environ)
    sections = [look_at_machine(around, around.cwd / "outputs"), devices, *(sight.section for sight in models)]
    configured = any(sight.configured for sight in models)
    if not configured and model is None:
        sections.append(look_without_models(backend, around))
    ok = all(section.well for section in sections if section.needed)
    return Examination(
        ok=ok,
        only_miniature=ok and not configured,
        sections=sections,
        devices=sights,
        settings={sight.section.title: dict(sight.settings) for sight in models if sight.settings},
        versions={"omnirt": __version__, "python": platform.python_version()},
    )


def _models(
    model: str | None, backend: BackendChoice | None, around: Surroundings, *, deep: bool
) -> Iterator[ModelSight]:
    chosen = [registry.adapter(model).info.id] if model else registry.model_ids()
    for model_id in chosen:
        yield look_at_model(model_id, backend, around, deep=deep, asked=model is not None)


def failing(sections: list[Section]) -> list[str]:
    """The names of what failed, with their sections."""
    return [
        f"{section.title}: {check.name}"
        for section in sections
        if section.needed
        for check in section.checks
        if check.status.value == "failed"
    ]

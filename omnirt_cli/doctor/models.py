"""Each model as it is configured: the checks of a run with a sample portrait and recording, and what its Python has.

The checks before a launch are the planner's own, so that doctor and a run never disagree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launchers.env_script import capture_env_script
from launchers.environment import compose_environment
from launchers.errors import LaunchError
from omnirt_cli.checkout_imports import read_imports
from omnirt_cli.checks import Check, CheckStatus, failed, passed, skipped, warned
from omnirt_cli.devices.deep_probe import compare, probe_model_python
from omnirt_cli.devices.visibility import VARIABLES
from omnirt_cli.doctor.examination import Section
from omnirt_cli.doctor.model_python import SurveyFailure, survey
from omnirt_cli.doctor.pins import pins_for
from omnirt_cli.draft import Draft
from omnirt_cli.inputs import sample_inputs
from omnirt_cli.models import registry
from omnirt_cli.models.base import Backend
from omnirt_cli.planner import draft_plan
from omnirt_cli.preflight import CheckName
from omnirt_cli.request import Audio2VideoRequest, BackendChoice
from omnirt_cli.run.hot import foresee_draft
from omnirt_cli.secrets import without_secrets
from omnirt_cli.settings import Settings, Surroundings, resolve

_OF_THE_SAMPLE = frozenset(
    {CheckName.REQUEST.value, CheckName.IMAGE.value, CheckName.AUDIO.value, CheckName.FFMPEG.value}
)
"""Checks that say nothing here: the sample is OmniRT's own, and ffmpeg is the machine's."""


@dataclass(frozen=True)
class ModelSight:
    """A model's section, and the settings it was made from.

    Attributes:
        configured: It has a checkout of its own; else at most the miniature stands in for it.
    """

    section: Section
    settings: Mapping[str, str]
    configured: bool


def look_at_model(
    model_id: str, backend: BackendChoice | None, around: Surroundings, *, deep: bool, asked: bool
) -> ModelSight:
    """Look at one model.

    Args:
        model_id: Which.
        backend: What to compute on; the configured one, else what is there, by default.
        around: Where settings are looked for.
        deep: Import its packages and ask its torch for the devices; takes as long as a start of the model's Python.
        asked: The user named this model, so that a missing configuration is a fault.
    """
    settings = resolve(registry.adapter(model_id).info.key, {}, None, around)
    told = {key: _told(key, settings) for key in sorted(settings.values)}
    configured = settings.get("repo_path") is not None
    if not configured and not asked:
        variable = f"OMNIRT_{registry.adapter(model_id).info.key.upper()}_REPO_PATH"
        hint = f"set {variable}, or `repo_path` in omnirt.yaml (`omnirt config show` lists both)"
        check = skipped(CheckName.CHECKOUT.value, "not configured", hint=hint)
        return ModelSight(Section(title=model_id, checks=[check], needed=False), told, configured=False)
    draft = draft_plan(_sample_request(model_id, backend), surroundings=around)
    foresee_draft(draft, around.environ)
    checks = _told_once([check for check in draft.checks.checks if check.name not in _OF_THE_SAMPLE])
    checks += _facts(draft)
    checks += _python_checks(draft, around, deep=deep)
    return ModelSight(Section(title=_title(draft, model_id), checks=checks), told, configured=configured)


def look_without_models(backend: BackendChoice | None, around: Surroundings) -> Section:
    """Whether a render can work at all here, where no model is configured: the miniature stands in, on the CPU alone.

    Args:
        backend: What to compute on; the configured one by default.
        around: Where settings are looked for.
    """
    wanted = backend or resolve(None, {}, None, around).get("backend")
    if wanted in (None, BackendChoice.AUTO, BackendChoice.CPU):
        return _look_at_stand_in(around)
    missing = failed(
        CheckName.CHECKOUT.value,
        detail=f"no model is configured for {BackendChoice(wanted).value}; the miniature computes on the CPU alone",
        hint="set the `repo_path` of a model, as its own section above says",
    )
    return Section(title="models", checks=[missing])


def _look_at_stand_in(around: Surroundings) -> Section:
    draft = draft_plan(_sample_request(registry.model_ids()[0], BackendChoice.CPU), surroundings=around)
    foresee_draft(draft, around.environ)
    return Section(
        title="miniature (--backend cpu)",
        checks=[check for check in draft.checks.checks if check.name not in _OF_THE_SAMPLE],
    )


def _told_once(checks: list[Check]) -> list[Check]:
    """Without the `ok` of a check that has warned."""
    warned_of = {check.name for check in checks if check.status is CheckStatus.WARNED}
    return [check for check in checks if check.status is not CheckStatus.PASSED or check.name not in warned_of]


def _told(key: str, settings: Settings) -> str:
    value = settings.get(key)
    shown = without_secrets(value) if key == "env" else value
    return f"{shown}  ({settings.source(key)})"


def _sample_request(model_id: str, backend: BackendChoice | None) -> Audio2VideoRequest:
    return Audio2VideoRequest(model=model_id, backend=backend, inputs=sample_inputs())


def _title(draft: Draft, model_id: str) -> str:
    return f"{model_id} on {draft.backend.value}" if draft.backend else model_id


def _facts(draft: Draft) -> list[Check]:
    """What the checkout is; a dirty one is told, for its reports cannot be repeated."""
    if draft.checkout is None or draft.variant is None:
        return []
    revision = draft.checkout.revision
    detail = f"{draft.variant.name}, {f'revision {revision[:12]}' if revision else 'no git revision'}"
    if draft.checkout.dirty:
        return [
            warned(
                "revision",
                detail=f"{detail}, with changes of its own",
                hint="commit them, so that runs can be repeated",
            )
        ]
    return [passed("revision", detail=detail)]


# --- its Python -----------------------------------------------------------------------------------


def _python_checks(draft: Draft, around: Surroundings, *, deep: bool) -> list[Check]:
    if draft.python is None or draft.checkout is None or draft.backend is None:
        return [skipped("packages", "its Python or its checkout is not known")]
    env, checks = _environment(draft, around)
    checks.append(_packages(draft, env, deep=deep))
    checks.append(_versions(draft, env))
    if deep and draft.backend is not Backend.CPU:
        checks += _devices_seen(draft, env)
    return checks


def _environment(draft: Draft, around: Surroundings) -> tuple[dict[str, str], list[Check]]:
    """What the script would find in its environment, the env script's work included."""
    assert draft.backend is not None
    base = dict(around.environ)
    script_env, checks = None, []
    if draft.env_script is not None:
        try:
            captured = capture_env_script(draft.env_script, base)
        except LaunchError as error:
            checks.append(failed("env_script_sourced", detail=error.message, hint=error.hint))
        else:
            script_env = dict(captured.env)
            warnings = "; ".join(captured.warnings)
            checks.append(warned("env_script_sourced", detail=warnings) if warnings else passed("env_script_sourced"))
    composed = compose_environment(
        base,
        visibility=VARIABLES.get(draft.backend),
        own_roots=(Path(__file__).resolve().parents[2],),
        script_env=script_env,
        overlay=draft.env,
        user=draft.settings.get("env") or {},
    )
    return dict(composed.env), checks


def _packages(draft: Draft, env: Mapping[str, str], *, deep: bool) -> Check:
    assert draft.checkout is not None
    assert draft.python is not None
    if draft.checkout.miniature:
        return skipped("packages", "the miniature needs none but OmniRT's own")
    imports = read_imports(draft.checkout.path, draft.checkout.script)
    found = survey(draft.python, imports.needed, env=env, really=deep)
    if isinstance(found, SurveyFailure):
        return failed("packages", detail=found.why, hint="check --python-executable")
    if found.problems:
        missing = "; ".join(f"{name}: {why}" for name, why in sorted(found.problems.items()))
        return failed(
            "packages",
            detail=f"the script imports what {draft.python} lacks: {missing}",
            hint=f"install it there: {draft.python} -m pip install ...",
        )
    how = "imports" if deep else "has"
    return passed(
        "packages", detail=f"Python {found.python} {how} all {len(imports.needed)}: {', '.join(imports.needed)}"
    )


def _versions(draft: Draft, env: Mapping[str, str]) -> Check:
    assert draft.adapter is not None
    assert draft.backend is not None
    assert draft.variant is not None
    assert draft.python is not None
    pins = pins_for(draft.adapter.info.id, draft.backend, draft.variant.name)
    if pins is None or (draft.checkout is not None and draft.checkout.miniature):
        return skipped("versions", "no published versions to compare with")
    found = survey(draft.python, pins.names, env=env)
    if isinstance(found, SurveyFailure):
        return skipped("versions", found.why)
    deviations = pins.deviations(found.python, found.versions)
    if deviations:
        return warned("versions", detail="; ".join(deviations), hint=f"they come from {pins.source}")
    return passed("versions", detail=f"as in {pins.source}")


def _devices_seen(draft: Draft, env: Mapping[str, str]) -> list[Check]:
    """What the model's own torch says, against what the vendor's tool says."""
    assert draft.python is not None
    assert draft.backend is not None
    probe = probe_model_python(draft.python, env, draft.backend)
    if probe.problem:
        return [failed("torch", detail=probe.problem, hint="check --env-script and the driver")]
    if draft.inventory is None or draft.visibility is None:
        return [skipped("torch", "the devices are not known otherwise")]
    differences = compare(draft.inventory, draft.visibility, probe)
    if differences:
        return [failed("torch", detail="; ".join(differences), hint="check --visible-devices and the env script")]
    return [passed("torch", detail=f"its torch sees the same {len(probe.devices or ())} devices")]

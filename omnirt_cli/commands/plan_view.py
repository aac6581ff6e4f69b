"""What `generate --dry-run` and `validate` print: the plan, and every check's verdict."""

from __future__ import annotations

import shlex

import typer

from omnirt_cli import console
from omnirt_cli.checks import Check, CheckStatus, skipped
from omnirt_cli.cli_options import RequestFlags
from omnirt_cli.draft import Draft, plan_document
from omnirt_cli.errors import OmniRTError
from omnirt_cli.plan import EarlierDocument
from omnirt_cli.planner import draft_plan
from omnirt_cli.run.hot import foresee_draft
from omnirt_cli.settings import Surroundings

_SIGNS = {
    CheckStatus.PASSED: "ok  ",
    CheckStatus.FAILED: "FAIL",
    CheckStatus.WARNED: "warn",
    CheckStatus.SKIPPED: "skip",
}


def show_plan(flags: RequestFlags, *, json: bool, files: bool, surroundings: Surroundings | None = None) -> None:
    """Plan, print, and exit with the code of the most telling failure.

    Args:
        flags: The request.
        json: One JSON document instead of text.
        files: Show the private files' contents too.
        surroundings: Where settings are looked for; this process's by default.
    """
    around = surroundings or Surroundings.current()
    draft = draft_plan(flags.request, request_file=flags.file, surroundings=around)
    foresee_draft(draft, around.environ)
    face = _look_for_face(draft)
    if face is not None:
        draft.checks.add([face], None)
    if json:
        plan = plan_document(draft).model_dump(mode="json", exclude=None if files else {"files"})
        console.say_json({"plan": plan, "checks": [check.model_dump(mode="json") for check in draft.checks.checks]})
    else:
        _print_plan(draft)
    error = draft.checks.error()
    if error is not None:
        console.tell_error(error)
        raise typer.Exit(error.exit_status)


def _look_for_face(draft: Draft) -> Check | None:
    """The look that a run takes while its model loads; None where portrait or picture size is not known."""
    from omnirt_cli.portrait_check import NAME, check_faces, framing

    if draft.portrait is None or draft.geometry is None:
        return None
    if NAME in (draft.settings.get("skip_check") or ()):
        return skipped(NAME, "left out by --skip-check")
    try:
        return check_faces(draft.portrait, framing(draft.geometry, draft.config.get("face_crop")))
    except (OmniRTError, OSError) as error:
        return skipped(NAME, f"faces could not be looked for: {error}")


def _print_plan(draft: Draft) -> None:
    plan = plan_document(draft)
    for check in draft.checks.checks:
        console.say(check_line(check))
    if plan.argv is None:
        return
    console.say("")
    console.say(f"in     {plan.cwd}")
    for name, value in sorted(plan.env.items()):
        console.say(f"env    {name}={shlex.quote(value)}")
    if plan.env_script:
        console.say(f"source {plan.env_script}")
    for step in plan.earlier:
        console.say(f"first  {shlex.join(step.argv)}")
        console.say(f"       {_told(step)}")
    console.say(f"run    {shlex.join(plan.argv)}")
    if plan.expected:
        expected = plan.expected
        console.say(
            f"makes  {expected.chunks} chunks, {expected.frames} frames, {expected.duration_s:g} s"
            f" at {expected.fps:g} fps, {expected.width}x{expected.height} (width x height)"
        )
    console.say(f"writes {plan.outputs.get('video')}")
    for name, value in sorted(plan.config.items()):
        carrier = f", by {plan.carriers[name]}" if name in plan.carriers else ""
        console.say(f"knob   {name} = {value}  ({plan.sources.get(name)}{carrier})")
    for warning in plan.warnings:
        console.tell(f"warning: {warning}")


def _told(step: EarlierDocument) -> str:
    """What a step before the script is for, and when it is left out."""
    where = f"device {step.device}" if step.device else "the run's first device"
    kept = f", unless {', '.join(step.makes)} is kept from an earlier run" if step.makes else ""
    return f"{step.name}, on {where}{kept}"


def check_line(check: Check) -> str:
    """A verdict in one line."""
    detail = f": {check.detail}" if check.detail else ""
    hint = f" ({check.hint})" if check.hint else ""
    return f"{_SIGNS[check.status]} {check.name}{detail}{hint}"

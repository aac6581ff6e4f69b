"""From a request to a plan: resolves settings, looks at checkout, inputs and devices, and decides the launch.

Everything is looked at even after something failed, so that one pass shows every problem. Nothing is started or
written; `omnirt validate`, `--dry-run` and `generate` all come through here.
"""

from __future__ import annotations

import uuid
from typing import Any

from omnirt_cli.draft import Draft, expected_info
from omnirt_cli.errors import UsageError
from omnirt_cli.inputs import InputLooks, Look, start_looking
from omnirt_cli.models import registry
from omnirt_cli.output_paths import scratch_place
from omnirt_cli.plan import Limits, Plan, PublishOptions, VerifyOptions
from omnirt_cli.planner.devices import look_at_devices, see_devices
from omnirt_cli.planner.knobs import refuse_foreign_knobs, resolve_knobs
from omnirt_cli.planner.launch import decide_argv, decide_launch, encode_mode, refuse_taken_variables
from omnirt_cli.planner.model_place import look_at_model, look_at_weights
from omnirt_cli.planner.output import choose_output, look_at_disk
from omnirt_cli.planner.planning import Planning
from omnirt_cli.portrait_check import framing, picture_warnings
from omnirt_cli.preflight import CheckList, CheckName, check_names
from omnirt_cli.request import Audio2VideoRequest, ExecutorChoice
from omnirt_cli.runs.asked import asked_request
from omnirt_cli.settings import Layer, Surroundings, resolve

DEFAULT_GRACE_S = 5.0


def draft_plan(
    request: Audio2VideoRequest,
    *,
    request_file: Layer | None = None,
    surroundings: Surroundings | None = None,
    looks: InputLooks | None = None,
) -> Draft:
    """Plan one render; failures are in the draft's checks.

    Args:
        request: What is wanted.
        request_file: The `--config` file's layer.
        surroundings: Environment, working directory and user files; this process's by default.
        looks: Looks at the inputs that are under way already.
    """
    around = surroundings or Surroundings.current()
    draft = Draft(run_id=str(uuid.uuid4()), checks=CheckList())
    planning = Planning(request, request_file, around, looks or start_looking(request.inputs, around.cwd), draft)
    _look_around(planning)
    _decide(planning)
    draft.asked = _asked(planning)
    if draft.adapter is not None:
        draft.checks.run(CheckName.DISK, lambda: look_at_disk(planning))
    if draft.checks.error() is None:
        draft.plan = _finish(planning)
    return draft


def _asked(planning: Planning) -> dict[str, Any]:
    """The request with every setting that went into it, so that the run can be repeated."""
    draft = planning.draft
    return asked_request(
        planning.request,
        draft.settings,
        model=draft.adapter.info.id if draft.adapter else None,
        backend=draft.backend.value if draft.backend else None,
        cwd=planning.around.cwd,
    )


# What is there


def _look_around(planning: Planning) -> None:
    draft = planning.draft
    run = draft.checks.run
    tools = Look(_look_at_tools)
    run(CheckName.REQUEST, lambda: _choose_model(planning))
    known = draft.adapter is not None
    if known:
        run(CheckName.CONFIG, lambda: _resolve_settings(planning))
    able = run(CheckName.FFMPEG, lambda: _require_tools(planning, tools))
    if known:
        _look_at_machine(planning)
    draft.portrait = run(CheckName.IMAGE, planning.looks.portrait)
    if able:
        draft.speech = run(CheckName.AUDIO, planning.looks.speech)
    else:
        # A tool that hangs would blame the recording, and take minutes to do so.
        draft.checks.cannot_run(CheckName.AUDIO, "ffmpeg and ffprobe are needed to look at it")
    if known:
        run(CheckName.OUTPUT, lambda: choose_output(planning))


def _look_at_machine(planning: Planning) -> None:
    devices = look_at_devices(planning)
    look_at_model(planning)
    if devices is not None:
        see_devices(planning, devices)


def _choose_model(planning: Planning) -> None:
    model = planning.request.model
    if model is None:
        found = resolve(None, {}, None, planning.around).get("model")
        model = found if isinstance(found, str) else None
    if model is None:
        raise UsageError("--model is required", hint=f"one of: {', '.join(registry.model_ids())}")
    planning.draft.adapter = registry.adapter(model)


def _resolve_settings(planning: Planning) -> None:
    draft = planning.draft
    flags = planning.request.config.said()
    draft.settings = resolve(planning.adapter.info.key, flags, planning.request_file, planning.around)
    draft.warnings += draft.settings.warnings
    draft.checks.leave_out(check_names(planning.get("skip_check") or ()))
    refuse_foreign_knobs(planning)
    refuse_taken_variables(planning)


def _look_at_tools() -> bool:
    from omnirt_cli.media.tool_versions import require_tools

    require_tools()
    return True


def _require_tools(planning: Planning, tools: Look[bool]) -> bool:
    from omnirt_cli.media.tools import require_h264_encoder

    able = tools.result()
    if planning.get("executor") in (ExecutorChoice.DRIVER.value, ExecutorChoice.RESIDENT.value):
        require_h264_encoder()
    return able


# What is decided


def _decide(planning: Planning) -> None:
    draft = planning.draft
    if draft.checkout is None or draft.variant is None or draft.backend is None:
        draft.checks.cannot_run(CheckName.KNOBS, "the checkout is not known")
        return
    draft.config = resolve_knobs(planning)
    look_at_weights(planning)
    draft.checks.run(CheckName.KNOBS, lambda: decide_launch(planning))
    for warning in _picture_warnings(draft):
        draft.checks.warn(CheckName.IMAGE, warning)
    if draft.call is not None and draft.launch is not None:
        decide_argv(planning, draft.launch, draft.call)


def _picture_warnings(draft: Draft) -> list[str]:
    """What the model will do to the portrait, as far as its size is known."""
    if draft.portrait is None or draft.geometry is None:
        return []
    return picture_warnings(draft.portrait, framing(draft.geometry, draft.config.get("face_crop")))


def _finish(planning: Planning) -> Plan:
    draft, get = planning.draft, planning.get
    # Without a failed check every step has filled its part.
    assert draft.adapter is not None
    assert draft.backend is not None
    assert draft.checkout is not None
    assert draft.variant is not None
    assert draft.launch is not None
    assert draft.call is not None
    assert draft.argv is not None
    assert draft.names is not None
    assert draft.visibility is not None
    assert draft.geometry is not None
    assert draft.audio is not None
    assert draft.portrait is not None
    assert draft.speech is not None
    assert draft.outputs is not None
    assert draft.ckpt_dir is not None
    assert draft.wav2vec_dir is not None
    return Plan(
        run_id=draft.run_id,
        adapter=draft.adapter,
        backend=draft.backend,
        checkout=draft.checkout,
        variant=draft.variant,
        launch=draft.launch,
        executor=draft.executor,
        executor_source=draft.executor_source,
        call=draft.call,
        argv=draft.argv,
        env=draft.env,
        user_env=get("env") or {},
        env_script=draft.env_script,
        names=draft.names,
        visibility=draft.visibility,
        devices=draft.devices,
        wait_s=get("wait") or 0.0,
        geometry=draft.geometry,
        audio=draft.audio,
        encode_mode=encode_mode(planning),
        expected=expected_info(draft.geometry, draft.audio),
        portrait=draft.portrait,
        speech=draft.speech,
        outputs=draft.outputs,
        scratch=scratch_place(draft.outputs, draft.run_id, in_checkout=draft.launch.in_checkout),
        config=draft.config,
        ckpt_dir=draft.ckpt_dir,
        wav2vec_dir=draft.wav2vec_dir,
        weights=draft.weights,
        compile_cache=get("compile_cache") is not False,
        read_ahead=get("read_ahead") is not False,
        keep_runs_days=get("keep_runs_days"),
        limits=_limits(planning),
        verify=VerifyOptions(
            mode=get("verify") or "full",
            allow_black=bool(get("allow_black")),
            allow_frozen=bool(get("allow_frozen")),
            skip=frozenset(get("skip_check") or ()),
        ),
        publish=PublishOptions(
            no_clobber=bool(get("no_clobber")),
            metadata=not get("no_metadata"),
            keep_scratch=bool(get("keep_scratch")),
        ),
        warnings=(*draft.warnings, *_picture_warnings(draft), *draft.speech.warnings),
        skipped_checks=tuple(get("skip_check") or ()),
    )


def _limits(planning: Planning) -> Limits:
    grace = planning.get("grace")
    return Limits(
        timeout_s=planning.get("timeout") or 0.0,
        stall_timeout_s=planning.get("stall_timeout"),
        grace_s=DEFAULT_GRACE_S if grace is None else float(grace),
        idle_timeout_s=planning.get("idle_timeout"),
    )

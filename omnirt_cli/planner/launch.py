"""How the script is started: launcher, processes, its call, the command line and the environment."""

from __future__ import annotations

import os
from pathlib import Path

from launchers.command import Launcher, build_argv, free_port
from launchers.errors import LaunchError
from omnirt_cli.devices.visibility import VARIABLES
from omnirt_cli.errors import ConfigInvalidError, InputMissingError, OmniRTError, UsageError
from omnirt_cli.models.base import Backend, ScratchNames, ScriptCall, ScriptRequest
from omnirt_cli.output_paths import existing_folder, scratch_place
from omnirt_cli.plan import Launch
from omnirt_cli.planner.devices import most_devices, refuse_other_device, request_devices
from omnirt_cli.planner.knobs import refuse_private_knobs
from omnirt_cli.planner.model_place import program
from omnirt_cli.planner.planning import Planning
from omnirt_cli.preflight import CheckName
from omnirt_cli.request import ExecutorChoice

_DEVICE_VARIABLES = frozenset({*VARIABLES.values(), "CUDA_DEVICE_ORDER"})
_RANK_VARIABLES = frozenset({"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"})
_COUNT_KEYS = {Launcher.TORCHRUN: "nproc_per_node", Launcher.ACCELERATE: "num_processes"}


def decide_launch(planning: Planning) -> None:
    """Decide launcher, processes, audio and the script's call.

    Raises:
        UsageError, DevicesUnavailableError, InputInvalidError, InputMissingError: They do not go together.
    """
    draft, adapter = planning.draft, planning.adapter
    checkout, variant, backend = planning.facts()
    draft.geometry = adapter.geometry(checkout, draft.config)
    launcher = _launcher(planning, backend)
    processes = _processes(planning, launcher, backend)
    draft.launch = Launch(
        launcher=launcher,
        python=draft.python or Path("python"),
        processes=processes,
        accelerate=_accelerate(planning) if launcher is Launcher.ACCELERATE else None,
        in_checkout=planning.runs_in_checkout,
    )
    if draft.speech is not None:
        draft.audio = adapter.audio_plan(
            variant,
            draft.geometry,
            mode=encode_mode(planning),
            samples=draft.speech.samples,
            duration_s=draft.speech.duration_s,
            max_chunks=draft.config["max_chunks"].value,
        )
    draft.names = ScratchNames(
        image=draft.portrait.bare_name if draft.portrait else "portrait.png",
        audio=f"speech.{draft.audio.form.value}" if draft.audio else "speech.wav",
    )
    refuse_private_knobs(planning)
    request = script_request(planning, processes)
    draft.warnings += adapter.check(request)
    draft.call = adapter.script_call(request)
    draft.devices = request_devices(planning, processes)
    refuse_other_device(planning, draft.call)


def encode_mode(planning: Planning) -> str:
    """`stream` or `once`."""
    found = planning.draft.config.get("audio_encode_mode")
    return str(found.value) if found and found.value else "stream"


def script_request(planning: Planning, processes: int) -> ScriptRequest:
    """What the adapter needs to know, as far as it is decided."""
    draft = planning.draft
    checkout, variant, backend = planning.facts()
    return ScriptRequest(
        checkout=checkout,
        variant=variant,
        backend=backend,
        knobs=draft.config,
        names=draft.names or ScratchNames("portrait.png", "speech.wav"),
        ckpt_dir=draft.ckpt_dir or checkout.path,
        wav2vec_dir=draft.wav2vec_dir or checkout.path,
        processes=processes,
        prompt=planning.request.inputs.prompt,
        folder=_script_folder(planning),
        cache=user_cache(),
        audio=draft.audio,
        ffmpeg=_ffmpeg(),
    )


def _ffmpeg() -> str:
    """The program; that it is there is another check's matter."""
    from omnirt_cli.media.tools import find_tool

    try:
        return find_tool("ffmpeg")
    except OmniRTError:
        return "ffmpeg"


def _script_folder(planning: Planning) -> Path | None:
    """Where a program that runs elsewhere finds its files; None where it runs beside them."""
    draft = planning.draft
    elsewhere = planning.runs_in_checkout or draft.executor is ExecutorChoice.RESIDENT
    if not elsewhere or draft.outputs is None:
        return None
    return scratch_place(draft.outputs, draft.run_id, in_checkout=planning.runs_in_checkout)


def user_cache() -> Path | None:
    """OmniRT's folder in the user's cache; None where this user has no place to write, or may not look for one."""
    import platformdirs

    folder = platformdirs.user_cache_path("omnirt")
    if not folder.is_absolute():
        return None
    there = existing_folder(folder)
    return folder if there.is_dir() and os.access(there, os.W_OK | os.X_OK) else None


def _launcher(planning: Planning, backend: Backend) -> Launcher:
    chosen = planning.get("launcher")
    if chosen is not None:
        return Launcher(chosen)
    return Launcher.PYTHON if backend is Backend.CPU else Launcher.TORCHRUN


def _processes(planning: Planning, launcher: Launcher, backend: Backend) -> int:
    key = _COUNT_KEYS.get(launcher)
    _refuse_other_count(planning, launcher, key)
    asked = planning.get(key) if key else 1
    return _usual_processes(planning, backend) if asked is None else int(asked)


def _refuse_other_count(planning: Planning, launcher: Launcher, key: str | None) -> None:
    for other in _COUNT_KEYS.values():
        if other != key and planning.source(other) == "flag" and planning.get(other) != 1:
            raise UsageError(
                f"--{other.replace('_', '-')} does not go with --launcher {launcher.value}",
                hint=f"use --{key.replace('_', '-')}" if key else "use --launcher torchrun",
            )


def _usual_processes(planning: Planning, backend: Backend) -> int:
    """As many as devices are named, else the largest count up to the published one that is free and fits."""
    if backend is Backend.CPU:
        return planning.adapter.largest_process_count(1, script_request(planning, 1))
    published = planning.adapter.info.published_processes
    limit = most_devices(planning) or published
    largest = planning.adapter.largest_process_count
    request = script_request(planning, 1)
    named = planning.draft.visibility is not None and planning.draft.visibility.ids is not None
    if named and largest(limit, request) == limit:
        return limit
    return largest(min(limit, published), request)


def _accelerate(planning: Planning) -> Path:
    configured = planning.get("accelerate_executable")
    python = planning.draft.python or Path("python")
    return program(Path(configured) if configured else python.with_name("accelerate"), "accelerate_executable")


def decide_argv(planning: Planning, launch: Launch, call: ScriptCall) -> None:
    """Write the command line and what OmniRT sets in the environment."""
    draft = planning.draft
    try:
        draft.argv = build_argv(
            launch.launcher,
            python=launch.python,
            script=call.script,
            args=call.args,
            processes=launch.processes,
            accelerate=launch.accelerate,
            port=free_port() if launch.launcher is Launcher.ACCELERATE else None,
        )
    except LaunchError as error:
        draft.checks.fail(CheckName.INTERPRETER, InputMissingError(error.message, hint=error.hint))
    draft.env = dict(call.env)
    if draft.visibility is not None and draft.visibility.value is not None:
        draft.env[VARIABLES[draft.visibility.kind]] = draft.visibility.value
    if draft.backend is Backend.CUDA:
        draft.env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"


def refuse_taken_variables(planning: Planning) -> None:
    """What a run decides, and holds leases for, is not set behind its back.

    Raises:
        UsageError: `--env` names a variable of the devices or the ranks.
        ConfigInvalidError: A settings file does.
    """
    for name in sorted(planning.get("env") or ()):
        if name in _DEVICE_VARIABLES:
            raise _taken(planning, name, "which devices a run sees", "--visible-devices")
        if name in _RANK_VARIABLES:
            raise _taken(planning, name, "how many processes there are and how they meet", "--nproc-per-node")


def _taken(planning: Planning, name: str, what: str, flag: str) -> OmniRTError:
    kind = UsageError if planning.source("env") == "flag" else ConfigInvalidError
    return kind(f"{planning.source_name('env')} may not set {name}: OmniRT decides {what}", hint=f"use {flag}")

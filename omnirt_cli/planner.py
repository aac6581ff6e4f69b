"""From a request to a plan: resolves settings, looks at checkout, inputs and devices, and decides the launch.

Everything is looked at even after something failed, so that one pass shows every problem. Nothing is started or
written; `omnirt validate`, `--dry-run` and `generate` all come through here.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchers.command import Launcher, build_argv, free_port
from launchers.errors import LaunchError
from omnirt_cli.devices.inventory import discover
from omnirt_cli.devices.visibility import VARIABLES, resolve_visibility
from omnirt_cli.draft import Draft, expected_info
from omnirt_cli.errors import (
    DevicesUnavailableError,
    InputMissingError,
    OmniRTError,
    OutputUncreatableError,
    UsageError,
)
from omnirt_cli.inputs import InputLooks, start_looking
from omnirt_cli.models import registry
from omnirt_cli.models.base import (
    Backend,
    Carrier,
    KnobValue,
    ModelAdapter,
    ScratchNames,
    ScriptCall,
    ScriptRequest,
    Variant,
)
from omnirt_cli.output_paths import OutputPaths, existing_folder, refuse_unwritable, scratch_place
from omnirt_cli.plan import Launch, Limits, Plan, PublishOptions, VerifyOptions
from omnirt_cli.preflight import CheckList, CheckName, check_names
from omnirt_cli.request import Audio2VideoRequest, Config, Panel, option_facts
from omnirt_cli.settings import Layer, Surroundings, resolve

if TYPE_CHECKING:
    from omnirt_cli.checkout import CheckoutFacts

DEFAULT_GRACE_S = 5.0
DEFAULT_OUTPUT_DIR = "outputs"
KNOB_PANELS = frozenset({Panel.GENERATION.value, Panel.FLASHTALK.value, Panel.FLASHHEAD.value})
BYTES_PER_PIXEL_SECOND = 3.0
"""Upper bound of what x264 spends on a talking head at its default quality (measured on the miniature: under 1)."""


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
    return _Planner(request, request_file, around, looks or start_looking(request.inputs, around.cwd)).draft()


class _Planner:
    """One pass from request to plan. Each method is a step: it reads the draft, adds to it, and raises on a fault."""

    def __init__(
        self,
        request: Audio2VideoRequest,
        request_file: Layer | None,
        surroundings: Surroundings,
        looks: InputLooks,
    ) -> None:
        self._request = request
        self._looks = looks
        self._request_file = request_file
        self._around = surroundings
        self._draft = Draft(run_id=str(uuid.uuid4()), checks=CheckList())

    def draft(self) -> Draft:
        draft = self._draft
        run = draft.checks.run
        run(CheckName.REQUEST, self._choose_model)
        if draft.adapter is not None:
            run(CheckName.CONFIG, self._resolve_settings)
        run(CheckName.FFMPEG, self._find_tools)
        if draft.adapter is not None:
            self._look_at_the_model()
        draft.portrait = run(CheckName.IMAGE, self._looks.portrait)
        draft.speech = run(CheckName.AUDIO, self._looks.speech)
        if draft.portrait is not None:
            for warning in draft.portrait.warnings:
                draft.checks.warn(CheckName.IMAGE, warning)
        if draft.adapter is not None:
            run(CheckName.OUTPUT, self._choose_output)
        self._decide()
        if draft.adapter is not None:
            run(CheckName.DISK, self._look_at_disk)
        if draft.checks.error() is None:
            self._finish()
        return draft

    # What is there

    def _choose_model(self) -> None:
        model = self._request.model
        if model is None:
            found = resolve(None, {}, None, self._around).get("model")
            model = found if isinstance(found, str) else None
        if model is None:
            raise UsageError("--model is required", hint=f"one of: {', '.join(registry.model_ids())}")
        self._draft.adapter = registry.adapter(model)

    def _resolve_settings(self) -> None:
        adapter = self._adapter
        flags = self._request.config.said()
        self._draft.settings = resolve(adapter.info.key, flags, self._request_file, self._around)
        self._draft.warnings += self._draft.settings.warnings
        self._draft.checks.leave_out(check_names(self._get("skip_check") or ()))
        self._refuse_foreign_knobs()

    def _refuse_foreign_knobs(self) -> None:
        """A knob said for this run that the model does not have is a mistake; one in a shared file may be another's."""
        known = set(self._adapter.knobs())
        for key, setting in self._draft.settings.values.items():
            if key not in knob_names() or key in known:
                continue
            if setting.source == "flag" or setting.source.startswith("request file"):
                raise UsageError(
                    f"--{key.replace('_', '-')} is not a knob of {self._adapter.info.id}",
                    hint="it has: " + ", ".join(f"--{name.replace('_', '-')}" for name in sorted(known)),
                )
        if self._request.inputs.prompt and "prompt" not in self._adapter.info.optional_inputs:
            raise UsageError(f"{self._adapter.info.id} takes no prompt", hint="leave out --prompt")

    def _find_tools(self) -> None:
        from omnirt_cli.media.tools import find_tool

        find_tool("ffmpeg")
        find_tool("ffprobe")

    def _look_at_the_model(self) -> None:
        run, draft = self._draft.checks.run, self._draft
        run(CheckName.BACKEND, self._choose_backend)
        if draft.backend is not None:
            run(CheckName.DEVICES, self._look_for_devices)
        run(CheckName.CHECKOUT, self._find_checkout)
        draft.python = run(CheckName.INTERPRETER, self._find_python)
        draft.env_script = run(CheckName.ENV_SCRIPT, self._find_env_script)
        if draft.checkout is not None:
            info = self._adapter.info
            draft.ckpt_dir = self._model_folder("ckpt_dir", info.ckpt_dir)
            draft.wav2vec_dir = self._model_folder("wav2vec_dir", info.wav2vec_dir)
            run(CheckName.CHECKPOINT, lambda: _folder("ckpt_dir", draft.ckpt_dir))
            run(CheckName.WAV2VEC, lambda: _folder("wav2vec_dir", draft.wav2vec_dir))

    def _choose_backend(self) -> None:
        asked = self._request.backend or self._get("backend") or "auto"
        self._draft.backend = Backend(asked) if asked != "auto" else self._detect_backend()
        if self._draft.backend not in self._adapter.info.backends:
            raise UsageError(f"{self._adapter.info.id} does not run on {self._draft.backend.value}")
        self._draft.visibility = resolve_visibility(
            self._draft.backend,
            self._get("visible_devices"),
            self._around.environ,
            flag_source=self._source_name("visible_devices"),
        )

    def _detect_backend(self) -> Backend:
        for kind in (Backend.ASCEND, Backend.CUDA):
            if not discover(kind).absent:
                return kind
        raise DevicesUnavailableError(
            "no Ascend or CUDA device was found on this machine",
            hint="`--backend cpu` renders with the miniature; `--backend ascend|cuda` names a kind outright",
        )

    def _look_for_devices(self) -> None:
        backend = self._draft.backend
        assert backend is not None
        if backend is Backend.CPU:
            return
        inventory = discover(backend)
        if inventory.absent:
            raise DevicesUnavailableError(
                f"no {backend.value} device was found: /dev has no device node of that kind",
                hint="run where the devices are (in a container: pass them through), or --backend cpu",
            )

    def _find_checkout(self) -> None:
        from omnirt_cli.checkout import inspect_checkout

        info = self._adapter.info
        configured = self._get("repo_path")
        if configured is None and self._draft.backend is Backend.CPU:
            configured = str(registry.miniature_checkout(info))
            self._draft.implicit_miniature = True
            self._draft.warnings.append(
                "no checkout is configured: rendering with OmniRT's own miniature, "
                "a CPU stand-in without a neural network"
            )
        if configured is None:
            raise self._not_configured("repo_path", "the external checkout")
        self._draft.checkout = inspect_checkout(Path(configured), info.script)
        variant = self._adapter.recognise(self._draft.checkout)
        if self._get("no_checkout_checks"):
            variant = replace(variant, recognised=False)
        self._draft.variant = variant

    def _not_configured(self, key: str, what: str) -> OmniRTError:
        name = f"OMNIRT_{self._adapter.info.key.upper()}_{key.upper()}".replace("PYTHON_EXECUTABLE", "PYTHON")
        return UsageError(
            f"{what} is not configured for {self._adapter.info.id}",
            hint=f"give --{key.replace('_', '-')}, set {name}, or add `{key}` to omnirt.yaml",
        )

    def _find_python(self) -> Path:
        configured = self._get("python_executable")
        if self._draft.implicit_miniature and self._source("python_executable") != "flag":
            configured = sys.executable
        if configured is None:
            raise self._not_configured("python_executable", "the model's Python")
        return _program(Path(configured), "python_executable")

    def _find_env_script(self) -> Path | None:
        configured = self._get("env_script")
        if configured is None:
            return None
        path = Path(configured)
        if not path.is_file() or not os.access(path, os.R_OK):
            raise InputMissingError(f"env script {path} is not a readable file", hint="check --env-script")
        return path

    def _model_folder(self, key: str, usual: str) -> Path:
        assert self._draft.checkout is not None
        value = None if self._draft.implicit_miniature and self._source(key) != "flag" else self._get(key)
        return self._draft.checkout.path / Path(value or usual).expanduser()

    # What is decided

    def _decide(self) -> None:
        draft = self._draft
        if draft.checkout is None or draft.variant is None or draft.backend is None:
            draft.checks.cannot_run(CheckName.KNOBS, "the checkout is not known")
            return
        draft.config = self._knobs()
        draft.checks.run(CheckName.KNOBS, self._decide_launch)
        if draft.call is not None and draft.launch is not None:
            self._decide_argv(draft.launch, draft.call)

    def _knobs(self) -> dict[str, KnobValue]:
        """Every knob with its value: said by somebody, else the preset's, else what the checkout runs anyway."""
        checkout, variant, backend = self._facts()
        preset_name = self._get("preset") or "balanced"
        presets = {preset.name: preset for preset in self._adapter.presets(checkout, variant)}
        preset = presets[preset_name].knobs if preset_name in presets else {}
        defaults = self._adapter.defaults(checkout, variant, backend)
        knobs = {}
        for name in self._adapter.knobs():
            if self._get(name) is not None:
                value, source = self._get(name), self._source(name) or "flag"
            elif name in preset:
                value, source = preset[name], f"preset {preset_name}"
            else:
                value, source = defaults.get(name), "model default"
            knobs[name] = KnobValue(value, source, self._adapter.carrier(name, checkout, variant))
        return knobs

    def _decide_launch(self) -> None:
        draft, adapter = self._draft, self._adapter
        checkout, variant, backend = self._facts()
        draft.geometry = adapter.geometry(checkout, draft.config)
        launcher = self._launcher(backend)
        processes = self._processes(launcher, backend)
        draft.launch = Launch(
            launcher=launcher,
            python=draft.python or Path("python"),
            processes=processes,
            accelerate=self._accelerate() if launcher is Launcher.ACCELERATE else None,
            in_checkout=self._runs_in_checkout(),
        )
        mode = self._mode()
        if draft.speech is not None:
            draft.audio = adapter.audio_plan(
                variant,
                draft.geometry,
                mode=mode,
                samples=draft.speech.samples,
                duration_s=draft.speech.duration_s,
                max_chunks=draft.config["max_chunks"].value,
            )
        draft.names = ScratchNames(
            image=draft.portrait.bare_name if draft.portrait else "portrait.png",
            audio=f"speech.{draft.audio.form.value}" if draft.audio else "speech.wav",
        )
        self._refuse_private_knobs()
        script_request = self._script_request(processes)
        draft.warnings += adapter.check(script_request)
        draft.call = adapter.script_call(script_request)

    def _script_request(self, processes: int) -> ScriptRequest:
        draft = self._draft
        checkout, variant, backend = self._facts()
        return ScriptRequest(
            checkout=checkout,
            variant=variant,
            backend=backend,
            knobs=draft.config,
            names=draft.names or ScratchNames("portrait.png", "speech.wav"),
            ckpt_dir=draft.ckpt_dir or checkout.path,
            wav2vec_dir=draft.wav2vec_dir or checkout.path,
            processes=processes,
            prompt=self._request.inputs.prompt,
            folder=self._script_folder(),
        )

    def _script_folder(self) -> Path | None:
        """Where a script that runs in its checkout finds its files; None where it runs beside them."""
        if not self._runs_in_checkout() or self._draft.outputs is None:
            return None
        return scratch_place(self._draft.outputs, self._draft.run_id, in_checkout=True)

    def _runs_in_checkout(self) -> bool:
        return bool(self._get("working_directory") == "checkout")

    def _refuse_private_knobs(self) -> None:
        """A script that runs in its checkout opens the checkout's own YAML, which is never written."""
        if not self._runs_in_checkout():
            return
        for name, knob in self._draft.config.items():
            if knob.carrier is Carrier.INFER_PARAMS and knob.source != "model default":
                raise UsageError(
                    f"--{name.replace('_', '-')} travels in the private infer_params.yaml, which a script does not see "
                    "with --working-directory checkout",
                    hint="leave out one of the two",
                )

    def _launcher(self, backend: Backend) -> Launcher:
        chosen = self._get("launcher")
        if chosen is not None:
            return Launcher(chosen)
        return Launcher.PYTHON if backend is Backend.CPU else Launcher.TORCHRUN

    def _processes(self, launcher: Launcher, backend: Backend) -> int:
        key = {Launcher.TORCHRUN: "nproc_per_node", Launcher.ACCELERATE: "num_processes"}.get(launcher)
        for other in ("nproc_per_node", "num_processes"):
            if other != key and self._source(other) == "flag" and self._get(other) != 1:
                raise UsageError(
                    f"--{other.replace('_', '-')} does not go with --launcher {launcher.value}",
                    hint=f"use --{key.replace('_', '-')}" if key else "use --launcher torchrun",
                )
        visible = self._draft.visibility.ids if self._draft.visibility else None
        asked = self._get(key) if key else 1
        if asked is None:
            return self._usual_processes(backend, visible)
        if visible is not None and asked > len(visible):
            raise DevicesUnavailableError(
                f"{asked} processes need {asked} devices, but only {','.join(visible)} are visible",
                hint=f"name {asked} devices with --visible-devices, or start {len(visible)} processes",
            )
        return int(asked)

    def _usual_processes(self, backend: Backend, visible: tuple[str, ...] | None) -> int:
        published = self._adapter.info.published_processes
        if visible is not None:
            limit = len(visible)
        elif backend is Backend.CPU:
            limit = 1
        else:
            limit = min(discover(backend).count or published, published)
        return self._adapter.largest_process_count(limit, self._script_request(1))

    def _accelerate(self) -> Path:
        configured = self._get("accelerate_executable")
        python = self._draft.python or Path("python")
        return _program(Path(configured) if configured else python.with_name("accelerate"), "accelerate_executable")

    def _mode(self) -> str:
        found = self._draft.config.get("audio_encode_mode")
        return str(found.value) if found and found.value else "stream"

    def _decide_argv(self, launch: Launch, call: ScriptCall) -> None:
        draft = self._draft
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

    # Where it goes

    def _choose_output(self) -> None:
        folder_or_file = self._get("output_dir")
        output = self._get("output")
        if output is None and folder_or_file is not None and folder_or_file.endswith(".mp4"):
            output = None if Path(folder_or_file).is_dir() else folder_or_file
        if output is not None:
            if not output.endswith(".mp4"):
                raise UsageError(f"--output {output}: the name must end in .mp4")
            video = Path(output)
        else:
            folder = Path(folder_or_file) if folder_or_file else self._around.cwd / DEFAULT_OUTPUT_DIR
            video = folder / f"{self._adapter.info.id}-{self._seed()}-{time.time_ns() // 1_000_000}.mp4"
        self._draft.outputs = OutputPaths(Path(os.path.abspath(video)))  # noqa: PTH100 - links in it are the user's
        refuse_unwritable(self._draft.outputs, no_clobber=bool(self._get("no_clobber")))

    def _seed(self) -> int:
        said = self._get("seed")
        return self._adapter.info.default_seed if said is None else int(said)

    def _look_at_disk(self) -> None:
        draft = self._draft
        if draft.outputs is None or draft.geometry is None or draft.audio is None:
            return
        seconds = draft.audio.generated_frames / draft.geometry.fps
        needed = 3 * seconds * draft.geometry.width * draft.geometry.height * BYTES_PER_PIXEL_SECOND + (16 << 20)
        facts = os.statvfs(existing_folder(draft.outputs.folder))
        free = facts.f_bavail * facts.f_frsize
        if free < needed:
            raise OutputUncreatableError(
                f"{draft.outputs.folder}: {free / 2**20:.0f} MiB free, the run may need {needed / 2**20:.0f} MiB",
                hint="free some disk space, choose another --output-dir, or --skip-check disk",
            )

    def _finish(self) -> None:
        draft = self._draft
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
        draft.plan = Plan(
            run_id=draft.run_id,
            adapter=draft.adapter,
            backend=draft.backend,
            checkout=draft.checkout,
            variant=draft.variant,
            launch=draft.launch,
            call=draft.call,
            argv=draft.argv,
            env=draft.env,
            user_env=self._get("env") or {},
            env_script=draft.env_script,
            names=draft.names,
            visibility=draft.visibility,
            geometry=draft.geometry,
            audio=draft.audio,
            encode_mode=self._mode(),
            expected=expected_info(draft.geometry, draft.audio),
            portrait=draft.portrait,
            speech=draft.speech,
            outputs=draft.outputs,
            scratch=scratch_place(draft.outputs, draft.run_id, in_checkout=draft.launch.in_checkout),
            config=draft.config,
            limits=Limits(
                timeout_s=self._get("timeout") or 0.0,
                stall_timeout_s=self._get("stall_timeout"),
                grace_s=_default(self._get("grace"), DEFAULT_GRACE_S),
            ),
            verify=VerifyOptions(
                mode=self._get("verify") or "full",
                allow_black=bool(self._get("allow_black")),
                allow_frozen=bool(self._get("allow_frozen")),
                skip=frozenset(self._get("skip_check") or ()),
            ),
            publish=PublishOptions(
                no_clobber=bool(self._get("no_clobber")),
                metadata=not self._get("no_metadata"),
                keep_scratch=bool(self._get("keep_scratch")),
            ),
            warnings=(*draft.warnings, *draft.portrait.warnings, *draft.speech.warnings),
            skipped_checks=tuple(self._get("skip_check") or ()),
        )

    # Reading the draft

    @property
    def _adapter(self) -> ModelAdapter:
        assert self._draft.adapter is not None
        return self._draft.adapter

    def _facts(self) -> tuple[CheckoutFacts, Variant, Backend]:
        draft = self._draft
        assert draft.checkout is not None
        assert draft.variant is not None
        assert draft.backend is not None
        return draft.checkout, draft.variant, draft.backend

    def _get(self, key: str) -> Any:
        return self._draft.settings.get(key)

    def _source(self, key: str) -> str | None:
        return self._draft.settings.source(key)

    def _source_name(self, key: str) -> str:
        source = self._source(key)
        return f"--{key.replace('_', '-')}" if source in (None, "flag") else f"{key} ({source})"


def knob_names() -> frozenset[str]:
    """Config keys that are generation knobs of some model."""
    return frozenset(
        name
        for name, info in Config.model_fields.items()
        if option_facts(info).get("panel") in KNOB_PANELS and name != "preset"
    )


def _default(value: Any, otherwise: float) -> float:
    return otherwise if value is None else float(value)


def _folder(key: str, path: Path | None) -> Path:
    if path is None or not path.is_dir():
        raise InputMissingError(
            f"{key} {path} is not a directory",
            hint=f"check --{key.replace('_', '-')}; relative paths start at the checkout",
        )
    return path


def _program(path: Path, key: str) -> Path:
    if not path.is_file():
        raise InputMissingError(f"{key} {path} is not there", hint=f"check --{key.replace('_', '-')}")
    if not os.access(path, os.X_OK):
        raise InputMissingError(f"{key} {path} is not executable", hint=f"check --{key.replace('_', '-')}")
    return path

"""What the SoulX scripts have in common, as far as OmniRT must know it.

They take their knobs through flags, environment variables and a YAML file that they open relatively; FlashTalk's
and FlashHead's `generate_video.py` run the same loop over the audio and log the same lines, too. An adapter states
its table of knobs, its sizes and its rules for process counts; this module turns them into carriers, checks and a
`ScriptCall`.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, ClassVar

from omnirt_cli.checkout import AudioMux, CheckoutFacts
from omnirt_cli.errors import InputInvalidError, UsageError
from omnirt_cli.models import frames
from omnirt_cli.models.base import (
    AudioForm,
    AudioPlan,
    Backend,
    Carrier,
    Geometry,
    KnobValue,
    LogRule,
    MarkKind,
    ModelAdapter,
    Preset,
    ScratchNames,
    ScriptCall,
    ScriptRequest,
    Variant,
)
from omnirt_cli.models.infer_params import private_params
from omnirt_cli.models.knob_values import knob_value, parse_size, require, require_new_frames, spelled

UNRECOGNISED = "unrecognised"


@dataclass(frozen=True)
class ScriptVariant(Variant):
    """A variant, with the two habits that decide how its audio is prepared."""

    loop: frames.Loop = frames.Loop.DROPPING
    audio_form: AudioForm = AudioForm.M4A


@dataclass(frozen=True)
class Way:
    """One way in which a knob can reach a script.

    Attributes:
        names: The flag, the variables, the YAML keys, or the scripts beside the entry script that OmniRT runs for it;
            a value with several parts has one name for each.
        by_library: A variable that a library reads, so that the checkout's own code need not name it.
        constant: The worker sets a constant of the pipeline's module, not a key of its parameters.
        of_inference: The worker sets a constant of the `inference` module.
    """

    carrier: Carrier
    names: tuple[str, ...] = ()
    by_library: bool = False
    constant: bool = False
    of_inference: bool = False


def flag(name: str) -> Way:
    """By a flag of the script."""
    return Way(Carrier.FLAG, (name,))


def env(*names: str) -> Way:
    """By environment variables that the checkout reads."""
    return Way(Carrier.ENVIRONMENT, names)


def library_env(name: str) -> Way:
    """By an environment variable that a library of the checkout reads."""
    return Way(Carrier.ENVIRONMENT, (name,), by_library=True)


def script(name: str) -> Way:
    """By another script of the checkout, which OmniRT runs."""
    return Way(Carrier.OMNIRT, (name,))


def worker_param(key: str) -> Way:
    """By the worker program, among the parameters of the loaded checkout."""
    return Way(Carrier.WORKER, (key,))


def worker_constant(name: str) -> Way:
    """By the worker program, as a constant of the pipeline's module."""
    return Way(Carrier.WORKER, (name,), constant=True)


def inference_constant(name: str) -> Way:
    """By the worker program, as a constant of the `inference` module."""
    return Way(Carrier.WORKER, (name,), of_inference=True)


def params(*keys: str) -> Way:
    """By the private `infer_params.yaml`."""
    return Way(Carrier.INFER_PARAMS, keys)


BY_OMNIRT = Way(Carrier.OMNIRT)
BUILT_IN = Way(Carrier.FIXED)

Rows = Mapping[str, tuple[Way, ...]]
"""Knob -> the ways it may travel, best first; a run takes the first that its checkout has."""


class SoulXScriptAdapter(ModelAdapter):
    """Base of the adapters. Subclasses fill the class attributes and the abstract methods below."""

    rows: ClassVar[Rows]
    flag_order: ClassVar[tuple[str, ...]]
    mandatory_flags: ClassVar[frozenset[str]]
    fallback_params: ClassVar[Mapping[str, Any]]
    result_name: ClassVar[str]
    silent_name: ClassVar[str]
    own_log_rules: ClassVar[tuple[LogRule, ...]] = ()

    # --- what a model states ----------------------------------------------------------------------

    @abstractmethod
    def built_in(self, knob: str, checkout: CheckoutFacts) -> Any:
        """The one value that a checkout has for a knob that cannot be set there; None where unknown."""

    @abstractmethod
    def own_defaults(self, backend: Backend) -> dict[str, Any]:
        """Defaults that do not stand in `infer_params.yaml`."""

    @abstractmethod
    def check_values(self, request: ScriptRequest) -> list[str]:
        """Refuse values that this model cannot run, and return warnings."""

    @abstractmethod
    def process_fault(self, processes: int, request: ScriptRequest) -> str | None:
        """Why the model cannot run on so many processes; None where it can."""

    # --- knobs and their carriers -----------------------------------------------------------------

    def knobs(self) -> tuple[str, ...]:
        """See base."""
        return tuple(self.rows)

    def carrier(self, knob: str, checkout: CheckoutFacts, variant: Variant) -> Carrier | None:
        """See base."""
        way = self.way(knob, checkout, variant)
        return way.carrier if way else None

    def way(self, knob: str, checkout: CheckoutFacts, variant: Variant) -> Way | None:
        """How a knob travels here. A checkout that fits no variant gets its variables unasked."""
        row = self.rows.get(knob, ())
        open_row = [way for way in row if way.carrier is not Carrier.FIXED or variant.recognised]
        found = next((way for way in open_row if _is_available(way, checkout)), None)
        if found or variant.recognised:
            return found
        return next((way for way in row if way.carrier in (Carrier.ENVIRONMENT, Carrier.FIXED)), None)

    def presets(self, checkout: CheckoutFacts | None, variant: Variant | None) -> tuple[Preset, ...]:
        """See base."""
        return tuple(
            Preset(
                name,
                preset.summary,
                self._settable(preset.for_variant(variant.name if variant else None), checkout, variant),
            )
            for name, preset in self.card.presets.items()
        )

    def _settable(
        self, knobs: Mapping[str, Any], checkout: CheckoutFacts | None, variant: Variant | None
    ) -> dict[str, Any]:
        if checkout is None or variant is None:
            return dict(knobs)
        ways = {knob: self.way(knob, checkout, variant) for knob in knobs}
        return {
            knob: value for knob, value in knobs.items() if (way := ways[knob]) and way.carrier is not Carrier.FIXED
        }

    def defaults(self, checkout: CheckoutFacts, variant: Variant, backend: Backend) -> dict[str, Any]:
        """See base."""
        values = {
            "audio_encode_mode": frames.Mode.STREAM.value,
            "seed": self.info.default_seed,
            **self._file_defaults(checkout),
            **self.own_defaults(backend),
        }
        ways = {knob: self.way(knob, checkout, variant) for knob in self.rows}
        fixed = {
            knob: self.built_in(knob, checkout) for knob, way in ways.items() if way and way.carrier is Carrier.FIXED
        }
        return {
            knob: value
            for knob, value in {**values, **fixed}.items()
            if (way := ways.get(knob)) and _is_available(way, checkout)
        }

    def _file_defaults(self, checkout: CheckoutFacts) -> dict[str, Any]:
        own = {**self.fallback_params, **checkout.infer_params}
        single = {
            knob: own[way.names[0]]
            for knob, row in self.rows.items()
            for way in row
            if way.carrier is Carrier.INFER_PARAMS and len(way.names) == 1 and way.names[0] in own
        }
        return {**single, "size": f"{own['width']}*{own['height']}"} if {"width", "height"} <= set(own) else single

    # --- checks -----------------------------------------------------------------------------------

    def check(self, request: ScriptRequest) -> list[str]:
        """See base."""
        self._check_mandatory_flags(request.checkout)
        warnings = [*_contradictions(request), *self._check_carriers(request)]
        _check_common_values(request.knobs)
        warnings += self.check_values(request)
        fault = self.process_fault(request.processes, request)
        if fault:
            counts = ", ".join(str(count) for count in self.process_counts(request)) or "none"
            raise UsageError(
                f"{self.info.title} cannot run on {request.processes} processes: {fault}.",
                hint=f"Counts that work with these settings: {counts}. Set one with --nproc-per-node.",
            )
        return warnings

    def process_counts(self, request: ScriptRequest, limit: int = 16) -> list[int]:
        """Every process count up to `limit` that these settings allow."""
        return [count for count in range(1, limit + 1) if self.process_fault(count, request) is None]

    def largest_process_count(self, limit: int, request: ScriptRequest) -> int:
        """The largest process count up to `limit` that these settings allow; 1 always does.

        `request.processes` is not looked at.
        """
        return max(self.process_counts(request, limit), default=1)

    def _check_mandatory_flags(self, checkout: CheckoutFacts) -> None:
        missing = sorted(self.mandatory_flags - checkout.flags) if checkout.flags is not None else []
        if missing:
            raise UsageError(
                f"{checkout.script} declares no {', '.join(missing)}; it is not a {self.info.title} script.",
                hint=f"Check --repo-path or --model; it declares {', '.join(sorted(checkout.flags or ()))}.",
            )

    def _check_carriers(self, request: ScriptRequest) -> list[str]:
        warnings = []
        for knob, value in _given(request.knobs):
            way = self.way(knob, request.checkout, request.variant)
            if way is None:
                raise self._no_carrier(knob, request)
            if way.carrier is Carrier.FIXED and request.variant.recognised:
                self._check_built_in(knob, value, request)
            if way.carrier is Carrier.ENVIRONMENT and not _is_available(way, request.checkout):
                names = " and ".join(way.names)
                warnings.append(f"nothing in {request.checkout.path} names {names}; {spelled(knob)} may have no effect")
        return warnings

    def _no_carrier(self, knob: str, request: ScriptRequest) -> UsageError:
        checkout, variant = request.checkout, request.variant
        usable = [spelled(name) for name in self.rows if self.way(name, checkout, variant)]
        names = sorted({name for way in self.rows.get(knob, ()) for name in way.names})
        reason = f" Nothing in it is named {' or '.join(names)}." if names else ""
        return UsageError(
            f"The {variant.name} {self.info.title} checkout {checkout.path} has no {spelled(knob)}.{reason}",
            hint=f"It has {', '.join(usable)}.",
        )

    def _check_built_in(self, knob: str, value: Any, request: ScriptRequest) -> None:
        only = self.built_in(knob, request.checkout)
        if only is None or value == only:
            return
        where = f"The {request.variant.name} {self.info.title} checkout {request.checkout.path}"
        raise UsageError(
            f"{where} has {spelled(knob)} built in as {_shown(only)}; it cannot be set to {_shown(value)}.",
            hint=f"Leave {spelled(knob)} out, or use a checkout that reads it.",
        )

    # --- frames -----------------------------------------------------------------------------------

    def audio_plan(
        self,
        variant: Variant,
        geometry: Geometry,
        *,
        mode: str,
        samples: int,
        duration_s: float,
        max_chunks: int | None,
    ) -> AudioPlan:
        """See base."""
        if samples <= 0:
            raise InputInvalidError("The audio holds no samples.", hint="Give a recording with sound in it.")
        require_new_frames(geometry)
        habits = variant if isinstance(variant, ScriptVariant) else ScriptVariant(variant.name, variant.recognised)
        plan = frames.plan(
            habits.loop,
            frames.Mode(mode),
            geometry,
            samples=samples,
            duration_s=duration_s,
            max_chunks=max_chunks,
            surplus=frames.AAC_SURPLUS_SAMPLES if habits.audio_form is AudioForm.M4A else 0,
        )
        return AudioPlan(
            form=habits.audio_form,
            lead_samples=plan.lead_samples,
            total_samples=plan.total_samples,
            chunks=plan.chunks,
            generated_frames=plan.generated_frames,
            frames=plan.frames,
            speech_samples=min(samples, round(plan.frames * geometry.sample_rate / geometry.fps)),
            cut=plan.frames < plan.needed_frames,
        )

    # --- the call ---------------------------------------------------------------------------------

    def script_call(self, request: ScriptRequest) -> ScriptCall:
        """See base."""
        return ScriptCall(
            script=request.checkout.script,
            args=self._args(request),
            env=self.environment(request),
            files=self.private_files(request),
            result_name=self.result_of(request.names),
            silent_name=self.silent_name,
        )

    def result_of(self, names: ScratchNames) -> str:  # noqa: ARG002
        """What the script's result is called."""
        return self.result_name

    def _args(self, request: ScriptRequest) -> tuple[str, ...]:
        """The script's own flags."""
        values = self.own_flags(request)
        for knob, value in _given(request.knobs):
            way = self.way(knob, request.checkout, request.variant)
            if way and way.carrier is Carrier.FLAG:
                values[way.names[0]] = self.flag_value(knob, value, request)
        spoken = (
            _argument(name, values[name], request.checkout)
            for name in self.flag_order
            if values.get(name) is not None and _is_available(flag(name), request.checkout)
        )
        return tuple(argument for argument in spoken if argument)

    def own_flags(self, request: ScriptRequest) -> dict[str, Any]:
        """The flags that no knob stands behind: inputs, folders, result."""
        folder = request.folder or PurePath()
        return {
            "--ckpt_dir": request.ckpt_dir,
            "--wav2vec_dir": request.wav2vec_dir,
            "--cond_image": folder / request.names.image,
            "--audio_path": folder / request.names.audio,
            "--save_file": folder / self.result_name,
            "--input_prompt": request.prompt,
        }

    def flag_value(self, knob: str, value: Any, request: ScriptRequest) -> Any:  # noqa: ARG002
        """A knob's value as its flag takes it."""
        return value

    def environment(self, request: ScriptRequest) -> dict[str, str]:
        """What the script reads from its environment."""
        found: dict[str, str] = {}
        for knob, value in _given(request.knobs):
            way = self.way(knob, request.checkout, request.variant)
            if way and way.carrier is Carrier.ENVIRONMENT:
                found.update(zip(way.names, map(_variable, self.parts(knob, value, request.knobs)), strict=True))
        return found

    def private_files(self, request: ScriptRequest) -> dict[str, bytes]:
        """The private YAML; a knob that travels by a variable stands there too, so that the two agree."""
        own = request.checkout.infer_params
        values: dict[str, Any] = {}
        for knob, value in _given(request.knobs):
            for way in self.rows.get(knob, ()):
                if way.carrier is Carrier.INFER_PARAMS and set(way.names) <= set(own):
                    values.update(zip(way.names, self.parts(knob, value, request.knobs), strict=True))
        return {path: private_params(own, values) for path in request.checkout.infer_params_paths[:1] if own}

    def parts(self, knob: str, value: Any, knobs: Mapping[str, KnobValue]) -> tuple[Any, ...]:  # noqa: ARG002
        """A knob's value as the script wants it, one part for each name of its way."""
        return parse_size(value) if knob == "size" else (value,)

    def log_rules(self, variant: Variant) -> tuple[LogRule, ...]:  # noqa: ARG002
        """See base. A rule of one variant's never matches another's lines, so all have all."""
        return (*LOG_RULES, *self.own_log_rules)


# --- variants -------------------------------------------------------------------------------------


def variant_of(name: str, checkout: CheckoutFacts, *, recognised: bool = True) -> ScriptVariant:
    """A variant with the habits that the checkout's source shows.

    Where the source is silent the cautious habits are taken: audio that survives any mux, and enough of it.
    """
    return ScriptVariant(
        name,
        recognised=recognised,
        loop=frames.Loop.PADDING if checkout.source.pads_audio else frames.Loop.DROPPING,
        audio_form=AudioForm.WAV if checkout.source.mux is AudioMux.ENCODE else AudioForm.M4A,
    )


def is_consistent(checkout: CheckoutFacts) -> bool:
    """Whether exactly one of script and pipeline cuts the repeated frames, as in every known variant."""
    source = checkout.source
    expected = source.script_trims_motion is source.pads_audio
    return expected and (source.pipeline_trims_motion in (None, not source.script_trims_motion))


def _contradictions(request: ScriptRequest) -> list[str]:
    source = request.checkout.source
    if source.pipeline_trims_motion is None or source.pipeline_trims_motion is not source.script_trims_motion:
        return []
    what = "cut twice" if source.script_trims_motion else "never cut"
    where = request.checkout.path
    return [f"in {where} the repeated frames of each chunk are {what}: script and pipeline do not match"]


_LEAST = {
    "seed": 0,
    "max_chunks": 1,
    "sample_steps": 1,
    "fps": 1,
    "frame_num": 1,
    "motion_frames_num": 1,
    "color_correction_strength": 0,
    "sample_shift": 0.001,
}


def _check_common_values(knobs: Mapping[str, KnobValue]) -> None:
    mode = knob_value(knobs, "audio_encode_mode")
    require(
        mode in (None, "stream", "once"),
        f"--audio-encode-mode {mode!r} does not exist.",
        "Choose stream or once.",
    )
    for knob, least in _LEAST.items():
        value = knob_value(knobs, knob)
        require(
            value is None or value >= least,
            f"{spelled(knob)} {value} is too small.",
            f"It is {least} or more.",
        )


def _given(knobs: Mapping[str, KnobValue]) -> list[tuple[str, Any]]:
    return [(name, knob.value) for name, knob in knobs.items() if knob.value is not None]


def _is_available(way: Way, checkout: CheckoutFacts) -> bool:
    if way.carrier is Carrier.FLAG:
        return checkout.flags is None or way.names[0] in checkout.flags
    if way.carrier is Carrier.ENVIRONMENT:
        return way.by_library or set(way.names) <= checkout.env_names
    if way.carrier is Carrier.INFER_PARAMS:
        return set(way.names) <= set(checkout.infer_params)
    if way.carrier is Carrier.WORKER:
        return not way.constant or set(way.names) <= checkout.source.switched_off
    return set(way.names) <= checkout.scripts


def _argument(name: str, value: Any, checkout: CheckoutFacts) -> str | None:
    """`--flag=value`; a switch stands alone. What is off is left out: some flags take any text as true."""
    if value is False:
        return None
    details = checkout.flag_details.get(name)
    takes_value = details.takes_value if details else value is not True
    return f"{name}={_shown(value)}" if takes_value else name


def _variable(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else _shown(value)


def _shown(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


# --- the log --------------------------------------------------------------------------------------

_SECONDS = rb"(?P<seconds>-?\d+(?:\.\d+)?(?:e-?\d+)?)s"

LOG_RULES = (
    LogRule(MarkKind.DEVICE, b" device=", re.compile(rb"rank=(?P<index>\d+) device=(?P<device>[\w:]+)")),
    LogRule(MarkKind.DEVICE, b"ulysses_degree: ", re.compile(rb"ring_degree: \d+, device: (?P<device>[\w:]+)")),
    LogRule(
        MarkKind.READY,
        b"Data preparation done",
        re.compile(rb"Data preparation done\. Start to generate video"),
    ),
    LogRule(
        MarkKind.CHUNK,
        b"Generate video chunk-",
        re.compile(rb"Generate video chunk-(?P<index>\d+) done, cost time: " + _SECONDS),
    ),
    LogRule(
        MarkKind.DENOISE_STEP,
        b"model denoise per step: ",
        re.compile(rb"\[generate\w*\] model denoise per step: " + _SECONDS),
    ),
    LogRule(MarkKind.VAE_DECODE, b"decode video frames: ", re.compile(rb"decode video frames: " + _SECONDS)),
    LogRule(MarkKind.COLOR_CORRECTION, b"color correction: ", re.compile(rb"color correction: " + _SECONDS)),
    LogRule(MarkKind.MOTION_ENCODE, b"encode motion frames: ", re.compile(rb"encode motion frames: " + _SECONDS)),
    LogRule(MarkKind.SAVED, b"Saving generated video to ", re.compile(rb"Saving generated video to \S")),
    LogRule(MarkKind.FINISHED, b"Finished.", re.compile(rb"[ m]Finished\.(?:\x1b\[\d+m|\s)*$")),
    # loguru pads its levels to eight characters.
    *(LogRule(MarkKind.NOTE, level, re.compile(re.escape(level))) for level in (b"| WARNING  |", b"| ERROR    |")),
)
"""Lines of FlashTalk's and FlashHead's scripts, the same in every known variant."""

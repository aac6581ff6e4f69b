"""SoulX-LiveAct 14B: its checkouts, knobs, sizes and rules.

Variants: `public` (ac8579b, CUDA, at most two processes) and `ascend` (the NPU adaptation, which is not published;
facts from OmniRT 0.x at 91d2c50, which drives it). The adaptation is told by its flags and by the script with which
it encodes the prompts in a step of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from omnirt_cli.checkout import CheckoutFacts
from omnirt_cli.models import liveact_audio, liveact_text
from omnirt_cli.models import liveact_rules as rules
from omnirt_cli.models.base import (
    AudioPlan,
    Backend,
    Carrier,
    EarlierStep,
    Geometry,
    KnobValue,
    LogRule,
    MarkKind,
    ModelInfo,
    ScratchNames,
    ScriptCall,
    ScriptRequest,
    Variant,
)
from omnirt_cli.models.knob_values import knob_value, parse_size, transposed_profile
from omnirt_cli.models.soulx_script import (
    BUILT_IN,
    BY_OMNIRT,
    UNRECOGNISED,
    SoulXScriptAdapter,
    env,
    flag,
    library_env,
    script,
)
from omnirt_cli.request import SIZE

_TEXT_SCRIPT = "prepare_text_cache.py"
_TEXT_MEMORY_HINT = (
    "T5 needs about 11 GiB there: choose another of the run's devices with --text-cache-visible-devices, "
    "or let it compute on the host with --text-cache-device cpu"
)
_PROFILE_VARIABLE = "LIVEACT_STAGE_PROFILE"
_ADAPTED_FLAGS = frozenset({"--sample_steps", "--ring_degree", "--rank0_t5_only"})

_BUILT_IN_STEPS = 3
_PROFILES = ((416, 720), (480, 832), (512, 512))
_DEVICES = {Backend.ASCEND: "npu", Backend.CUDA: "cuda", Backend.CPU: "cpu"}
_PATHS = ("vae_path", "condition_cache_dir")
_DECLARED = ("size", "fps", "audio_cfg", "sample_steps", "steam_audio", "mean_memory")
"""Defaults that an unadapted checkout's own parser has."""

_FLAGS = (
    "audio_cfg",
    "steam_audio",
    "mean_memory",
    "t5_cpu",
    "rank0_t5_only",
    "stop_after_text_context",
    "offload_cache",
    "fp8_kv_cache",
    "fp8_gemm",
    "fp4_gemm",
    "block_offload",
    "use_lightvae",
    "use_cache_vae",
    "vae_path",
    "condition_cache_dir",
    "disable_condition_cache",
    "fast_export",
    "disable_fast_export",
    "fast_export_preset",
    "fast_export_crf",
    "sequence_parallel_degree",
    "ulysses_degree",
    "ring_degree",
    "dura_print",
)
"""Knobs that are called as their flags are."""

# The first way that a checkout has is taken; a public one lacks most of them.
_ROWS = {
    "seed": (flag("--seed"),),
    "size": (flag("--size"),),
    "fps": (flag("--fps"),),
    "sample_steps": (flag("--sample_steps"), flag("--denoising_steps"), BUILT_IN),
    "max_chunks": (BY_OMNIRT,),
    "edit_prompt": (BY_OMNIRT,),
    **{knob: (flag(f"--{knob}"),) for knob in _FLAGS},
    "prepare_text_cache": (script(_TEXT_SCRIPT),),
    "text_cache_device": (script(_TEXT_SCRIPT),),
    "text_cache_visible_devices": (script(_TEXT_SCRIPT),),
    "force_text_cache": (script(_TEXT_SCRIPT),),
    "disable_text_cache_prepare": (BY_OMNIRT,),
    "stage_profile": (env(_PROFILE_VARIABLE),),
    "platform": (library_env("PLATFORM"),),
}

_NUMBER = rb"\d+(?:\.\d+)?"
_LOG_RULES = (
    LogRule(MarkKind.LOADING, b"Loading checkpoint shards:", re.compile(rb"Loading checkpoint shards:")),
    # A fork says so when its weights are loaded; every script prints the number of blocks before the first.
    LogRule(MarkKind.READY, b"LIVEACT_READY", re.compile(rb"LIVEACT_READY\b")),
    LogRule(MarkKind.READY, b"----iter_total_num=", re.compile(rb"----iter_total_num= *\d")),
    LogRule(
        MarkKind.CHUNK,
        b"Done Block ",
        re.compile(rb"Done Block (?P<index>\d+): duration \S+ms video cost (?P<ms>" + _NUMBER + rb") ms"),
    ),
    LogRule(
        MarkKind.FINISHED,
        b"Video with audio generated successfully: ",
        re.compile(rb"Video with audio generated successfully: \S"),
    ),
    # No verdict: every process muxes the same files, and one may fail where another succeeds.
    LogRule(MarkKind.NOTE, b"Error occurred: ", re.compile(rb"Error occurred: \S")),
)


class LiveActAdapter(SoulXScriptAdapter):
    """LiveAct."""

    info = ModelInfo(
        id="soulx-liveact-14b",
        key="liveact",
        title="SoulX-LiveAct",
        script="generate.py",
        inputs=("image", "audio"),
        optional_inputs=("prompt",),
        published_processes=4,
        default_seed=42,
        backends=(Backend.ASCEND, Backend.CUDA, Backend.CPU),
        ckpt_dir="models/LiveAct",
        wav2vec_dir="models/chinese-wav2vec2-base",
        miniature="liveact",
    )
    rows = _ROWS
    flag_order = (
        "--ckpt_dir",
        "--wav2vec_dir",
        "--input_json",
        "--size",
        "--fps",
        "--seed",
        "--sample_steps",
        "--denoising_steps",
        *(f"--{knob}" for knob in _FLAGS),
    )
    mandatory_flags = frozenset({"--ckpt_dir", "--wav2vec_dir", "--input_json", "--size", "--fps", "--seed"})
    fallback_params: ClassVar[Mapping[str, Any]] = {}
    # Written into the working directory, the silent one by every process.
    silent_name = "tmp.mp4"

    # --- what a checkout is -----------------------------------------------------------------------

    def recognise(self, checkout: CheckoutFacts) -> Variant:
        """See base."""
        name = self._variant_name(checkout)
        return Variant(name or UNRECOGNISED, recognised=name is not None)

    def _variant_name(self, checkout: CheckoutFacts) -> str | None:
        flags = checkout.flags or frozenset()
        if not self.mandatory_flags <= flags:
            return None
        if not _ADAPTED_FLAGS & flags:
            return rules.PUBLIC
        return rules.ASCEND if flags >= _ADAPTED_FLAGS and _TEXT_SCRIPT in checkout.scripts else None

    def built_in(self, knob: str, checkout: CheckoutFacts) -> Any:  # noqa: ARG002
        """See base. The public script lists the time steps in its code."""
        return _BUILT_IN_STEPS

    def own_defaults(self, backend: Backend) -> dict[str, Any]:
        """See base. The published defaults of the Ascend adaptation."""
        return {
            **dict.fromkeys(("mean_memory", "t5_cpu", "offload_cache", "fp8_kv_cache"), False),
            "size": "416*720",
            "fps": 20,
            "audio_cfg": 1.0,
            "sample_steps": _BUILT_IN_STEPS,
            "steam_audio": True,
            "rank0_t5_only": True,
            "block_offload": False,
            "ring_degree": 1,
            "fast_export_preset": "veryfast",
            "fast_export_crf": 18,
            "dura_print": True,
            "prepare_text_cache": True,
            "text_cache_device": _DEVICES[backend],
            "platform": "ascend_npu" if backend is Backend.ASCEND else None,
        }

    def defaults(self, checkout: CheckoutFacts, variant: Variant, backend: Backend) -> dict[str, Any]:
        """See base. An unadapted checkout runs what its own parser says."""
        usual = {
            knob: value for knob, value in super().defaults(checkout, variant, backend).items() if value is not None
        }
        if checkout.flags is None:
            return {knob: value for knob, value in usual.items() if self._is_sure(knob, checkout, variant)}
        return usual if variant.name == rules.ASCEND else {**usual, **self._declared(checkout, variant, usual)}

    def _is_sure(self, knob: str, checkout: CheckoutFacts, variant: Variant) -> bool:
        """Whether a script whose parser cannot be read takes this knob in any case."""
        way = self.way(knob, checkout, variant)
        return way is not None and (way.carrier is not Carrier.FLAG or set(way.names) <= self.mandatory_flags)

    def _declared(self, checkout: CheckoutFacts, variant: Variant, usual: Mapping[str, Any]) -> dict[str, Any]:
        ways = {knob: self.way(knob, checkout, variant) for knob in _DECLARED if knob in usual}
        declared = {
            knob: checkout.flag_details[way.names[0]].default
            for knob, way in ways.items()
            if way and way.carrier is Carrier.FLAG
        }
        # A default that is no literal stands here as its source text.
        return {
            knob: value
            for knob, value in declared.items()
            if type(value) is type(usual[knob]) and (knob != "size" or SIZE.fullmatch(value))
        }

    # --- sizes and rules --------------------------------------------------------------------------

    def geometry(self, checkout: CheckoutFacts, knobs: Mapping[str, KnobValue]) -> Geometry:  # noqa: ARG002
        """See base."""
        published = self.own_defaults(Backend.ASCEND)
        width, height = parse_size(knob_value(knobs, "size") or published["size"])
        return Geometry(
            width=width,
            height=height,
            frame_num=liveact_audio.WINDOW_FRAMES,
            motion_frames_num=liveact_audio.WINDOW_FRAMES - liveact_audio.BLOCK_FRAMES,
            fps=knob_value(knobs, "fps") or published["fps"],
        )

    def check_values(self, request: ScriptRequest) -> list[str]:
        """See base."""
        geometry = self.geometry(request.checkout, request.knobs)
        rules.check_knobs(request, geometry)
        _words(request)
        return [*transposed_profile(geometry, _PROFILES), *rules.warnings(request)]

    def process_fault(self, processes: int, request: ScriptRequest) -> str | None:
        """See base."""
        return rules.process_fault(processes, request, self.geometry(request.checkout, request.knobs))

    def device_warnings(self, variant: Variant, backend: Backend, names: Sequence[str]) -> list[str]:
        """See base."""
        return rules.device_warnings(variant, backend, names)

    def audio_plan(
        self,
        variant: Variant,  # noqa: ARG002
        geometry: Geometry,
        *,
        mode: str,  # noqa: ARG002
        samples: int,
        duration_s: float,
        max_chunks: int | None,
    ) -> AudioPlan:
        """See base."""
        return liveact_audio.plan(geometry, samples=samples, duration_s=duration_s, max_chunks=max_chunks)

    # --- the call ---------------------------------------------------------------------------------

    def script_call(self, request: ScriptRequest) -> ScriptCall:
        """See base."""
        listed = _input_json(request)
        return replace(
            super().script_call(request),
            files=listed.private_files,
            cache_files=listed.cache_files,
            earlier=self._earlier(request, listed),
        )

    def result_of(self, names: ScratchNames) -> str:
        """See base. The script names its result after its inputs, each up to the first dot."""
        image, audio = names.image.split(".")[0], names.audio.split(".")[0]
        return f"{image}_{audio}.mp4"

    def own_flags(self, request: ScriptRequest) -> dict[str, Any]:
        """See base."""
        return {
            "--ckpt_dir": request.ckpt_dir,
            "--wav2vec_dir": request.wav2vec_dir,
            "--input_json": _input_json(request).argument,
        }

    def flag_value(self, knob: str, value: Any, request: ScriptRequest) -> Any:
        """See base. Relative paths are the checkout's."""
        return request.checkout.path / Path(value).expanduser() if knob in _PATHS else value

    def environment(self, request: ScriptRequest) -> dict[str, str]:
        """See base. The authors' CUDA commands all set LightX2V's memory format; `GPU_NUM` is what OmniRT 0.x set."""
        found = {**super().environment(request), "GPU_NUM": str(request.processes)}
        if request.backend is Backend.CUDA:
            found["USE_CHANNELS_LAST_3D"] = "1"
        if not knob_value(request.knobs, "stage_profile"):
            found.pop(_PROFILE_VARIABLE, None)
        return found

    def _earlier(self, request: ScriptRequest, listed: liveact_text.InputJson) -> tuple[EarlierStep, ...]:
        """The step that encodes the prompts, so that the inference need not hold T5 beside its own weights."""
        if not rules.prepares_text(request.knobs):
            return ()
        again = bool(knob_value(request.knobs, "force_text_cache"))
        step = EarlierStep(
            name="text context",
            script=request.checkout.path / _TEXT_SCRIPT,
            args=(
                f"--ckpt_dir={request.ckpt_dir}",
                f"--input_json={listed.argument}",
                f"--device={knob_value(request.knobs, 'text_cache_device') or _DEVICES[request.backend]}",
                *(["--force"] if again else []),
            ),
            env={**self.environment(request), "GPU_NUM": "1"},
            device=knob_value(request.knobs, "text_cache_visible_devices"),
            makes=listed.context_files,
            always=again,
            record=listed.record,
            memory_hint=_TEXT_MEMORY_HINT,
        )
        return (step,)

    def log_rules(self, variant: Variant) -> tuple[LogRule, ...]:  # noqa: ARG002
        """See base."""
        return _LOG_RULES

    def core_scope(self, mode: str) -> str:  # noqa: ARG002
        """See base. The printed time is the whole block's: sound, model, VAE and the copy to the host."""
        return "whole block"


def _words(request: ScriptRequest) -> liveact_text.Words:
    return liveact_text.words(request.prompt, knob_value(request.knobs, "edit_prompt"))


def _input_json(request: ScriptRequest) -> liveact_text.InputJson:
    return liveact_text.input_json(_words(request), request.names, cache=request.cache, ckpt_dir=request.ckpt_dir)

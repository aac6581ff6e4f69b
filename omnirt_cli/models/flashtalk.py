"""SoulX-FlashTalk 14B: its checkouts, knobs, sizes and rules.

Variants: `public-old` (688982e), `public-new` (f54dc79), `ascend` (f54dc79 with OmniRT's Ascend patch, which
reads `FLASHTALK_*`), `quantizing` (groxaxo's fork, be00237, with `--quantize`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from omnirt_cli.checkout import CheckoutFacts
from omnirt_cli.errors import UsageError
from omnirt_cli.models.base import (
    Backend,
    Geometry,
    KnobValue,
    LogRule,
    MarkKind,
    ModelInfo,
    ScriptRequest,
    Variant,
)
from omnirt_cli.models.driven import DrivenAdapter
from omnirt_cli.models.frames import Loop
from omnirt_cli.models.knob_values import (
    knob_value,
    parse_size,
    require,
    require_multiple,
    require_new_frames,
    require_step,
    splits_as_grid,
    transposed_profile,
    whole_number,
)
from omnirt_cli.models.resident import ResidentAdapter
from omnirt_cli.models.soulx_script import (
    BUILT_IN,
    BY_OMNIRT,
    UNRECOGNISED,
    Rows,
    SoulXScriptAdapter,
    Way,
    env,
    flag,
    inference_constant,
    is_consistent,
    params,
    variant_of,
    worker_constant,
    worker_param,
)

_HEADS = 40
_TIME_STEP = 4
_PIXEL_STEP = 16
_PROFILES = ((448, 768), (416, 704))
_QUANT_CHOICES = ("int8", "fp8")
_TUNED_STEPS = (2, 4)

# The first way that a checkout has is taken: only `ascend` names the variables, only `quantizing` --quantize.
_ROWS = {
    "seed": (flag("--base_seed"),),
    "audio_encode_mode": (flag("--audio_encode_mode"),),
    "max_chunks": (BY_OMNIRT,),
    "sample_steps": (env("FLASHTALK_SAMPLE_STEPS"), params("sample_steps")),
    "size": (env("FLASHTALK_WIDTH", "FLASHTALK_HEIGHT"), params("width", "height")),
    "fps": (env("FLASHTALK_TGT_FPS"), params("tgt_fps")),
    "frame_num": (env("FLASHTALK_FRAME_NUM"), params("frame_num")),
    "motion_frames_num": (env("FLASHTALK_MOTION_FRAMES_NUM"), params("motion_frames_num")),
    "color_correction_strength": (
        env("FLASHTALK_COLOR_CORRECTION_STRENGTH"),
        params("color_correction_strength"),
    ),
    "sample_shift": (params("sample_shift"),),
    "audio_loudness_norm": (env("FLASHTALK_AUDIO_LOUDNESS_NORM"), BUILT_IN),
    "debug_timing": (BUILT_IN,),
    "cpu_offload": (flag("--cpu_offload"),),
    "quantize": (flag("--quantize"),),
    "t5_quant": (env("FLASHTALK_T5_QUANT"),),
    "t5_quant_dir": (env("FLASHTALK_T5_QUANT_DIR"),),
    "wan_quant": (env("FLASHTALK_WAN_QUANT"),),
    "wan_quant_include": (env("FLASHTALK_WAN_QUANT_INCLUDE"),),
    "wan_quant_exclude": (env("FLASHTALK_WAN_QUANT_EXCLUDE"),),
}


class FlashTalkAdapter(SoulXScriptAdapter):
    """FlashTalk."""

    info = ModelInfo(
        id="soulx-flashtalk-14b",
        key="flashtalk",
        title="SoulX-FlashTalk",
        script="generate_video.py",
        inputs=("image", "audio"),
        optional_inputs=("prompt",),
        published_processes=8,
        default_seed=9999,
        backends=(Backend.ASCEND, Backend.CUDA, Backend.CPU),
        ckpt_dir="models/SoulX-FlashTalk-14B",
        wav2vec_dir="models/chinese-wav2vec2-base",
        miniature="flashtalk_new",
    )
    rows: ClassVar[Rows] = _ROWS
    flag_order = (
        "--ckpt_dir",
        "--wav2vec_dir",
        "--input_prompt",
        "--cond_image",
        "--audio_path",
        "--audio_encode_mode",
        "--save_file",
        "--base_seed",
        "--cpu_offload",
        "--quantize",
    )
    mandatory_flags = frozenset({"--ckpt_dir", "--wav2vec_dir", "--cond_image", "--audio_path", "--save_file"})
    fallback_params: ClassVar[Mapping[str, Any]] = {
        "frame_num": 33,
        "motion_frames_num": 5,
        "tgt_fps": 25,
        "sample_rate": 16000,
        "sample_steps": 4,
        "sample_shift": 5,
        "color_correction_strength": 1.0,
        "cached_audio_duration": 8,
        "height": 768,
        "width": 448,
    }
    # The script takes every `res_` out of the path for its silent video, and deletes a result without one.
    result_name = "res_result.mp4"
    silent_name = "result.mp4"
    own_log_rules = (
        LogRule(MarkKind.LOADING, b"Creating WanModel from ", re.compile(rb"Creating WanModel from \S")),
        LogRule(
            MarkKind.FELL_BACK,
            b"Running without quantization",
            re.compile(rb"Running without quantization\."),
        ),
        LogRule(
            MarkKind.FELL_BACK,
            b"WanModel quantization requested but ",
            re.compile(rb"WanModel quantization requested but no supported modules matched"),
        ),
    )

    def recognise(self, checkout: CheckoutFacts) -> Variant:
        """See base."""
        name = self._variant_name(checkout)
        return variant_of(name or UNRECOGNISED, checkout, recognised=name is not None)

    def _variant_name(self, checkout: CheckoutFacts) -> str | None:
        flags = checkout.flags or frozenset()
        if not self.mandatory_flags <= flags or not is_consistent(checkout):
            return None
        if "--quantize" in flags:
            return "quantizing"
        if "FLASHTALK_SAMPLE_STEPS" in checkout.env_names:
            return "ascend"
        loop = variant_of("", checkout).loop
        return "public-new" if loop is Loop.PADDING else "public-old"

    def built_in(self, knob: str, checkout: CheckoutFacts) -> Any:
        """See base."""
        return checkout.source.prints_timing if knob == "debug_timing" else True

    def own_defaults(self, backend: Backend) -> dict[str, Any]:  # noqa: ARG002
        """See base."""
        return {"cpu_offload": False, "audio_loudness_norm": True}

    def geometry(self, checkout: CheckoutFacts, knobs: Mapping[str, KnobValue]) -> Geometry:
        """See base."""
        own = {**self.fallback_params, **checkout.infer_params}
        size = knob_value(knobs, "size")
        width, height = parse_size(size) if size else (whole_number(own, "width"), whole_number(own, "height"))
        return Geometry(
            width=width,
            height=height,
            frame_num=knob_value(knobs, "frame_num") or whole_number(own, "frame_num"),
            motion_frames_num=(knob_value(knobs, "motion_frames_num") or whole_number(own, "motion_frames_num")),
            fps=knob_value(knobs, "fps") or whole_number(own, "tgt_fps"),
            sample_rate=whole_number(own, "sample_rate"),
        )

    def check_values(self, request: ScriptRequest) -> list[str]:
        """See base."""
        geometry = self.geometry(request.checkout, request.knobs)
        own = {**self.fallback_params, **request.checkout.infer_params}
        _check_geometry(geometry, cached_s=whole_number(own, "cached_audio_duration"))
        _check_quantizing(request)
        return [
            *transposed_profile(geometry, _PROFILES),
            *_untuned_steps(request.knobs),
            *_not_adapted(request),
        ]

    def process_fault(self, processes: int, request: ScriptRequest) -> str | None:
        """See base."""
        if processes == 1:
            return None
        if knob_value(request.knobs, "cpu_offload"):
            return "--cpu-offload has an effect with one process only (the script ignores it otherwise)"
        geometry = self.geometry(request.checkout, request.knobs)
        tokens = _latents(geometry) * (geometry.height // _PIXEL_STEP) * (geometry.width // _PIXEL_STEP)
        if tokens % processes:
            return f"the {tokens} tokens of a chunk do not divide by {processes}"
        if not splits_as_grid(processes, geometry.height // 8, geometry.width // 8):
            return f"the picture does not split into {processes} equal tiles for its VAE"
        if request.backend is Backend.ASCEND and _HEADS % processes:
            return f"on Ascend its {_HEADS} attention heads must divide by {processes}"
        return None

    def environment(self, request: ScriptRequest) -> dict[str, str]:
        """See base. `GPU_NUM` is what the project's own launch scripts export."""
        return {**super().environment(request), "GPU_NUM": str(request.processes)}

    def core_scope(self, mode: str) -> str:  # noqa: ARG002
        """See base. The printed time starts after the audio is encoded, in both modes."""
        return "core"

    def driven(self, checkout: CheckoutFacts) -> DrivenAdapter:
        """See base."""
        return DrivenFlashTalk().driven(checkout)

    def resident(self, checkout: CheckoutFacts) -> ResidentAdapter:
        """See base."""
        return ResidentFlashTalk().resident(checkout)


class DrivenFlashTalk(DrivenAdapter, FlashTalkAdapter):
    """FlashTalk, run by OmniRT's worker program.

    The quantizing fork prints its times only where a constant of its pipeline says so.
    """

    package = "flash_talk"
    worker_rows: ClassVar[Rows] = {"debug_timing": (worker_constant("DEBUG_TIMING"), BUILT_IN)}
    rows: ClassVar[Rows] = {**_ROWS, **worker_rows}

    def load_arguments(self, request: ScriptRequest) -> dict[str, Any]:
        """See base."""
        return {
            "cpu_offload": bool(knob_value(request.knobs, "cpu_offload")),
            "quantize": knob_value(request.knobs, "quantize"),
        }

    def base_arguments(self, request: ScriptRequest) -> dict[str, Any]:
        """See base. Without a prompt the script's own is taken.

        Raises:
            UsageError: Nothing tells what that is.
        """
        details = request.checkout.flag_details.get("--input_prompt")
        prompt = request.prompt or (details.default if details else None)
        if not isinstance(prompt, str):
            where = f"{request.checkout.script} does not tell its default prompt"
            raise UsageError(f"{where}, which the driver would have to pass.", hint="Give --prompt.")
        return {"prompt": prompt}


class ResidentFlashTalk(ResidentAdapter, DrivenFlashTalk):
    """FlashTalk, kept loaded.

    `get_base_data` and `get_audio_embedding` read these values anew for each render (`flash_talk/inference.py` at
    688982e and f54dc79; the switch for loudness is the Ascend patch's).
    """

    per_request: ClassVar[Mapping[str, Way]] = {
        "sample_steps": worker_param("sample_steps"),
        "sample_shift": worker_param("sample_shift"),
        "color_correction_strength": worker_param("color_correction_strength"),
        "audio_loudness_norm": inference_constant("_AUDIO_LOUDNESS_NORM_ENABLED"),
        "debug_timing": worker_constant("DEBUG_TIMING"),
    }

    def quantization(self, request: ScriptRequest) -> str | None:
        """See base. The fork quantizes the whole model, the Ascend patch parts of it."""
        whole = knob_value(request.knobs, "quantize")
        parts = {part: knob_value(request.knobs, f"{part}_quant") for part in ("t5", "wan")}
        names = [whole, *(f"{part}-{kind}" for part, kind in parts.items() if kind)]
        return "+".join(name for name in names if name) or None


def _latents(geometry: Geometry) -> int:
    return (geometry.frame_num - 1) // _TIME_STEP + 1


def _check_geometry(geometry: Geometry, *, cached_s: int) -> None:
    require_multiple(geometry, _PIXEL_STEP)
    require_step("frame_num", geometry.frame_num, _TIME_STEP)
    require_step("motion_frames_num", geometry.motion_frames_num, _TIME_STEP)
    require_new_frames(geometry)
    longest = cached_s * geometry.fps
    require(
        geometry.frame_num <= longest,
        f"--frame-num {geometry.frame_num} is more than the {longest} frames of audio that the script keeps.",
        f"Use {longest} frames or fewer.",
    )


def _check_quantizing(request: ScriptRequest) -> None:
    for knob in ("t5_quant", "wan_quant"):
        value = knob_value(request.knobs, knob)
        require(
            value is None or value in _QUANT_CHOICES,
            f"--{knob.replace('_', '-')} {value} does not exist.",
            f"Choose {' or '.join(_QUANT_CHOICES)}.",
        )
    value = knob_value(request.knobs, "quantize")
    details = request.checkout.flag_details.get("--quantize")
    choices = details.choices if details else None
    if value is not None and choices and value not in choices:
        raise UsageError(f"--quantize {value} does not exist here.", hint=f"Choose {', '.join(choices)}.")


def _untuned_steps(knobs: Mapping[str, KnobValue]) -> list[str]:
    steps = knob_value(knobs, "sample_steps")
    if steps is None or steps in _TUNED_STEPS:
        return []
    return [f"--sample-steps {steps}: the checkout has tuned time steps for 2 and 4 only; the picture may suffer"]


def _not_adapted(request: ScriptRequest) -> list[str]:
    if request.backend is not Backend.ASCEND or not request.variant.name.startswith(("public", "quant")):
        return []
    where = f"the {request.variant.name} checkout {request.checkout.path}"
    return [f"{where} computes on CUDA devices; on Ascend it needs a patch"]

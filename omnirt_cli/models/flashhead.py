"""SoulX-FlashHead 1.3B: its checkouts, knobs, sizes and rules.

Variants: `public` (6907de1 and later), `public-old` (before it), `ascend` (an NPU adaptation that reads
`FLASHHEAD_*`; it is driven by its variables, since none is published).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from omnirt_cli.checkout import CheckoutFacts
from omnirt_cli.models.base import (
    Backend,
    Carrier,
    Geometry,
    KnobValue,
    ModelInfo,
    ScriptRequest,
    Variant,
)
from omnirt_cli.models.driven import DrivenAdapter
from omnirt_cli.models.knob_values import (
    knob_value,
    parse_size,
    require,
    require_multiple,
    require_new_frames,
    require_step,
    splits_as_grid,
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
    is_consistent,
    params,
    variant_of,
    worker_constant,
    worker_param,
)

_PRO, _LITE = "pro", "lite"
_TIME_STEP = {_PRO: 4, _LITE: 8}
_PIXEL_STEP = {_PRO: 16, _LITE: 32}
_BUILT_IN_STEPS = 4
_DEVICES = {Backend.ASCEND: "npu", Backend.CUDA: "cuda", Backend.CPU: "cpu"}

# The first way that a checkout has is taken: only `ascend` names the variables.
_ROWS = {
    "model_type": (flag("--model_type"),),
    "seed": (flag("--base_seed"),),
    "audio_encode_mode": (flag("--audio_encode_mode"),),
    "max_chunks": (BY_OMNIRT,),
    "sample_steps": (env("FLASHHEAD_SAMPLE_STEPS"), BUILT_IN),
    "vae_2d_split": (env("FLASHHEAD_VAE_2D_SPLIT"),),
    "latent_carry": (env("FLASHHEAD_LATENT_CARRY"),),
    "npu_fusion_attention": (env("FLASHHEAD_NPU_FUSION_ATTENTION"),),
    "device": (env("FLASHHEAD_DEVICE"),),
    "profile": (env("FLASHHEAD_PROFILE"),),
    "size": (params("width", "height"),),
    "fps": (params("tgt_fps"),),
    "frame_num": (params("frame_num"),),
    "motion_frames_num": (params("motion_frames_latent_num"),),
    "sample_shift": (params("sample_shift"),),
    "color_correction_strength": (params("color_correction_strength"),),
    "face_crop": (flag("--use_face_crop"),),
    "debug_timing": (BUILT_IN,),
}


class FlashHeadAdapter(SoulXScriptAdapter):
    """FlashHead."""

    info = ModelInfo(
        id="soulx-flashhead-1.3b",
        key="flashhead",
        title="SoulX-FlashHead",
        script="generate_video.py",
        inputs=("image", "audio"),
        optional_inputs=(),
        published_processes=4,
        default_seed=42,
        backends=(Backend.ASCEND, Backend.CUDA, Backend.CPU),
        ckpt_dir="models/SoulX-FlashHead-1_3B",
        wav2vec_dir="models/wav2vec2-base-960h",
        miniature="flashhead",
    )
    rows: ClassVar[Rows] = _ROWS
    flag_order = (
        "--ckpt_dir",
        "--wav2vec_dir",
        "--model_type",
        "--cond_image",
        "--audio_path",
        "--audio_encode_mode",
        "--save_file",
        "--base_seed",
        "--use_face_crop",
    )
    mandatory_flags = frozenset(
        {"--ckpt_dir", "--wav2vec_dir", "--model_type", "--cond_image", "--audio_path", "--save_file"}
    )
    fallback_params: ClassVar[Mapping[str, Any]] = {
        "frame_num": 33,
        "motion_frames_latent_num": 2,
        "tgt_fps": 25,
        "sample_rate": 16000,
        "sample_shift": 5,
        "color_correction_strength": 1.0,
        "cached_audio_duration": 8,
        "height": 512,
        "width": 512,
    }
    # The script replaces `.mp4` everywhere in the path to name its silent video.
    result_name = "result.mp4"
    silent_name = "result_tmp.mp4"

    def recognise(self, checkout: CheckoutFacts) -> Variant:
        """See base."""
        name = self._variant_name(checkout)
        return variant_of(name or UNRECOGNISED, checkout, recognised=name is not None)

    def _variant_name(self, checkout: CheckoutFacts) -> str | None:
        flags = checkout.flags or frozenset()
        if not self.mandatory_flags <= flags or not is_consistent(checkout):
            return None
        if "FLASHHEAD_SAMPLE_STEPS" in checkout.env_names:
            return "ascend"
        return "public" if checkout.source.pads_audio else "public-old"

    def built_in(self, knob: str, checkout: CheckoutFacts) -> Any:
        """See base. Since its first release the code sets four steps, whatever the YAML says."""
        return checkout.source.prints_timing if knob == "debug_timing" else _BUILT_IN_STEPS

    def own_defaults(self, backend: Backend) -> dict[str, Any]:
        """See base. The adapted defaults are the quality profile published for the 910B."""
        return {
            "model_type": _PRO,
            "motion_frames_num": None,
            "sample_steps": 2,
            "vae_2d_split": True,
            "latent_carry": False,
            "npu_fusion_attention": backend is Backend.ASCEND,
            "device": _DEVICES[backend],
            "profile": False,
            "face_crop": False,
        }

    def geometry(self, checkout: CheckoutFacts, knobs: Mapping[str, KnobValue]) -> Geometry:
        """See base."""
        own = {**self.fallback_params, **checkout.infer_params}
        size = knob_value(knobs, "size")
        width, height = parse_size(size) if size else (whole_number(own, "width"), whole_number(own, "height"))
        motion = knob_value(knobs, "motion_frames_num")
        if motion is None:
            latents = whole_number(own, "motion_frames_latent_num")
            motion = (latents - 1) * _TIME_STEP[_model_type(knobs)] + 1
        return Geometry(
            width=width,
            height=height,
            frame_num=knob_value(knobs, "frame_num") or whole_number(own, "frame_num"),
            motion_frames_num=motion,
            fps=knob_value(knobs, "fps") or whole_number(own, "tgt_fps"),
            sample_rate=whole_number(own, "sample_rate"),
        )

    def parts(self, knob: str, value: Any, knobs: Mapping[str, KnobValue]) -> tuple[Any, ...]:
        """See base. The YAML counts motion frames in latents."""
        if knob == "motion_frames_num":
            return ((int(value) - 1) // _TIME_STEP[_model_type(knobs)] + 1,)
        return super().parts(knob, value, knobs)

    def check_values(self, request: ScriptRequest) -> list[str]:
        """See base."""
        require(
            request.prompt is None,
            f"{self.info.title} takes no prompt.",
            "Leave --prompt out; it has an effect with soulx-flashtalk-14b.",
        )
        kind = knob_value(request.knobs, "model_type")
        require(
            kind in (None, _PRO, _LITE),
            f"--model-type {kind} does not exist.",
            f"Choose {_PRO} or {_LITE}.",
        )
        geometry = self.geometry(request.checkout, request.knobs)
        _check_geometry(geometry, _model_type(request.knobs))
        return _not_adapted(request)

    def process_fault(self, processes: int, request: ScriptRequest) -> str | None:
        """See base."""
        if processes == 1:
            return None
        if _model_type(request.knobs) == _LITE:
            return "its lite model runs as one process (ranks would draw different noise)"
        geometry = self.geometry(request.checkout, request.knobs)
        latents = (geometry.frame_num - 1) // _TIME_STEP[_PRO] + 1
        tokens = latents * (geometry.height // 16) * (geometry.width // 16)
        if tokens % processes or tokens // processes % latents:
            return f"the {tokens} tokens of a chunk do not divide into {processes} parts of whole frames"
        if not splits_as_grid(processes, geometry.height // 8, geometry.width // 8):
            return f"the picture does not split into {processes} equal tiles for its VAE"
        return None

    def core_scope(self, mode: str) -> str:
        """See base. In `stream` mode the printed time starts before the audio is encoded."""
        return "audio_encoding+core" if mode == "stream" else "core"

    def driven(self, checkout: CheckoutFacts) -> DrivenAdapter:
        """See base."""
        return DrivenFlashHead().driven(checkout)

    def resident(self, checkout: CheckoutFacts) -> ResidentAdapter:
        """See base."""
        return ResidentFlashHead().resident(checkout)


class DrivenFlashHead(DrivenAdapter, FlashHeadAdapter):
    """FlashHead, run by OmniRT's worker program.

    The public code sets its number of steps while it loads and reads it when the portrait is prepared, so that it can
    be set in between.
    """

    package = "flash_head"
    worker_rows: ClassVar[Rows] = {
        "sample_steps": (*_ROWS["sample_steps"][:-1], worker_param("sample_steps"), BUILT_IN),
        "debug_timing": (worker_constant("DEBUG_TIMING"), BUILT_IN),
    }
    rows: ClassVar[Rows] = {**_ROWS, **worker_rows}

    def load_arguments(self, request: ScriptRequest) -> dict[str, Any]:
        """See base."""
        return {"model_type": _model_type(request.knobs)}

    def base_arguments(self, request: ScriptRequest) -> dict[str, Any]:
        """See base."""
        return {"face_crop": bool(knob_value(request.knobs, "face_crop"))}


class ResidentFlashHead(ResidentAdapter, DrivenFlashHead):
    """FlashHead, kept loaded.

    `get_base_data` reads these values anew for each render (`flash_head/inference.py` at 12467ce). When an adaptation
    reads its variables is not known: they stay what they were when the worker was started.
    """

    per_request: ClassVar[Mapping[str, Way]] = {
        "sample_steps": worker_param("sample_steps"),
        "sample_shift": worker_param("sample_shift"),
        "color_correction_strength": worker_param("color_correction_strength"),
        "debug_timing": worker_constant("DEBUG_TIMING"),
    }
    stay = ResidentAdapter.stay | {Carrier.ENVIRONMENT}

    def model_type(self, request: ScriptRequest) -> str | None:
        """See base."""
        return _model_type(request.knobs)


def _model_type(knobs: Mapping[str, KnobValue]) -> str:
    kind = knob_value(knobs, "model_type")
    return kind if kind in _TIME_STEP else _PRO


def _check_geometry(geometry: Geometry, kind: str) -> None:
    require_multiple(geometry, _PIXEL_STEP[kind])
    require_step("frame_num", geometry.frame_num, _TIME_STEP[kind])
    require_step("motion_frames_num", geometry.motion_frames_num, _TIME_STEP[kind])
    require_new_frames(geometry)


def _not_adapted(request: ScriptRequest) -> list[str]:
    if request.backend is not Backend.ASCEND or not request.variant.name.startswith("public"):
        return []
    where = f"the {request.variant.name} checkout {request.checkout.path}"
    return [f"{where} computes on CUDA devices; on Ascend it needs an adaptation"]

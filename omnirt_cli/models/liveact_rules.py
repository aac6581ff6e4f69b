"""LiveAct's rules: process counts that work, knobs that do not go together, and what a user should know beforehand.

Sources: generate.py and model_liveact/model_memory_sp.py at ac8579b, and for the Ascend adaptation OmniRT 0.x.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from omnirt_cli.models.base import Backend, Geometry, KnobValue, ScriptRequest, Variant
from omnirt_cli.models.knob_values import knob_value, require, require_multiple, spelled
from omnirt_cli.models.liveact_audio import LATENTS

PUBLIC, ASCEND = "public", "ascend"

_PIXEL_STEP = 16
_HEADS = 40
_MOST_PUBLIC = 2
_HOPPER = re.compile(r"\bG?H(?:20|100|200|800)\b")

_CONTRADICTIONS = (
    ("fast_export", "disable_fast_export", "one switches on what the other switches off"),
    ("condition_cache_dir", "disable_condition_cache", "what is not kept needs no folder"),
    ("force_text_cache", "disable_text_cache_prepare", "a step that is left out cannot be done again"),
    ("fp8_gemm", "fp4_gemm", "the script replaces every layer for the first and finds none left for the second"),
)


def prepares_text(knobs: Mapping[str, KnobValue]) -> bool:
    """Whether the prompts are encoded in a step of their own."""
    return bool(knob_value(knobs, "prepare_text_cache")) and not knob_value(knobs, "disable_text_cache_prepare")


def check_knobs(request: ScriptRequest, geometry: Geometry) -> None:
    """Refuse what cannot make a video.

    Raises:
        UsageError: A value, or two together.
    """
    require(
        request.folder is None,
        "LiveAct writes its video into its working directory, which must not be the checkout.",
        "Leave out --working-directory checkout.",
    )
    require(
        not knob_value(request.knobs, "stop_after_text_context"),
        "--stop-after-text-context makes no video, so that nothing could be rendered.",
        "Leave it out: the text context is made before a render and kept for the next ones.",
    )
    require_multiple(geometry, _PIXEL_STEP)
    _check_text_device(request.knobs)
    for one, other, reason in _CONTRADICTIONS:
        require(
            not (knob_value(request.knobs, one) and knob_value(request.knobs, other)),
            f"{spelled(one)} and {spelled(other)} do not go together: {reason}.",
            "Leave out one of the two.",
        )


def _check_text_device(knobs: Mapping[str, KnobValue]) -> None:
    device = knob_value(knobs, "text_cache_visible_devices")
    require(
        device is None or ("," not in device and device.strip() != ""),
        f"--text-cache-visible-devices {device!r}: the text encoder runs on one device.",
        "Name one, e.g. --text-cache-visible-devices 2.",
    )


def process_fault(processes: int, request: ScriptRequest, geometry: Geometry) -> str | None:
    """Why LiveAct cannot run on so many processes; None where it can."""
    if request.variant.name == PUBLIC and request.variant.recognised:
        return _public_fault(processes, request.knobs)
    return _split_fault(processes, request.knobs, geometry)


def _public_fault(processes: int, knobs: Mapping[str, KnobValue]) -> str | None:
    """The public code names the frames of rank 0 and of rank 1; in FP8 it hands attention the cache before its update.

    Divisibility is no matter there: each of two ranks takes 3 of 6 and 4 of 8 latent frames, whatever their size.
    """
    if processes > _MOST_PUBLIC:
        return f"the public code for several devices is written for {_MOST_PUBLIC}"
    if processes == _MOST_PUBLIC and knob_value(knobs, "fp8_kv_cache"):
        return "--fp8-kv-cache works with one process only"
    return None


def _split_fault(processes: int, knobs: Mapping[str, KnobValue], geometry: Geometry) -> str | None:
    """Ulysses splits attention heads, ring what is left, and both together the tokens of a block."""
    ring = knob_value(knobs, "ring_degree") or 1
    ulysses = knob_value(knobs, "ulysses_degree") or max(1, processes // ring)
    together = knob_value(knobs, "sequence_parallel_degree")
    if ulysses * ring != processes:
        return f"--ulysses-degree {ulysses} times --ring-degree {ring} is not {processes}"
    if together is not None and together != processes:
        return f"--sequence-parallel-degree {together} is not {processes}"
    if _HEADS % ulysses:
        return f"its {_HEADS} attention heads do not divide by {ulysses}"
    tokens = math.gcd(*LATENTS) * (geometry.height // _PIXEL_STEP) * (geometry.width // _PIXEL_STEP)
    if tokens % processes:
        return f"its blocks have multiples of {tokens} tokens, which do not divide by {processes}"
    return None


def warnings(request: ScriptRequest) -> list[str]:
    """What may well go otherwise than meant."""
    knobs, found = request.knobs, []
    if request.backend is Backend.ASCEND and request.variant.name == PUBLIC:
        where = f"the {PUBLIC} checkout {request.checkout.path}"
        found.append(f"{where} computes on CUDA devices; on Ascend it needs an adaptation")
    if knob_value(knobs, "dura_print") is False:
        found.append("--no-dura-print: the script tells of no block, so there are no chunk times and no progress")
    if bool(knob_value(knobs, "use_lightvae")) is not bool(knob_value(knobs, "vae_path")):
        found.append("--use-lightvae and --vae-path belong together: one picks the VAE, the other its weights")
    alone = prepares_text(knobs) or knob_value(knobs, "rank0_t5_only")
    if request.variant.name == ASCEND and not alone and request.processes > 1:
        found.append(
            f"each of the {request.processes} processes loads the T5 text encoder (11 GB) beside the model; "
            "leave out --disable-text-cache-prepare or --no-rank0-t5-only if memory runs out"
        )
    return found


def device_warnings(variant: Variant, backend: Backend, names: Sequence[str]) -> list[str]:
    """The public code for two devices calls SageAttention's FP8 kernels for SM90 whatever it runs on."""
    others = sorted({name for name in names if not _HOPPER.search(name)})
    if variant.name != PUBLIC or backend is not Backend.CUDA or len(names) < _MOST_PUBLIC or not others:
        return []
    told = f"the {PUBLIC} code for two devices needs Hopper ones (H100, H200, H800, H20, GH200), and these are"
    advice = "its attention kernels may not start; --nproc-per-node 1 runs elsewhere too"
    return [f"{told} {', '.join(others)}: {advice}"]

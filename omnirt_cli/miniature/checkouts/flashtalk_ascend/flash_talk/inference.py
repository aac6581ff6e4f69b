"""The functions a caller drives; ``infer_params.yaml`` is opened relative to the working directory, at import."""

import os
from pathlib import Path

import yaml
from flash_talk.shared import arrays, audio, log, ranks
from flash_talk.src.pipeline.flash_talk_pipeline import FlashTalkPipeline

NUM_HEADS = 40

with Path("flash_talk/configs/infer_params.yaml").open() as f:
    infer_params = yaml.safe_load(f)

# Every value is cast at import: a set but empty or malformed number is a ValueError on every rank.
_OVERRIDES = {
    "FLASHTALK_FRAME_NUM": ("frame_num", int),
    "FLASHTALK_MOTION_FRAMES_NUM": ("motion_frames_num", int),
    "FLASHTALK_TGT_FPS": ("tgt_fps", int),
    "FLASHTALK_SAMPLE_STEPS": ("sample_steps", int),
    "FLASHTALK_HEIGHT": ("height", int),
    "FLASHTALK_WIDTH": ("width", int),
    "FLASHTALK_COLOR_CORRECTION_STRENGTH": ("color_correction_strength", float),
}
for _name, (_key, _cast) in _OVERRIDES.items():
    if _name in os.environ:
        infer_params[_key] = _cast(os.environ[_name])

_audio_loudness_norm = os.environ.get("FLASHTALK_AUDIO_LOUDNESS_NORM", "1").lower()
_AUDIO_LOUDNESS_NORM_ENABLED = _audio_loudness_norm not in ("0", "false", "no", "off")
_t5_quant = os.environ.get("FLASHTALK_T5_QUANT") or None
_t5_quant_dir = os.environ.get("FLASHTALK_T5_QUANT_DIR") or None
_wan_quant = os.environ.get("FLASHTALK_WAN_QUANT") or None
_wan_quant_include = os.environ.get("FLASHTALK_WAN_QUANT_INCLUDE") or None
_wan_quant_exclude = os.environ.get("FLASHTALK_WAN_QUANT_EXCLUDE") or None

target_size = (infer_params["height"], infer_params["width"])


def get_pipeline(
    world_size,
    ckpt_dir,
    wav2vec_dir,
    cpu_offload=False,  # noqa: ARG001 - nothing to offload
    t5_quant=_t5_quant,
    t5_quant_dir=_t5_quant_dir,
    wan_quant=_wan_quant,
    wan_quant_include=_wan_quant_include,
    wan_quant_exclude=_wan_quant_exclude,
):
    """Load; joins the process group when there are several ranks."""
    ulysses_degree, ring_degree = ranks.get_parallel_degree(world_size, NUM_HEADS)
    device = ranks.get_device(ulysses_degree, ring_degree)
    log.info(f"ulysses_degree: {ulysses_degree}, ring_degree: {ring_degree}, device: {device}")
    _require_known_quant(t5_quant)
    _require_known_quant(wan_quant)
    if t5_quant:
        log.info(f"Using quantized T5 encoder: quant={t5_quant}, quant_dir={t5_quant_dir or ckpt_dir}")
    if wan_quant:
        log.info(
            f"Using experimental quantized WanModel: quant={wan_quant}, "
            f"include={wan_quant_include}, exclude={wan_quant_exclude}"
        )
    return FlashTalkPipeline(ckpt_dir, wav2vec_dir, device)


def _require_known_quant(quant):
    if quant not in (None, "int8", "fp8"):
        raise ValueError(f"Unsupported quantization: {quant!r}")


def get_base_data(pipeline, input_prompt, cond_image, base_seed):
    """Set the portrait and the seed, and start over."""
    pipeline.prepare_params(
        input_prompt=input_prompt,
        cond_image=cond_image,
        target_size=target_size,
        frame_num=infer_params["frame_num"],
        motion_frames_num=infer_params["motion_frames_num"],
        sampling_steps=infer_params["sample_steps"],
        seed=base_seed,
        fps=infer_params["tgt_fps"],
    )


def get_audio_embedding(pipeline, audio_array, audio_start_idx=-1, audio_end_idx=-1):
    """Features of the frames start..end (all of them by default): (1, frames, context, features)."""
    if _AUDIO_LOUDNESS_NORM_ENABLED:
        audio_array = audio.loudness_norm(audio_array, infer_params["sample_rate"])
    per_frame = pipeline.preprocess_audio(audio_array, sr=infer_params["sample_rate"], fps=infer_params["tgt_fps"])
    if audio_start_idx == -1 or audio_end_idx == -1:
        audio_start_idx, audio_end_idx = 0, len(per_frame)
    return arrays.wrap(audio.embedding(per_frame, audio_start_idx, audio_end_idx))


def run_pipeline(pipeline, audio_embedding):
    """One chunk, its motion frames in front: (frame_num, height, width, 3), float32 in 0..255."""
    return arrays.wrap(pipeline.generate(arrays.unwrap(audio_embedding)))

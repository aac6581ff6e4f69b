"""The functions a caller drives; ``infer_params.yaml`` is opened relative to the working directory, at import."""

import copy
import os
from pathlib import Path

import yaml
from flash_head.shared import arrays, audio, log, ranks
from flash_head.src.pipeline.flash_head_pipeline import FlashHeadPipeline

with Path("flash_head/configs/infer_params.yaml").open() as f:
    infer_params = yaml.safe_load(f)

SAMPLE_STEPS = int(os.environ.get("FLASHHEAD_SAMPLE_STEPS", "4"))
VAE_2D_SPLIT = os.environ.get("FLASHHEAD_VAE_2D_SPLIT", "1") == "1"
LATENT_CARRY = os.environ.get("FLASHHEAD_LATENT_CARRY", "0") == "1"
NPU_FUSION_ATTENTION = os.environ.get("FLASHHEAD_NPU_FUSION_ATTENTION", "1") == "1"
PROFILE = os.environ.get("FLASHHEAD_PROFILE", "0") == "1"
DEVICE = os.environ.get("FLASHHEAD_DEVICE", "npu")


def get_pipeline(world_size, ckpt_dir, model_type, wav2vec_dir):
    """Load; joins the process group when there are several ranks. Fixes the motion frames by the model type."""
    ulysses_degree, ring_degree = ranks.get_parallel_degree(world_size, infer_params["num_heads"])
    device = ranks.get_device(ulysses_degree, ring_degree)
    log.info(f"ulysses_degree: {ulysses_degree}, ring_degree: {ring_degree}, device: {device}")
    log.info(
        f"FLASHHEAD_DEVICE={DEVICE} sample_steps={SAMPLE_STEPS} vae_2d_split={VAE_2D_SPLIT} "
        f"latent_carry={LATENT_CARRY} npu_fusion_attention={NPU_FUSION_ATTENTION} profile={PROFILE}"
    )
    pipeline = FlashHeadPipeline(ckpt_dir, model_type, wav2vec_dir, device, profile=PROFILE)
    infer_params["motion_frames_num"] = (infer_params["motion_frames_latent_num"] - 1) * pipeline.vae_stride + 1
    infer_params["sample_steps"] = SAMPLE_STEPS
    return pipeline


def get_base_data(pipeline, cond_image_path_or_dir, base_seed, use_face_crop):
    """Set the portrait (of a directory: its first PNG) and the seed, and start over."""
    pipeline.prepare_params(
        cond_image_path_or_dir=cond_image_path_or_dir,
        target_size=(infer_params["height"], infer_params["width"]),
        frame_num=infer_params["frame_num"],
        motion_frames_num=infer_params["motion_frames_num"],
        sampling_steps=infer_params["sample_steps"],
        seed=base_seed,
        fps=infer_params["tgt_fps"],
        use_face_crop=use_face_crop,
    )


def get_infer_params():
    """A copy of the parameters; complete only after :func:`get_pipeline`."""
    return copy.deepcopy(infer_params)


def get_audio_embedding(pipeline, audio_array, audio_start_idx=-1, audio_end_idx=-1):
    """Features of the frames start..end (all of them by default): (1, frames, context, features)."""
    per_frame = pipeline.preprocess_audio(audio_array, sr=infer_params["sample_rate"], fps=infer_params["tgt_fps"])
    if audio_start_idx == -1 or audio_end_idx == -1:
        audio_start_idx, audio_end_idx = 0, len(per_frame)
    return arrays.wrap(audio.embedding(per_frame, audio_start_idx, audio_end_idx))


def run_pipeline(pipeline, audio_embedding):
    """One chunk, its motion frames in front: (frame_num, height, width, 3), float32 in 0..255."""
    return arrays.wrap(pipeline.generate(arrays.unwrap(audio_embedding)))

"""The functions a caller drives; ``infer_params.yaml`` is opened relative to the working directory, at import."""

from pathlib import Path

import yaml
from flash_talk.shared import arrays, audio, log, ranks
from flash_talk.src.pipeline.flash_talk_pipeline import FlashTalkPipeline

NUM_HEADS = 40

with Path("flash_talk/configs/infer_params.yaml").open() as f:
    infer_params = yaml.safe_load(f)

target_size = (infer_params["height"], infer_params["width"])


def get_pipeline(world_size, ckpt_dir, wav2vec_dir, cpu_offload=False):  # noqa: ARG001 - nothing to offload
    """Load; joins the process group when there are several ranks."""
    ulysses_degree, ring_degree = ranks.get_parallel_degree(world_size, NUM_HEADS)
    device = ranks.get_device(ulysses_degree, ring_degree)
    log.info(f"ulysses_degree: {ulysses_degree}, ring_degree: {ring_degree}, device: {device}")
    return FlashTalkPipeline(ckpt_dir, wav2vec_dir, device)


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
    audio_array = audio.loudness_norm(audio_array, infer_params["sample_rate"])
    per_frame = pipeline.preprocess_audio(audio_array, sr=infer_params["sample_rate"], fps=infer_params["tgt_fps"])
    if audio_start_idx == -1 or audio_end_idx == -1:
        audio_start_idx, audio_end_idx = 0, len(per_frame)
    return arrays.wrap(audio.embedding(per_frame, audio_start_idx, audio_end_idx))


def run_pipeline(pipeline, audio_embedding):
    """One chunk, its motion frames in front: (frame_num, height, width, 3), float32 in 0..255."""
    return arrays.wrap(pipeline.generate(arrays.unwrap(audio_embedding)))

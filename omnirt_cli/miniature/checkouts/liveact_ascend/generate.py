"""LiveAct in miniature, adapted to Ascend NPUs: the contract without the network, as far as its callers show it."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from model_liveact import platform, text_context
from model_liveact.pipeline import LiveActPipeline, check_degrees, condition
from model_liveact.shared import blocks, faults, portrait, ranks, video
from util_liveact import add_audio_to_video, output_name, prompt_at

SILENT_VIDEO = "tmp.mp4"


def _parse_args():
    parser = argparse.ArgumentParser(description="A talking figure from a prompt, a picture and a voice")
    _add_public_flags(parser)
    _add_own_flags(parser)
    args = parser.parse_args()
    assert args.sample_steps > 0, "--sample_steps is at least 1"
    return args


def _add_public_flags(parser):
    parser.add_argument("--size", type=str, default="480*832", help="width*height of the video")
    parser.add_argument("--ckpt_dir", type=str, default=None, help="where the model would be")
    parser.add_argument("--wav2vec_dir", type=str, default=None, help="where the audio encoder would be")
    parser.add_argument("--t5_cpu", action="store_true", default=False, help="taken and ignored")
    parser.add_argument("--offload_cache", action="store_true", default=False, help="taken and ignored")
    parser.add_argument("--fp8_kv_cache", action="store_true", default=False, help="taken and ignored")
    parser.add_argument("--fp8_gemm", action="store_true", default=False, help="taken and ignored")
    parser.add_argument("--fp4_gemm", action="store_true", default=False, help="taken and ignored")
    parser.add_argument("--block_offload", action="store_true", default=False, help="taken and ignored")
    parser.add_argument("--fps", type=int, default=24, help="frames per second of the video")
    parser.add_argument("--audio_cfg", type=float, default=1.0, help="taken and ignored")
    parser.add_argument("--dura_print", action="store_true", default=False, help="print how long each block took")
    parser.add_argument("--input_json", type=str, default="examples.json", help="what to render: a list of objects")
    parser.add_argument("--steam_audio", action="store_true", default=False, help="hear the sound block by block")
    parser.add_argument("--mean_memory", action="store_true", default=False, help="taken and ignored")
    parser.add_argument("--seed", type=int, default=42, help="the seed of head motion and blinking")


def _add_own_flags(parser):
    parser.add_argument("--sample_steps", type=int, default=3, help="steps of each block")
    parser.add_argument("--sequence_parallel_degree", type=int, default=None, help="all ranks by default")
    parser.add_argument("--ulysses_degree", type=int, default=None, help="all of them by default")
    parser.add_argument("--ring_degree", type=int, default=1, help="ulysses x ring is the sequence parallel degree")
    parser.add_argument("--rank0_t5_only", action="store_true", default=False, help="rank 0 encodes for all")
    parser.add_argument("--stop_after_text_context", action="store_true", default=False, help="render nothing")
    parser.add_argument("--use_cache_vae", action="store_true", default=False, help="taken and ignored")
    parser.add_argument("--use_lightvae", action="store_true", default=False, help="taken; --vae_path is opened")
    parser.add_argument("--vae_path", type=str, default=None, help="the light VAE's weights")
    parser.add_argument("--condition_cache_dir", type=str, default=None, help="where the portrait's encoding is kept")
    parser.add_argument("--disable_condition_cache", action="store_true", default=False, help="keep none")
    parser.add_argument("--fast_export", action="store_true", default=False, help="taken; it is the default")
    parser.add_argument("--disable_fast_export", action="store_true", default=False, help="encode as the public code")
    parser.add_argument("--fast_export_preset", type=str, default="veryfast", help="x264's speed")
    parser.add_argument("--fast_export_crf", type=int, default=18, help="x264's constant quality")


def _text_context(args, data_idx, item):
    """The context kept for this item, else one made here, which takes T5 in every rank that makes it."""
    path = text_context.path_of(args.input_json, data_idx, item)
    kept = path.exists()
    ranks.meet()  # before anyone reads or encodes: all ranks go the same way
    if kept:
        context = text_context.read(path)
    elif ranks.rank() == 0 or not args.rank0_t5_only:
        text_context.load_encoder()
        context = text_context.encode(item)
    else:
        context = text_context.encode(item)  # given by rank 0
    if ranks.rank() == 0:
        print(f"[text-cache] loaded {path}" if kept else f"[text-cache] not found {path}: encoded here")
    ranks.meet()
    return context


def _blocks_of(args, pipeline, sound, context):
    """The frames of all blocks, kept on every rank until the end."""
    generated = []
    for block in range(sound.blocks):
        began = time.time()
        prompt_at(block, context["prompt"], context["edit_prompts"])
        generated.append(pipeline.generate(sound.heard(block)))
        if args.dura_print and ranks.rank() == 0:
            cost_ms = (time.time() - began) * 1000
            print(f"Done Block {block}: duration {blocks.nominal_ms(block, args.fps)}ms video cost {cost_ms:.2f} ms")
    return np.concatenate(generated)


def _export(args, frames):
    if args.disable_fast_export:
        video.export(frames, SILENT_VIDEO, args.fps)
    else:
        video.export_fast(frames, SILENT_VIDEO, args.fps, args.fast_export_preset, args.fast_export_crf)


def _render(args, pipeline, item, context):
    """One item of the list; every rank makes, keeps and saves all of it."""
    started = time.time()
    shape = blocks.shape_of(args.size)
    picture = portrait.read(item["cond_image"])
    if args.condition_cache_dir and not args.disable_condition_cache:
        condition(item["cond_image"], shape, args.condition_cache_dir)
    sound = blocks.Sound(item["cond_audio"], args.fps, args.steam_audio)
    pipeline.begin(picture, shape, args.sample_steps, args.fps, args.seed)
    print("----iter_total_num=", sound.blocks)
    frames = _blocks_of(args, pipeline, sound, context)

    faults.strike("save")
    export_started = time.time()
    _export(args, frames)
    add_audio_to_video(SILENT_VIDEO, item["cond_audio"], output_name(item["cond_image"], item["cond_audio"]))
    if ranks.rank() == 0:
        platform.print_stages(
            time.time() - started,
            sample_model_forward=pipeline.forward_s,
            vae_decode=pipeline.decode_s,
            export=time.time() - export_started,
        )


def generate(args):
    if ranks.rank() == 0:
        platform.announce("npu")
    if ranks.world_size() > 1:
        ranks.join()
    check_degrees(ranks.world_size(), args.sequence_parallel_degree, args.ulysses_degree, args.ring_degree)
    pipeline = LiveActPipeline(args.ckpt_dir, args.wav2vec_dir, args.vae_path)
    with Path(args.input_json).open(encoding="utf-8") as file:
        items = json.load(file)
    for data_idx, item in enumerate(items):
        context = _text_context(args, data_idx, item)
        if not args.stop_after_text_context:
            _render(args, pipeline, item, context)
    ranks.part()


if __name__ == "__main__":
    generate(_parse_args())

"""LiveAct in miniature (ac8579b): the contract without the network."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from model_liveact.pipeline import LiveActPipeline
from model_liveact.shared import blocks, faults, portrait, ranks, video
from util_liveact import add_audio_to_video, output_name, prompt_at

SAMPLE_STEPS = 3
SILENT_VIDEO = "tmp.mp4"


def _parse_args():
    parser = argparse.ArgumentParser(description="A talking figure from a prompt, a picture and a voice")
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
    return parser.parse_args()


def _render(args, pipeline, item):
    """One item of the list; every rank makes, keeps and saves all of it."""
    out_path = output_name(item["cond_image"], item["cond_audio"])
    prompt, edit_prompts = item["prompt"], item.get("edit_prompt", {})
    picture = portrait.read(item["cond_image"])
    sound = blocks.Sound(item["cond_audio"], args.fps, args.steam_audio)
    pipeline.begin(picture, blocks.shape_of(args.size), SAMPLE_STEPS, args.fps, args.seed)
    print("----iter_total_num=", sound.blocks)

    generated = []
    for block in range(sound.blocks):
        began = time.time()
        prompt_at(block, prompt, edit_prompts)
        generated.append(pipeline.generate(sound.heard(block)))
        if args.dura_print and ranks.rank() == 0:
            cost_ms = (time.time() - began) * 1000
            print(f"Done Block {block}: duration {blocks.nominal_ms(block, args.fps)}ms video cost {cost_ms:.2f} ms")

    faults.strike("save")
    video.export(np.concatenate(generated), SILENT_VIDEO, args.fps)
    add_audio_to_video(SILENT_VIDEO, item["cond_audio"], out_path)


def generate(args):
    if ranks.world_size() > 1:
        ranks.join()
    pipeline = LiveActPipeline(args.ckpt_dir, args.wav2vec_dir)
    with Path(args.input_json).open(encoding="utf-8") as file:
        items = json.load(file)
    for item in items:
        _render(args, pipeline, item)
    ranks.part()


if __name__ == "__main__":
    generate(_parse_args())

"""A stand-in for the quantizing fork's `bench_rtf.py`: its arguments, its lines and its table, the miniature's chunks.

`STAND_IN` names what goes wrong: `no_table`, `too_slow`, `crashes`.
"""

import argparse
import os
import sys
import time
from collections import deque

import numpy as np
from flash_talk.inference import get_audio_embedding, get_base_data, get_pipeline, infer_params, run_pipeline
from flash_talk.shared import audio, log

WRONG = os.environ.get("STAND_IN", "")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ckpt_dir", required=True)
    parser.add_argument("--wav2vec_dir", required=True)
    parser.add_argument("--audio_path", default="examples/cantonese_16k.wav")
    parser.add_argument("--cond_image", default="examples/man.png")
    parser.add_argument("--input_prompt", default="A person is talking.")
    parser.add_argument("--base_seed", type=int, default=9999)
    parser.add_argument("--cpu_offload", action="store_true")
    parser.add_argument("--quantize", choices=["quanto-int4", "quanto-int8", "bitsandbytes-nf4"])
    parser.add_argument("--num_chunks", type=int, default=5)
    parser.add_argument("--warmup_chunks", type=int, default=1)
    parser.add_argument("--audio_encode_mode", default="stream", choices=["stream", "once"])
    return parser.parse_args()


def embeddings(pipeline, path):
    rate, fps, frames = infer_params["sample_rate"], infer_params["tgt_fps"], infer_params["frame_num"]
    step = (frames - infer_params["motion_frames_num"]) * rate // fps
    speech = audio.load(path, rate)
    end = infer_params["cached_audio_duration"] * fps
    heard = deque([0.0] * (infer_params["cached_audio_duration"] * rate), maxlen=end * rate // fps)
    for number in range(len(speech) // step):
        heard.extend(speech[number * step : (number + 1) * step].tolist())
        yield get_audio_embedding(pipeline, np.array(heard), end - frames, end)


def main():
    args = arguments()
    log.info("Loading pipeline...")
    began = time.time()
    pipeline = get_pipeline(1, args.ckpt_dir, args.wav2vec_dir, args.cpu_offload, args.quantize)
    load = time.time() - began
    log.info(f"Pipeline loaded in {load:.1f}s  |  VRAM after load: 0 MB")
    get_base_data(pipeline, args.input_prompt, args.cond_image, args.base_seed)
    if WRONG == "crashes":
        raise RuntimeError("the stand-in was told to crash")
    log.info(f"Running {args.warmup_chunks} warmup + {args.num_chunks} benchmark chunks...")
    times = measured(pipeline, args)
    if not times:
        log.error("No benchmark chunks were run.")
        sys.exit(1)
    if WRONG != "no_table":
        print_table(args, np.array(times) * (100 if WRONG == "too_slow" else 1), load)


def measured(pipeline, args):
    new = infer_params["frame_num"] - infer_params["motion_frames_num"]
    times = []
    for number, embedding in enumerate(embeddings(pipeline, args.audio_path)):
        if number == args.warmup_chunks + args.num_chunks:
            break
        began = time.time()
        run_pipeline(pipeline, embedding)
        took = time.time() - began
        warming = number < args.warmup_chunks
        times += [] if warming else [took]
        media = new / infer_params["tgt_fps"]
        log.info(f"  [{'WARMUP' if warming else 'BENCH '}] chunk {number}: {took:.3f}s  (media={media:.3f}s)")
    return times


def print_table(args, times, load):
    fps = infer_params["tgt_fps"]
    new = infer_params["frame_num"] - infer_params["motion_frames_num"]
    rtf = times.mean() / (new / fps)
    print("\n" + "=" * 64)
    print("  SoulX-FlashTalk Benchmark Results")
    print("=" * 64)
    print(f"  Quantization:       {args.quantize or 'None (bf16)'}")
    print(f"  CPU offload:        {args.cpu_offload}")
    print(f"  Chunks benchmarked: {args.num_chunks}")
    print(f"  Warmup chunks:      {args.warmup_chunks}")
    print(f"  Media per chunk:    {new / fps:.3f}s ({new} frames @ {fps} fps)")
    print("-" * 64)
    print(f"  Latency mean:       {times.mean():.3f}s ± {times.std():.3f}s")
    print(f"  Latency min/max:    {times.min():.3f}s / {times.max():.3f}s")
    print(f"  Throughput:         {new / times.mean():.1f} frames/s")
    print(f"  VRAM peak:          {os.environ.get('STAND_IN_VRAM', '0')} MB")
    print(f"  Pipeline load time: {load:.1f}s")
    print("-" * 64)
    print(f"  *** RTF = {rtf:.3f} ***  (target ≤ 1.0)")
    print("  ✅ PASS: Real-time factor target met!" if rtf <= 1.0 else f"  ❌ FAIL: RTF {rtf:.3f} > 1.0")
    print("=" * 64 + "\n")


if __name__ == "__main__":
    main()

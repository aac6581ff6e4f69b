"""FlashTalk in miniature, f54dc79 adapted to Ascend NPUs: the contract without the network."""

import argparse
import subprocess
import time
from collections import deque
from datetime import datetime
from pathlib import Path

import numpy as np
from flash_talk.inference import get_audio_embedding, get_base_data, get_pipeline, infer_params, run_pipeline
from flash_talk.shared import audio, faults, log, ranks, video


def _validate_args(args):
    assert args.ckpt_dir is not None, "--ckpt_dir is missing"
    assert args.wav2vec_dir is not None, "--wav2vec_dir is missing"
    args.base_seed = args.base_seed if args.base_seed >= 0 else 9999


def _parse_args():
    parser = argparse.ArgumentParser(description="A talking head from a picture and a voice")
    parser.add_argument("--ckpt_dir", type=str, default=None, help="where the model would be")
    parser.add_argument("--wav2vec_dir", type=str, default=None, help="where the audio encoder would be")
    parser.add_argument("--save_file", type=str, default=None, help="the video to write")
    parser.add_argument("--base_seed", type=int, default=9999, help="the seed of head motion and blinking")
    parser.add_argument("--input_prompt", type=str, default="A person is talking.", help="taken and ignored")
    parser.add_argument("--cond_image", type=str, default="examples/man.png", help="the portrait")
    parser.add_argument("--audio_path", type=str, default="examples/cantonese_16k.wav", help="the voice")
    parser.add_argument(
        "--audio_encode_mode",
        type=str,
        default="stream",
        choices=["stream", "once"],
        help="stream: encode the sound before each chunk; once: all of it at the start",
    )
    parser.add_argument("--cpu_offload", action="store_true", help="taken and ignored")
    args = parser.parse_args()
    _validate_args(args)
    return args


def save_video(frames_list, video_path, audio_path, fps):
    """Encode, join with the sound as AAC, remove the silent video; with this variant's fault.

    ``res_`` is removed from the whole path, so a name without it makes both files one: ffmpeg then refuses, and the
    silent video stays where the finished one was expected.
    """
    silent_path = video_path.replace("res_", "")
    video.write_frames(frames_list, silent_path, fps)
    mux = ["ffmpeg", "-i", silent_path, "-i", audio_path, "-c:v", "copy", "-c:a", "aac", "-shortest", video_path, "-y"]
    subprocess.run(faults.mux_command(mux), check=True)
    Path(silent_path).unlink()
    faults.after_save(video_path)


def _default_save_file():
    Path("sample_results").mkdir(exist_ok=True)
    return f"sample_results/res_{datetime.now().strftime('%Y%m%d-%H:%M:%S-%f')[:-3]}.mp4"


def _once(pipeline, speech):
    """The sound padded to frame_num and then whole chunks; the last chunk is never made, as in the real script."""
    frame_num = infer_params["frame_num"]
    new = frame_num - infer_params["motion_frames_num"]
    chunk_len = new * infer_params["sample_rate"] // infer_params["tgt_fps"]
    first_len = frame_num * infer_params["sample_rate"] // infer_params["tgt_fps"]
    # pad audio with silence
    speech = np.pad(speech, (0, -(len(speech) - first_len) % chunk_len))
    embedding = get_audio_embedding(pipeline, speech)
    for i in range((embedding.shape[1] - frame_num) // new):
        yield embedding[:, i * new : i * new + frame_num].contiguous()


def _stream(pipeline, speech):
    """Embeddings of a sliding window over the last seconds; the sound is padded to whole chunks."""
    sample_rate, fps, frame_num = (infer_params["sample_rate"], infer_params["tgt_fps"], infer_params["frame_num"])
    chunk_len = (frame_num - infer_params["motion_frames_num"]) * sample_rate // fps
    # pad audio with silence
    slices = np.pad(speech, (0, -len(speech) % chunk_len)).reshape(-1, chunk_len)
    window_frames = infer_params["cached_audio_duration"] * fps
    window_len = infer_params["cached_audio_duration"] * sample_rate
    window = deque([0.0] * window_len, maxlen=window_len)
    for heard in slices:
        window.extend(heard.tolist())
        yield get_audio_embedding(pipeline, np.array(window), window_frames - frame_num, window_frames)


def generate(args):
    world_size, rank = ranks.world_size(), ranks.rank()
    pipeline = get_pipeline(
        world_size=world_size, ckpt_dir=args.ckpt_dir, wav2vec_dir=args.wav2vec_dir, cpu_offload=args.cpu_offload
    )
    get_base_data(pipeline, input_prompt=args.input_prompt, cond_image=args.cond_image, base_seed=args.base_seed)
    speech = audio.load(args.audio_path, infer_params["sample_rate"])
    if rank == 0:
        log.info("Data preparation done. Start to generate video...")

    chunks = _once if args.audio_encode_mode == "once" else _stream
    generated = []  # on every rank, as in the real script
    for chunk_idx, embedding in enumerate(chunks(pipeline, speech)):
        start_time = time.time()
        frames = run_pipeline(pipeline, embedding)
        if args.audio_encode_mode == "stream" or chunk_idx != 0:
            frames = frames[infer_params["motion_frames_num"] :]
        cost_time = time.time() - start_time
        if rank == 0:
            log.info(f"Generate video chunk-{chunk_idx} done, cost time: {cost_time:.2f}s")
        generated.append(frames.cpu())

    if rank == 0:
        faults.strike("save")
        args.save_file = args.save_file or _default_save_file()
        save_video(generated, args.save_file, args.audio_path, fps=infer_params["tgt_fps"])
        log.info(f"Saving generated video to {args.save_file}.mp4")
        log.info("Finished.")
    ranks.leave()


if __name__ == "__main__":
    generate(_parse_args())

"""FlashHead in miniature, as published (12467ce): the contract without the network."""

import argparse
import subprocess
import time
from collections import deque
from datetime import datetime
from pathlib import Path

import numpy as np
from flash_head.inference import get_audio_embedding, get_base_data, get_infer_params, get_pipeline, run_pipeline
from flash_head.shared import audio, faults, log, ranks, video


def _validate_args(args):
    assert args.ckpt_dir is not None, "--ckpt_dir is missing"
    assert args.wav2vec_dir is not None, "--wav2vec_dir is missing"
    assert args.model_type in ("pro", "lite"), "--model_type is pro or lite"
    assert args.cond_image_dir is not None or args.cond_image is not None, "--cond_image or --cond_image_dir is missing"
    assert args.audio_path is not None, "--audio_path is missing"
    args.base_seed = args.base_seed if args.base_seed >= 0 else 42


def _parse_args():
    parser = argparse.ArgumentParser(description="A talking head from a picture and a voice")
    parser.add_argument("--ckpt_dir", type=str, default=None, help="where the model would be")
    parser.add_argument("--wav2vec_dir", type=str, default=None, help="where the audio encoder would be")
    parser.add_argument("--model_type", type=str, default=None, help="pro or lite")
    parser.add_argument("--save_file", type=str, default=None, help="the video to write")
    parser.add_argument("--base_seed", type=int, default=42, help="the seed of head motion and blinking")
    parser.add_argument("--cond_image", type=str, default=None, help="the portrait")
    parser.add_argument("--cond_image_dir", type=str, default=None, help="a directory whose first PNG is the portrait")
    parser.add_argument("--audio_path", type=str, default=None, help="the voice")
    parser.add_argument(
        "--audio_encode_mode",
        type=str,
        default="stream",
        choices=["stream", "once"],
        help="stream: encode the sound before each chunk; once: all of it at the start",
    )
    parser.add_argument("--use_face_crop", type=bool, default=False, help="any non-empty text is true, 'False' too")
    args = parser.parse_args()
    _validate_args(args)
    return args


def save_video(frames_list, video_path, audio_path, fps):
    """Encode, join with the sound as AAC, remove the silent video; with this script's faults.

    ``.mp4`` is replaced on the whole path, so with another suffix both files are one; ffmpeg's exit code is ignored.
    Whatever happened, the silent video is removed.
    """
    silent_path = video_path.replace(".mp4", "_tmp.mp4")
    video.write_frames(frames_list, silent_path, fps)
    mux = ["ffmpeg", "-i", silent_path, "-i", audio_path, "-c:v", "copy", "-c:a", "aac", "-shortest", video_path, "-y"]
    subprocess.run(faults.mux_command(mux), check=False)
    Path(silent_path).unlink()
    faults.after_save(video_path)


def _default_save_file():
    Path("sample_results").mkdir(exist_ok=True)
    return f"sample_results/res_{datetime.now().strftime('%Y%m%d-%H:%M:%S-%f')[:-3]}.mp4"


def _once(pipeline, speech, params):
    """The sound padded to frame_num and then whole chunks; the last chunk is never made, as in the real script."""
    frame_num = params["frame_num"]
    new = frame_num - params["motion_frames_num"]
    chunk_len = new * params["sample_rate"] // params["tgt_fps"]
    first_len = frame_num * params["sample_rate"] // params["tgt_fps"]
    # pad audio with silence
    speech = np.pad(speech, (0, -(len(speech) - first_len) % chunk_len))
    embedding = get_audio_embedding(pipeline, speech)
    for i in range((embedding.shape[1] - frame_num) // new):
        yield embedding[:, i * new : i * new + frame_num].contiguous()


def _stream(pipeline, speech, params):
    """Embeddings of a sliding window over the last seconds; the sound is padded to whole chunks."""
    sample_rate, fps, frame_num = params["sample_rate"], params["tgt_fps"], params["frame_num"]
    chunk_len = (frame_num - params["motion_frames_num"]) * sample_rate // fps
    # pad audio with silence
    slices = np.pad(speech, (0, -len(speech) % chunk_len)).reshape(-1, chunk_len)
    window_frames = params["cached_audio_duration"] * fps
    window_len = params["cached_audio_duration"] * sample_rate
    window = deque([0.0] * window_len, maxlen=window_len)
    for heard in slices:
        window.extend(heard.tolist())
        yield get_audio_embedding(pipeline, np.array(window), window_frames - frame_num, window_frames)


def generate(args):
    world_size, rank = ranks.world_size(), ranks.rank()
    pipeline = get_pipeline(
        world_size=world_size, ckpt_dir=args.ckpt_dir, wav2vec_dir=args.wav2vec_dir, model_type=args.model_type
    )
    image = args.cond_image_dir if args.cond_image_dir is not None else args.cond_image
    get_base_data(pipeline, cond_image_path_or_dir=image, base_seed=args.base_seed, use_face_crop=args.use_face_crop)
    params = get_infer_params()
    speech = audio.load(args.audio_path, params["sample_rate"])
    if rank == 0:
        log.info("Data preparation done. Start to generate video...")

    once = args.audio_encode_mode == "once"
    embeddings = (_once if once else _stream)(pipeline, speech, params)
    generated = []  # on every rank, as in the real script
    start_time = time.time()
    for chunk_idx, embedding in enumerate(embeddings):
        if once:  # in stream mode the time of encoding the sound counts
            start_time = time.time()
        frames = run_pipeline(pipeline, embedding)
        if not once or chunk_idx != 0:
            frames = frames[params["motion_frames_num"] :]
        cost_time = time.time() - start_time
        if rank == 0:
            log.info(f"Generate video chunk-{chunk_idx} done, cost time: {cost_time:.3f}s")
        generated.append(frames.cpu())
        start_time = time.time()

    if rank == 0:
        faults.strike("save")
        args.save_file = args.save_file or _default_save_file()
        save_video(generated, args.save_file, args.audio_path, fps=params["tgt_fps"])
        log.info(f"Saving generated video to {args.save_file}")
        log.info("Finished.")
    ranks.leave()


if __name__ == "__main__":
    generate(_parse_args())

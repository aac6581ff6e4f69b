"""Frames to a silent MP4, with the encoder and the options of the real scripts."""

import imageio
import numpy as np


def write_frames(frames_list: list, path: str, fps: int) -> None:
    """Encode chunks of (frames, height, width, 3) values in 0..255; no chunk at all leaves no file."""
    with imageio.get_writer(path, format="mp4", mode="I", fps=fps, codec="h264", ffmpeg_params=["-bf", "0"]) as writer:
        for frames in frames_list:
            for frame in frames.numpy().astype(np.uint8):
                writer.append_data(frame)

"""Frames to a silent MP4, with the encoder and the options of the real scripts."""

from pathlib import Path

import imageio
import numpy as np

from engine import knobs


def write_frames(frames_list: list, path: str, fps: int) -> None:
    """Encode chunks of (frames, height, width, 3) values in 0..255; no chunk at all leaves no file."""
    _dump(frames_list)
    with imageio.get_writer(path, format="mp4", mode="I", fps=fps, codec="h264", ffmpeg_params=["-bf", "0"]) as writer:
        for frames in frames_list:
            for frame in frames.numpy().astype(np.uint8):
                writer.append_data(frame)


def _dump(frames_list: list) -> None:
    """Write the same frames as plain bytes where that is asked for."""
    target = knobs.frames_file()
    if target is not None:
        Path(target).write_bytes(b"".join(frames.numpy().astype(np.uint8).tobytes() for frames in frames_list))


def export(frames: np.ndarray, path: str, fps: int) -> None:
    """Encode (frames, height, width, 3) values in 0..255 as diffusers' ``export_to_video`` does: with B-frames."""
    _encode(frames, path, fps=fps, quality=5.0)


def export_fast(frames: np.ndarray, path: str, fps: int, preset: str, crf: int) -> None:
    """The same by x264 with a speed preset and a constant quality of one's own."""
    _encode(frames, path, fps=fps, quality=None, ffmpeg_params=["-preset", preset, "-crf", str(crf)])


def _encode(frames: np.ndarray, path: str, **options: object) -> None:
    with imageio.get_writer(path, format="mp4", mode="I", codec="libx264", **options) as writer:
        for frame in frames:
            writer.append_data(frame.astype(np.uint8))

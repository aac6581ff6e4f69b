from __future__ import annotations

import subprocess
from pathlib import Path

import ffmpeg
import numpy as np
import pytest
from makers import RATE, Head

from omnirt_cli.media.packets import PacketSum, list_packets


@pytest.fixture
def video(tmp_path: Path, loudness: np.ndarray) -> Path:
    return Head(size=64).video(tmp_path / "v.mp4", loudness[: 2 * RATE], None)


def packets(video: Path, frames: int | None = None, *, piece: int = 7) -> PacketSum:
    argv = list_packets(ffmpeg.input(str(video)), "pipe:1", frames).global_args("-v", "error").compile()
    text = subprocess.run(argv, capture_output=True, check=True).stdout
    found = PacketSum()
    for at in range(0, len(text), piece):
        found.add(text[at : at + piece])
    return found


def test_every_frame_is_a_packet_however_the_list_comes(video: Path) -> None:
    found = packets(video)

    assert found.count == 50
    assert (found.count, found.digest) == (packets(video, piece=1000).count, packets(video, piece=1000).digest)


def test_the_first_packets_are_those_of_a_shorter_video(tmp_path: Path, video: Path) -> None:
    cut = ["-frames:v", "30", "-c", "copy", str(tmp_path / "cut.mp4")]
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(video), *cut], check=True)

    assert packets(video, 30).digest == packets(tmp_path / "cut.mp4").digest
    assert packets(video, 29).digest != packets(tmp_path / "cut.mp4").digest


def test_the_same_frames_encoded_again_are_others(tmp_path: Path, video: Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(video), "-crf", "30", str(tmp_path / "again.mp4")], check=True)

    assert packets(video).digest != packets(tmp_path / "again.mp4").digest

"""Frames of a video that nobody finished: counted as far as they are whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from launchers.model_env.omnirt_worker.encoder import Encoder, EncoderError
from launchers.model_env.omnirt_worker.requests import PictureRequest
from omnirt_cli.media.streams import count_packets
from omnirt_cli.run.publish import count_frames

FRAMES = 200


@pytest.fixture
def fragmented(tmp_path: Path) -> Path:
    """Eight seconds of noise, in pieces of one second."""
    place = tmp_path / "frames.mp4"
    ffmpeg = shutil.which("ffmpeg")
    assert ffmpeg is not None
    with Encoder(PictureRequest(ffmpeg, str(place), 64, 64, 25)) as encoder:
        for _ in range(FRAMES):
            encoder.put(memoryview(os.urandom(64 * 64 * 3)))
    return place


def test_a_fragmented_video_is_counted_packet_by_packet(fragmented: Path) -> None:
    assert count_packets(fragmented) == FRAMES
    assert count_frames(fragmented) == FRAMES


@pytest.mark.parametrize("share", [0.95, 0.7, 0.5, 0.3])
def test_of_one_that_is_cut_off_the_whole_frames_count(fragmented: Path, share: float) -> None:
    size = fragmented.stat().st_size
    os.truncate(fragmented, int(size * share))

    counted = count_frames(fragmented)

    assert (share - 0.2) * FRAMES < counted <= share * FRAMES + 1


def test_where_the_input_ends_within_a_frame_those_before_are_all_there(tmp_path: Path) -> None:
    """As when the process that feeds ffmpeg is killed."""
    place, ffmpeg = tmp_path / "frames.mp4", shutil.which("ffmpeg")
    assert ffmpeg is not None
    encoder = Encoder(PictureRequest(ffmpeg, str(place), 64, 64, 25))
    encoder.put(memoryview(os.urandom(56 * 64 * 64 * 3 + 1000)))

    with contextlib.suppress(EncoderError):
        encoder.close()

    assert count_frames(place) == 56


def test_one_without_a_single_frame_counts_none(fragmented: Path) -> None:
    os.truncate(fragmented, 700)

    assert count_frames(fragmented) == 0

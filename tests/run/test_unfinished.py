"""How much of an unfinished picture is worth a video: whole chunks, and their sound."""

from __future__ import annotations

from pathlib import Path

import pytest

from omnirt_cli.plan import Plan
from omnirt_cli.planner import draft_plan
from omnirt_cli.request import Audio2VideoRequest
from omnirt_cli.run.unfinished import shortened, whole_chunks
from omnirt_cli.settings import Surroundings
from tests.omnirt_cli_runs import ASSETS


def plan(folder: Path, model: str = "soulx-flashtalk-14b", **config: object) -> Plan:
    """Ten seconds of speech at 25 frames a second."""
    asked = {
        "model": model,
        "backend": "cpu",
        "inputs": {"image": str(ASSETS / "portrait.png"), "audio": str(ASSETS / "speech.wav")},
        "config": {"output_dir": str(folder), "executor": "driver", **config},
    }
    around = Surroundings(environ={}, cwd=folder, user_files=(), home=None)
    return draft_plan(Audio2VideoRequest.model_validate(asked), surroundings=around).require()


@pytest.mark.parametrize(
    ("frames", "chunks"), [(0, 0), (27, 0), (28, 1), (55, 1), (56, 2), (251, 8), (252, 9), (260, 9)]
)
def test_stream_adds_as_many_frames_with_every_chunk(frames: int, chunks: int, tmp_path: Path) -> None:
    whole = plan(tmp_path)

    assert (whole.audio.chunks, whole.audio.generated_frames) == (9, 252)
    assert whole_chunks(whole, frames) == chunks


@pytest.mark.parametrize(("frames", "chunks"), [(0, 0), (32, 0), (33, 1), (60, 1), (61, 2), (88, 2), (89, 3)])
def test_the_first_chunk_of_once_shows_all_its_frames(frames: int, chunks: int, tmp_path: Path) -> None:
    whole = plan(tmp_path, audio_encode_mode="once")

    assert whole_chunks(whole, frames) == chunks


def test_the_shorter_video_ends_with_its_chunks_sound_and_all(tmp_path: Path) -> None:
    part = shortened(plan(tmp_path, "soulx-flashhead-1.3b", model_type="lite"), 3)

    assert (part.expected.chunks, part.expected.frames, part.expected.duration_s) == (3, 72, 2.88)
    assert part.audio.cut


def test_all_chunks_of_a_run_that_died_while_leaving_are_the_whole_video(tmp_path: Path) -> None:
    whole = plan(tmp_path)

    part = shortened(whole, whole.audio.chunks)

    assert part.expected.frames == whole.expected.frames == 250

"""LiveAct's block arithmetic: nothing spoken is left without frames, and the script does what was foreseen."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnirt_cli.errors import InputInvalidError
from omnirt_cli.models.base import AudioForm, AudioPlan, Geometry
from omnirt_cli.models.liveact_audio import (
    BLOCK_FRAMES,
    FIRST_FRAMES,
    WINDOW_FRAMES,
    block_count,
    frame_count,
    plan,
    prepared_samples,
)

RATES = st.sampled_from([1, 8, 16, 20, 23, 24, 25, 30, 50, 60, 120])


def geometry(fps: int) -> Geometry:
    return Geometry(416, 720, frame_num=WINDOW_FRAMES, motion_frames_num=WINDOW_FRAMES - BLOCK_FRAMES, fps=fps)


def planned(samples: int, fps: int, max_chunks: int | None = None) -> AudioPlan:
    return plan(geometry(fps), samples=samples, duration_s=samples / 16000, max_chunks=max_chunks)


@pytest.mark.parametrize(
    ("seconds", "fps", "blocks", "frames"),
    [(10, 20, 7, 213), (10, 24, 8, 245), (1.5, 24, 2, 53), (5, 24, 4, 117), (30, 24, 23, 725), (0, 20, 1, 21)],
)
def test_the_script_makes_as_many_blocks_as_on_recorded_runs(
    seconds: float, fps: int, blocks: int, frames: int
) -> None:
    assert (block_count(seconds, fps), frame_count(blocks)) == (blocks, frames)


def test_the_geometry_counts_what_a_block_adds() -> None:
    assert (FIRST_FRAMES, BLOCK_FRAMES, WINDOW_FRAMES) == (21, 32, 53)
    assert geometry(20).slice_frames == 32


@given(samples=st.integers(1, 16000 * 3600), fps=RATES)
def test_every_spoken_sample_has_a_frame(samples: int, fps: int) -> None:
    found = planned(samples, fps)
    assert found.frames * 16000 >= (samples - 1) * fps
    assert found.speech_samples >= samples - 1
    assert found.total_samples >= samples
    assert not found.cut


@given(samples=st.integers(1, 16000 * 3600), fps=RATES, most=st.none() | st.integers(1, 20))
def test_the_script_renders_just_the_blocks_that_were_planned(samples: int, fps: int, most: int | None) -> None:
    found = planned(samples, fps, most)
    assert block_count(found.total_samples / 16000, fps) == found.chunks
    assert frame_count(found.chunks) == found.generated_frames >= found.frames


@given(samples=st.integers(1, 16000 * 3600), fps=RATES)
def test_no_fewer_blocks_would_do(samples: int, fps: int) -> None:
    found = planned(samples, fps)
    assert found.chunks == 1 or frame_count(found.chunks - 1) < found.frames


@given(blocks=st.integers(1, 5000), fps=RATES)
def test_the_sound_outlasts_the_picture_so_that_the_mux_cuts_none_of_it(blocks: int, fps: int) -> None:
    assert prepared_samples(blocks, geometry(fps)) * fps >= (frame_count(blocks) + 2) * 16000


def test_an_unprepared_recording_would_lose_its_tail() -> None:
    samples = round(3.15 * 16000)
    assert frame_count(block_count(samples / 16000, 20)) < math.ceil(3.15 * 20)
    assert planned(samples, 20).frames == 63


def test_capped_blocks_end_sound_and_picture_together() -> None:
    found = planned(16000 * 10, 20, max_chunks=2)
    assert (found.chunks, found.frames, found.cut) == (2, 53, True)
    assert found.speech_samples == 53 * 800
    assert found.total_samples == 55 * 800


def test_a_cap_above_what_is_needed_changes_nothing() -> None:
    assert planned(16000 * 10, 20, max_chunks=100) == planned(16000 * 10, 20)


def test_the_sound_is_wav_without_a_lead() -> None:
    found = planned(16000, 20)
    assert (found.form, found.lead_samples) == (AudioForm.WAV, 0)


def test_no_sound_is_refused() -> None:
    with pytest.raises(InputInvalidError, match="no samples"):
        planned(0, 20)

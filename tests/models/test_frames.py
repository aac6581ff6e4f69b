"""The frame arithmetic against a simulation of the scripts' loops, written here from what the scripts do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnirt_cli.models.base import Geometry
from omnirt_cli.models.frames import (
    AAC_SURPLUS_SAMPLES,
    Loop,
    Mode,
    chunk_count,
    frame_count,
    frames_for,
    plan,
)

FLASHTALK = Geometry(width=448, height=768, frame_num=33, motion_frames_num=5, fps=25)
ASCEND = Geometry(width=416, height=704, frame_num=29, motion_frames_num=1, fps=25)
LITE = Geometry(width=512, height=512, frame_num=33, motion_frames_num=9, fps=25)

KINDS = [(loop, mode) for loop in Loop for mode in Mode]
geometries = st.sampled_from([FLASHTALK, ASCEND, LITE]) | st.builds(
    lambda latents, motion, fps: Geometry(64, 64, 4 * latents + 1, 4 * min(motion, latents - 1) + 1, fps),
    latents=st.integers(2, 12),
    motion=st.integers(0, 5),
    fps=st.integers(8, 60),
)
lengths = st.integers(1, 16000 * 40)


def script(loop: Loop, mode: Mode, geometry: Geometry, samples: int) -> list[range]:
    """What the script renders from `samples` zeros: per chunk, the frames of the driving audio that it shows."""
    slice_len = geometry.frame_num - geometry.motion_frames_num
    step = slice_len * geometry.sample_rate // geometry.fps
    first = geometry.frame_num * geometry.sample_rate // geometry.fps
    audio = np.zeros(samples, dtype=np.int8)
    if mode is Mode.STREAM:
        if loop is Loop.PADDING and len(audio) % step:
            audio = np.concatenate([audio, np.zeros(step - len(audio) % step, dtype=np.int8)])
        slices = audio[: len(audio) // step * step].reshape(-1, step)
        return [range(index * slice_len, (index + 1) * slice_len) for index in range(len(slices))]
    if loop is Loop.PADDING:
        remainder = (len(audio) - first) % step
        if remainder > 0:
            audio = np.concatenate([audio, np.zeros(step - remainder, dtype=np.int8)])
        embedded = int(len(audio) * geometry.fps / geometry.sample_rate)
    else:
        audio_duration = len(audio) / geometry.sample_rate
        embedded = int(audio_duration * geometry.fps)
    shown = []
    for index in range((embedded - geometry.frame_num) // slice_len):
        begin = index * slice_len
        cut = geometry.motion_frames_num if index or loop is Loop.DROPPING else 0
        shown.append(range(begin + cut, begin + geometry.frame_num))
    return shown


@given(st.sampled_from(KINDS), geometries, lengths)
def test_counts_are_the_scripts_own(kind: tuple[Loop, Mode], geometry: Geometry, samples: int) -> None:
    loop, mode = kind
    shown = script(loop, mode, geometry, samples)
    assert chunk_count(loop, mode, geometry, samples) == len(shown)
    assert frame_count(loop, mode, geometry, len(shown)) == sum(map(len, shown))


@given(st.sampled_from(KINDS), geometries, lengths)
def test_every_spoken_frame_is_shown_in_time(kind: tuple[Loop, Mode], geometry: Geometry, samples: int) -> None:
    loop, mode = kind
    duration = samples / geometry.sample_rate
    made = plan(loop, mode, geometry, samples=samples, duration_s=duration)
    shown = [frame for chunk in script(loop, mode, geometry, made.total_samples) for frame in chunk]
    lead = round(made.lead_samples * geometry.fps / geometry.sample_rate)

    assert len(shown) == made.generated_frames
    assert made.frames == made.needed_frames == math.ceil(round(duration * geometry.fps, 6))
    # Frame k of the delivered picture shows frame k of the speech: nothing is shifted, nothing is missing.
    assert [frame - lead for frame in shown[: made.frames]] == list(range(made.frames))
    assert made.lead_samples + samples <= made.total_samples


@given(st.sampled_from(KINDS), geometries, lengths)
def test_stream_chunks_take_in_every_sample(kind: tuple[Loop, Mode], geometry: Geometry, samples: int) -> None:
    loop, _ = kind
    made = plan(loop, Mode.STREAM, geometry, samples=samples, duration_s=samples / geometry.sample_rate)
    assert made.chunks * geometry.slice_samples >= samples


@given(st.sampled_from(KINDS), geometries, lengths)
def test_one_chunk_less_would_lose_speech(kind: tuple[Loop, Mode], geometry: Geometry, samples: int) -> None:
    loop, mode = kind
    made = plan(loop, mode, geometry, samples=samples, duration_s=samples / geometry.sample_rate)
    fewer = made.chunks - 1
    too_few_frames = frame_count(loop, mode, geometry, fewer) < made.needed_frames
    too_few_samples = mode is Mode.STREAM and fewer * geometry.slice_samples < samples
    assert too_few_frames or too_few_samples


@given(st.sampled_from(KINDS), geometries, lengths)
def test_one_sample_less_would_lose_a_chunk_speech_or_the_last_frame(
    kind: tuple[Loop, Mode], geometry: Geometry, samples: int
) -> None:
    loop, mode = kind
    made = plan(loop, mode, geometry, samples=samples, duration_s=samples / geometry.sample_rate)
    less = made.total_samples - 1
    assert (
        chunk_count(loop, mode, geometry, less) < made.chunks
        or less < made.lead_samples + samples
        or less * geometry.fps < min(made.frames + 1, made.generated_frames) * geometry.sample_rate
    )


@given(st.sampled_from(KINDS), st.sampled_from([FLASHTALK, ASCEND, LITE]), lengths, st.none() | st.integers(1, 30))
def test_audio_that_reads_back_longer_changes_no_count(
    kind: tuple[Loop, Mode], geometry: Geometry, samples: int, max_chunks: int | None
) -> None:
    loop, mode = kind
    made = plan(
        loop,
        mode,
        geometry,
        samples=samples,
        duration_s=samples / geometry.sample_rate,
        max_chunks=max_chunks,
        surplus=AAC_SURPLUS_SAMPLES,
    )
    for surplus in (0, 1, AAC_SURPLUS_SAMPLES // 2, AAC_SURPLUS_SAMPLES):
        assert len(script(loop, mode, geometry, made.total_samples + surplus)) == made.chunks


@given(st.sampled_from(KINDS), geometries, lengths, st.integers(1, 40))
def test_capped_chunks_are_the_length_of_the_audio(
    kind: tuple[Loop, Mode], geometry: Geometry, samples: int, max_chunks: int
) -> None:
    loop, mode = kind
    duration = samples / geometry.sample_rate
    whole = plan(loop, mode, geometry, samples=samples, duration_s=duration)
    made = plan(loop, mode, geometry, samples=samples, duration_s=duration, max_chunks=max_chunks)
    shown = script(loop, mode, geometry, made.total_samples)

    assert made.chunks == len(shown) == min(max_chunks, whole.chunks)
    assert made.generated_frames == sum(map(len, shown))
    assert made.frames == min(whole.needed_frames, made.generated_frames)
    # The script's own mux ends with the sound, so the sound lasts as long as the delivered picture.
    assert made.total_samples >= made.frames * geometry.slice_samples // geometry.slice_frames


@pytest.mark.parametrize(
    ("loop", "mode", "geometry", "chunks", "frames"),
    [
        (Loop.DROPPING, Mode.STREAM, FLASHTALK, 8, 224),
        (Loop.DROPPING, Mode.ONCE, FLASHTALK, 7, 196),
        (Loop.PADDING, Mode.STREAM, FLASHTALK, 9, 252),
        (Loop.PADDING, Mode.ONCE, FLASHTALK, 8, 229),
        (Loop.PADDING, Mode.STREAM, ASCEND, 9, 252),
        (Loop.PADDING, Mode.ONCE, ASCEND, 8, 225),
        (Loop.PADDING, Mode.STREAM, LITE, 11, 264),
        (Loop.PADDING, Mode.ONCE, LITE, 10, 249),
    ],
)
def test_ten_seconds_unprepared_give_what_real_runs_gave(
    loop: Loop, mode: Mode, geometry: Geometry, chunks: int, frames: int
) -> None:
    assert chunk_count(loop, mode, geometry, 160_000) == chunks
    assert frame_count(loop, mode, geometry, chunks) == frames


def test_the_float_expression_of_the_dropping_loop_is_kept() -> None:
    samples = round(8.04 * 16000)
    assert chunk_count(Loop.DROPPING, Mode.ONCE, FLASHTALK, samples) == 5
    assert samples * 25 // 16000 == 201  # exact arithmetic would give a sixth chunk


def test_the_published_ascend_run_of_37_and_a_half_seconds_has_34_chunks() -> None:
    made = plan(Loop.PADDING, Mode.STREAM, ASCEND, samples=600_000, duration_s=37.5)
    # Its own mux left 937 frames, the last half frame of sound without a picture; one more covers it.
    assert (made.chunks, made.frames) == (34, 938)


@pytest.mark.parametrize(("loop", "mode"), KINDS)
def test_the_shortest_sound_still_makes_a_chunk(loop: Loop, mode: Mode) -> None:
    made = plan(loop, mode, FLASHTALK, samples=1, duration_s=1 / 16000)
    assert made.chunks == len(script(loop, mode, FLASHTALK, made.total_samples)) == 1
    assert made.frames == 1


def test_only_the_dropping_once_loop_is_led_by_silence() -> None:
    leads = {
        (loop, mode): plan(loop, mode, FLASHTALK, samples=160_000, duration_s=10.0).lead_samples for loop, mode in KINDS
    }
    assert leads.pop((Loop.DROPPING, Mode.ONCE)) == 3200
    assert set(leads.values()) == {0}


@pytest.mark.parametrize(("seconds", "frames"), [(1.12, 28), (10.0, 250), (8.04, 201), (10.01, 251), (1e-5, 1)])
def test_a_duration_on_a_frame_boundary_asks_for_no_frame_more(seconds: float, frames: int) -> None:
    assert frames_for(seconds, 25) == frames


@settings(deadline=None, max_examples=20)
@given(st.integers(16000 * 600, 16000 * 7200))
def test_hours_are_planned_as_well(samples: int) -> None:
    made = plan(Loop.DROPPING, Mode.ONCE, FLASHTALK, samples=samples, duration_s=samples / 16000)
    assert chunk_count(Loop.DROPPING, Mode.ONCE, FLASHTALK, made.total_samples) == made.chunks

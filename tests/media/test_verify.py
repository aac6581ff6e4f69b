from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SECONDS
from makers import FPS, RATE, Head, ffmpeg, voice, write_wav

from omnirt_cli.checks import Check, CheckStatus
from omnirt_cli.media.audio import Speech, inspect_audio
from omnirt_cli.media.verify import Expectation, Verification, verify_video

NAMES = [
    "file",
    "video_stream",
    "audio_stream",
    "fps",
    "duration",
    "size",
    "decode",
    "frame_count",
    "black",
    "frozen",
    "silent_audio",
    "av_sync",
    "drift",
]


@pytest.fixture(scope="module")
def expected(speech: Speech) -> Expectation:
    return Expectation(
        frames=int(SECONDS * FPS), fps=FPS, width=192, height=192, duration_s=SECONDS, speech=speech, portrait_luma=120
    )


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, loudness: np.ndarray, voice_wav: Path) -> Path:
    return Head().video(tmp_path_factory.mktemp("verify") / "good.mp4", loudness, voice_wav)


def check(verdict: Verification, name: str) -> Check:
    (found,) = [each for each in verdict.checks if each.name == name]
    return found


def troubles(verdict: Verification) -> dict[str, str]:
    fine = (CheckStatus.PASSED, CheckStatus.SKIPPED)
    return {each.name: each.status.value for each in verdict.checks if each.status not in fine}


def test_a_good_render_passes_every_check(good: Path, expected: Expectation) -> None:
    verdict = verify_video(good, expected)
    assert verdict.ok
    assert troubles(verdict) == {}
    assert [each.name for each in verdict.checks] == NAMES
    assert [each.name for each in verdict.checks if each.status is CheckStatus.SKIPPED] == ["drift"]
    facts = verdict.facts
    assert (facts.width, facts.height, facts.num_frames, facts.fps) == (192, 192, 125, 25)
    assert facts.duration_s == pytest.approx(5, abs=0.1)
    assert facts.size_bytes == good.stat().st_size


@pytest.mark.parametrize(
    "head",
    [
        Head(mouth=2.5, crf=30),
        Head(mouth=4, sway=0, blinks=False),
        Head(mouth=12, ink=180, sway=0, blinks=False),
        Head(light=0.15),
    ],
    ids=["tiny mouth", "nothing else moves", "five grey levels", "dark picture"],
)
def test_a_small_moving_mouth_passes(
    tmp_path: Path, loudness: np.ndarray, voice_wav: Path, expected: Expectation, head: Head
) -> None:
    assert troubles(verify_video(head.video(tmp_path / "v.mp4", loudness, voice_wav), expected)) == {}


def test_a_dead_mouth_is_warned_of_though_eyes_blink_and_the_head_sways(
    tmp_path: Path, loudness: np.ndarray, voice_wav: Path, expected: Expectation
) -> None:
    verdict = verify_video(Head(mouth=0, sway=3).video(tmp_path / "v.mp4", loudness, voice_wav), expected)
    assert troubles(verdict) == {"av_sync": "warned"}
    assert check(verdict, "av_sync").actual is None


@pytest.mark.parametrize(("late_s", "lag_ms", "words"), [(0.32, -320, "before"), (-0.32, 320, "after")])
def test_shifted_sound_is_warned_of_with_its_lag(
    tmp_path: Path,
    loudness: np.ndarray,
    voice_wav: Path,
    expected: Expectation,
    late_s: float,
    lag_ms: int,
    words: str,
) -> None:
    verdict = verify_video(Head(late_s=late_s).video(tmp_path / "v.mp4", loudness, voice_wav), expected)
    found = check(verdict, "av_sync")
    assert troubles(verdict) == {"av_sync": "warned"}
    assert found.actual == pytest.approx(lag_ms, abs=20)
    assert f"the sound comes {words} the lips" in str(found.detail)


@pytest.mark.parametrize("span", [(2.0, None), (1.0, 2.8)], ids=["to the end", "in the middle"])
def test_a_freeze_in_speech_fails(
    tmp_path: Path,
    loudness: np.ndarray,
    voice_wav: Path,
    expected: Expectation,
    span: tuple[float, float | None],
) -> None:
    video = Head(frozen=span).video(tmp_path / "v.mp4", loudness, voice_wav)
    verdict = verify_video(video, expected)
    assert check(verdict, "frozen").status is CheckStatus.FAILED
    assert not verdict.ok
    allowed = verify_video(video, replace(expected, allow_frozen=True))
    assert check(allowed, "frozen").status is CheckStatus.WARNED


def test_a_rest_in_a_pause_of_the_speech_passes(tmp_path: Path, loudness: np.ndarray, expected: Expectation) -> None:
    pausing = np.concatenate([loudness[: 2 * RATE], np.zeros(2 * RATE), loudness[: 2 * RATE]])
    sound = write_wav(tmp_path / "a.wav", voice(pausing))
    video = Head(sway=0, blinks=False).video(tmp_path / "v.mp4", pausing, sound)
    found = check(
        verify_video(video, replace(expected, frames=150, duration_s=6, speech=inspect_audio(sound))), "frozen"
    )
    assert found.status is CheckStatus.PASSED
    assert found.detail == "1 rests, none in speech"


def test_a_black_video_fails_unless_the_portrait_is_dark_too(
    tmp_path: Path, loudness: np.ndarray, voice_wav: Path, expected: Expectation
) -> None:
    video = Head(light=0.02).video(tmp_path / "v.mp4", loudness, voice_wav)
    for change, status in (
        ({}, CheckStatus.FAILED),
        ({"portrait_luma": None}, CheckStatus.FAILED),
        ({"portrait_luma": 4.0}, CheckStatus.WARNED),
        ({"allow_black": True}, CheckStatus.WARNED),
    ):
        assert check(verify_video(video, replace(expected, **change)), "black").status is status


def test_a_drifting_background_is_warned_of(tmp_path: Path, loudness: np.ndarray) -> None:
    twice = np.concatenate([loudness, loudness])
    sound = write_wav(tmp_path / "a.wav", voice(twice))
    expected = Expectation(frames=250, fps=25, width=192, height=192, duration_s=10, speech=inspect_audio(sound))
    assert troubles(verify_video(Head().video(tmp_path / "v.mp4", twice, sound), expected)) == {}
    drifted = Head(fade_to=230, mouth=20).video(tmp_path / "d.mp4", twice, sound)
    assert check(verify_video(drifted, expected), "drift").status is CheckStatus.WARNED


def test_a_truncated_file_with_a_good_header_fails(tmp_path: Path, good: Path, expected: Expectation) -> None:
    data = good.read_bytes()
    (tmp_path / "v.mp4").write_bytes(data[: len(data) * 2 // 3])
    verdict = verify_video(tmp_path / "v.mp4", expected)
    assert check(verdict, "decode").status is CheckStatus.FAILED
    assert check(verdict, "frame_count").status is CheckStatus.FAILED
    assert check(verdict, "duration").status is CheckStatus.PASSED  # the header looks fine
    assert check(verdict, "frozen").status is CheckStatus.SKIPPED


def test_a_corrupt_frame_fails(tmp_path: Path, good: Path, expected: Expectation) -> None:
    data = bytearray(good.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 3000] = bytes(3000)
    (tmp_path / "v.mp4").write_bytes(data)
    assert check(verify_video(tmp_path / "v.mp4", expected), "decode").status is CheckStatus.FAILED


def test_a_video_without_sound_fails(tmp_path: Path, loudness: np.ndarray, expected: Expectation) -> None:
    verdict = verify_video(Head().video(tmp_path / "v.mp4", loudness, None), expected)
    assert troubles(verdict) == {"audio_stream": "failed"}
    assert check(verdict, "decode").status is CheckStatus.PASSED
    for name in ("silent_audio", "av_sync"):
        assert check(verdict, name).status is CheckStatus.SKIPPED


def test_silent_sound_fails_only_if_the_input_is_not_silent(
    tmp_path: Path, loudness: np.ndarray, expected: Expectation
) -> None:
    silence = write_wav(tmp_path / "silence.wav", np.zeros(len(loudness)))
    video = Head(mouth=0, sway=0, blinks=False).video(tmp_path / "v.mp4", loudness, silence)
    spoken = verify_video(video, expected)
    assert check(spoken, "silent_audio").status is CheckStatus.FAILED
    silent = verify_video(video, replace(expected, speech=inspect_audio(silence)))
    assert troubles(silent) == {}  # nothing to say, nothing to move


def test_sound_that_ends_early_fails(tmp_path: Path, loudness: np.ndarray, expected: Expectation) -> None:
    short = write_wav(tmp_path / "short.wav", voice(loudness[: 4 * RATE]))
    verdict = verify_video(Head().video(tmp_path / "v.mp4", loudness, short), expected)
    assert troubles(verdict) == {"audio_stream": "failed"}


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"frames": 126}, "frame_count"),
        ({"fps": 24}, "fps"),
        ({"width": 208}, "size"),
        ({"duration_s": 6.0}, "duration"),
    ],
)
def test_another_video_than_the_one_expected_fails(
    good: Path, expected: Expectation, change: dict[str, float], name: str
) -> None:
    assert check(verify_video(good, replace(expected, **change)), name).status is CheckStatus.FAILED


def test_the_encoders_enlargement_to_a_multiple_of_16_passes(good: Path, expected: Expectation) -> None:
    found = check(verify_video(good, replace(expected, width=180, height=190)), "size")
    assert found.status is CheckStatus.PASSED
    assert "multiple of 16" in str(found.detail)


def test_frames_within_the_tolerance_pass(good: Path, expected: Expectation) -> None:
    assert verify_video(good, replace(expected, frames=127, frame_tolerance=2)).ok


def test_repeated_time_stamps_do_not_change_the_count(tmp_path: Path, good: Path, expected: Expectation) -> None:
    """A variable frame rate: ffmpeg would fill the gaps up to keep the rate, and count what is not there."""
    ffmpeg("-i", good, "-vf", "select='not(between(n,40,60))'", "-fps_mode", "vfr", "-c:a", "copy", tmp_path / "v.mp4")
    assert check(verify_video(tmp_path / "v.mp4", expected), "frame_count").actual == 125 - 21


def test_what_is_no_video_fails_and_the_rest_is_skipped(tmp_path: Path, good: Path, expected: Expectation) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "nomoov.mp4").write_bytes(good.read_bytes()[:200])
    ffmpeg("-i", good, "-vn", tmp_path / "sound.mp4")
    for name, failing in (
        ("missing.mp4", "file"),
        (".", "file"),
        ("empty.mp4", "file"),
        ("text.mp4", "video_stream"),
        ("nomoov.mp4", "video_stream"),
        ("sound.mp4", "video_stream"),
    ):
        verdict = verify_video(tmp_path / name, expected)
        assert [each.name for each in verdict.checks] == NAMES
        assert [each.name for each in verdict.failures] == [failing]
        assert {each.status for each in verdict.checks[2:]} == {CheckStatus.SKIPPED}


def test_fast_leaves_out_the_decode_and_says_so(good: Path, expected: Expectation) -> None:
    verdict = verify_video(good, expected, mode="fast")
    assert verdict.ok
    left = [each for each in verdict.checks if each.status is CheckStatus.SKIPPED]
    assert [each.name for each in left] == ["decode", "black", "frozen", "silent_audio", "av_sync", "drift"]
    assert all("--verify fast" in str(each.detail) for each in left)
    assert check(verdict, "frame_count").actual == 125


def test_without_the_tools_nothing_is_passed(
    tmp_path: Path, good: Path, expected: Expectation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    verdict = verify_video(good, expected)
    assert {each.status for each in verdict.checks[1:]} == {CheckStatus.SKIPPED}
    assert all("not on PATH" in str(each.detail) for each in verdict.checks[1:])


def test_a_few_words_are_too_little_for_lip_sync(tmp_path: Path, loudness: np.ndarray, expected: Expectation) -> None:
    little = loudness.copy()
    little[2 * RATE :] = 0
    sound = write_wav(tmp_path / "a.wav", voice(little))
    verdict = verify_video(Head().video(tmp_path / "v.mp4", little, sound), expected)
    assert check(verdict, "av_sync").status is CheckStatus.SKIPPED

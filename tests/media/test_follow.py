"""A picture decoded while its file grows: the same verdicts as afterwards, or none at all."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from makers import FPS, RATE, Head, ffmpeg, voice, write_wav

from omnirt_cli.checks import CheckStatus
from omnirt_cli.media.audio import inspect_audio
from omnirt_cli.media.decode import Seen
from omnirt_cli.media.deliver import deliver
from omnirt_cli.media.follow import Follower
from omnirt_cli.media.verify import Expectation, Verification, verify_video

AHEAD = "decoded while it was made"
PIECE_BYTES = 10_000


def growing(folder: Path, head: Head, loudness: np.ndarray) -> bytes:
    """The bytes of a silent picture as it is written while a model computes."""
    silent = head.video(folder / "silent.mp4", loudness, None)
    pieces = ["-movflags", "+empty_moov+default_base_moof", "-frag_duration", "1000000"]
    ffmpeg("-i", silent, "-c", "copy", *pieces, folder / "pieces.mp4")
    return (folder / "pieces.mp4").read_bytes()


def write_slowly(place: Path, content: bytes, *, pause_s: float = 0.01) -> None:
    with place.open("ab") as file:
        for at in range(0, len(content), PIECE_BYTES):
            file.write(content[at : at + PIECE_BYTES])
            file.flush()
            time.sleep(pause_s)


def follow(place: Path, content: bytes, frames: int) -> Seen | None:
    """What is seen of a file that grows to this content."""
    place.touch()
    follower = Follower(place, fps=FPS, frames=frames)
    write_slowly(place, content)
    return follower.result(60)


def delivered(folder: Path, sound: Path, frames: int, picture: str = "picture.mp4") -> Path:
    speech = inspect_audio(sound)
    deliver(
        folder / picture,
        sound,
        frames=frames,
        fps=FPS,
        duration_s=speech.duration_s,
        cut=False,
        speech=speech,
        metadata={"comment": "made by a model"},
        destination=folder / "delivered.mp4",
    )
    return folder / "delivered.mp4"


def expectation(sound: Path, frames: int) -> Expectation:
    speech = inspect_audio(sound)
    return Expectation(
        frames=frames, fps=FPS, width=192, height=192, duration_s=frames / FPS, speech=speech, portrait_luma=120
    )


def is_ahead(verdict: Verification) -> bool:
    (found,) = [check for check in verdict.checks if check.name == "decode"]
    return found.detail == AHEAD


def without_how(verdict: Verification) -> Verification:
    """The verdict as it is whichever way the picture was decoded."""
    checks = tuple(
        check.model_copy(update={"detail": None}) if check.detail == AHEAD else check for check in verdict.checks
    )
    return replace(verdict, checks=checks)


@pytest.fixture
def pieces(tmp_path: Path, loudness: np.ndarray) -> bytes:
    return growing(tmp_path, Head(size=64), loudness[: 2 * RATE])


# --- the same verdicts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "unlike"),
    [
        (Head(), set()),
        (Head(mouth=0, sway=3), {"av_sync"}),
        (Head(late_s=0.32), {"av_sync"}),
        (Head(frozen=(2.0, None)), {"frozen"}),
        (Head(frozen=(1.0, 2.8)), {"frozen"}),
        (Head(light=0.02), {"black"}),
        (Head(mouth=2.5, crf=30), set()),
    ],
    ids=["good", "dead mouth", "late", "frozen to the end", "frozen in the middle", "black", "tiny mouth"],
)
def test_the_numbers_are_those_of_a_decode_afterwards(
    tmp_path: Path, loudness: np.ndarray, voice_wav: Path, head: Head, unlike: set[str]
) -> None:
    seen = follow(tmp_path / "picture.mp4", growing(tmp_path, head, loudness), 125)
    video, expected = delivered(tmp_path, voice_wav, 125), expectation(voice_wav, 125)
    ahead, after = verify_video(video, expected, seen=seen), verify_video(video, expected)
    assert is_ahead(ahead)
    assert not is_ahead(after)
    assert without_how(ahead) == after
    found = {check.name for check in ahead.checks if check.status in (CheckStatus.FAILED, CheckStatus.WARNED)}
    assert unlike <= found
    assert found or not unlike


def test_drift_is_the_same_where_more_frames_were_made_than_are_delivered(tmp_path: Path, loudness: np.ndarray) -> None:
    """The last looks are those of the frames that are delivered, not of those that were made."""
    twice = np.concatenate([loudness, loudness])
    sound = write_wav(tmp_path / "a.wav", voice(twice[: 9 * RATE]))
    pieces = growing(tmp_path, Head(fade_to=230, mouth=20), twice)
    seen = follow(tmp_path / "picture.mp4", pieces, 225)
    video, expected = delivered(tmp_path, sound, 225), expectation(sound, 225)
    ahead, after = verify_video(video, expected, seen=seen), verify_video(video, expected)
    assert is_ahead(ahead)
    assert without_how(ahead) == after
    (drift,) = [check for check in ahead.checks if check.name == "drift"]
    assert drift.status is CheckStatus.WARNED


@pytest.mark.parametrize("sound", ["silence.wav", "a.mp3", "a.m4a"])
def test_the_sound_is_that_of_the_delivered_file(
    tmp_path: Path, loudness: np.ndarray, voice_wav: Path, sound: str
) -> None:
    heard = tmp_path / sound
    if sound == "silence.wav":
        write_wav(heard, np.zeros(len(loudness)))
    else:
        ffmpeg("-i", voice_wav, heard)
    seen = follow(tmp_path / "picture.mp4", growing(tmp_path, Head(), loudness), 125)
    video, expected = delivered(tmp_path, heard, 125), expectation(voice_wav, 125)
    ahead, after = verify_video(video, expected, seen=seen), verify_video(video, expected)
    assert is_ahead(ahead)
    assert without_how(ahead) == after
    assert ahead.ok is (sound != "silence.wav")


# --- another file than the one that was seen ------------------------------------------------------


def test_a_file_with_another_picture_is_decoded(tmp_path: Path, loudness: np.ndarray, voice_wav: Path) -> None:
    seen = follow(tmp_path / "picture.mp4", growing(tmp_path, Head(), loudness), 125)
    (tmp_path / "black.mp4").write_bytes(growing(tmp_path, Head(light=0.02), loudness))
    video = delivered(tmp_path, voice_wav, 125, "black.mp4")
    verdict = verify_video(video, expectation(voice_wav, 125), seen=seen)
    assert not is_ahead(verdict)
    assert [check.name for check in verdict.failures] == ["black"]


def test_a_file_with_fewer_of_its_frames_is_decoded(tmp_path: Path, loudness: np.ndarray, voice_wav: Path) -> None:
    seen = follow(tmp_path / "picture.mp4", growing(tmp_path, Head(), loudness), 125)
    verdict = verify_video(delivered(tmp_path, voice_wav, 120), expectation(voice_wav, 125), seen=seen)
    assert not is_ahead(verdict)
    assert verdict.facts.num_frames == 120


@pytest.mark.parametrize("count", [1, 3000])
def test_a_file_in_which_bytes_changed_is_decoded(
    tmp_path: Path, loudness: np.ndarray, voice_wav: Path, count: int
) -> None:
    seen = follow(tmp_path / "picture.mp4", growing(tmp_path, Head(), loudness), 125)
    video = delivered(tmp_path, voice_wav, 125)
    data = bytearray(video.read_bytes())
    within = data.index(b"mdat") + 2000  # the first frame
    data[within : within + count] = bytes(255 - byte for byte in data[within : within + count])
    video.write_bytes(data)
    verdict = verify_video(video, expectation(voice_wav, 125), seen=seen)
    assert not is_ahead(verdict)
    assert count == 1 or "decode" in [check.name for check in verdict.failures]


def test_a_file_without_sound_is_decoded(tmp_path: Path, loudness: np.ndarray, voice_wav: Path) -> None:
    seen = follow(tmp_path / "picture.mp4", growing(tmp_path, Head(), loudness), 125)
    verdict = verify_video(tmp_path / "silent.mp4", expectation(voice_wav, 125), seen=seen)
    assert not is_ahead(verdict)
    assert [check.name for check in verdict.failures] == ["audio_stream"]


def test_fast_decodes_nothing_though_the_picture_was_seen(
    tmp_path: Path, loudness: np.ndarray, voice_wav: Path
) -> None:
    seen = follow(tmp_path / "picture.mp4", growing(tmp_path, Head(), loudness), 125)
    verdict = verify_video(delivered(tmp_path, voice_wav, 125), expectation(voice_wav, 125), mode="fast", seen=seen)
    (found,) = [check for check in verdict.checks if check.name == "decode"]
    assert found.status is CheckStatus.SKIPPED


# --- nothing seen ---------------------------------------------------------------------------------


def test_no_more_frames_are_seen_than_are_asked_for_and_it_ends_with_them(tmp_path: Path, pieces: bytes) -> None:
    place = tmp_path / "picture.mp4"
    place.touch()
    follower = Follower(place, fps=FPS, frames=30)
    write_slowly(place, pieces)
    follower._thread.join(60)
    assert not follower._thread.is_alive(), "it waits for the file's end"
    seen = follower.result(0)
    assert seen is not None
    assert seen.picture.count == 30


def test_a_shorter_file_is_seen_as_far_as_it_goes(tmp_path: Path, pieces: bytes) -> None:
    seen = follow(tmp_path / "picture.mp4", pieces, 999)
    assert seen is not None
    assert seen.picture.count == 50


@pytest.mark.parametrize("fault", ["cut off", "garbage", "empty", "written anew", "zeroes within"])
def test_a_broken_file_gives_nothing(tmp_path: Path, pieces: bytes, fault: str) -> None:
    middle = len(pieces) // 2
    content = {
        "cut off": pieces[: middle + 100],
        "garbage": os.urandom(50_000),
        "empty": b"",
        "written anew": pieces[: middle - 100] + pieces,
        "zeroes within": pieces[:middle] + bytes(2000) + pieces[middle + 2000 :],
    }[fault]
    assert follow(tmp_path / "picture.mp4", content, 50) is None


def test_a_file_that_is_not_there_gives_nothing(tmp_path: Path) -> None:
    assert Follower(tmp_path / "missing.mp4", fps=FPS, frames=50).result(30) is None


def test_without_ffmpeg_nothing_is_seen(tmp_path: Path, pieces: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert follow(tmp_path / "picture.mp4", pieces, 50) is None


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """A Python program in ffmpeg's place."""
    place = folder / "bin" / "ffmpeg"
    place.parent.mkdir()
    place.write_text(
        f"#!{sys.executable}\nimport os, pathlib, sys, time\nhere = pathlib.Path({str(folder)!r})\n{program}"
    )
    place.chmod(0o755)
    monkeypatch.setenv("PATH", str(place.parent))


def number_in(place: Path) -> int:
    deadline = time.monotonic() + 30
    while not (place.is_file() and place.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(place.read_text())


def ended(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_decode_that_hangs_is_given_up_and_ended(
    tmp_path: Path, pieces: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "(here / 'pid').write_text(str(os.getpid()))\ntime.sleep(600)")
    (tmp_path / "picture.mp4").write_bytes(pieces)
    follower = Follower(tmp_path / "picture.mp4", fps=FPS, frames=50)
    pid = number_in(tmp_path / "pid")
    began = time.monotonic()
    assert follower.result(0.2) is None
    assert time.monotonic() - began < 3
    assert ended(pid)


def test_stopped_it_leaves_nothing_behind_and_knows_nothing(
    tmp_path: Path, pieces: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "(here / 'pid').write_text(str(os.getpid()))\ntime.sleep(600)")
    (tmp_path / "picture.mp4").write_bytes(pieces)
    follower = Follower(tmp_path / "picture.mp4", fps=FPS, frames=50)
    pid = number_in(tmp_path / "pid")
    follower.stop()
    assert ended(pid)
    assert not follower._thread.is_alive()
    assert follower.result(0) is None


def test_it_gives_way_to_what_makes_the_picture(tmp_path: Path, pieces: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path, monkeypatch, "(here / 'nice').write_text(str(os.nice(0)))")
    (tmp_path / "picture.mp4").write_bytes(pieces)
    before = os.nice(0)
    Follower(tmp_path / "picture.mp4", fps=FPS, frames=50).result(30)
    assert number_in(tmp_path / "nice") > before
    assert os.nice(0) == before

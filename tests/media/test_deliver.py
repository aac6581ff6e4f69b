from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from makers import FPS, RATE, Head, ffmpeg, write_wav

from omnirt_cli.errors import IOFailureError, OutputInvalidError
from omnirt_cli.media.audio import inspect_audio
from omnirt_cli.media.deliver import DeliveryFacts, ReadySound, deliver, encode_sound

SECONDS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deliver")


@pytest.fixture(scope="module")
def picture(folder: Path, loudness: np.ndarray) -> Path:
    return Head(size=64).video(folder / "silent.mp4", loudness, None)


@pytest.fixture(scope="module")
def clicks(folder: Path) -> Path:
    """A click of 4 ms in the middle of each second."""
    rate = 44100
    samples = np.zeros(SECONDS * rate)
    for second in range(SECONDS):
        at = int((second + 0.5) * rate)
        samples[at : at + 176] = 0.9 * np.sin(np.arange(176) * 0.28)
    return write_wav(folder / "clicks.wav", np.stack([samples, samples], axis=1), rate)


def deliver_to(
    destination: Path,
    picture: Path,
    audio: Path,
    *,
    frames: int = SECONDS * FPS,
    cut: bool = False,
    ready: ReadySound | None = None,
    is_gone: bool = False,
) -> DeliveryFacts:
    speech = inspect_audio(audio)
    return deliver(
        picture,
        audio.with_name("gone") if is_gone else audio,
        frames=frames,
        fps=FPS,
        duration_s=speech.duration_s,
        cut=cut,
        speech=speech,
        metadata={"comment": "made by a model; a=b\nsecond line", "omnirt_seed": "9999"},
        destination=destination,
        ready=ready,
    )


def encode_to(destination: Path, audio: Path, *, frames: int = SECONDS * FPS, cut: bool = False) -> ReadySound | None:
    speech = inspect_audio(audio)
    return encode_sound(
        audio,
        frames=frames,
        fps=FPS,
        duration_s=speech.duration_s,
        cut=cut,
        speech=speech,
        destination=destination,
    )


def packets(path: Path) -> str:
    """Times, lengths and sums of every packet, and the settings of both decoders."""
    argv = ["ffmpeg", "-v", "error", "-i", f"file:{path}", "-map", 0, "-c", "copy", "-f", "framehash", "-"]
    return subprocess.run([*map(str, argv)], capture_output=True, check=True, text=True).stdout


def probe(path: Path) -> dict[str, dict]:
    argv = ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-show_format", "-show_chapters", "-of", "json"]
    found = json.loads(subprocess.run([*argv, f"file:{path}"], capture_output=True, check=True).stdout)
    return {**{s["codec_type"]: s for s in found["streams"]}, "format": found["format"], "all": found}


def click_times(path: Path) -> list[float]:
    argv = ["ffmpeg", "-v", "error", "-i", f"file:{path}", "-map", "0:a:0", "-af", "aresample=48000:first_pts=0"]
    raw = subprocess.run([*argv, "-ac", "1", "-f", "f32le", "-"], capture_output=True, check=True).stdout
    loud = np.abs(np.frombuffer(raw, "<f4"))
    times = np.flatnonzero(loud > 0.25 * loud.max()) / 48000
    return [float(t) for t, before in zip(times, [-1.0, *times[:-1]], strict=True) if t - before > 0.2]


@pytest.mark.parametrize(
    ("name", "encoder", "copied"),
    [
        ("a.wav", "pcm_s16le", False),
        ("a.flac", "flac", False),
        ("a.opus", "libopus", False),
        ("a.mp3", "libmp3lame", True),
        ("a.m4a", "aac", True),
        ("b.m4a", "alac", True),
        ("a.aac", "aac", True),
        ("a.ac3", "ac3", True),
        ("a.mkv", "aac", True),
    ],
)
@pytest.mark.parametrize("seconds", [SECONDS, 2])
def test_the_sound_is_not_shifted_and_the_picture_is_counted(
    tmp_path: Path, picture: Path, clicks: Path, name: str, encoder: str, copied: bool, seconds: int
) -> None:
    ffmpeg("-i", clicks, "-c:a", encoder, tmp_path / name)
    facts = deliver_to(tmp_path / "out.mp4", picture, tmp_path / name, frames=seconds * FPS, cut=seconds < SECONDS)
    found = probe(tmp_path / "out.mp4")
    assert facts.audio_copied is copied
    assert facts.frames == int(found["video"]["nb_read_frames"]) == seconds * FPS
    assert facts.audio_codec == found["audio"]["codec_name"]
    assert (found["audio"]["sample_rate"], found["audio"]["channels"]) == (
        ("48000" if encoder == "libopus" else "44100"),
        2,
    )
    before, after = click_times(tmp_path / name), click_times(tmp_path / "out.mp4")
    assert len(after) == seconds
    assert after == pytest.approx(before[:seconds], abs=0.001)
    assert float(found["audio"]["duration"]) == pytest.approx(seconds, abs=0.1)  # one packet


def test_whole_sound_survives_a_picture_that_goes_on(tmp_path: Path, picture: Path, clicks: Path) -> None:
    """The script's picture is 125 frames; the 100 asked for hold all of the sound."""
    deliver_to(tmp_path / "out.mp4", picture, clicks)
    found = probe(tmp_path / "out.mp4")
    assert float(found["audio"]["duration"]) == pytest.approx(SECONDS, abs=0.001)


def test_a_picture_with_b_frames_is_counted_too(tmp_path: Path, loudness: np.ndarray, clicks: Path) -> None:
    picture = Head(size=64, extra=("-bf", "3")).video(tmp_path / "b.mp4", loudness, None)
    facts = deliver_to(tmp_path / "out.mp4", picture, clicks)
    assert facts.frames == int(probe(tmp_path / "out.mp4")["video"]["nb_read_frames"]) == SECONDS * FPS


def test_the_scripts_own_sound_is_replaced(tmp_path: Path, loudness: np.ndarray, voice_wav: Path, clicks: Path) -> None:
    muxed = Head(size=64).video(tmp_path / "muxed.mp4", loudness, voice_wav)
    deliver_to(tmp_path / "out.mp4", muxed, clicks)
    assert len(click_times(tmp_path / "out.mp4")) == SECONDS
    assert len(probe(tmp_path / "out.mp4")["all"]["streams"]) == 2


def test_the_file_says_what_it_is_and_nothing_of_the_users_tags(tmp_path: Path, picture: Path, clicks: Path) -> None:
    secret = ["-metadata", "title=secret", "-metadata:s:a", "title=secret", "-metadata", "location=+1+2/"]
    Head(size=64).video(tmp_path / "cover.mp4", np.zeros(RATE // 25), None)
    (tmp_path / "chapters").write_text(";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=secret\n")
    ffmpeg("-i", clicks, "-i", tmp_path / "chapters", "-map_chapters", 1, *secret, "-c:a", "aac", tmp_path / "a.m4a")
    deliver_to(tmp_path / "out.mp4", picture, tmp_path / "a.m4a")
    found = probe(tmp_path / "out.mp4")
    assert found["format"]["tags"]["omnirt_seed"] == "9999"
    assert found["format"]["tags"]["comment"] == "made by a model; a=b\nsecond line"
    assert found["all"]["chapters"] == []
    assert b"secret" not in (tmp_path / "out.mp4").read_bytes()


def test_a_cover_picture_in_the_sound_is_left_out(tmp_path: Path, picture: Path, clicks: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", 1, tmp_path / "cover.png")
    cover = ["-map", 0, "-map", 1, "-c:v", "copy", "-disposition:v", "attached_pic"]
    ffmpeg("-i", clicks, "-i", tmp_path / "cover.png", *cover, tmp_path / "a.mp3")
    deliver_to(tmp_path / "out.mp4", picture, tmp_path / "a.mp3")
    assert [s["codec_name"] for s in probe(tmp_path / "out.mp4")["all"]["streams"]] == ["h264", "mp3"]


def test_the_file_plays_from_its_first_byte(tmp_path: Path, picture: Path, clicks: Path) -> None:
    deliver_to(tmp_path / "out.mp4", picture, clicks)
    data = (tmp_path / "out.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_hostile_names_are_only_names(tmp_path: Path, picture: Path, clicks: Path) -> None:
    folder = tmp_path / "http:%03d\nres_.mp4"
    folder.mkdir()
    for source, name in ((picture, "-y.mp4"), (clicks, "concat:a|b.wav")):
        (folder / name).write_bytes(source.read_bytes())
    facts = deliver_to(folder / "-o:ü'\".partial", folder / "-y.mp4", folder / "concat:a|b.wav")
    assert facts.frames == SECONDS * FPS


def test_many_channels_and_high_rates_find_a_way(tmp_path: Path, picture: Path) -> None:
    tone = 0.1 * np.sin(np.arange(192_000) / 40)
    for columns, rate in ((8, 192_000), (3, 8000)):
        audio = write_wav(tmp_path / "a.wav", np.stack([tone[: 2 * rate]] * columns, axis=1), rate)
        facts = deliver_to(tmp_path / "out.mp4", picture, audio, frames=2 * FPS)
        assert facts.audio_codec == "aac"


def test_a_codec_that_mp4_refuses_is_encoded(tmp_path: Path, picture: Path, clicks: Path) -> None:
    """MP4 takes no MP3 under 16 kHz."""
    ffmpeg("-i", clicks, "-ar", 8000, tmp_path / "a.mp3")
    assert deliver_to(tmp_path / "out.mp4", picture, tmp_path / "a.mp3").audio_codec == "aac"


def test_a_picture_that_is_none_is_an_invalid_output(tmp_path: Path, clicks: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"")
    with pytest.raises(OutputInvalidError, match=r"bad\.mp4"):
        deliver_to(tmp_path / "out.mp4", tmp_path / "bad.mp4", clicks)


def test_a_full_disk_is_an_io_error(
    tmp_path: Path, picture: Path, clicks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for ffmpeg says what the real one says when write(2) fails with ENOSPC."""
    speech = inspect_audio(clicks)
    tool = tmp_path / "bin" / "ffmpeg"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho 'av_interleaved_write_frame(): No space left on device' >&2\nexit 228\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent), prepend=":")
    with pytest.raises(IOFailureError, match="No space left"):
        deliver(
            picture,
            clicks,
            frames=10,
            fps=FPS,
            duration_s=4,
            cut=False,
            speech=replace(speech),
            metadata={},
            destination=tmp_path / "out.mp4",
        )


# --- a sound that was encoded beforehand ----------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.opus"])
@pytest.mark.parametrize("seconds", [SECONDS, 2])
def test_a_sound_that_was_encoded_before_gives_the_same_packets(
    tmp_path: Path, picture: Path, clicks: Path, name: str, seconds: int
) -> None:
    ffmpeg("-i", clicks, tmp_path / name)
    frames, cut = seconds * FPS, seconds < SECONDS
    ready = encode_to(tmp_path / "ready.m4a", tmp_path / name, frames=frames, cut=cut)
    assert ready is not None
    facts = deliver_to(tmp_path / "now.mp4", picture, tmp_path / name, frames=frames, cut=cut)
    before = deliver_to(
        tmp_path / "before.mp4", picture, tmp_path / name, frames=frames, cut=cut, ready=ready, is_gone=True
    )
    assert before == facts
    assert packets(tmp_path / "before.mp4") == packets(tmp_path / "now.mp4")
    was, found = probe(tmp_path / "now.mp4"), probe(tmp_path / "before.mp4")
    assert found["format"]["tags"] == was["format"]["tags"]
    assert found["audio"] == was["audio"]


def test_a_sound_that_is_copied_is_not_encoded(tmp_path: Path, clicks: Path) -> None:
    ffmpeg("-i", clicks, tmp_path / "a.mp3")
    assert encode_to(tmp_path / "ready.m4a", tmp_path / "a.mp3") is None
    assert not (tmp_path / "ready.m4a").exists()


def test_a_sound_that_was_encoded_for_another_length_is_not_used(tmp_path: Path, picture: Path, clicks: Path) -> None:
    ready = encode_to(tmp_path / "ready.m4a", clicks, frames=FPS, cut=True)
    deliver_to(tmp_path / "out.mp4", picture, clicks, ready=ready)
    assert len(click_times(tmp_path / "out.mp4")) == SECONDS


def test_an_encoded_sound_that_was_lost_is_encoded_again(tmp_path: Path, picture: Path, clicks: Path) -> None:
    ready = encode_to(tmp_path / "ready.m4a", clicks)
    (tmp_path / "ready.m4a").write_bytes(b"lost")
    facts = deliver_to(tmp_path / "out.mp4", picture, clicks, ready=ready)
    assert facts.audio_codec == "aac"
    assert len(click_times(tmp_path / "out.mp4")) == SECONDS


def test_a_sound_that_cannot_be_encoded_is_none(tmp_path: Path, clicks: Path) -> None:
    (tmp_path / "folder.m4a").mkdir()
    assert encode_to(tmp_path / "folder.m4a", clicks) is None

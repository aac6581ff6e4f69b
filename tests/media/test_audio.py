from __future__ import annotations

import os
import random
import struct
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
from makers import RATE, ffmpeg, write_wav

from omnirt_cli.errors import InputInvalidError, InputMissingError, IOFailureError
from omnirt_cli.media.audio import Speech, inspect_audio, write_prepared
from omnirt_cli.models.base import AudioForm, AudioPlan


def plan(form: AudioForm, total: int, *, lead: int = 0, spoken: int = 0, cut: bool = False) -> AudioPlan:
    return AudioPlan(
        form=form,
        lead_samples=lead,
        total_samples=total,
        chunks=1,
        generated_frames=1,
        frames=1,
        speech_samples=spoken,
        cut=cut,
    )


def samples_of(speech: Speech) -> np.ndarray:
    return np.frombuffer(b"".join(speech.pcm.blocks()), "<i2")


def read_wav(path: Path) -> np.ndarray:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_a_wav_is_told_exactly(speech: Speech, voice_wav: Path) -> None:
    assert (speech.container, speech.codec, speech.sample_rate, speech.channels) == ("wav", "pcm_s16le", RATE, 1)
    assert speech.samples == 5 * RATE
    assert speech.duration_s == 5.0
    assert not speech.silent
    assert speech.warnings == ()
    with wave.open(str(voice_wav)) as file:
        assert b"".join(speech.pcm.blocks()) == file.readframes(file.getnframes())


@pytest.mark.parametrize(
    ("name", "codec", "encoder"),
    [
        ("a.mp3", "mp3", "libmp3lame"),
        ("a.m4a", "aac", "aac"),
        ("a.flac", "flac", "flac"),
        ("a.ogg", "vorbis", "libvorbis"),
        ("a.opus", "opus", "libopus"),
        ("a.mkv", "pcm_s24le", "pcm_s24le"),
        ("a.caf", "alac", "alac"),
    ],
)
def test_common_formats_have_the_length_of_what_was_said(
    tmp_path: Path, voice_wav: Path, name: str, codec: str, encoder: str
) -> None:
    ffmpeg("-i", voice_wav, "-ar", 48000, "-ac", 2, "-c:a", encoder, tmp_path / name)
    found = inspect_audio(tmp_path / name)
    assert (found.codec, found.sample_rate, found.channels) == (codec, 48000, 2)
    assert found.samples == 5 * RATE


def test_eight_channels_are_fine(tmp_path: Path) -> None:
    tone = 0.1 * np.sin(np.arange(48000) / 9)
    found = inspect_audio(write_wav(tmp_path / "a.wav", np.stack([tone] * 8, axis=1), 48000))
    assert (found.channels, found.samples, found.silent) == (8, RATE, False)


def test_a_tenth_of_a_second_is_enough(tmp_path: Path) -> None:
    assert inspect_audio(write_wav(tmp_path / "a.wav", 0.1 * np.ones(1600))).samples == 1600


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_a_streamed_wav_whose_header_lies_is_read_to_its_end(tmp_path: Path, voice_wav: Path, size: int) -> None:
    data = voice_wav.read_bytes()
    at = data.index(b"data") + 4
    (tmp_path / "a.wav").write_bytes(data[:at] + struct.pack("<I", size) + data[at + 4 :])
    assert inspect_audio(tmp_path / "a.wav").samples == 5 * RATE


def test_hostile_file_names_are_only_names(tmp_path: Path, voice_wav: Path) -> None:
    folder = tmp_path / "http:%d res_.mp4"
    folder.mkdir()
    for name in ("-i.wav", "a:b.wav", "new\nline.wav", "q'uo\"te.wav", "concat:a|b.wav", "ü %03d.wav", "v" * 200):
        (folder / name).write_bytes(voice_wav.read_bytes())
        assert inspect_audio(folder / name).samples == 5 * RATE


def test_silence_is_usable_but_warned_of(tmp_path: Path) -> None:
    found = inspect_audio(write_wav(tmp_path / "a.wav", np.zeros(RATE)))
    assert found.silent
    assert "silent" in found.warnings[0]
    assert found.facts()["peak_dbfs"] is None


def test_missing_audio_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        inspect_audio(tmp_path / "no.wav")


def bad_files(folder: Path, good: Path) -> dict[str, bytes]:
    data = good.read_bytes()
    at = data.index(b"data") + 4
    ffmpeg("-f", "lavfi", "-i", "testsrc=d=1:s=64x64", folder / "video.mp4")
    ffmpeg("-i", good, "-movflags", "+faststart", folder / "whole.m4a")
    ffmpeg("-i", good, folder / "whole.flac")
    floats = np.zeros(RATE, "<f4")
    floats[500] = np.nan
    head = struct.pack("<IHHIIHH", 16, 3, 1, RATE, 4 * RATE, 4, 32)
    body = b"WAVEfmt " + head + b"data" + struct.pack("<I", floats.nbytes) + floats.tobytes()
    m4a, flac = (folder / "whole.m4a").read_bytes(), (folder / "whole.flac").read_bytes()
    return {
        "not a sound file": b"this is text, whatever its name says\n" * 50,
        "not a sound file that": random.Random(1).randbytes(200_000),
        "no samples": data[:at] + struct.pack("<I", 0),
        "no audio stream": (folder / "video.mp4").read_bytes(),
        "cut off or damaged": m4a[: len(m4a) // 2],
        "cut off or": flac[: len(flac) // 2],
        "not numbers": b"RIFF" + struct.pack("<I", len(body)) + body,
    }


def test_what_cannot_drive_a_model_is_refused_with_its_reason(tmp_path: Path, voice_wav: Path) -> None:
    for reason, data in bad_files(tmp_path, voice_wav).items():
        (tmp_path / "bad.wav").write_bytes(data)
        with pytest.raises(InputInvalidError, match=reason) as caught:
            inspect_audio(tmp_path / "bad.wav")
        assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile {canary}\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{canary}\n#EXT-X-ENDLIST\n",
        "[playlist]\nFile1={canary}\nNumberOfEntries=1\n",
        "v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\na=control:{canary}\n",
    ],
)
def test_a_playlist_under_another_name_opens_nothing(tmp_path: Path, voice_wav: Path, text: str) -> None:
    """The named file is a FIFO: whoever opens it for reading lets the writer's open return."""
    canary = tmp_path / "canary.wav"
    os.mkfifo(canary)
    opened = threading.Event()

    def write() -> None:
        with canary.open("wb"):
            opened.set()

    writer = threading.Thread(target=write)
    writer.start()
    (tmp_path / "list.wav").write_text(text.format(canary=canary))
    with pytest.raises(InputInvalidError):
        inspect_audio(tmp_path / "list.wav")
    assert not opened.is_set()
    canary.open("rb").close()
    writer.join(10)


def test_over_long_audio_is_refused_whatever_its_header_says(tmp_path: Path, voice_wav: Path) -> None:
    with pytest.raises(InputInvalidError, match=r"longer than 4 s"):
        inspect_audio(voice_wav, max_duration_s=4)
    ffmpeg("-i", voice_wav, "-write_xing", 0, "-id3v2_version", 0, tmp_path / "a.mp3")
    with pytest.raises(InputInvalidError, match=r"longer than 4 s"):
        inspect_audio(tmp_path / "a.mp3", max_duration_s=4)
    assert inspect_audio(voice_wav, max_duration_s=5).samples == 5 * RATE


def test_a_small_fault_inside_is_a_warning(tmp_path: Path, voice_wav: Path) -> None:
    ffmpeg("-i", voice_wav, "-b:a", "64k", tmp_path / "a.mp3")
    data = bytearray((tmp_path / "a.mp3").read_bytes())
    data[20_000:20_600] = bytes(600)
    (tmp_path / "a.mp3").write_bytes(data)
    found = inspect_audio(tmp_path / "a.mp3")
    assert "faults inside" in found.warnings[0]


def test_the_prepared_wav_is_silence_speech_silence(tmp_path: Path, speech: Speech) -> None:
    write_prepared(speech, plan(AudioForm.WAV, 100_000, lead=3200), tmp_path / "out.wav")
    found = read_wav(tmp_path / "out.wav")
    assert len(found) == 100_000
    assert not found[:3200].any()
    assert (found[3200 : 3200 + speech.samples] == samples_of(speech)).all()
    assert not found[3200 + speech.samples :].any()


def test_the_prepared_wav_ends_speech_where_the_plan_cuts_it(tmp_path: Path, speech: Speech) -> None:
    write_prepared(speech, plan(AudioForm.WAV, 40_000, spoken=30_000, cut=True), tmp_path / "out.wav")
    found = read_wav(tmp_path / "out.wav")
    assert len(found) == 40_000
    assert (found[:30_000] == samples_of(speech)[:30_000]).all()
    assert not found[30_000:].any()


@pytest.mark.parametrize("total", [80_000, 80_001, 81_919, 90_000])
def test_the_prepared_m4a_gives_back_every_sample_and_little_more(tmp_path: Path, speech: Speech, total: int) -> None:
    write_prepared(speech, plan(AudioForm.M4A, total), tmp_path / "out.m4a")
    back = inspect_audio(tmp_path / "out.m4a")
    assert back.codec == "aac"
    assert abs(back.samples - total) <= RATE // 1000  # the edit list counts milliseconds
    raw = tmp_path / "raw"
    ffmpeg("-i", tmp_path / "out.m4a", "-f", "s16le", raw)  # as audioread's ffmpeg does for librosa
    assert total <= raw.stat().st_size // 2 < total + 1600
    ours, theirs = samples_of(speech).astype(float), samples_of(back).astype(float)
    assert np.corrcoef(ours, theirs[: len(ours)])[0, 1] > 0.9


def test_prepared_audio_that_cannot_be_written_is_an_io_error(tmp_path: Path, speech: Speech) -> None:
    for form in AudioForm:
        with pytest.raises(IOFailureError, match="cannot be written"):
            write_prepared(speech, plan(form, 90_000), tmp_path / "no" / "out")


def test_pcm_above_the_memory_limit_is_read_back_the_same(
    monkeypatch: pytest.MonkeyPatch, voice_wav: Path, speech: Speech
) -> None:
    monkeypatch.setattr("omnirt_cli.media.audio._IN_MEMORY", 1000)
    again = inspect_audio(voice_wav)
    assert (samples_of(again) == samples_of(speech)).all()
    assert b"".join(again.pcm.blocks(1000, 10)) == samples_of(speech)[1000:1010].tobytes()

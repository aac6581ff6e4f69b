"""The user's files change while a run goes on: what was inspected is what is heard, hashed and reported, or nothing."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.omnirt_cli_runs import ASSETS, Finished, finish, generate_args, log_has, omnirt, start, wait_for

SLOW = {"MINIATURE_LOAD_S": "2"}
SPEECH = ASSETS / "speech.wav"


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return Path(shutil.copy(SPEECH, tmp_path / "speech.wav"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system, where no link can come from."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second file system to write to")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def write_silence(path: Path) -> None:
    """As long as the speech, so that nothing but its sound tells it apart."""
    length = ["-i", str(SPEECH), "-af", "volume=0"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *length, str(path)], check=True, stdin=subprocess.DEVNULL)


def loudness_db(video: Path) -> float:
    measure = ["ffmpeg", "-nostdin", "-i", str(video), "-vn", "-af", "volumedetect", "-f", "null", "-"]
    said = subprocess.run(measure, check=True, capture_output=True, text=True).stderr
    found = re.search(r"mean_volume: (-?[\d.]+) dB", said)
    assert found, said
    return float(found[1])


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Going:
    """A run whose model is loading."""

    def __init__(self, output: Path, *more: str, audio: Path, image: Path | None = None) -> None:
        args = generate_args(output, "--json", "--progress", "never", *more, audio=audio, image=image)
        self.process = start(*args, env=SLOW)
        wait_for(lambda: log_has(output, "Creating WanModel"), what="the loading model")

    def end(self) -> Finished:
        return finish(self.process, timeout=90)


@pytest.mark.parametrize("executor", ["script", "driver"])
def test_a_recording_that_is_replaced_is_heard_and_reported_as_it_was(
    executor: str, recording: Path, tmp_path: Path
) -> None:
    going = Going(tmp_path / "v.mp4", "--executor", executor, audio=recording)
    write_silence(tmp_path / "silence.wav")
    (tmp_path / "silence.wav").replace(recording)
    done = going.end()

    assert done.code == 0, done.stderr
    assert loudness_db(tmp_path / "v.mp4") == pytest.approx(loudness_db(SPEECH), abs=1.0)
    assert done.report["inputs"]["audio"]["sha256"] == sha256(SPEECH)
    assert done.report["inputs"]["audio"]["path"] == str(recording)


def test_inputs_that_are_deleted_are_not_missed(recording: Path, tmp_path: Path) -> None:
    portrait = Path(shutil.copy(ASSETS / "portrait.png", tmp_path / "portrait.png"))

    going = Going(tmp_path / "v.mp4", audio=recording, image=portrait)
    recording.unlink()
    portrait.unlink()
    done = going.end()

    assert done.code == 0, done.stderr
    assert done.report["inputs"]["audio"]["sha256"] == sha256(SPEECH)
    assert done.report["inputs"]["image"]["sha256"] == sha256(ASSETS / "portrait.png")


def test_a_recording_on_another_file_system_is_copied(elsewhere: Path, tmp_path: Path) -> None:
    recording = Path(shutil.copy(SPEECH, elsewhere / "speech.wav"))

    going = Going(tmp_path / "v.mp4", audio=recording)
    write_silence(recording)
    done = going.end()

    assert done.code == 0, done.stderr
    assert loudness_db(tmp_path / "v.mp4") == pytest.approx(loudness_db(SPEECH), abs=1.0)
    assert done.report["inputs"]["audio"]["sha256"] == sha256(SPEECH)


def test_a_kept_directory_leaves_no_video_that_is_called_failed(recording: Path, tmp_path: Path) -> None:
    done = omnirt(*generate_args(tmp_path / "v.mp4", "--json", "--max-chunks", "1", "--keep-scratch", audio=recording))

    assert done.code == 0, done.stderr
    assert done.report["kept"] == []
    assert Path(done.report["scratch_dir"], "speech.wav").exists()
    assert not (tmp_path / "v.failed.mp4").exists()


def test_a_recording_that_is_rewritten_in_place_fails_by_name(recording: Path, tmp_path: Path) -> None:
    going = Going(tmp_path / "v.mp4", audio=recording)
    with recording.open("r+b") as file:
        file.seek(2000)
        file.write(bytes(4000))
    done = going.end()

    assert done.code == 65, done.stderr
    message = done.report["error"]["message"]
    assert message == f"the recording changed while the run went on: {recording}"
    assert not (tmp_path / "v.mp4").exists()
    assert done.report["kept"] == [str(tmp_path / "v.failed.mp4")]

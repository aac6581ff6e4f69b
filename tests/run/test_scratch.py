"""The private working directory: kept pictures, and what abandoned ones leave."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from omnirt_cli.errors import InputInvalidError
from omnirt_cli.media.files import FileStamp
from omnirt_cli.report import RunReport, RunStatus
from omnirt_cli.run.scratch import ABANDONED_AFTER_S, Scratch, complete_interrupted


def _report(folder: Path, scratch: Path, status: RunStatus = RunStatus.RUNNING) -> Path:
    path = folder / "v.report.json"
    report = RunReport(run_id="r", status=status, started_at="2026-01-01T00:00:00.000Z", scratch_dir=str(scratch))
    path.write_text(report.model_dump_json())
    return path


def _abandoned(tmp_path: Path, *, age_s: float = 0.0, status: RunStatus = RunStatus.RUNNING) -> tuple[Path, Path]:
    """A directory whose run ended without a word."""
    place = tmp_path / ".omnirt-r"
    report = _report(tmp_path, place, status)
    scratch = Scratch.create(place, report)
    (place / ".picture.mp4").write_bytes(b"frames")
    scratch.close(remove=False)
    then = time.time() - age_s
    os.utime(place, (then, then))
    return place, report


def test_a_file_that_can_be_neither_linked_nor_copied_is_watched_under_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("protected_hardlinks")

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=20))
    scratch, (sound, picture) = Scratch.create(tmp_path / "s", tmp_path / "v.report.json"), _inputs(tmp_path)

    scratch.hold_inputs(picture, sound, FileStamp.of(sound))

    held = scratch.recording
    assert held is not None
    assert held.path == sound
    held.refuse_changed("recording")
    sound.unlink()
    with pytest.raises(InputInvalidError, match=r"the recording changed while the run went on: .*sound\.wav"):
        held.refuse_changed("recording")


def test_a_recording_that_changed_since_its_inspection_is_refused(tmp_path: Path) -> None:
    scratch, (sound, picture) = Scratch.create(tmp_path / "s", tmp_path / "v.report.json"), _inputs(tmp_path)
    inspected = FileStamp.of(sound)
    sound.write_bytes(b"another sound")

    with pytest.raises(InputInvalidError, match="changed"):
        scratch.hold_inputs(picture, sound, inspected)


def _inputs(folder: Path) -> tuple[Path, Path]:
    sound, picture = folder / "sound.wav", folder / "face.png"
    sound.write_bytes(b"a sound")
    picture.write_bytes(b"a picture")
    return sound, picture


def test_the_picture_outlives_a_save_routine_that_truncates_writes_and_deletes_it(tmp_path: Path) -> None:
    scratch = Scratch.create(tmp_path / "s", tmp_path / "v.report.json")
    scratch.keep_picture_of("result_tmp.mp4")

    (scratch.path / "result_tmp.mp4").write_bytes(b"frames")
    (scratch.path / "result_tmp.mp4").unlink()

    assert scratch.picture.read_bytes() == b"frames"
    scratch.close(remove=True)
    assert not scratch.path.exists()


def test_the_report_of_an_abandoned_run_becomes_interrupted(tmp_path: Path) -> None:
    place, report = _abandoned(tmp_path)

    assert complete_interrupted(tmp_path) == [report]
    document = json.loads(report.read_text())
    assert document["status"] == "interrupted"
    assert document["error"]["exit_code"] == 137
    assert place.exists(), "it is young: somebody may want to look at it"


def test_a_living_run_is_left_alone(tmp_path: Path) -> None:
    place = tmp_path / ".omnirt-r"
    report = _report(tmp_path, place)
    scratch = Scratch.create(place, report)

    assert complete_interrupted(tmp_path) == []
    assert json.loads(report.read_text())["status"] == "running"
    scratch.close(remove=True)


def test_an_old_abandoned_directory_goes_and_its_video_stays(tmp_path: Path) -> None:
    place, _ = _abandoned(tmp_path, age_s=ABANDONED_AFTER_S + 60)

    complete_interrupted(tmp_path)

    assert not place.exists()
    assert (tmp_path / "omnirt-r.partial.mp4").read_bytes() == b"frames"


@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.FAILED])
def test_a_report_that_is_complete_stays_as_it_is(status: RunStatus, tmp_path: Path) -> None:
    _, report = _abandoned(tmp_path, status=status)

    assert complete_interrupted(tmp_path) == []
    assert json.loads(report.read_text())["status"] == status.value


def test_strangers_files_are_not_taken_for_scratch(tmp_path: Path) -> None:
    (tmp_path / ".omnirt-file").write_text("x")
    (tmp_path / ".omnirt-empty").mkdir()
    (tmp_path / ".omnirt-link").symlink_to(tmp_path / ".omnirt-empty")

    assert complete_interrupted(tmp_path) == []
    assert complete_interrupted(tmp_path / "none") == []
    assert (tmp_path / ".omnirt-empty").exists()

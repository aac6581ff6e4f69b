"""The save routines lose output exactly as the real ones do."""

import miniature_runs as runs
import pytest

LOST = "exit 0 and no file"


@pytest.fixture
def speech(tmp_path):
    return runs.tone(tmp_path / "speech.wav", 1.5)


def test_old_deletes_an_output_whose_name_lacks_res(tmp_path, speech):
    cwd = runs.work_dir(tmp_path, "flashtalk_old")
    ended = runs.run("flashtalk_old", cwd, runs.as_m4a(speech), save_file="out.mp4")
    assert ended.returncode == 0
    assert "Finished." in ended.stderr
    assert not ended.video.exists(), LOST


def test_old_cannot_copy_wav_into_mp4(tmp_path, speech):
    """Before ffmpeg 7 a stream copy of PCM leaves an empty file; since then it is PCM in MP4."""
    ended = runs.run("flashtalk_old", runs.work_dir(tmp_path, "flashtalk_old"), speech)
    assert ended.returncode == 0
    assert "Finished." in ended.stderr
    assert not (ended.video.parent / "out.mp4").exists(), "the silent video is removed all the same"
    assert ended.video.stat().st_size == 0 or runs.streams(ended.video)["audio"]["codec_name"].startswith("pcm_")


def test_new_leaves_the_silent_video_under_a_name_without_res(tmp_path, speech):
    ended = runs.run("flashtalk_new", runs.work_dir(tmp_path, "flashtalk_new"), speech, save_file="out.mp4")
    assert ended.returncode == 1
    assert "subprocess.CalledProcessError" in ended.stderr
    assert set(runs.streams(ended.video)) == {"video"}


def test_res_is_stripped_from_directories_too(tmp_path, speech):
    cwd = runs.work_dir(tmp_path, "flashtalk_new")
    (cwd / "res_dir").mkdir()
    ended = runs.run("flashtalk_new", cwd, speech, save_file="res_dir/res_out.mp4")
    assert ended.returncode == 1
    assert "FileNotFoundError" in ended.stderr


@pytest.mark.parametrize("suffix", [".MP4", ".mkv"])
def test_flashhead_deletes_an_output_of_another_suffix(tmp_path, speech, suffix):
    ended = runs.run("flashhead", runs.work_dir(tmp_path, "flashhead"), speech, save_file=f"out{suffix}")
    assert ended.returncode == 0
    assert "Finished." in ended.stderr
    assert not ended.video.exists(), LOST


def test_flashhead_ignores_a_failed_mux(tmp_path, speech):
    cwd = runs.work_dir(tmp_path, "flashhead")
    ended = runs.run("flashhead", cwd, speech, save_file="out.mp4", env={"MINIATURE_FAULT": "mux_fail"})
    assert ended.returncode == 0
    assert "Finished." in ended.stderr
    assert not list(cwd.glob("*.mp4")) or ended.video.stat().st_size == 0


def test_flashtalk_prints_a_path_that_does_not_exist(tmp_path, speech):
    ended = runs.run("flashtalk_new", runs.work_dir(tmp_path, "flashtalk_new"), speech)
    assert "Saving generated video to res_out.mp4.mp4" in ended.stderr
    assert ended.video.exists()


def test_flashhead_prints_the_path_itself(tmp_path, speech):
    ended = runs.run("flashhead", runs.work_dir(tmp_path, "flashhead"), speech, save_file="out.mp4")
    assert "Saving generated video to out.mp4\n" in ended.stderr
    assert set(runs.streams(ended.video)) == {"video", "audio"}


def test_the_default_name_is_in_sample_results(tmp_path, speech):
    cwd = runs.work_dir(tmp_path, "flashhead")
    ended = runs.run("flashhead", cwd, speech, save_file="")
    assert ended.returncode == 0
    assert len(list((cwd / "sample_results").glob("res_*.mp4"))) == 1

"""LiveAct in miniature: what it takes, prints, writes and loses, as ``generate.py`` at ac8579b does."""

import json
import re
import subprocess
import sys

import miniature_liveact as liveact
import miniature_runs as runs
import numpy as np
import pytest

FLAGS = {
    "--size", "--ckpt_dir", "--wav2vec_dir", "--t5_cpu", "--offload_cache", "--fp8_kv_cache", "--fp8_gemm",
    "--fp4_gemm", "--block_offload", "--fps", "--audio_cfg", "--dura_print", "--input_json", "--steam_audio",
    "--mean_memory", "--seed",
}  # fmt: skip
COUNT = """
import sys
sys.path.insert(0, sys.argv[1])
from engine import blocks
print([blocks.count(seconds, fps) for seconds, fps in ((0, 24), (1.5, 24), (5, 24), (30, 24), (10, 24), (10, 20))])
"""


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return runs.tone(tmp_path_factory.mktemp("sound") / "speech.wav", 1.5)


@pytest.fixture
def cwd(tmp_path, speech):
    """A working directory with the input of a render of two blocks."""
    liveact.inputs(tmp_path / "work", speech)
    return tmp_path / "work"


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory, speech):
    """An ordinary run, made once."""
    place = tmp_path_factory.mktemp("ordinary")
    liveact.inputs(place, speech)
    return liveact.run("liveact", place, "--dura_print")


@pytest.fixture
def path_with(tmp_path):
    """A PATH of one directory, holding an ffmpeg with this text or none."""

    def made(text=None):
        place = tmp_path / "bin"
        place.mkdir()
        if text is not None:
            (place / "ffmpeg").write_text(text)
            (place / "ffmpeg").chmod(0o755)
        return {"PATH": str(place)}

    return made


# --- the command line -----------------------------------------------------------------------------


def test_it_says_that_it_is_a_miniature():
    said = json.loads((runs.CHECKOUTS / "liveact" / "MINIATURE").read_text())
    assert said == {"miniature": True, "of": "liveact"}


def test_the_flags_can_be_read_without_running_the_script():
    assert liveact.declared_flags(runs.CHECKOUTS / "liveact" / "generate.py") == FLAGS


def test_all_flags_are_taken(cwd):
    switches = ["--t5_cpu", "--offload_cache", "--fp8_kv_cache", "--fp8_gemm", "--fp4_gemm", "--block_offload"]
    ended = liveact.run("liveact", cwd, *switches, "--steam_audio", "--mean_memory", "--audio_cfg=2.5", "--seed=7")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("flag", ["--sample_steps=3", "--ring_degree=1", "--fast_export_crf=18", "--cond_image=a.png"])
def test_flags_of_the_ascend_variant_are_unknown(cwd, flag):
    ended = liveact.run("liveact", cwd, flag)
    assert ended.returncode == 2
    assert "unrecognized arguments" in ended.stderr


def test_the_default_size_is_480_by_832(tmp_path):
    liveact.inputs(tmp_path, runs.tone(tmp_path / "a.wav", 0.3))
    command = liveact.command("liveact", "--wav2vec_dir=w", "--input_json=input.json")
    subprocess.run(command, cwd=tmp_path, env=liveact.environment(), check=True, capture_output=True)
    video = runs.streams(tmp_path / "portrait_a.mp4")["video"]
    assert (video["width"], video["height"], video["r_frame_rate"]) == (480, 832, "24/1")


# --- what it prints and writes --------------------------------------------------------------------


def test_what_is_printed(ordinary):
    lines = ordinary.stdout.splitlines()
    assert lines[0] == "----iter_total_num= 2"
    assert re.fullmatch(r"Done Block 0: duration 1000\.0ms video cost \d+\.\d\d ms", lines[1])
    assert re.fullmatch(r"Done Block 1: duration 1333\.3333333333333ms video cost \d+\.\d\d ms", lines[2])
    assert lines[3:] == ["Video with audio generated successfully: portrait_speech.mp4"]


def test_bars_are_redrawn_on_stderr_one_for_each_block(ordinary):
    assert "\rLoading checkpoint shards: 100%|██████████| 4/4 [00:00<00:00" in ordinary.stderr
    assert ordinary.stderr.count("\r  0%|          | 0/3 [00:00<?, ?it/s]") == 2
    assert ordinary.stderr.count("\r 33%|███▎      | 1/3 [") == 2
    assert ordinary.stderr.count("\r100%|██████████| 3/3 [") == 2
    assert ordinary.stderr.index("4/4") < ordinary.stderr.index("0/3")


def test_blocks_are_silent_unless_asked(cwd):
    assert "Done Block" not in liveact.run("liveact", cwd).stdout


def test_the_nominal_duration_follows_the_frame_rate(cwd):
    ended = liveact.run("liveact", cwd, "--fps=20", "--dura_print")
    assert "Done Block 0: duration 1200.0ms" in ended.stdout


def test_the_silent_video_stays_beside_the_result(ordinary):
    assert ordinary.videos() == {"tmp.mp4", "portrait_speech.mp4"}
    assert set(runs.streams(ordinary.cwd / "tmp.mp4")) == {"video"}
    streams = runs.streams(ordinary.cwd / "portrait_speech.mp4")
    assert (streams["video"]["codec_name"], streams["audio"]["codec_name"]) == ("h264", "aac")
    assert streams["video"]["has_b_frames"] > 0


@pytest.mark.parametrize(
    ("seconds", "rate", "fps", "blocks", "frames"),
    [(0.2, 16000, 24, 1, 21), (1.3, 44100, 24, 1, 21), (1.5, 16000, 24, 2, 53), (3.3, 22050, 20, 3, 85)],
)
def test_frames_come_in_21_and_then_32(tmp_path, seconds, rate, fps, blocks, frames):
    liveact.inputs(tmp_path, runs.tone(tmp_path / "a.wav", seconds, rate))
    ended = liveact.run("liveact", tmp_path, f"--fps={fps}")
    assert ended.block_count == blocks
    assert runs.frame_count(tmp_path / "tmp.mp4") == frames
    # The muxer keeps up to three frames more (ffmpeg 5) or less (ffmpeg 7) than the sound has.
    limit = min(frames, round(seconds * fps))
    assert abs(runs.frame_count(tmp_path / "portrait_a.mp4") - limit) <= 3


def test_blocks_are_counted_as_measured():
    done = subprocess.run([sys.executable, "-c", COUNT, str(runs.MINIATURE)], capture_output=True, check=True)
    assert json.loads(done.stdout) == [1, 2, 4, 23, 8, 7]


def test_names_are_cut_at_their_first_dot(tmp_path):
    picture = tmp_path / "my.photo.v2.png"
    picture.write_bytes(runs.PORTRAIT.read_bytes())
    liveact.inputs(tmp_path, runs.tone(tmp_path / "voice.take1.wav", 0.5), image=picture)
    assert liveact.run("liveact", tmp_path).videos() == {"tmp.mp4", "my_voice.mp4"}


def test_paths_of_the_list_are_relative_to_the_working_directory(tmp_path):
    runs.tone(tmp_path / "a.wav", 0.5)
    liveact.inputs(tmp_path, "a.wav")
    assert liveact.run("liveact", tmp_path).returncode == 0


def test_items_run_one_after_another_and_overwrite_equal_names(tmp_path):
    longer = tmp_path / "other"
    longer.mkdir()
    liveact.inputs(tmp_path, runs.tone(tmp_path / "a.wav", 1.5), runs.tone(longer / "a.wav", 0.4))
    ended = liveact.run("liveact", tmp_path)
    assert ended.stdout.count("----iter_total_num=") == 2
    assert ended.stdout.count("Video with audio generated successfully: portrait_a.mp4") == 2
    assert ended.videos() == {"tmp.mp4", "portrait_a.mp4"}
    assert runs.frame_count(tmp_path / "portrait_a.mp4") <= 21


@pytest.mark.parametrize(("blocks", "returncode"), [("[0, 4]", 0), ("everywhere", 1)])
def test_an_edit_prompt_is_for_a_range_of_blocks(tmp_path, speech, blocks, returncode):
    liveact.inputs(tmp_path, speech, edit_prompt={blocks: "smiling"})
    assert liveact.run("liveact", tmp_path).returncode == returncode


def test_two_run_side_by_side_from_one_checkout(tmp_path):
    places = [tmp_path / name for name in ("one", "two")]
    for place, seconds in zip(places, (0.5, 1.5), strict=True):
        place.mkdir()
        liveact.inputs(place, runs.tone(place / "a.wav", seconds))
    command = liveact.command("liveact", "--wav2vec_dir=w", "--input_json=input.json", f"--size={liveact.SIZE}")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": liveact.environment()}
    started = [subprocess.Popen(command, cwd=place, **quiet) for place in places]
    assert [process.wait(timeout=60) for process in started] == [0, 0]
    assert [runs.frame_count(place / "tmp.mp4") for place in places] == [21, 53]


# --- the picture ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """Four seconds of the sample sentence at 20 frames a second: the sound, and the directory it was rendered in."""
    place = tmp_path_factory.mktemp("talking")
    cut = ["ffmpeg", "-nostdin", "-v", "error", "-i", runs.SPEECH, "-t", "4", "-ar", "16000", str(place / "s.wav")]
    subprocess.run(cut, check=True)
    liveact.inputs(place, place / "s.wav")
    assert liveact.run("liveact", place, "--fps=20").returncode == 0
    return place


def test_the_mouth_follows_the_voice(talking):
    frames = runs.pixels(talking / "tmp.mp4").astype(float)[:80]
    sound = np.frombuffer((talking / "s.wav").read_bytes()[-4 * 16000 * 2 :], "<i2").astype(float)
    loudness = np.sqrt((sound[: 80 * 800].reshape(80, 800) ** 2).mean(axis=1))
    darkness = -frames[:, 39:46, 27:37].mean(axis=(1, 2, 3))
    fit = {lag: np.corrcoef(np.roll(darkness, -lag)[10:70], loudness[10:70])[0, 1] for lag in range(-6, 7)}
    best = max(fit, key=fit.__getitem__)
    assert abs(best) <= 1
    assert fit[best] > 0.5


def test_blocks_join_without_a_jump(talking):
    change = np.abs(np.diff(runs.pixels(talking / "tmp.mp4").astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert max(change[[20, 52]]) <= np.percentile(change, 97)


def test_sound_heard_block_by_block_moves_the_mouth_alike(talking, tmp_path):
    liveact.inputs(tmp_path, talking / "s.wav")
    assert liveact.run("liveact", tmp_path, "--fps=20", "--steam_audio").returncode == 0
    whole, streamed = (runs.pixels(place / "tmp.mp4").astype(float) for place in (talking, tmp_path))
    assert np.abs(whole - streamed).mean() < 1


def test_only_the_first_channel_moves_the_lips(tmp_path, speech):
    channels = {"left": "stereo|c0=c0|c1=0*c0", "right": "stereo|c0=0*c0|c1=c0", "silence": "mono|c0=0*c0"}
    seen = {}
    for name, mix in channels.items():
        sound = tmp_path / f"{name}.wav"
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(speech), "-af", f"pan={mix}", str(sound)]
        subprocess.run(command, check=True)
        liveact.inputs(tmp_path, sound)
        liveact.run("liveact", tmp_path)
        seen[name] = runs.pixels(tmp_path / "tmp.mp4")
    assert np.array_equal(seen["right"], seen["silence"])
    assert not np.array_equal(seen["left"], seen["silence"])


# --- faults ---------------------------------------------------------------------------------------


def test_a_missing_input_json_is_noticed_after_the_load(tmp_path):
    ended = liveact.run("liveact", tmp_path)
    assert ended.returncode == 1
    assert "4/4" in ended.stderr
    assert "FileNotFoundError: [Errno 2] No such file or directory: 'input.json'" in ended.stderr


def test_missing_directories_are_no_assertion(cwd):
    script = str(runs.CHECKOUTS / "liveact" / "generate.py")
    done = subprocess.run(
        [sys.executable, script], cwd=cwd, env=liveact.environment(), capture_output=True, check=False
    )
    assert done.returncode == 1
    assert b"4/4" in done.stderr
    assert b"TypeError" in done.stderr


@pytest.mark.parametrize("gone", ["image", "audio"])
def test_a_missing_picture_or_sound_fails_after_the_load(tmp_path, speech, gone):
    picture = tmp_path / "gone.png" if gone == "image" else runs.PORTRAIT
    liveact.inputs(tmp_path, tmp_path / "gone.wav" if gone == "audio" else speech, image=picture)
    ended = liveact.run("liveact", tmp_path)
    assert ended.returncode == 1
    assert "4/4" in ended.stderr
    assert "FileNotFoundError" in ended.stderr


@pytest.mark.parametrize("size", ["72*64", "64*100"])
def test_a_size_that_patches_do_not_fill_fails_in_the_first_step(cwd, size):
    ended = liveact.run("liveact", cwd, f"--size={size}")
    assert ended.returncode == 1
    assert ended.block_count == 2
    assert "0/3" in ended.stderr
    assert re.search(r"RuntimeError: The size of tensor a \(\d+\) must match the size of tensor b", ended.stderr)
    assert not ended.videos()


def test_a_failing_ffmpeg_is_printed_and_an_older_file_stays(cwd, path_with):
    (cwd / "portrait_speech.mp4").write_bytes(b"of yesterday")
    ended = liveact.run("liveact", cwd, env=path_with("#!/bin/sh\nexit 1\n"))
    assert ended.returncode == 0
    assert "Error occurred: Command '['ffmpeg', '-y', '-i', 'tmp.mp4', '-i', '" in ended.stdout
    assert ended.stdout.endswith("'-shortest', 'portrait_speech.mp4']' returned non-zero exit status 1.\n")
    assert (cwd / "portrait_speech.mp4").read_bytes() == b"of yesterday"
    assert runs.frame_count(cwd / "tmp.mp4") == 53


def test_a_spoiled_mux_leaves_no_result(cwd):
    ended = liveact.run("liveact", cwd, env={"MINIATURE_FAULT": "mux_fail"})
    assert ended.returncode == 0
    assert "Error occurred: " in ended.stdout
    assert ended.videos() == {"tmp.mp4"}


def test_without_ffmpeg_it_ends_with_one(cwd, path_with):
    ended = liveact.run("liveact", cwd, env=path_with())
    assert ended.returncode == 1
    assert "FileNotFoundError: [Errno 2] No such file or directory: 'ffmpeg'" in ended.stderr
    assert ended.videos() == {"tmp.mp4"}


def test_the_noise_of_ffmpeg_is_swallowed(cwd, path_with):
    ended = liveact.run("liveact", cwd, env=path_with("#!/bin/sh\necho noise; echo noise >&2\n"))
    assert "noise" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(("fault", "size"), [("no_output", None), ("empty_output", 0)])
def test_spoiled_outputs_look_like_success(cwd, fault, size):
    ended = liveact.run("liveact", cwd, env={"MINIATURE_FAULT": fault})
    video = cwd / "portrait_speech.mp4"
    assert ended.returncode == 0
    assert "Video with audio generated successfully" in ended.stdout
    assert (video.stat().st_size if video.exists() else None) == size


@pytest.mark.parametrize(
    ("fault", "returncode", "done"), [("exit3@chunk1", 3, 1), ("kill@chunk0", -9, 0), ("oom_cuda@load", 1, 0)]
)
def test_a_fault_ends_it_where_it_strikes(cwd, fault, returncode, done):
    ended = liveact.run("liveact", cwd, "--dura_print", env={"MINIATURE_FAULT": fault})
    assert ended.returncode == returncode
    assert ended.stdout.count("Done Block") == done
    assert not ended.videos()


def test_a_black_picture_begins_with_its_block(cwd):
    assert liveact.run("liveact", cwd, env={"MINIATURE_FAULT": "black@chunk1"}).returncode == 0
    frames = runs.pixels(cwd / "tmp.mp4")
    assert frames[:20].mean() > 60
    assert frames[23:].mean() < 5


def test_loading_and_blocks_take_the_time_asked_for(cwd):
    env = {"MINIATURE_LOAD_S": "0.4", "MINIATURE_CHUNK_S": "0.3", "MINIATURE_BUSY": "1"}
    ended = liveact.run("liveact", cwd, "--dura_print", env=env)
    costs = [float(cost) for cost in re.findall(r"video cost ([\d.]+) ms", ended.stdout)]
    assert len(costs) == 2
    assert min(costs) >= 300
    assert re.search(r"25%\|██▌       \| 1/4 \[00:0\d<00:0\d, +\d+\.\d\d(it/s|s/it)\]", ended.stderr)


# --- several ranks --------------------------------------------------------------------------------


def test_two_ranks_both_write_and_rank_zero_alone_counts_blocks(cwd, ordinary):
    """Both write the same names at the same time: either may find the other's file half written, and says so."""
    ended = liveact.run("liveact", cwd, "--dura_print", ranks=2)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("----iter_total_num= 2") == 2
    assert ended.stdout.count("Done Block ") == 2
    assert ended.stderr.count("| 3/3 [") == 4
    outcomes = re.findall("Video with audio generated successfully: portrait_speech.mp4|Error occurred: ", ended.stdout)
    assert len(outcomes) == 2
    assert "Video with audio generated successfully: portrait_speech.mp4" in outcomes
    alone = runs.pixels(ordinary.cwd / "portrait_speech.mp4")
    assert np.array_equal(runs.pixels(cwd / "portrait_speech.mp4"), alone), "with torch and without, alike"


def test_one_rank_may_fail_to_save_where_the_other_does_not(cwd):
    ended = liveact.run("liveact", cwd, env={"MINIATURE_FAULT": "mux_fail:rank1"}, ranks=2)
    assert ended.returncode == 0
    assert ended.stdout.count("Error occurred: ") == 1
    assert ended.stdout.count("Video with audio generated successfully: ") == 1
    assert set(runs.streams(cwd / "portrait_speech.mp4")) == {"video", "audio"}


def test_an_output_spoiled_by_two_ranks_stays_spoiled(cwd):
    ended = liveact.run("liveact", cwd, env={"MINIATURE_FAULT": "no_output"}, ranks=2)
    assert ended.returncode == 0
    assert ended.videos() == {"tmp.mp4"}


def test_three_ranks_fail_of_shapes_after_the_load(cwd):
    ended = liveact.run("liveact", cwd, ranks=3)
    assert ended.returncode == 1
    assert ended.stderr.count("100%|██████████| 4/4") == 3
    assert re.search(r"\[rank\d\]: RuntimeError: shape '\[3, 16, 40, 128\]' is invalid for input of", ended.stderr)
    assert not ended.videos()


def test_a_failing_rank_is_named_and_ends_the_other(cwd):
    ended = liveact.run("liveact", cwd, "--dura_print", env={"MINIATURE_FAULT": "oom_cuda@chunk1:rank1"}, ranks=2)
    assert ended.returncode == 1
    assert "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.32 GiB. GPU 1" in ended.stderr
    assert "Root Cause (first observed failure):" in ended.stderr
    assert ended.stdout.count("Done Block") == 1
    assert not ended.videos()

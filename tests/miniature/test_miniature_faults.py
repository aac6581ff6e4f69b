"""Every fault of ``MINIATURE_FAULT`` happens where it is asked for, and prints what the real thing prints."""

import signal
import subprocess
import sys
import time

import miniature_runs as runs
import numpy as np
import pytest

TWO_CHUNKS_S = 2.2


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return runs.tone(tmp_path_factory.mktemp("sound") / "speech.wav", TWO_CHUNKS_S)


@pytest.fixture(scope="module")
def good(tmp_path_factory, speech):
    """The frames of a run without a fault."""
    return runs.pixels(run(tmp_path_factory.mktemp("good"), "", speech).video)


def run(tmp_path, fault, speech, variant="flashtalk_new", **options):
    return runs.run(variant, runs.work_dir(tmp_path, variant), speech, env={"MINIATURE_FAULT": fault}, **options)


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("oom_cuda", "CUDA out of memory. Tried to allocate 1.32 GiB. GPU 0 has a total capacity of"),
        ("oom_npu", "RuntimeError: NPU out of memory. Tried to allocate 268.00 MiB (NPU 0; 60.97 GiB total capacity;"),
        ("hccl", "ERR02200 DIST call hccl api failed."),
        ("missing_module", "ModuleNotFoundError: No module named 'xfuser'"),
    ],
)
def test_faults_of_the_load(tmp_path, speech, fault, text):
    ended = run(tmp_path, fault, speech)
    assert ended.returncode == 1
    assert text in ended.stderr
    assert ("ERR99999 UNKNOWN applicaiton exception" in ended.stderr) is (fault == "oom_npu")
    assert "Data preparation done" not in ended.stderr


@pytest.mark.parametrize(
    ("fault", "returncode", "chunks"),
    [
        ("exit3@chunk1", 3, [0]),
        ("exit0", 0, []),
        ("kill@chunk1", -signal.SIGKILL, [0]),
        ("segv@chunk0", -signal.SIGSEGV, []),
        ("oom_cuda@chunk1", 1, [0]),
    ],
)
def test_faults_of_a_chunk(tmp_path, speech, fault, returncode, chunks):
    ended = run(tmp_path, fault, speech)
    assert ended.returncode == returncode
    assert ended.chunks == chunks
    assert not ended.video.exists()


def test_a_fault_of_another_rank_is_not_mine(tmp_path, speech):
    assert run(tmp_path, "exit3@chunk0:rank1", speech).returncode == 0


def test_an_unknown_fault_is_refused(tmp_path, speech):
    ended = run(tmp_path, "explode@chunk1", speech)
    assert ended.returncode == 1
    assert "MINIATURE_FAULT: 'explode@chunk1' is no fault" in ended.stderr


def test_black_from_a_chunk_on(tmp_path, speech):
    frames = runs.pixels(run(tmp_path, "black@chunk1", speech).video)
    assert frames[:28].mean() > 60
    assert frames[29:].mean() < 5


def test_frozen_from_a_chunk_on(tmp_path, speech):
    """The lossy encoder aside: what still moves is far less than what moved before."""
    frames = runs.pixels(run(tmp_path, "frozen@chunk1", speech).video).astype(int)
    change = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    assert change[30:].mean() < 0.1 * change[:26].mean()


def test_a_dead_mouth_leaves_the_head_moving(tmp_path, speech, good):
    dead = runs.pixels(run(tmp_path, "dead_mouth", speech).video)
    mouth, brow = (slice(None), slice(38, 46), slice(24, 40)), (slice(None), slice(14, 30), slice(16, 48))
    assert good[mouth].std(axis=0).mean() > 1.8 * dead[mouth].std(axis=0).mean()
    assert dead[brow].std(axis=0).mean() > 0.5 * good[brow].std(axis=0).mean()


def test_shifted_lips_are_late(tmp_path, speech, good):
    late = runs.pixels(run(tmp_path, "shift=0.4", speech).video)
    openings = [_mouth_darkness(frames) for frames in (good, late)]
    lags = range(-15, 16)
    best = max(lags, key=lambda lag: np.corrcoef(openings[0][15:-15], np.roll(openings[1], -lag)[15:-15])[0, 1])
    assert abs(best - 10) <= 1


def _mouth_darkness(frames: np.ndarray) -> np.ndarray:
    return -frames[:, 40:46, 27:37].astype(float).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("fault", ["no_output", "empty_output"])
def test_lost_and_empty_outputs_exit_zero(tmp_path, speech, fault):
    ended = run(tmp_path, fault, speech)
    assert ended.returncode == 0
    assert "Finished." in ended.stderr
    assert ended.video.exists() is (fault == "empty_output")


def test_a_truncated_output_still_states_its_full_length(tmp_path, speech):
    ended = run(tmp_path, "truncate", speech)
    assert ended.returncode == 0
    assert float(runs.streams(ended.video)["video"]["duration"]) == pytest.approx(TWO_CHUNKS_S, abs=0.1)
    decoded = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-i", ended.video, "-f", "null", "-"], capture_output=True, check=False
    )
    assert decoded.stderr


def test_a_failed_mux_is_an_error_in_the_new_variant(tmp_path, speech):
    ended = run(tmp_path, "mux_fail", speech)
    assert ended.returncode == 1
    assert "Unknown encoder 'no_such_codec'" in ended.stderr
    assert set(runs.streams(ended.video.with_name("out.mp4"))) == {"video"}


@pytest.mark.parametrize(("fault", "survives"), [("hang@chunk0", False), ("hang@chunk0,ignore_term", True)])
def test_hanging_with_and_without_an_ear_for_term(tmp_path, speech, fault, survives):
    cwd = runs.work_dir(tmp_path, "flashtalk_new")
    command = runs.command("flashtalk_new", speech)
    environment = runs.environment({"MINIATURE_FAULT": fault})
    with subprocess.Popen(command, cwd=cwd, env=environment, stderr=subprocess.PIPE) as process:
        try:
            _await_line(process, b"Data preparation done")
            time.sleep(0.3)
            process.terminate()
            time.sleep(0.5)
            assert (process.poll() is None) is survives
        finally:
            process.kill()


def _await_line(process: subprocess.Popen, text: bytes) -> None:
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{text!r} never came")


def test_loading_and_chunks_take_the_time_asked_for(tmp_path, speech):
    cwd = runs.work_dir(tmp_path, "flashtalk_new")
    env = {"MINIATURE_LOAD_S": "0.4", "MINIATURE_CHUNK_S": "0.3", "MINIATURE_BUSY": "1"}
    ended = runs.run("flashtalk_new", cwd, speech, env=env)
    costs = [float(part.split("s\n")[0]) for part in ended.stderr.split("cost time: ")[1:]]
    assert all(cost >= 0.3 for cost in costs)
    assert "25%" in ended.stderr


def test_the_miniature_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; sys.path.insert(0, sys.argv[1]); from engine import pipeline"
    subprocess.run([sys.executable, "-c", code, str(runs.MINIATURE)], check=True)

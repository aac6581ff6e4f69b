"""`--executor driver`: the script's video without the script, and what is left of one that does not come to its end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.omnirt_cli_runs import (
    ASSETS,
    CHECKOUTS,
    Finished,
    checkout,
    finish,
    generate_args,
    kill_hard,
    log_has,
    marked_processes,
    omnirt,
    read_report,
    scratch_dirs,
    start,
    wait_for,
)

DRIVER = ("--executor", "driver", "--progress", "never", "--json")
FLASHHEAD = "soulx-flashhead-1.3b"
FLASHTALK_CHUNK = 28
FPS = 25


def drive(output: Path, *more: str, fault: str = "", env: dict[str, str] | None = None, **options: Any) -> Finished:
    faults = {"MINIATURE_FAULT": fault} if fault else {}
    return omnirt(*generate_args(output, *DRIVER, *more, **options), env={**faults, **(env or {})})


def streams(video: Path) -> dict[str, dict[str, Any]]:
    shown = ["ffprobe", "-v", "error", "-show_streams", "-count_packets", "-of", "json", str(video)]
    found = json.loads(subprocess.run(shown, capture_output=True, check=True).stdout)["streams"]
    return {stream["codec_type"]: stream for stream in found}


def frame_sums(video: Path) -> list[str]:
    shown = ["ffmpeg", "-v", "error", "-i", str(video), "-map", "v", "-f", "framemd5", "-"]
    text = subprocess.run(shown, capture_output=True, check=True, text=True).stdout
    return [line.split(",")[-1].strip() for line in text.splitlines() if not line.startswith("#")]


def assert_part(output: Path, chunks: int, report: dict[str, Any], *, at_least: int | None = None) -> None:
    """A verified video with sound of so many chunks lies beside where the whole one was to be."""
    partial = output.with_name(output.stem + ".partial.mp4")
    assert report["kept"] == [str(partial)]
    found = streams(partial)
    frames, part_of_chunk = int(found["video"]["nb_read_packets"]), FLASHTALK_CHUNK
    assert frames % part_of_chunk == 0
    assert (at_least if at_least is not None else chunks) <= frames // part_of_chunk <= chunks
    assert abs(float(found["audio"]["duration"]) - frames / FPS) < 0.1
    check = next(check for check in report["checks"] if check["name"] == "partial_video")
    assert check["status"] == "passed"
    assert f"{frames // part_of_chunk} of 9 chunks are whole" in check["detail"]
    assert not output.exists()


# --- the same video -------------------------------------------------------------------------------


def test_the_video_is_the_scripts_and_the_report_says_who_made_it(tmp_path: Path) -> None:
    done = drive(tmp_path / "driven video's.mp4")
    script = omnirt(*generate_args(tmp_path / "script.mp4", "--json", "--progress", "never"))

    assert done.code == 0, done.stderr
    assert script.code == 0, script.stderr
    driven_sums, script_sums = (frame_sums(tmp_path / name) for name in ("driven video's.mp4", "script.mp4"))
    assert len(driven_sums) == len(script_sums) == done.report["artifacts"][0]["num_frames"]
    report = done.report
    assert report["config_resolved"]["executor"] == "driver"
    assert script.report["config_resolved"]["executor"] == "script"
    assert report["execution_mode"] == "subprocess"
    assert report["command"]["argv"][1].endswith("worker.py")
    decode = next(check for check in report["checks"] if check["name"] == "decode")
    assert (decode["status"], decode["detail"]) == ("passed", "decoded while it was made")
    assert report["config_carriers"]["seed"] == "worker"
    assert scratch_dirs(tmp_path) == []


def test_the_log_is_in_the_scripts_words_and_times_of_its_own_are_read_from_it(tmp_path: Path) -> None:
    done = drive(tmp_path / "v.mp4", "--max-chunks", "3")

    assert done.code == 0, done.stderr
    report = done.report
    assert [chunk["index"] for chunk in report["chunks"]] == [0, 1, 2]
    assert {chunk["core_scope"] for chunk in report["chunks"]} == {"core"}
    for chunk in report["chunks"]:
        assert chunk["audio_embedding_ms"] > 0
        assert chunk["chunk_copy_ms"] > 0
        assert chunk["encode_wait_ms"] >= 0
        assert len(chunk["denoise_steps_ms"]) == 4
    assert {"audio_embedding_ms_avg", "chunk_copy_ms_avg", "encode_wait_ms_avg", "model_load_ms", "save_ms"} <= set(
        report["timings"]
    )


@pytest.mark.parametrize("variant", ["flashtalk_old", "flashtalk_ascend", "flashtalk_quant"])
def test_every_variant_of_flashtalk_is_driven(variant: str, tmp_path: Path) -> None:
    done = drive(tmp_path / "v.mp4", "--audio-encode-mode", "once", *checkout(variant))

    assert done.code == 0, done.stderr
    assert done.report["checkout"]["variant"] in {"public-old", "ascend", "quantizing"}


def test_paths_with_spaces_and_quotes_change_nothing(tmp_path: Path) -> None:
    place = tmp_path / "a 'quoted\" place; $(x)"
    shutil.copytree(CHECKOUTS.parent, place / "miniature", ignore=shutil.ignore_patterns("__pycache__"))
    image, audio = place / "my portrait.png", place / "my 'speech'.wav"
    shutil.copy(ASSETS / "portrait.png", image)
    shutil.copy(ASSETS / "speech.wav", audio)
    repo = place / "miniature" / "checkouts" / "flashtalk_new"

    done = drive(
        place / "out dir" / "v 1.mp4", "--repo-path", str(repo), "--python-executable", sys.executable, "--max-chunks",
        "2", image=image, audio=audio,
    )  # fmt: skip

    assert done.code == 0, done.stderr
    assert int(streams(place / "out dir" / "v 1.mp4")["video"]["nb_read_packets"]) == 2 * FLASHTALK_CHUNK


def test_it_runs_in_the_checkout_where_that_is_asked_for(tmp_path: Path) -> None:
    repo = tmp_path / "miniature" / "checkouts" / "flashtalk_new"
    shutil.copytree(CHECKOUTS.parent, tmp_path / "miniature", ignore=shutil.ignore_patterns("__pycache__"))
    args = [arg for arg in generate_args(tmp_path / "v.mp4", *DRIVER) if arg not in ("--size", "128*128")]

    done = omnirt(
        *args, "--working-directory", "checkout", "--max-chunks", "1", "--repo-path", str(repo),
        "--python-executable", sys.executable,
    )  # fmt: skip

    assert done.code == 0, done.stderr
    assert done.report["command"]["cwd"] == str(repo)


def test_two_real_ranks_under_torchrun_make_one_video(tmp_path: Path) -> None:
    done = drive(
        tmp_path / "v.mp4", "--launcher", "torchrun", "--nproc-per-node", "2", "--max-chunks", "2",
        *checkout("flashtalk_new"), env={"MINIATURE_TORCH": "1"},
    )  # fmt: skip

    assert done.code == 0, done.stderr
    assert len(done.report["chunks"]) == 2


# --- knobs that only the driver carries -----------------------------------------------------------


def test_public_flashhead_takes_a_number_of_steps(tmp_path: Path) -> None:
    asked = ("--sample-steps", "2", "--max-chunks", "2")
    by_script = omnirt(*generate_args(tmp_path / "s.mp4", *asked, model=FLASHHEAD))
    done = drive(tmp_path / "v.mp4", *asked, model=FLASHHEAD)

    assert by_script.code == 2
    assert done.code == 0, done.stderr
    assert done.report["config_carriers"]["sample_steps"] == "worker"
    assert [len(chunk["denoise_steps_ms"]) for chunk in done.report["chunks"]] == [2, 2]


@pytest.mark.parametrize("preset", ["fast", "balanced", "quality"])
def test_a_preset_gives_the_driver_no_other_number_of_steps_than_the_script(preset: str, tmp_path: Path) -> None:
    asked = ("--preset", preset, "--dry-run", "--json")
    plans = [
        omnirt(*generate_args(tmp_path / "v.mp4", *asked, *more, model=FLASHHEAD)).json["plan"]["config"]
        for more in ((), ("--executor", "driver"))
    ]

    assert plans[0]["sample_steps"] == plans[1]["sample_steps"] == 4


@pytest.mark.parametrize(("flag", "steps"), [("--debug-timing", 4), ("--no-debug-timing", 0)])
def test_the_quantizing_fork_prints_its_times_if_asked(flag: str, steps: int, tmp_path: Path) -> None:
    done = drive(tmp_path / "v.mp4", flag, "--max-chunks", "1", *checkout("flashtalk_quant"))

    assert done.code == 0, done.stderr
    assert len(done.report["chunks"][0]["denoise_steps_ms"]) == steps


# --- what is refused ------------------------------------------------------------------------------


def test_liveact_cannot_be_driven_and_says_so_by_name(tmp_path: Path) -> None:
    done = omnirt(*generate_args(tmp_path / "v.mp4", "--executor", "driver", model="soulx-liveact-14b"))

    assert done.code == 2
    assert "SoulX-LiveAct cannot be driven" in done.stderr
    assert not list(tmp_path.glob("*.mp4"))


def test_a_checkout_without_the_functions_is_refused(tmp_path: Path) -> None:
    shutil.copytree(CHECKOUTS.parent, tmp_path / "miniature", ignore=shutil.ignore_patterns("__pycache__"))
    repo = tmp_path / "miniature" / "checkouts" / "flashtalk_new"
    inference = repo / "flash_talk" / "inference.py"
    inference.write_text(inference.read_text().replace("def run_pipeline", "def run_it"))

    done = drive(tmp_path / "v.mp4", "--repo-path", str(repo), "--python-executable", sys.executable)

    assert done.code == 2
    assert "flash_talk/inference.py defines no run_pipeline" in done.stderr


def test_an_undecodable_portrait_is_refused_before_anything_starts(tmp_path: Path) -> None:
    image = tmp_path / "face.png"
    image.write_bytes((ASSETS / "portrait.png").read_bytes()[:2000])

    done = drive(tmp_path / "v.mp4", image=image)

    assert done.code == 65
    assert not (tmp_path / "v.log").exists()


def test_dry_run_shows_the_call_and_the_request(tmp_path: Path) -> None:
    done = omnirt(*generate_args(tmp_path / "v.mp4", "--executor", "driver", "--dry-run", "--json"))

    plan = done.json["plan"]
    assert plan["config"]["executor"] == "driver"
    assert plan["argv"][1:] == [str(CHECKOUTS.parents[2] / "launchers/model_env/worker.py"), "--request=driver.json"]
    request = json.loads(plan["files"]["driver.json"])
    assert request["render"]["chunks"] == plan["expected"]["chunks"] == 9
    assert request["render"]["audio"] == "speech.wav"
    assert request["picture"]["path"] == "frames.mp4"
    assert list(tmp_path.iterdir()) == []


# --- ends before the end --------------------------------------------------------------------------


def test_a_crash_leaves_the_chunks_before_it_verified_with_sound(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"

    done = drive(output, fault="hccl@chunk3")

    assert done.code == 10, done.stderr
    assert "hccl" in done.report["error"]["message"].lower()
    assert any("Traceback" in line for line in done.report["error"]["log_tail"])
    assert_part(output, 3, done.report)
    assert scratch_dirs(tmp_path) == []


@pytest.mark.parametrize("fault", ["kill@chunk6", "segv@chunk6"])
def test_a_sudden_death_leaves_what_the_encoder_had(fault: str, tmp_path: Path) -> None:
    """Two chunks that waited in the queue and one that was being written are lost at most."""
    output = tmp_path / "v.mp4"

    done = drive(output, fault=fault)

    assert done.code == 10, done.stderr
    assert_part(output, 6, done.report, at_least=3)


def test_another_ranks_crash_leaves_the_chunks_before_it(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"

    done = drive(
        output, "--launcher", "torchrun", "--nproc-per-node", "2", *checkout("flashtalk_new"),
        fault="kill@chunk3:rank1", env={"MINIATURE_TORCH": "1"},
    )  # fmt: skip

    assert done.code == 10, done.stderr
    assert done.report["error"]["rank"] == 1
    assert_part(output, 3, done.report)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_a_stop_leaves_the_finished_chunks(number: signal.Signals, code: int, tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    process = start(*generate_args(output, *DRIVER), env={"MINIATURE_FAULT": "hang@chunk2"})
    wait_for(lambda: log_has(output, "chunk-1 done"), seconds=60, what="the second chunk")

    process.send_signal(number)
    done = finish(process)

    report = read_report(output)
    assert done.code == code
    assert report["status"] == "cancelled"
    assert_part(output, 2, report)
    assert marked_processes(report["run_id"]) == []


def test_a_stop_reaches_a_rank_that_waits_for_another_in_a_collective(tmp_path: Path) -> None:
    """No handler of Python's runs there; the finished chunks are there all the same."""
    output = tmp_path / "v.mp4"
    ranks = ("--launcher", "torchrun", "--nproc-per-node", "2", *checkout("flashtalk_new"))
    env = {"MINIATURE_FAULT": "hang@chunk2:rank1", "MINIATURE_TORCH": "1"}
    process = start(*generate_args(output, *DRIVER, *ranks), env=env)
    wait_for(lambda: log_has(output, "chunk-1 done"), seconds=90, what="the second chunk")

    process.send_signal(signal.SIGINT)
    done = finish(process, timeout=60)

    report = read_report(output)
    assert done.code == 130
    assert_part(output, 2, report)
    assert marked_processes(report["run_id"]) == []


def test_a_stall_leaves_them_too(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"

    done = drive(output, "--stall-timeout", "3", fault="hang@chunk2")

    assert done.report["status"] == "timed_out"
    assert_part(output, 2, done.report)


def test_nothing_is_kept_where_no_chunk_was_finished(tmp_path: Path) -> None:
    done = drive(tmp_path / "v.mp4", fault="hccl@chunk0")

    assert done.code == 10
    assert done.report["kept"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v.log", "v.report.json"]


def test_killing_omnirt_leaves_no_process_and_a_playable_picture(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    process = start(*generate_args(output, *DRIVER), env={"MINIATURE_FAULT": "hang@chunk3"})
    wait_for(lambda: log_has(output, "chunk-2 done"), seconds=60, what="the third chunk")
    run_id = read_report(output)["run_id"]

    kill_hard(process)
    wait_for(lambda: not marked_processes(run_id), seconds=20, what="the end of every process")

    (scratch,) = scratch_dirs(tmp_path)
    assert int(streams(scratch / ".picture.mp4")["video"]["nb_read_packets"]) == 3 * FLASHTALK_CHUNK


def _encoder_of(run_id: str) -> int | None:
    for pid in marked_processes(run_id):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if words[0].endswith(b"ffmpeg") and b"file:frames.mp4" in words:
            return pid
    return None


def test_an_encoder_that_dies_ends_the_run_in_plain_words(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    process = start(*generate_args(output, *DRIVER), env={"MINIATURE_CHUNK_S": "0.5"})
    wait_for(lambda: log_has(output, "chunk-1 done"), seconds=60, what="the second chunk")
    encoder = _encoder_of(read_report(output)["run_id"])
    assert encoder is not None

    os.kill(encoder, signal.SIGKILL)
    done = finish(process, timeout=60)

    report = read_report(output)
    assert done.code == 10, done.stderr
    assert "ffmpeg, which writes the video, was killed by SIGKILL" in report["error"]["message"]
    assert len(report["chunks"]) < 9
    assert not output.exists()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for the inputs and for little more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("size", ["320*320", "640*640"], ids=["while it is put together", "while it is made"])
def test_a_disk_that_fills_up_is_an_io_error(size: str, tiny_disk: Path) -> None:
    output = tiny_disk / "v.mp4"

    done = drive(output, "--skip-check", "disk", "--size", size)

    assert done.code == 74, done.stderr
    assert done.report["error"]["code"] == "io_error"
    assert not output.exists()
    assert scratch_dirs(tiny_disk) == []
    assert marked_processes(done.report["run_id"]) == []


# --- memory ---------------------------------------------------------------------------------------


def _hum(place: Path, seconds: float) -> Path:
    t = np.arange(round(seconds * 16000)) / 16000
    sound = np.sin(2 * np.pi * 180 * t) * (0.5 - 0.5 * np.cos(2 * np.pi * 3 * t)) * 0.5
    with wave.open(str(place), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return place


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ten_minutes_need_no_more_memory_than_ten_seconds(tmp_path: Path) -> None:
    short = drive(tmp_path / "short.mp4", audio=_hum(tmp_path / "short.wav", 10))
    long = omnirt(
        *generate_args(tmp_path / "long.mp4", *DRIVER, "--verify", "fast", audio=_hum(tmp_path / "long.wav", 600)),
        timeout=800,
    )

    assert long.code == 0, long.stderr
    assert long.report["expected"]["frames"] == 15000
    # The script would hold 15000 frames of 128x128 as float32: 2.7 GiB.
    grown = long.report["memory"]["host_peak_gib"] - short.report["memory"]["host_peak_gib"]
    assert grown < 0.15

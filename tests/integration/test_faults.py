"""The fault matrix: each promised fault is caused, and ends with its exit code, a report, no process, no lost file."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.omnirt_cli_runs import checkout, generate_args, marked_processes, omnirt, read_report, scratch_dirs

OLD_VIDEO = b"an earlier video that must survive"


@dataclass(frozen=True)
class Case:
    """A fault and what must come of it.

    Attributes:
        message: Part of the error's message or hint.
        kept: Suffix of the file that must have been kept, if any.
    """

    fault: str
    exit_code: int
    status: str
    error: str
    message: str
    args: tuple[str, ...] = ()
    kept: str | None = None
    env: dict[str, str] = field(default_factory=dict)


CASES = {
    "out of CUDA memory": Case("oom_cuda@chunk1", 11, "failed", "out_of_device_memory", "memory"),
    "out of NPU memory, ERR99999 after it": Case("oom_npu@chunk0", 11, "failed", "out_of_device_memory", "memory"),
    "HCCL fails while loading": Case("hccl@load", 10, "failed", "model_failed", "HCC"),
    "a module is missing": Case("missing_module@load", 10, "failed", "model_failed", "xfuser"),
    "the script exits with 3": Case("exit3@chunk1", 10, "failed", "model_failed", "3"),
    "the script is killed": Case("kill@chunk1", 10, "failed", "model_failed", "SIGKILL"),
    "the script crashes": Case("segv@chunk1", 10, "failed", "model_failed", "SIGSEGV"),
    "a hang is noticed": Case(
        "hang@chunk1", 12, "timed_out", "timed_out", "--stall-timeout", ("--stall-timeout", "1.5")
    ),
    "the whole run takes too long": Case("hang@chunk1", 12, "timed_out", "timed_out", "--timeout", ("--timeout", "3")),
    "a hang that ignores TERM": Case(
        "ignore_term,hang@chunk0", 12, "timed_out", "timed_out", "--timeout", ("--timeout", "3", "--grace", "0.5")
    ),
    "a black video": Case("black", 13, "failed", "output_invalid", "black", kept=".failed.mp4"),
    "a picture frozen to the end": Case("frozen@chunk2", 13, "failed", "output_invalid", "frozen", kept=".failed.mp4"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fault_ends_with_its_exit_code_a_report_and_nothing_left(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    output = tmp_path / "video.mp4"
    output.write_bytes(OLD_VIDEO)

    done = omnirt(
        *generate_args(output, "--json", "--progress", "never", *case.args),
        env={"MINIATURE_FAULT": case.fault, **case.env},
    )

    assert done.code == case.exit_code, done.stderr
    report = read_report(output)
    assert report == done.report
    assert report["status"] == case.status
    assert report["error"]["code"] == case.error
    assert report["error"]["exit_code"] == case.exit_code
    assert case.message in f"{report['error']['message']} {report['error']['hint']}"
    assert marked_processes(report["run_id"]) == []
    assert output.read_bytes() == OLD_VIDEO
    assert scratch_dirs(tmp_path) == []
    if case.kept:
        kept = tmp_path / f"video{case.kept}"
        assert report["kept"] == [str(kept)]
        assert kept.stat().st_size > 0


@pytest.mark.parametrize("fault", ["no_output", "empty_output", "mux_fail"])
@pytest.mark.parametrize("variant", ["flashtalk_old", "flashtalk_new", "flashtalk_ascend"])
def test_a_result_that_the_save_routine_lost_is_repaired_from_its_picture(
    fault: str, variant: str, tmp_path: Path
) -> None:
    output = tmp_path / "video.mp4"

    done = omnirt(
        *generate_args(output, "--json", "--progress", "never", "--max-chunks", "2", *checkout(variant)),
        env={"MINIATURE_FAULT": fault},
    )

    assert done.code == 0, done.stderr
    assert done.report["status"] == "succeeded"
    assert any("repaired" in warning for warning in done.report["warnings"])
    assert done.report["artifacts"][0]["num_frames"] == done.report["expected"]["frames"]
    assert output.stat().st_size > 0


def test_a_truncated_result_with_a_good_header_is_never_delivered(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"

    done = omnirt(*generate_args(output, "--json", "--progress", "never"), env={"MINIATURE_FAULT": "truncate"})

    assert done.code == 13, done.stderr
    assert not output.exists()
    verdicts = {check["name"]: check["status"] for check in done.report["checks"]}
    assert "failed" in (verdicts["decode"], verdicts["frame_count"])
    assert done.report["kept"] == [str(tmp_path / "video.failed.mp4")]


def test_quantizing_that_fell_back_is_a_failed_run(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"

    done = omnirt(
        *generate_args(output, "--json", "--quantize", "quanto-int4", "--max-chunks", "1", *checkout("flashtalk_quant"))
    )

    assert done.code == 10
    assert "quantiz" in done.report["error"]["message"]
    assert "script: " in done.stderr, "the script's own warning is shown while it runs"
    assert not output.exists()


@pytest.mark.parametrize(
    ("fault", "lag"), [("dead_mouth", None), ("shift=0.3", 0.3)], ids=["dead mouth", "lips 0.3 s late"]
)
def test_lips_that_do_not_follow_the_speech_are_warned_about(fault: str, lag: float | None, tmp_path: Path) -> None:
    done = omnirt(
        *generate_args(tmp_path / "video.mp4", "--json", "--progress", "never"), env={"MINIATURE_FAULT": fault}
    )

    assert done.code == 0, done.stderr
    sync = next(check for check in done.report["checks"] if check["name"] == "av_sync")
    assert sync["status"] == "warned"
    if lag is None:
        assert sync["actual"] is None
    else:
        assert abs(abs(sync["actual"]) - lag * 1000) <= 80


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for the inputs and for little more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=850k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_fills_up_in_mid_run_is_an_io_error_and_keeps_what_there_was(tiny_disk: Path) -> None:
    output = tiny_disk / "video.mp4"
    output.write_bytes(OLD_VIDEO)

    done = omnirt(*generate_args(output, "--json", "--skip-check", "disk"), "--size", "256*256")

    assert done.code == 74, done.stderr
    assert done.report["error"]["code"] == "io_error"
    assert output.read_bytes() == OLD_VIDEO
    assert scratch_dirs(tiny_disk) == []
    assert marked_processes(done.report["run_id"]) == []

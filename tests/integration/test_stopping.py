"""A run stops when it is told to, and nothing survives it, whoever was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.omnirt_cli_runs import (
    checkout,
    environment,
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

HANGING = {"MINIATURE_FAULT": "hang@chunk1"}
STUBBORN = {"MINIATURE_FAULT": "ignore_term,hang@chunk1"}
STOP_BOUND_S = 9.0


def _hanging(output: Path, *more: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    process = start(*generate_args(output, "--progress", "never", *more), env=env or HANGING)
    wait_for(lambda: log_has(output, "chunk-0 done"), seconds=60, what="the first chunk")
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=lambda v: str(v)
)
def test_a_signal_cancels_the_run_and_its_report_says_so(number: signal.Signals, code: int, tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    process = _hanging(output)

    process.send_signal(number)
    done = finish(process)

    report = read_report(output)
    assert done.code == code
    assert report["status"] == "cancelled"
    assert report["error"]["signal"] == number.name
    assert done.seconds < STOP_BOUND_S
    assert marked_processes(report["run_id"]) == []
    assert scratch_dirs(tmp_path) == []


def test_ranks_that_ignore_term_are_killed_within_nine_seconds(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    process = _hanging(output, env=STUBBORN)

    process.send_signal(signal.SIGTERM)
    done = finish(process)

    assert done.code == 143
    assert done.seconds < STOP_BOUND_S
    assert marked_processes(read_report(output)["run_id"]) == []


def test_a_second_interrupt_ends_everything_at_once(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    process = _hanging(output, env=STUBBORN)

    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    done = finish(process)

    assert done.code == 130
    assert done.seconds < 4.5, "sooner than the grace of 5 s"
    assert read_report(output)["status"] == "cancelled"


def test_after_sigkill_of_omnirt_nothing_survives_and_the_next_run_completes_the_report(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    process = _hanging(output, env=STUBBORN)
    run_id = read_report(output)["run_id"]

    kill_hard(process)

    wait_for(lambda: not marked_processes(run_id), seconds=STOP_BOUND_S, what="the end of every process")
    assert read_report(output)["status"] == "running"
    omnirt(*generate_args(tmp_path / "next.mp4", "--max-chunks", "1", "--progress", "never"))
    report = read_report(output)
    assert report["status"] == "interrupted"
    assert report["error"]["exit_code"] == 137


def test_after_sigkill_of_the_guard_the_run_fails_and_nothing_survives(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    process = _hanging(output, env=STUBBORN)
    run_id = read_report(output)["run_id"]

    os.kill(_guard_of(process.pid), signal.SIGKILL)
    done = finish(process)

    assert done.code == 10
    assert "guard" in read_report(output)["error"]["message"]
    assert marked_processes(run_id) == []


def _guard_of(pid: int) -> int:
    """OmniRT's one child that is neither ffmpeg nor ffprobe."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    threads = Path(f"/proc/{pid}/task").iterdir()
    every = {int(child) for thread in threads for child in (thread / "children").read_text().split()} | {
        int(child) for child in children
    }
    guards = [child for child in every if b"guard.py" in Path(f"/proc/{child}/cmdline").read_bytes()]
    assert len(guards) == 1
    return guards[0]


def test_under_torchrun_a_killed_rank_is_named_and_nothing_survives(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    output = tmp_path / "video.mp4"

    done = omnirt(
        *generate_args(output, "--json", "--launcher", "torchrun", "--nproc-per-node", "2", "--progress", "never"),
        env={"MINIATURE_FAULT": "kill@chunk1:rank1", "MINIATURE_TORCH": "1"},
    )

    assert done.code == 10
    error = done.report["error"]
    assert error["rank"] == 1
    assert error["signal"] == "SIGKILL"
    assert marked_processes(done.report["run_id"]) == []


def test_under_torchrun_the_rank_and_its_own_exit_code_are_named(tmp_path: Path) -> None:
    pytest.importorskip("torch")

    done = omnirt(
        *generate_args(tmp_path / "video.mp4", "--json", "--launcher", "torchrun", "--nproc-per-node", "2"),
        env={"MINIATURE_FAULT": "exit3@chunk1:rank1", "MINIATURE_TORCH": "1"},
    )

    assert done.code == 10
    assert done.report["error"]["rank"] == 1
    assert done.report["error"]["child_exit_code"] == 3


@pytest.mark.parametrize("victim", ["torchrun", "omnirt"])
def test_under_torchrun_nothing_survives_a_sigkill(victim: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    output = tmp_path / "video.mp4"
    process = _hanging(
        output, "--launcher", "torchrun", "--nproc-per-node", "2", env={**STUBBORN, "MINIATURE_TORCH": "1"}
    )
    run_id = read_report(output)["run_id"]
    assert len(marked_processes(run_id)) == 3

    if victim == "omnirt":
        kill_hard(process)
    else:
        os.kill(_torchrun_of(run_id), signal.SIGKILL)
        done = finish(process)
        assert done.code == 10
        assert "launcher" in read_report(output)["error"]["message"]

    wait_for(lambda: not marked_processes(run_id), seconds=STOP_BOUND_S, what="the end of every rank")


def _torchrun_of(run_id: str) -> int:
    launchers = [
        pid for pid in marked_processes(run_id) if b"torch.distributed.run" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert len(launchers) == 1
    return launchers[0]


def test_a_checkout_of_another_user_is_only_read(tmp_path: Path) -> None:
    """No byte of the checkout changes in a run."""
    before = _contents("flashtalk_new")

    done = omnirt(*generate_args(tmp_path / "video.mp4", "--max-chunks", "1", *checkout("flashtalk_new")))

    assert done.code == 0, done.stderr
    assert _contents("flashtalk_new") == before


def _contents(variant: str) -> dict[str, bytes]:
    root = Path(checkout(variant)[1])
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


API_CALL = """
import signal, sys
from omnirt import generate
from omnirt.requests import audio2video
before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
def check(event):
    assert before == {number: signal.getsignal(number) for number in before}
request = audio2video(model="soulx-flashtalk-14b", backend="cpu", size="128*128", image=sys.argv[1], audio=sys.argv[2],
                      output=sys.argv[3])
try:
    generate(request, on_event=check)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_the_python_api_changes_no_signal_handler_and_leaves_nothing_after_ctrl_c(
    tmp_path: Path, portrait: Path, speech: Path
) -> None:
    output = tmp_path / "video.mp4"
    process = subprocess.Popen(
        [sys.executable, "-c", API_CALL, str(portrait), str(speech), str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(STUBBORN),
    )
    wait_for(lambda: log_has(output, "chunk-0 done"), seconds=60, what="the first chunk")

    process.send_signal(signal.SIGINT)
    done = finish(process)

    assert done.stdout == "interrupted\n", done.stderr
    report = read_report(output)
    assert report["status"] == "cancelled"
    assert marked_processes(report["run_id"]) == []


def test_cancel_from_another_thread_stops_a_run(tmp_path: Path, portrait: Path, speech: Path) -> None:
    from omnirt import CancelToken, generate
    from omnirt.errors import CancelledRunError
    from omnirt.requests import audio2video

    token = CancelToken()
    request = audio2video(
        model="soulx-flashtalk-14b", backend="cpu", size="128*128", image=portrait, audio=speech, output_dir=tmp_path
    )

    def cancel_early(event: object) -> None:
        if getattr(event, "event", "") == "stage_started" and getattr(event, "stage", "") == "generate":
            threading.Thread(target=token.cancel).start()

    with pytest.raises(CancelledRunError) as caught:
        generate(request, on_event=cancel_early, cancel=token)

    assert caught.value.report is not None
    assert caught.value.report.status.value == "cancelled"
    assert marked_processes(caught.value.report.run_id) == []


def test_a_signal_ends_a_run_whose_env_script_hangs(tmp_path: Path) -> None:
    output = tmp_path / "video.mp4"
    script = tmp_path / "set_env.sh"
    script.write_text("echo started\nsleep 50\n")
    process = start(*generate_args(output, "--progress", "never", "--env-script", str(script)))
    wait_for(lambda: (tmp_path / "video.report.json").exists(), what="the report")
    time.sleep(0.5)

    process.send_signal(signal.SIGTERM)
    done = finish(process)

    assert done.code == 143
    assert done.seconds < 9, "the script would sleep for 50 s"
    assert read_report(output)["status"] == "cancelled"

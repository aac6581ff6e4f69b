"""Reports: refusals do not damage what is there, secrets stay hidden, numbers mean what they say."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path

from tests.omnirt_cli_runs import (
    checkout,
    finish,
    generate_args,
    kill_hard,
    log_has,
    omnirt,
    read_report,
    start,
    wait_for,
)


def test_a_refused_request_writes_a_report_even_where_no_folder_was(tmp_path: Path) -> None:
    output = tmp_path / "new" / "v.mp4"

    done = omnirt(*generate_args(output, "--events", "-", "--progress", "never", audio=tmp_path / "none.wav"))

    assert done.code == 66
    report = read_report(output)
    assert report["status"] == "failed"
    assert report["error"]["code"] == "input_missing"
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["event"], last["exit_code"]) == ("run_finished", 66)


def test_no_clobber_leaves_the_earlier_report_alone(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    omnirt(*generate_args(output, "--max-chunks", "1"))
    before = read_report(output)

    assert omnirt(*generate_args(output, "--no-clobber")).code == 73
    assert read_report(output) == before


def test_a_refusal_does_not_touch_the_report_of_a_run_that_lives(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    living = start(*generate_args(output), env={"MINIATURE_FAULT": "hang@chunk0"})
    wait_for(lambda: log_has(output, "Data preparation done"), what="the running script")

    assert omnirt(*generate_args(output, audio=tmp_path / "none.wav")).code == 66
    assert read_report(output)["status"] == "running"
    living.send_signal(signal.SIGTERM)
    assert finish(living).code == 143


def test_secrets_are_hidden_in_plans_and_listings(tmp_path: Path) -> None:
    plan = omnirt(*generate_args(tmp_path / "v.mp4", "--dry-run", "--json", "--env", "MY_TOKEN=abc"))
    (tmp_path / "omnirt.yaml").write_text("env: {API_KEY: abc, PLAIN: seen}\n")
    listed = omnirt("config", "show", "--json", cwd=tmp_path)

    assert "abc" not in plan.stdout
    assert plan.json["plan"]["env"]["MY_TOKEN"] == "***"
    assert "abc" not in listed.stdout
    assert "seen" in listed.stdout


def test_a_failed_run_has_no_real_time_factor(tmp_path: Path) -> None:
    output = tmp_path / "v.mp4"
    omnirt(*generate_args(output), env={"MINIATURE_FAULT": "exit3@chunk1"})

    timings = read_report(output)["timings"]

    assert "rtf" not in timings
    assert "wall_rtf" not in timings
    assert timings["chunk_count"] == 1


def test_the_checksum_of_the_video_is_in_the_report(tmp_path: Path) -> None:
    import hashlib

    output = tmp_path / "v.mp4"
    omnirt(*generate_args(output, "--max-chunks", "1"))

    assert read_report(output)["artifacts"][0]["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()


def test_a_killed_run_with_its_scratch_elsewhere_is_completed_too(tmp_path: Path) -> None:
    folder = tmp_path / "res_out"
    folder.mkdir()
    output = folder / "v.mp4"
    args = ["--working-directory", "checkout", *checkout("flashtalk_ascend")]
    plain = generate_args(output, "--progress", "never", *args)
    size = plain.index("--size")
    del plain[size : size + 2]
    process = start(*plain, env={"MINIATURE_FAULT": "hang@load"})
    wait_for(lambda: log_has(output, "Creating WanModel"), what="the running script")
    scratch = Path(read_report(output)["scratch_dir"])
    assert scratch.parent == Path(tempfile.gettempdir())

    kill_hard(process)
    wait_for(lambda: not _locked(scratch), what="the end of the guard")
    again = omnirt(*plain[:-4], *args, "--max-chunks", "1", "--output", str(folder / "next.mp4"))

    assert again.code == 0, again.stderr
    assert read_report(output)["status"] == "interrupted"


def _locked(scratch: Path) -> bool:
    import fcntl

    descriptor = os.open(scratch / ".lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False

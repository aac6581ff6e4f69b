"""A run stops when Python's caller or another thread tells it to, in every phase, and touches no checkout."""

from __future__ import annotations

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
    log_has,
    marked_processes,
    omnirt,
    read_report,
    start,
    wait_for,
)

STUBBORN = {"MINIATURE_FAULT": "ignore_term,hang@chunk1"}


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

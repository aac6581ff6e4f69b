"""`--resident`: the script's video from a worker that keeps its model, its devices, and what happens when either ends.

The checkout is the miniature and the vendor's tool a stand-in; daemon, worker, locks and command line are real.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from omnirt_cli.resident.client import Connection
from omnirt_cli.resident.spec import WorkerInfo, WorkerState
from tests.omnirt_cli_runs import (
    CHECKOUTS,
    Finished,
    checkout,
    finish,
    generate_args,
    log_has,
    omnirt,
    read_report,
    scratch_dirs,
    start,
    wait_for,
)
from tests.vendor_tools import Chip, fake_npu_smi, machine

RESIDENT = ("--resident", "--json", "--progress", "never")


@pytest.fixture(autouse=True)
def _no_daemon_is_left() -> Iterator[None]:
    yield
    connection = Connection.running(os.environ, any_version=True)
    if connection is not None:
        connection.shut_down(30)


def render(output: Path, *more: str, env: dict[str, str] | None = None, **options: Any) -> Finished:
    return omnirt(*generate_args(output, *RESIDENT, *more, **options), env=env)


def workers() -> tuple[WorkerInfo, ...]:
    connection = Connection.running(os.environ)
    if connection is None:
        return ()
    with connection:
        return connection.workers()


def frame_sums(video: Path) -> list[str]:
    shown = ["ffmpeg", "-v", "error", "-i", str(video), "-map", "v", "-f", "framemd5", "-"]
    text = subprocess.run(shown, capture_output=True, check=True, text=True).stdout
    return [line.split(",")[-1].strip() for line in text.splitlines() if not line.startswith("#")]


def test_every_request_gives_the_drivers_video_and_the_second_finds_the_model_loaded(tmp_path: Path) -> None:
    driven = omnirt(*generate_args(tmp_path / "driven.mp4", "--executor", "driver", "--progress", "never"))
    first, second = render(tmp_path / "a.mp4"), render(tmp_path / "b.mp4")

    assert (driven.code, first.code, second.code) == (0, 0, 0), first.stderr + second.stderr
    assert frame_sums(tmp_path / "driven.mp4") == frame_sums(tmp_path / "a.mp4") == frame_sums(tmp_path / "b.mp4")
    assert [done.report["hot"] for done in (first, second)] == [False, True]
    assert first.report["worker_id"] == second.report["worker_id"]
    assert first.report["timings"]["model_load_ms"] > 0
    assert "model_load_ms" not in second.report["timings"]
    assert scratch_dirs(tmp_path) == []


def test_the_report_has_the_published_times_and_says_who_rendered(tmp_path: Path) -> None:
    render(tmp_path / "warm.mp4", "--max-chunks", "1")
    report = render(tmp_path / "v.mp4", "--max-chunks", "3").report

    assert report["execution_mode"] == "persistent_worker"
    assert report["config_resolved"]["executor"] == "resident"
    assert report["queue_wait_ms"] >= 0
    assert {
        "prepare_conditions_ms",
        "denoise_loop_ms",
        "export_ms",
        "chunk_count",
        "audio_embedding_ms_avg",
        "chunk_core_ms_avg",
        "steady_chunk_core_ms_avg",
        "chunk_copy_ms_avg",
        "chunk_total_ms_avg",
        "steady_chunk_total_ms_avg",
    } <= set(report["timings"])
    assert [chunk["core_scope"] for chunk in report["chunks"]] == ["core"] * 3
    assert report["memory"]["worker_rss_gib"] > 0
    assert report["cache_hits"] == ["prepared_conditions"]


def test_what_a_request_chooses_keeps_the_worker_and_a_size_takes_another(tmp_path: Path) -> None:
    asked: tuple[tuple[str, ...], ...] = (
        ("--max-chunks", "1"),
        ("--max-chunks", "2", "--seed", "5"),
        ("--max-chunks", "1", "--audio-encode-mode", "once", "--prompt", "smile"),
        ("--max-chunks", "1", "--sample-steps", "2"),
    )
    same = [render(tmp_path / f"{number}.mp4", *more) for number, more in enumerate(asked)]
    other = render(tmp_path / "other.mp4", "--max-chunks", "1", "--size", "64*128")

    assert [done.code for done in (*same, other)] == [0] * 5
    assert len({done.report["worker_id"] for done in same}) == 1
    assert other.report["worker_id"] != same[0].report["worker_id"]
    assert len(same[3].report["chunks"][0]["denoise_steps_ms"]) == 2
    assert len(workers()) == 2


def test_validate_takes_nothing_and_names_the_worker_that_has_the_model(tmp_path: Path) -> None:
    asked = ("validate", *generate_args(tmp_path / "v.mp4", "--resident", "--json")[1:])

    before = omnirt(*asked)
    assert before.code == 0, before.stderr
    assert workers() == ()
    done = render(tmp_path / "v.mp4", "--max-chunks", "1")
    told = {check["name"]: check for check in omnirt(*asked).json["checks"]}
    assert f"worker {done.report['worker_id']} has the model" in told["leases"]["detail"]


def test_ctrl_c_ends_the_request_keeps_its_chunks_and_leaves_the_worker_to_the_next(tmp_path: Path) -> None:
    going = start(*generate_args(tmp_path / "v.mp4", *RESIDENT), env={"MINIATURE_CHUNK_S": "0.5"})
    wait_for(lambda: log_has(tmp_path / "v.mp4", "chunk-2 done"), what="the third chunk")
    going.send_signal(signal.SIGINT)
    stopped = finish(going)
    after = render(tmp_path / "after.mp4", "--max-chunks", "1", env={"MINIATURE_CHUNK_S": "0.5"})

    assert stopped.code == 130, stopped.stderr
    assert stopped.report["kept"] == [str(tmp_path / "v.partial.mp4")]
    assert len(frame_sums(tmp_path / "v.partial.mp4")) % 28 == 0
    assert after.code == 0, after.stderr
    assert after.report["worker_id"] == stopped.report["worker_id"]
    assert after.report["hot"] is True


def test_an_error_ends_the_request_with_its_text_and_the_worker_lives(tmp_path: Path) -> None:
    broken = render(
        tmp_path / "v.mp4", "--no-checkout-checks", *checkout("flashtalk_new"), env=fault("oom_cuda@chunk1")
    )

    assert broken.code == 11
    assert "CUDA out of memory" in "".join(broken.report["error"]["log_tail"])
    assert [worker.state for worker in workers()] == [WorkerState.READY]


def fault(spec: str) -> dict[str, str]:
    return {"MINIATURE_FAULT": spec}


@pytest.mark.parametrize(("what", "code"), [("oom_npu", 11), ("missing_module", 10)])
def test_a_model_that_fails_to_load_is_told_as_in_a_cold_run(what: str, code: int, tmp_path: Path) -> None:
    cold = omnirt(*generate_args(tmp_path / "cold.mp4", "--json", "--progress", "never"), env=fault(what))
    hot = render(tmp_path / "hot.mp4", env=fault(what))

    assert cold.code == hot.code == code
    assert hot.report["error"]["message"] == cold.report["error"]["message"]
    assert hot.report["error"]["hint"] == cold.report["error"]["hint"]


def test_a_worker_that_is_stopped_at_a_request_says_so(tmp_path: Path) -> None:
    going = start(*generate_args(tmp_path / "v.mp4", *RESIDENT), env={"MINIATURE_CHUNK_S": "0.5"})
    wait_for(lambda: log_has(tmp_path / "v.mp4", "chunk-0 done"), what="the first chunk")
    assert omnirt("worker", "stop", "--all").code == 0
    done = finish(going)

    assert done.code == 10, done.stderr
    assert "the worker was stopped" in done.report["error"]["message"]


def test_code_that_was_edited_is_loaded_anew(tmp_path: Path) -> None:
    """Also where its time is older than before, as `cp -p` and archives make it."""
    shutil.copytree(CHECKOUTS.parent, tmp_path / "miniature", ignore=shutil.ignore_patterns("__pycache__"))
    repo = tmp_path / "miniature" / "checkouts" / "flashtalk_new"
    where = ("--repo-path", str(repo), "--python-executable", sys.executable, "--max-chunks", "1")
    before = render(tmp_path / "a.mp4", *where)
    inference = repo / "flash_talk" / "inference.py"
    inference.write_text(inference.read_text() + "\n# edited\n")
    os.utime(inference, (1e9, 1e9))
    after = render(tmp_path / "b.mp4", *where)

    assert (before.code, after.code) == (0, 0), after.stderr
    assert after.report["worker_id"] != before.report["worker_id"]


def test_a_worker_that_dies_at_a_request_fails_it_and_the_next_request_gets_a_new_process(tmp_path: Path) -> None:
    died = render(tmp_path / "v.mp4", env=fault("kill@chunk2"))

    assert died.code == 10
    assert died.report["error"]["exit_code"] == 10
    assert died.report["kept"], "the chunks before it"
    wait_for(lambda: all(worker.state is not WorkerState.BUSY for worker in workers()), what="the worker's end")


def test_a_model_that_gave_up_quantizing_serves_no_request(tmp_path: Path) -> None:
    asked = ("--quantize", "quanto-int4", "--max-chunks", "1", *checkout("flashtalk_quant"))
    first, second = render(tmp_path / "a.mp4", *asked), render(tmp_path / "b.mp4", *asked)
    works = render(tmp_path / "c.mp4", *asked, "--env", "MINIATURE_QUANT=ok")

    assert [done.code for done in (first, second)] == [10, 10]
    for done in (first, second):
        assert "quantizing needs optimum" in done.report["error"]["message"]
    assert works.code == 0, works.stderr


def test_a_daemon_that_is_killed_takes_its_workers_along_and_the_run_says_so(tmp_path: Path) -> None:
    going = start(*generate_args(tmp_path / "v.mp4", *RESIDENT), env={"MINIATURE_CHUNK_S": "0.5"})
    wait_for(lambda: log_has(tmp_path / "v.mp4", "chunk-0 done"), what="the first chunk")
    connection = Connection.running(os.environ)
    assert connection is not None
    started = psutil.Process(connection.daemon.pid).children(recursive=True)
    os.kill(connection.daemon.pid, signal.SIGKILL)
    connection.close()
    done = finish(going)

    assert done.code == 10, done.stderr
    assert "daemon" in done.report["error"]["message"]
    assert len(started) >= 2, "a guard and a worker at least"
    wait_for(lambda: not psutil.wait_procs(started, timeout=0.1)[1], what="the end of the worker's processes")
    again = render(tmp_path / "again.mp4", "--max-chunks", "1")
    assert again.code == 0, again.stderr


def test_liveact_is_refused_by_its_name(tmp_path: Path) -> None:
    done = render(tmp_path / "v.mp4", model="soulx-liveact-14b")

    assert done.code == 2
    assert "SoulX-LiveAct cannot be kept loaded" in done.stderr
    assert workers() == ()


def test_two_executors_are_refused(tmp_path: Path) -> None:
    done = render(tmp_path / "v.mp4", "--executor", "script")

    assert done.code == 2
    assert "--resident does not go with --executor script" in done.stderr


# --- devices --------------------------------------------------------------------------------------


@pytest.fixture
def npus(tmp_path: Path) -> dict[str, str]:
    fake_npu_smi(tmp_path / "tools", [Chip(npu=number) for number in range(2)])
    return machine(tmp_path / "tools", {"OMNIRT_LOCK_DIR": os.environ["OMNIRT_LOCK_DIR"]})


def on_npus(output: Path, *more: str) -> list[str]:
    args = [arg for arg in generate_args(output, *more) if arg not in ("--backend", "cpu")]
    return [*args, "--backend", "ascend", "--launcher", "python", "--max-chunks", "1", *checkout("flashtalk_ascend")]


def test_a_worker_holds_its_device_against_others_and_gives_way_to_its_own_kind(
    tmp_path: Path, npus: dict[str, str]
) -> None:
    held = omnirt(*on_npus(tmp_path / "a.mp4", *RESIDENT, "--visible-devices", "0"), env=npus)
    cold = omnirt(*on_npus(tmp_path / "b.mp4", "--json", "--visible-devices", "0"), env=npus)
    beside = omnirt(*on_npus(tmp_path / "c.mp4", "--json", "--devices", "1"), env=npus)
    other = omnirt(*on_npus(tmp_path / "d.mp4", *RESIDENT, "--visible-devices", "0", "--size", "64*128"), env=npus)

    assert held.code == 0, held.stderr
    assert held.report["devices"]["used"][0]["id"] == "0"
    assert cold.code == 75
    assert held.report["worker_id"] in cold.stderr
    assert beside.code == 0, beside.stderr
    assert beside.report["devices"]["used"][0]["id"] == "1"
    assert other.code == 0, other.stderr
    assert [worker.id for worker in workers()] == [other.report["worker_id"]]


def test_a_render_waits_for_the_worker_that_another_is_about_to_start(tmp_path: Path, npus: dict[str, str]) -> None:
    """Between the lease and the worker's start the first sources its env script, as slow as CANN's can be."""
    script = tmp_path / "set_env.sh"
    script.write_text("sleep 3\n")
    asked = (*RESIDENT, "--visible-devices", "0", "--env-script", str(script))
    first = start(*on_npus(tmp_path / "a.mp4", *asked), env=npus)
    wait_for(lambda: (tmp_path / "a.report.json").exists(), what="the first run")
    time.sleep(1)
    second = omnirt(*on_npus(tmp_path / "b.mp4", *asked), env=npus)
    done = finish(first, timeout=60)

    assert (done.code, second.code) == (0, 0), second.stderr
    assert second.report["worker_id"] == done.report["worker_id"]


def test_an_idle_worker_stays_where_its_end_would_not_suffice(tmp_path: Path, npus: dict[str, str]) -> None:
    idle = omnirt(*on_npus(tmp_path / "a.mp4", *RESIDENT, "--visible-devices", "0"), env=npus)
    busy = start(
        *on_npus(tmp_path / "b.mp4", *RESIDENT, "--visible-devices", "1", "--seed", "3"),
        env={**npus, "MINIATURE_CHUNK_S": "60"},
    )
    wait_for(lambda: [worker.state for worker in workers()].count(WorkerState.BUSY), what="the second worker's request")
    both = on_npus(tmp_path / "c.mp4", *RESIDENT, "--visible-devices", "0,1", "--size", "64*128")
    refused = omnirt(*["torchrun" if arg == "python" else arg for arg in both], "--nproc-per-node", "2", env=npus)
    for _ in range(2):
        busy.send_signal(signal.SIGINT)
        time.sleep(0.5)
    finish(busy)

    assert refused.code == 75, refused.stderr
    assert idle.report["worker_id"] in [worker.id for worker in workers()]


def test_any_device_will_do_where_none_is_named(tmp_path: Path, npus: dict[str, str]) -> None:
    first = omnirt(*on_npus(tmp_path / "a.mp4", *RESIDENT, "--devices", "1"), env=npus)
    second = omnirt(*on_npus(tmp_path / "b.mp4", *RESIDENT, "--devices", "1"), env=npus)
    elsewhere = omnirt(*on_npus(tmp_path / "c.mp4", *RESIDENT, "--visible-devices", "1"), env=npus)

    assert [done.code for done in (first, second, elsewhere)] == [0, 0, 0]
    assert second.report["worker_id"] == first.report["worker_id"]
    assert elsewhere.report["worker_id"] != first.report["worker_id"]
    assert read_report(tmp_path / "c.mp4")["devices"]["used"][0]["id"] == "1"

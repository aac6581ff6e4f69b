"""`omnirt worker`, as a person types it, with the real worker program and the miniature."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.omnirt_cli_runs import Finished, finish, generate_args, kill_hard, log_has, omnirt, start
from tests.resident.resident_runs import end_daemon, wait_for, worker_processes

MODEL = ("--model", "soulx-flashtalk-14b", "--backend", "cpu", "--size", "128*128")
SLOW = {"MINIATURE_CHUNK_S": "0.2"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "runtime"
    monkeypatch.setenv("OMNIRT_RUNTIME_DIR", str(folder))
    yield folder
    end_daemon(folder)


def worker(*words: str) -> Finished:
    return omnirt("worker", *words)


def test_without_a_daemon_there_are_no_workers_and_that_is_no_error(place: Path) -> None:
    done = worker("list")
    assert (done.stdout, done.code) == ("no workers\n", 0)
    assert worker("status").stdout == "no daemon is running\n"
    assert worker("list", "--json").json == {"daemon": None, "workers": []}
    assert worker("stop", "--all", "--json").json == {"stopped": [], "daemon_ended": False}
    for words in (("stop", "abcd"), ("status", "abcd"), ("logs", "abcd")):
        done = worker(*words, "--json")
        assert (done.code, done.json["error"]["code"]) == (66, "input_missing")
    assert not place.exists()


def test_stop_wants_to_know_whom(place: Path) -> None:
    assert worker("stop").code == worker("stop", "abcd", "--all").code == 2


def test_a_worker_from_its_start_to_its_stop(place: Path, tmp_path: Path) -> None:
    started = worker("start", *MODEL)
    worker_id = started.stdout.strip()
    assert started.code == 0, started.stderr
    assert f"worker {worker_id} (flashtalk 128x128) is loading" in started.stderr
    assert worker("start", *MODEL, "--json").json["worker"]["id"] == worker_id

    table = worker("list").stdout.splitlines()
    assert max(len(line) for line in table) <= 80
    row = table[1].split()
    assert row[:6] == [worker_id, "flashtalk", "128x128", "cpu", "ready", "0"]
    told = worker("status", worker_id[:4], "--json").json["worker"]
    assert (told["state"], told["queue"], told["key"]["model"]) == ("ready", 0, "soulx-flashtalk-14b")
    assert told["rss_bytes"] > 1 << 20
    summary = worker("status").stdout
    assert f"worker     {worker_id}  flashtalk 128x128" in summary

    assert worker("stop", worker_id[:4]).stdout.strip() == worker_id
    assert worker_processes(worker_id) == []
    lines = worker("logs", worker_id[:4], "--json").json["lines"]
    assert any("soulx" in line.lower() or "miniature" in line.lower() for line in lines), lines
    assert worker("logs", worker_id, "--tail", "1").stdout.count("\n") == 1
    assert worker("stop", "--all", "--json").json == {"stopped": [], "daemon_ended": True}


def test_a_model_that_cannot_load_says_why(place: Path) -> None:
    done = omnirt("worker", "start", *MODEL, "--json", env={"MINIATURE_FAULT": "missing_module"})

    assert done.code == 10, done.stderr
    assert done.json["error"]["code"] == "model_failed"
    assert ".log" in done.json["error"]["hint"]


def test_a_killed_render_leaves_the_worker_to_the_next_one(place: Path, tmp_path: Path) -> None:
    worker_id = omnirt("worker", "start", *MODEL, env=SLOW).stdout.strip()
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    slow = start(*generate_args(first, "--resident"))
    wait_for(lambda: log_has(first, "chunk-1 done") or slow.poll() is not None, what="a chunk")
    kill_hard(slow)

    done = omnirt(*generate_args(second, "--resident", "--json"))

    assert done.code == 0, done.stderr
    assert done.report["worker_id"] == worker_id
    assert done.report["execution_mode"] == "persistent_worker"


def test_an_interrupted_render_is_cancelled_between_two_chunks(place: Path, tmp_path: Path) -> None:
    worker_id = omnirt("worker", "start", *MODEL, env=SLOW).stdout.strip()
    output = tmp_path / "a.mp4"
    run = start(*generate_args(output, "--resident", "--json"))
    wait_for(lambda: log_has(output, "chunk-1 done") or run.poll() is not None, what="a chunk")
    run.send_signal(signal.SIGINT)

    assert finish(run).code == 130
    assert worker("status", worker_id, "--json").json["worker"]["restarts"] == 0

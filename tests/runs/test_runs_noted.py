"""Noting a run costs it nothing but a moment, and a run that ended without a word is told from one that lives."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kept_runs import TALK, Beside, Runs, dead_pid, failure, living, make_report, make_running

from omnirt_cli.report import RunReport, RunStatus
from omnirt_cli.run.scratch import Scratch, complete_interrupted
from omnirt_cli.runs.entry import Origin
from omnirt_cli.runs.history import History, earlier
from omnirt_cli.runs.kept import CUT_MARK, MOST_LOG_BYTES, KeptRun
from omnirt_cli.runs.notes import note_finished, note_started
from omnirt_cli.runs.place import DATA_DIR_VARIABLE, DataPlace
from tests.omnirt_cli_runs import omnirt


def listed(*args: str) -> list[dict[str, Any]]:
    done = omnirt("runs", "list", "--json", *args)
    assert done.code == 0, done.stderr
    found: list[dict[str, Any]] = done.json["runs"]
    return found


def statuses() -> dict[str, RunStatus]:
    return {entry.run_id: entry.status for entry in History.current().entries()}


# --- what is kept -----------------------------------------------------------------------------------


def test_a_run_that_ended_is_listed_with_its_figures(runs: Runs) -> None:
    report = runs.noted()

    (found,) = listed()

    assert found["run_id"] == report.run_id
    assert (found["status"], found["model"], found["variant"]) == ("succeeded", TALK, "public-new")
    assert (found["device_name"], found["processes"], found["revision"]) == ("910B2", 8, "688982e")
    assert (found["total_ms"], found["steady_chunk_ms"], found["core_scope"]) == (95_000.0, 900.0, "core")
    assert found["knobs"] == {"sample_steps": 4, "size": "416*704"}
    assert (found["width"], found["height"], found["frames"]) == (416, 704, 89)
    assert found["report_path"] == str(Beside(runs.folder, "talk0").report)


def test_the_report_and_the_log_outlive_what_lies_beside_the_video(runs: Runs) -> None:
    report = runs.noted(log="the model is loaded\n")
    for path in runs.folder.iterdir():
        path.unlink()

    assert omnirt("runs", "show", report.run_id, "--json").json["report"]["timings"] == report.timings
    assert omnirt("runs", "logs", report.run_id).stdout == "the model is loaded\n"


def test_the_next_run_to_the_same_output_takes_nothing_from_the_one_before(runs: Runs) -> None:
    first = runs.noted(name="same", log="first\n")
    log = Beside(runs.folder, "same").log
    with log.open("r+") as file:
        file.truncate(0)
        file.write("second\n")

    assert omnirt("runs", "logs", first.run_id).stdout == "first\n"


def test_of_a_log_that_is_too_long_the_end_is_kept(runs: Runs, place: DataPlace) -> None:
    line = b"x" * 1023 + b"\n"
    report = make_report(runs.folder)
    beside = Beside(runs.folder)
    beside.save(report)
    beside.log.write_bytes(line * (MOST_LOG_BYTES // len(line) + 500) + b"the end\n")

    assert note_finished(report, beside.report, beside.log) is None

    kept = KeptRun.of(place, report.run_id).log.read_bytes()
    assert kept.startswith(CUT_MARK + b"x")
    assert kept.endswith(b"the end\n")
    assert len(kept) <= MOST_LOG_BYTES + len(CUT_MARK)
    assert History.current().log(History.current().find("last")) == beside.log


def test_nobody_else_may_read_what_is_kept(runs: Runs, place: DataPlace) -> None:
    runs.noted()

    assert place.root.stat().st_mode & 0o077 == 0


# --- runs that ended without a word ------------------------------------------------------------------


def test_a_run_that_sigkill_ended_is_shown_as_interrupted(runs: Runs, place: DataPlace) -> None:
    beside = Beside(runs.folder)
    report = make_running(runs.folder)
    with living(beside, report) as process:
        assert [run["status"] for run in listed()] == ["running"]
        process.send_signal(signal.SIGKILL)
        process.wait()

        (found,) = listed()

    assert (found["status"], found["error_code"]) == ("interrupted", "interrupted")
    assert "status   interrupted" in omnirt("runs", "show", "last").stdout
    assert omnirt("runs", "logs", "last").stdout == "the model is loading\n"
    assert KeptRun.of(place, report.run_id).log_is_whole()


def test_showing_an_interrupted_run_leaves_the_report_beside_the_video_to_the_engine(
    runs: Runs, tmp_path: Path
) -> None:
    beside = Beside(runs.folder)
    scratch = Scratch.create(runs.folder / ".omnirt-x", beside.report)
    report = make_running(runs.folder, scratch_dir=str(scratch.path))
    with living(beside, report):
        pass
    assert [run["status"] for run in listed()] == ["interrupted"]
    assert RunReport.model_validate_json(beside.report.read_bytes()).status is RunStatus.RUNNING

    scratch.close(remove=False)

    assert complete_interrupted(runs.folder) == [beside.report]
    assert [run["status"] for run in listed()] == ["interrupted"]


def test_a_run_lives_while_one_of_its_processes_holds_its_log(runs: Runs, place: DataPlace) -> None:
    beside = Beside(runs.folder)
    report = make_running(runs.folder)
    beside.save(report)
    place.make()
    KeptRun.of(place, report.run_id).begin(
        Origin.here(beside.report, beside.log).model_copy(update={"pid": dead_pid()})
    )
    with beside.log.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert statuses() == {report.run_id: RunStatus.RUNNING}

    assert statuses() == {report.run_id: RunStatus.INTERRUPTED}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, RunStatus.RUNNING),
        ({"pid_start": 1}, RunStatus.INTERRUPTED),
        ({"boot": "another"}, RunStatus.INTERRUPTED),
        ({"pid": None}, RunStatus.INTERRUPTED),
        ({"host": "elsewhere", "pid": None}, RunStatus.RUNNING),
    ],
    ids=["this process", "a later process of that number", "before a reboot", "no process", "another machine"],
)
def test_without_a_log_the_process_tells(
    runs: Runs, place: DataPlace, changed: dict[str, Any], status: RunStatus
) -> None:
    beside = Beside(runs.folder)
    report = make_running(runs.folder)
    beside.save(report)
    beside.log.unlink()
    place.make()
    KeptRun.of(place, report.run_id).begin(Origin.here(beside.report, beside.log).model_copy(update=changed))

    assert statuses() == {report.run_id: status}


def test_a_report_on_disk_that_tells_the_end_wins_over_the_index(runs: Runs) -> None:
    beside = Beside(runs.folder)
    report = make_running(runs.folder)
    beside.save(report)
    note_started(report, beside.report, beside.log)
    beside.save(make_report(runs.folder, run_id=report.run_id, status=RunStatus.FAILED, error=failure()))

    assert statuses() == {report.run_id: RunStatus.FAILED}


def test_a_killed_run_is_told_from_a_later_one_that_writes_the_same_output(runs: Runs) -> None:
    beside = Beside(runs.folder)
    killed, lives = make_running(runs.folder), make_running(runs.folder, started_at="2026-11-20T11:00:00.000Z")
    with living(beside, killed):
        pass
    with living(beside, lives):
        assert statuses() == {killed.run_id: RunStatus.INTERRUPTED, lives.run_id: RunStatus.RUNNING}


# --- whatever is missing, no render fails --------------------------------------------------------------


def both_notes(runs: Runs) -> tuple[str | None, str | None, float]:
    report, beside = make_report(runs.folder), Beside(runs.folder)
    beside.save(report)
    began = time.monotonic()
    return (
        note_started(report, beside.report, beside.log),
        note_finished(report, beside.report, beside.log),
        time.monotonic() - began,
    )


def test_a_place_that_cannot_be_written_is_a_warning_said_once(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory should be")
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(blocked))

    first, second, _ = both_notes(runs)

    assert first is not None
    assert first.startswith("`omnirt runs` may not know this run")
    assert first == second
    assert listed() == []


def test_a_user_without_a_home_is_a_warning(runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(DATA_DIR_VARIABLE)
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name: f"~/.local/share/{name}")
    monkeypatch.chdir(tmp_path)

    first, second, _ = both_notes(runs)

    assert first is not None
    assert "home" in first
    assert first == second
    assert not (tmp_path / "~").exists()
    assert earlier(make_report(runs.folder)) == []


def test_an_index_that_is_held_for_good_delays_a_run_by_seconds_and_loses_nothing(runs: Runs, place: DataPlace) -> None:
    before = runs.noted()
    with place.index_lock.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        first, second, seconds = both_notes(runs)
        done = omnirt("runs", "list", "--json")

    assert first == second
    assert first is not None
    assert "held by another process" in first
    assert seconds < 4.0
    assert len(done.json["runs"]) == 2
    assert "the reports were read instead" in done.stderr
    assert len(listed()) == 2
    assert before.run_id in statuses()


def test_a_database_that_is_locked_for_good_is_no_fault_either(runs: Runs, place: DataPlace) -> None:
    runs.noted()
    holder = sqlite3.connect(place.index, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    try:
        first, _, seconds = both_notes(runs)
        assert first is not None
        assert seconds < 5.0
        assert len(listed()) == 2
    finally:
        holder.close()

    assert len(listed()) == 2
    assert not list(place.root.glob("*damaged*"))


def test_a_run_whose_id_could_lead_elsewhere_is_not_kept(runs: Runs, tmp_path: Path) -> None:
    report = make_report(runs.folder, run_id="../../outside")

    assert note_finished(report, None, None) is not None
    assert not (tmp_path / "outside").exists()


# --- several at once -------------------------------------------------------------------------------------

_WRITES = """
import sys
from pathlib import Path
from kept_runs import Runs, make_report
runs = Runs(Path(sys.argv[1]))
sys.stdin.readline()
for number in range(int(sys.argv[3])):
    runs.noted(name=f"{sys.argv[2]}-{number}")
"""


def write_at_once(runs: Runs, processes: int, each: int) -> None:
    path = os.pathsep.join(str(Path(__file__).parents[n]) for n in (0, 2))
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITES, str(runs.folder), f"p{number}", str(each)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )
        for number in range(processes)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr


def test_processes_that_write_at_once_lose_nothing(runs: Runs, place: DataPlace) -> None:
    write_at_once(runs, 5, 8)

    rows = sqlite3.connect(place.index)
    try:
        assert rows.execute(
            "SELECT count(*), count(DISTINCT run_id) FROM runs WHERE status = 'succeeded'"
        ).fetchone() == (
            40,
            40,
        )
    finally:
        rows.close()
    assert len(listed("--limit", "100")) == 40


def test_the_first_write_of_several_at_once_replaces_a_damaged_index_once(runs: Runs, place: DataPlace) -> None:
    place.make()
    place.index.write_bytes(b"garbage " * 1000)

    noting = [note_in_a_process(runs, number) for number in range(5)]
    warned = sum("was damaged" in process.communicate(timeout=60)[1] for process in noting)

    assert warned == 1
    assert [path.name for path in place.root.glob("*.damaged-*")] == ["runs.sqlite3.damaged-1"]
    assert len(statuses()) == 5


def note_in_a_process(runs: Runs, number: int) -> subprocess.Popen[str]:
    code = (
        "import sys; from pathlib import Path; from kept_runs import *\n"
        "beside = Beside(Path(sys.argv[1]), sys.argv[2]); report = make_report(beside.folder, beside.name)\n"
        "beside.save(report); warning = note_finished(report, beside.report, beside.log)\n"
        "print(warning, file=sys.stderr)"
    )
    path = os.pathsep.join(str(Path(__file__).parents[n]) for n in (0, 2))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(runs.folder), f"q{number}"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )

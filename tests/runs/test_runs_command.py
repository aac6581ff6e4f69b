"""`omnirt runs list, show, logs, compare`: what a person and a program read."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from kept_runs import HEAD, TALK, TIMINGS, Beside, Runs, failure, living, make_running

from omnirt_cli.finding import Finding, Severity
from omnirt_cli.report import ChunkInfo, DeviceInfo, DevicesInfo, RunStatus
from omnirt_cli.runs.history import History, earlier
from omnirt_cli.runs.place import DataPlace
from omnirt_cli.runs.since import since_moment
from tests.omnirt_cli_runs import environment, finish, omnirt, start


def stamp(hour: int) -> str:
    return f"2026-11-20T{hour:02}:00:00.000Z"


# --- list ---------------------------------------------------------------------------------------------


def test_the_table_fits_80_columns_newest_first(runs: Runs) -> None:
    old = runs.noted(started_at=stamp(8), status=RunStatus.FAILED, error=failure(), timings={})
    new = runs.noted(started_at=stamp(9), model=HEAD, backend="ascend", status=RunStatus.INTERRUPTED)

    done = omnirt("runs", "list")

    header, first, second = done.stdout.splitlines()
    assert max(map(len, (header, first, second))) <= 80
    assert header.split()[:2] == ["ID", "STARTED"]
    assert first.split() == [new.run_id[:8], "2026-11-20", "09:00", "interrupted", HEAD, "ascend", "95.0", "s", "0.90"]
    assert second.split() == [old.run_id[:8], "2026-11-20", "08:00", "failed", TALK, "ascend", "-", "-"]


def test_a_listing_can_be_narrowed(runs: Runs) -> None:
    failed = runs.noted(started_at=stamp(7), status=RunStatus.FAILED, error=failure())
    head = runs.noted(started_at=stamp(8), model=HEAD)
    last = runs.noted(started_at=stamp(9))

    def ids(*args: str) -> list[str]:
        return [run["run_id"] for run in omnirt("runs", "list", "--json", *args).json["runs"]]

    assert ids("--status", "failed") == [failed.run_id]
    assert ids("--model", "flashhead") == [head.run_id]
    assert ids("--limit", "2") == [last.run_id, head.run_id]
    assert ids("--since", stamp(8)) == [last.run_id, head.run_id]
    assert ids("--since", stamp(8), "--model", TALK) == [last.run_id]


def test_a_moment_is_a_date_a_time_or_so_long_ago() -> None:
    local = datetime(2026, 11, 20, 14, 30).astimezone(timezone.utc)

    assert since_moment("2026-11-20T14:30") == local.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert since_moment("2026-11-20T14:30:00Z") == "2026-11-20T14:30:00.000Z"
    hour_ago = datetime.fromisoformat(since_moment("1h").replace("Z", "+00:00")).timestamp()
    assert time.time() - hour_ago == pytest.approx(3600, abs=5)


@pytest.mark.parametrize("args", [("--since", "yesterday"), ("--status", "flying"), ("--limit", "0")])
def test_a_malformed_filter_is_a_usage_error(runs: Runs, args: tuple[str, ...]) -> None:
    done = omnirt("runs", "list", *args)

    assert done.code == 2
    assert args[0] in done.stderr


def test_nothing_was_run_here_yet(runs: Runs) -> None:
    assert omnirt("runs", "list").stdout == "no runs\n"
    assert omnirt("runs", "list", "--json").json == {"runs": []}
    assert omnirt("runs", "show", "last").code == 2


# --- show ---------------------------------------------------------------------------------------------


def test_a_run_is_found_by_the_beginning_of_its_id_and_as_the_last(runs: Runs) -> None:
    first = runs.noted(started_at=stamp(8), run_id="aaaa1111-0000")
    runs.noted(started_at=stamp(9), run_id="aaaa2222-0000")

    assert omnirt("runs", "show", "aaaa1", "--json").json["run"]["run_id"] == first.run_id
    assert omnirt("runs", "show", "last", "--json").json["run"]["run_id"] == "aaaa2222-0000"
    several = omnirt("runs", "show", "aaaa")
    assert several.code == 2
    assert "2 runs begin with aaaa" in several.stderr


def test_an_unknown_id_is_a_usage_error_with_the_nearest(runs: Runs) -> None:
    runs.noted(run_id="aaaa1111-0000")

    done = omnirt("runs", "show", "aaab1111", "--json")

    assert done.code == 2
    assert "the nearest is aaaa1111-0000" in done.stderr
    assert done.json["error"]["code"] == "usage"


def test_a_failed_run_says_why_and_what_to_do(runs: Runs) -> None:
    runs.noted(status=RunStatus.FAILED, error=failure(), warnings=["a knob does nothing"], kept=["/o/talk.partial.mp4"])

    lines = omnirt("runs", "show", "last").stdout.splitlines()

    assert "error    model_failed (exit code 10): rank 3 ended with 1" in lines
    assert "hint     see the log" in lines
    assert "  warning: a knob does nothing" in lines
    assert "kept     /o/talk.partial.mp4" in lines
    assert "  sample_steps = 4  (flag)" in lines


def test_what_was_concluded_of_a_run_is_shown(runs: Runs) -> None:
    finding = Finding(code="slow", severity=Severity.WARNING, what="it was slow", why="a busy device", do="look at it")
    runs.noted(findings=[finding])

    text = omnirt("runs", "show", "last").stdout

    assert "finding  it was slow\nwhy      a busy device\ndo       look at it\n" in text


def test_phases_and_chunks_are_drawn_to_scale(runs: Runs) -> None:
    runs.noted(timings={"model_load_ms": 50_000.0, "generation_ms": 25_000.0, "total_ms": 100_000.0})

    lines = omnirt("runs", "show", "last").stdout.splitlines()

    def bar(name: str) -> str:
        return next(line for line in lines if line.startswith(f"  {name} "))

    assert bar("load").endswith("50.0 s  " + "#" * 12)
    assert bar("generate").endswith("25.0 s  " + "#" * 6)
    assert bar("total").endswith("#" * 24)
    assert "chunks (3)" in lines


# --- logs ---------------------------------------------------------------------------------------------


def test_the_last_lines_of_a_log(runs: Runs) -> None:
    report = runs.noted(log="".join(f"line {number}\n" for number in range(50_000)))

    assert omnirt("runs", "logs", "last", "--tail", "2").stdout == "line 49998\nline 49999\n"
    document = omnirt("runs", "logs", "last", "--tail", "1", "--json").json
    assert (document["run_id"], document["lines"]) == (report.run_id, ["line 49999"])


def test_a_log_without_a_last_newline_ends_with_its_last_line(runs: Runs) -> None:
    runs.noted(log="one\ntwo")

    assert omnirt("runs", "logs", "last", "--tail", "1").stdout == "two\n"


def test_a_log_is_followed_until_its_run_ends(runs: Runs) -> None:
    beside = Beside(runs.folder)
    with living(beside, make_running(runs.folder)) as process:
        follower = start("runs", "logs", "last", "--follow")
        assert follower.stdout is not None
        assert follower.stdout.readline() == b"the model is loading\n"
        with beside.log.open("a") as log:
            log.write("chunk 1\n")
        assert follower.stdout.readline() == b"chunk 1\n"
        with beside.log.open("a") as log:
            log.write("the end\n")
        process.kill()
        done = finish(follower)

    assert done.code == 0
    assert done.stdout == "the end\n"


def test_following_and_one_document_exclude_each_other(runs: Runs) -> None:
    assert omnirt("runs", "logs", "last", "--follow", "--json").code == 2


def test_a_run_without_a_log_says_so(runs: Runs, place: DataPlace) -> None:
    runs.noted()
    Beside(runs.folder, "talk0").log.unlink()
    (place.folder(History.current().find("last").run_id) / "run.log").unlink()

    done = omnirt("runs", "logs", "last")

    assert done.code == 66
    assert "has no log" in done.stderr


# --- compare --------------------------------------------------------------------------------------------


def test_two_runs_side_by_side_with_ratios_and_what_differs(runs: Runs) -> None:
    a = runs.noted(run_id="aaaa-0")
    runs.noted(
        run_id="bbbb-0",
        timings={**TIMINGS, "total_ms": 190_000.0, "steady_chunk_core_ms_avg": 450.0},
        config_resolved={**a.config_resolved, "sample_steps": 2},
    )

    found = omnirt("runs", "compare", "aaaa", "bbbb", "--json").json
    text = omnirt("runs", "compare", "aaaa", "bbbb").stdout

    phases = {pair["name"]: pair for pair in found["phases"]}
    figures = {pair["name"]: pair for pair in found["figures"]}
    assert phases["total_ms"] == {"name": "total_ms", "a": 95_000.0, "b": 190_000.0, "ratio": 2.0}
    assert figures["steady_chunk_core_ms_avg"]["ratio"] == 0.5
    assert found["knobs"] == [{"name": "sample_steps", "a": 4, "b": 2}]
    assert (found["chunk_times"], len(found["chunks"]), found["notes"]) == ("core", 3, [])
    assert "  sample_steps: 4 -> 2" in text.splitlines()
    assert ["total", "95.0", "s", "3.2", "m", "2.00"] in [line.split() for line in text.splitlines()]
    assert max(map(len, text.splitlines())) <= 80


def test_unlike_chunk_times_are_not_compared(runs: Runs) -> None:
    runs.noted(run_id="aaaa-0", core_scope="core")
    runs.noted(run_id="bbbb-0", core_scope="core+audio")

    found = omnirt("runs", "compare", "aaaa", "bbbb", "--json").json

    assert found["chunk_times"] == "interval"
    assert not [pair for pair in found["figures"] if "core" in pair["name"]]
    assert "first_chunk_ms" in [pair["name"] for pair in found["figures"]]
    assert "unlike things (core; core+audio)" in " ".join(found["notes"])


def test_cold_against_hot_is_said(runs: Runs) -> None:
    runs.noted(run_id="aaaa-0")
    hot = {key: value for key, value in TIMINGS.items() if key != "model_load_ms"}
    runs.noted(run_id="bbbb-0", execution_mode="persistent_worker", timings=hot)

    found = omnirt("runs", "compare", "aaaa", "bbbb", "--json").json

    assert found["notes"] == ["cold against hot: the hot run loaded no model"]
    assert next(pair for pair in found["phases"] if pair["name"] == "model_load_ms")["ratio"] is None


def test_the_figures_of_a_part_are_called_so(runs: Runs) -> None:
    runs.noted(run_id="aaaa-0")
    runs.noted(run_id="bbbb-0", status=RunStatus.CANCELLED)

    assert "B ended cancelled" in omnirt("runs", "compare", "aaaa", "bbbb").stdout


# --- pages ------------------------------------------------------------------------------------------------


def test_a_run_is_written_as_one_page_beside_its_video(runs: Runs) -> None:
    report = runs.noted(artifacts=[])

    done = omnirt("runs", "show", "last", "--html", ".", cwd=runs.folder)

    page = runs.folder / "talk0.report.html"
    assert (done.code, done.stdout) == (0, f"{page}\n")
    assert f"<dd>{report.run_id}</dd>" in page.read_text(encoding="utf-8")


def test_a_page_links_the_video_that_lies_beside_it(runs: Runs, tmp_path: Path) -> None:
    runs.noted()
    (runs.folder / "talk0.mp4").write_bytes(b"a video")

    beside, elsewhere = runs.folder / "page.html", tmp_path / "page.html"
    for page in (beside, elsewhere):
        assert omnirt("runs", "show", "last", "--html", str(page)).code == 0

    assert 'src="./talk0.mp4#t=0.1"' in beside.read_text(encoding="utf-8")
    assert "<video" not in elsewhere.read_text(encoding="utf-8")
    assert "does not lie beside this page" in elsewhere.read_text(encoding="utf-8")


def test_a_page_goes_to_stdout_whole_and_alone(runs: Runs) -> None:
    runs.noted(status=RunStatus.FAILED, error=failure())

    done = omnirt("runs", "show", "last", "--html", "-", cwd=runs.folder)

    assert done.stdout.startswith("<!doctype html>\n")
    assert done.stdout.rstrip().endswith("</html>")
    assert "rank 3 ended with 1" in done.stdout
    assert not list(runs.folder.glob("*.html"))


def test_two_runs_are_written_as_one_page(runs: Runs) -> None:
    runs.noted(run_id="aaaa-0")
    runs.noted(run_id="bbbb-0", timings={**TIMINGS, "total_ms": 190_000.0})

    done = omnirt("runs", "compare", "aaaa", "bbbb", "--html", str(runs.folder))

    page = runs.folder / "compare-aaaa-0-bbbb-0.html"
    assert (done.code, done.stdout) == (0, f"{page}\n")
    assert "<title>Runs aaaa-0 and bbbb-0</title>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", [("show", "last"), ("compare", "last", "last")])
def test_a_page_and_one_document_exclude_each_other(runs: Runs, words: tuple[str, ...]) -> None:
    runs.noted()

    done = omnirt("runs", *words, "--html", "-", "--json")

    assert done.code == 2
    assert "--html and --json" in done.json["error"]["message"]


def test_a_page_never_overwrites_the_video(runs: Runs) -> None:
    runs.noted()
    video = runs.folder / "talk0.mp4"
    video.write_bytes(b"a video")

    done = omnirt("runs", "show", "last", "--html", str(video))

    assert done.code == 2
    assert "give --html a name that ends in .html" in done.stderr
    assert video.read_bytes() == b"a video"


def test_a_page_that_cannot_be_written_is_said_so(runs: Runs) -> None:
    runs.noted()

    done = omnirt("runs", "show", "last", "--html", str(runs.folder / "missing" / "page.html"))

    assert done.code == 73
    assert "missing/page.html" in done.stderr


def test_templates_are_loaded_for_pages_only(runs: Runs) -> None:
    runs.noted()
    code = "import sys; from omnirt_cli.main import run; run(sys.argv[1:]); print('jinja2' in sys.modules)"

    def loads(*words: str) -> str:
        command = [sys.executable, "-c", code, *words]
        return subprocess.run(command, env=environment(None), capture_output=True, text=True).stdout.split()[-1]

    assert [loads("--help"), loads("runs", "show", "last")] == ["False", "False"]
    assert loads("runs", "show", "last", "--html", "-") == "True"


# --- earlier runs -----------------------------------------------------------------------------------------


def test_only_runs_under_the_same_conditions_are_earlier_runs(runs: Runs) -> None:
    host = {"name": socket.gethostname()}
    alike = [runs.noted(started_at=stamp(hour), host=host) for hour in (7, 8)]
    runs.noted(config_resolved={"sample_steps": 2, "size": "416*704"})
    runs.noted(model=HEAD)
    runs.noted(devices=DevicesInfo(kind="ascend", used=[DeviceInfo(id="0", name="910B2")]))
    runs.noted(core_scope="core+audio")
    runs.noted(status=RunStatus.FAILED, error=failure())
    runs.noted(execution_mode="persistent_worker")
    now = runs.noted(started_at=stamp(9), config_resolved={**alike[0].config_resolved, "seed": 1})

    found = earlier(now)

    assert [past.run_id for past in found] == [alike[1].run_id, alike[0].run_id]
    assert (found[0].total_ms, found[0].model_load_ms, found[0].steady_chunk_ms) == (95_000.0, 80_000.0, 900.0)
    assert (found[0].rtf, found[0].steady_rtf, found[0].save_ms, found[0].chunk_count) == (0.9, 0.8, 700.0, 3)
    assert [past.run_id for past in earlier(now, limit=1)] == [alike[1].run_id]


def test_where_the_script_prints_no_time_the_wall_time_between_chunks_is_kept(runs: Runs) -> None:
    timings = {key: value for key, value in TIMINGS.items() if "core" not in key}
    chunks = [ChunkInfo(index=number, interval_ms=1_000.0) for number in range(3)]
    runs.noted(timings=timings, chunks=chunks)
    now = runs.noted(timings=timings, chunks=chunks)

    (past,) = earlier(now)

    assert past.steady_chunk_ms == 1_000.0


# --- the command itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["list", "show", "logs", "compare", "rerun", "rebuild"])
def test_every_command_has_help_with_an_example_and_json(command: str) -> None:
    done = omnirt("runs", command, "--help")

    assert done.code == 0
    assert f"  omnirt runs {command}" in done.stdout
    assert "--json" in done.stdout


def test_the_group_has_help_with_an_example() -> None:
    done = omnirt("runs", "--help")

    assert done.code == 0
    assert "  omnirt runs list --limit 5" in done.stdout

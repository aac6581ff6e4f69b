"""`omnirt generate --server`: what a run on this machine shows, leaves and ends with."""

from __future__ import annotations

import hashlib
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omnirt_cli.client.client import Client
from omnirt_cli.client.order import OWN
from omnirt_cli.errors import UsageError
from omnirt_cli.request import Config
from omnirt_cli.server.knobs import GenerationConfig
from tests.client.client_runs import free_port, leftovers, report_beside, states, there, wish
from tests.omnirt_cli_runs import (
    ASSETS,
    ROOT,
    environment,
    finish,
    generate_args,
    omnirt,
    start,
    wait_for,
)
from tests.server.server_runs import MODEL, Server, serving

QUIET = ("--progress", "never")
OLD_VIDEO = b"an earlier video"

VALUES = {"bool": True, "int": 2, "float": 2.0, "dict": {"A": "B"}, "tuple": ("disk",)}
VALUES_OF = {
    "launcher": "python",
    "executor": "script",
    "working_directory": "checkout",
    "devices": "2",
    "device": "cpu",
    "text_cache_device": "cpu",
}
"""Values that fit, by the words in a setting's type, or by its name."""


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _dead() -> str:
    return f"http://127.0.0.1:{free_port()}"


# --- the same as here -----------------------------------------------------------------------------


def test_files_display_events_and_document_are_those_of_a_local_run(server: Server, tmp_path: Path) -> None:
    near, far = tmp_path / "near" / "v.mp4", tmp_path / "far" / "v.mp4"
    events = ["--events", str(tmp_path / "near.jsonl")], ["--events", str(tmp_path / "far.jsonl")]

    local = omnirt(*generate_args(near, "--json", "--max-chunks", "2", "--seed", "7", *events[0]))
    remote = omnirt(*there(server.url, far, "--json", "--seed", "7", *events[1]))

    assert remote.code == local.code == 0, remote.stderr
    assert {path.name for path in far.parent.iterdir()} == {path.name for path in near.parent.iterdir()}
    assert remote.report == report_beside(far)
    assert set(remote.report) == set(local.report)
    assert remote.report["config_resolved"] == local.report["config_resolved"]
    assert remote.json["outputs"][0]["path"] == remote.report["artifacts"][0]["path"] == str(far)
    assert remote.report["log_path"] == str(far.with_name("v.log"))
    assert remote.report["inputs"]["image"]["path"] == str(ASSETS / "portrait.png")
    assert hashlib.sha256(far.read_bytes()).hexdigest() == remote.json["outputs"][0]["sha256"]
    assert "Data preparation done" in far.with_name("v.log").read_text()

    near_rows, far_rows = _rows(tmp_path / "near.jsonl"), _rows(tmp_path / "far.jsonl")
    told = [[(row["event"], row.get("stage"), row.get("index")) for row in rows] for rows in (near_rows, far_rows)]
    assert told[0] == told[1]
    assert [row["sequence"] for row in far_rows] == list(range(1, len(far_rows) + 1))
    assert far_rows[0]["output"] == far_rows[-1]["output"] == str(far)
    assert far_rows[-1]["report_path"] == str(far.with_name("v.report.json"))

    job_line, *shown = remote.stderr.splitlines()
    assert job_line == f"job {remote.report['job_id']} on {server.url}"
    assert [line.split()[0] for line in shown] == [line.split()[0] for line in local.stderr.splitlines()]


def test_the_path_of_the_video_is_the_last_line_of_stdout(server: Server, tmp_path: Path) -> None:
    done = omnirt(*there(server.url, tmp_path / "v.mp4"), cwd=tmp_path)

    assert done.stdout == f"{tmp_path / 'v.mp4'}\n"
    assert "chunk 2/2" in done.stderr


def test_without_an_output_the_name_and_the_folder_are_the_usual_ones(server: Server, tmp_path: Path) -> None:
    args = there(server.url, tmp_path / "x.mp4", "--json", *QUIET, "--seed", "11")
    del args[args.index("--output") : args.index("--output") + 2]

    done = omnirt(*args, cwd=tmp_path)

    path = Path(done.json["outputs"][0]["path"])
    assert path.parent == tmp_path / "outputs"
    assert path.name.startswith("soulx-flashtalk-14b-11-")
    assert path.exists()


def test_presets_knobs_and_a_request_file_are_passed_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"model: {MODEL}\nconfig: {{preset: fast, sample_steps: 3, seed: 1}}\n")

    done = omnirt(
        *there(server.url, tmp_path / "v.mp4", "--json", *QUIET, "--seed", "5", "--config", "r.yaml"), cwd=tmp_path
    )

    config = done.report["request"]["config"]
    assert (config["preset"], config["sample_steps"], config["seed"]) == ("fast", 3, 5)
    assert done.report["config_sources"]["seed"] == "flag"


def test_this_machine_s_settings_say_only_where_the_results_go(server: Server, tmp_path: Path) -> None:
    (tmp_path / "omnirt.yaml").write_text("repo_path: /nowhere\nsample_steps: 7\noutput_dir: results\n")
    args = there(server.url, tmp_path / "x.mp4", "--json", *QUIET)
    del args[args.index("--output") : args.index("--output") + 2]

    done = omnirt(*args, cwd=tmp_path)

    assert done.code == 0, done.stderr
    assert Path(done.json["outputs"][0]["path"]).parent == tmp_path / "results"
    assert done.report["config_resolved"].get("sample_steps") != 7


# --- refused before anything is sent --------------------------------------------------------------


def test_what_only_a_local_run_has_is_refused_by_name(tmp_path: Path) -> None:
    flags = ("--python-executable", "/usr/bin/python3", "--env", "A=B", "--resident")

    done = omnirt(*there(_dead(), tmp_path / "v.mp4", *flags))

    assert done.code == 2
    assert "error: --python-executable, --executor, --env: on a server" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(set(Config.model_fields) - set(GenerationConfig.model_fields) - OWN))
def test_no_setting_of_the_operator_s_is_sent(name: str, tmp_path: Path) -> None:
    kind = str(Config.model_fields[name].annotation)
    value: Any = next((value for word, value in VALUES.items() if word in kind), "x")
    request = wish(output=str(tmp_path / "v.mp4"), **{name: VALUES_OF.get(name, value)})

    with Client(_dead()) as client, pytest.raises(UsageError, match=f"--{name.replace('_', '-')}: on a server"):
        client.generate(request)


def test_a_key_of_a_request_file_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("config:\n  seed: 1\n  repo_path: there\n")

    done = omnirt(*there(_dead(), tmp_path / "v.mp4", "--config", str(tmp_path / "r.yaml")))

    assert done.code == 2
    assert "`repo_path`" in done.stderr
    assert "r.yaml:3" in done.stderr


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--dry-run",), "--dry-run does not go with --server"),
        (("--image", "none.png"), "none.png does not exist"),
        (("--output", "v.avi"), "must end in .mp4"),
        (("--server", "render-1:8000"), "write it as http://HOST:PORT"),
        (("--server", "http://me:secret@h"), "no user or password"),
    ],
)
def test_mistakes_are_told_before_anything_is_sent(flags: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = omnirt(*there(_dead(), tmp_path / "v.mp4", *flags))

    assert done.code in (2, 66)
    assert words in done.stderr
    assert "secret" not in done.stderr


def test_an_api_key_file_without_a_server_is_a_mistake(tmp_path: Path) -> None:
    assert omnirt(*generate_args(tmp_path / "v.mp4", "--api-key-file", "k")).code == 2


def test_no_clobber_keeps_the_video_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(OLD_VIDEO)

    done = omnirt(*there(_dead(), tmp_path / "v.mp4", "--no-clobber"))

    assert done.code == 73
    assert (tmp_path / "v.mp4").read_bytes() == OLD_VIDEO


def test_without_httpx_local_runs_work_and_a_server_s_tell_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text("raise ModuleNotFoundError('no httpx', name='httpx')\n")
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}

    remote = omnirt(*there(_dead(), tmp_path / "v.mp4"), env=env)

    assert remote.code == 66
    assert "pip install 'omnirt[client]'" in remote.stderr
    assert omnirt(*generate_args(tmp_path / "v.mp4", "--dry-run"), env=env).code == 0


def test_the_server_s_libraries_are_not_needed(tmp_path: Path) -> None:
    for name in ("fastapi", "starlette", "uvicorn", "sse_starlette", "prometheus_client"):
        (tmp_path / f"{name}.py").write_text("raise ModuleNotFoundError\n")

    done = omnirt(*there(_dead(), tmp_path / "v.mp4"), env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})

    assert done.code == 66
    assert "cannot be reached" in done.stderr


# --- how it ends ----------------------------------------------------------------------------------


def test_nobody_at_that_address(tmp_path: Path) -> None:
    done = omnirt(*there(_dead(), tmp_path / "v.mp4"))

    assert done.code == 66
    assert "cannot be reached" in done.stderr
    assert "omnirt serve" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failed_render_ends_as_it_would_here(tmp_path: Path) -> None:
    far = tmp_path / "far.mp4"
    with serving(tmp_path / "server", env={"MINIATURE_FAULT": "oom_cuda"}) as server:
        remote = omnirt(*there(server.url, far, "--json", "--events", str(tmp_path / "e.jsonl")))
    local = omnirt(
        *generate_args(tmp_path / "near.mp4", "--json", "--max-chunks", "2"), env={"MINIATURE_FAULT": "oom_cuda"}
    )

    assert remote.code == local.code == 11, remote.stderr
    assert remote.report == report_beside(far)
    for key in ("code", "message", "hint", "exit_code"):
        assert remote.report["error"][key] == local.report["error"][key]
    assert "out of memory" in far.with_name("far.log").read_text().lower()
    assert not far.exists()
    last = _rows(tmp_path / "e.jsonl")[-1]
    assert (last["event"], last["status"], last["exit_code"]) == ("run_finished", "failed", 11)


def test_a_refusal_of_the_server_leaves_nothing(server: Server, tmp_path: Path) -> None:
    (tmp_path / "p.png").write_bytes(b"no picture")

    done = omnirt(*there(server.url, tmp_path / "v.mp4", "--json", *QUIET, "--image", str(tmp_path / "p.png")))

    assert done.code == 65
    assert done.report["error"]["hint"].startswith("give one of")
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_job_on_the_server(
    number: signal.Signals, code: int, slow_server: Server, tmp_path: Path
) -> None:
    video, events = tmp_path / "v.mp4", tmp_path / "e.jsonl"
    video.write_bytes(OLD_VIDEO)
    process = start(*there(slow_server.url, video, "--json", *QUIET, "--events", str(events)))
    wait_for(lambda: any(row.get("stage") == "generate" for row in _rows(events)), what="the loop")
    begun = report_beside(video)

    process.send_signal(number)
    done = finish(process)

    assert begun["status"] == "running"
    assert begun["job_id"] == done.report["job_id"]
    assert done.code == code
    assert done.report == report_beside(video)
    assert (done.report["status"], done.report["error"]["exit_code"]) == ("cancelled", code)
    assert states(slow_server)[0] == "cancelled"
    assert (_rows(events)[-1]["event"], _rows(events)[-1]["status"]) == ("run_finished", "cancelled")
    assert video.read_bytes() == OLD_VIDEO
    assert leftovers(tmp_path) == []


def test_a_signal_ends_a_job_that_waits(slow_server: Server, tmp_path: Path) -> None:
    first = start(*there(slow_server.url, tmp_path / "a.mp4", *QUIET))
    wait_for(lambda: states(slow_server)[0] == "running", what="the first job")
    second = start(*there(slow_server.url, tmp_path / "b.mp4", "--json"))
    wait_for(lambda: states(slow_server)[0] == "queued", what="the second job")

    second.send_signal(signal.SIGINT)
    done = finish(second)
    first.send_signal(signal.SIGINT)

    assert finish(first).code == done.code == 130
    assert done.report["status"] == "cancelled"
    assert states(slow_server)[:2] == ["cancelled", "cancelled"]


def test_two_runs_never_share_an_output(slow_server: Server, tmp_path: Path) -> None:
    first = start(*there(slow_server.url, tmp_path / "v.mp4", *QUIET))
    wait_for(lambda: (tmp_path / "v.report.json").exists(), what="the first run")

    done = omnirt(*there(slow_server.url, tmp_path / "v.mp4"))
    first.send_signal(signal.SIGINT)

    assert done.code == 75
    assert "another run is writing" in done.stderr
    assert finish(first).code == 130


def test_a_limit_on_the_time_counts_from_the_call(slow_server: Server, tmp_path: Path) -> None:
    done = omnirt(*there(slow_server.url, tmp_path / "v.mp4", "--json", *QUIET, "--timeout", "1.5"))

    assert done.code == 12
    assert done.report["status"] == "timed_out"
    assert done.report["error"]["code"] == "timed_out"
    assert states(slow_server)[0] in ("cancelled", "failed")
    assert done.seconds < 20


def test_a_full_disk_here(server: Server, tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    video = tmp_path / "v.mp4"
    video.write_bytes(OLD_VIDEO)

    done = subprocess.run(
        [sys.executable, "-m", "omnirt", *there(server.url, video, "--json", *QUIET)],
        capture_output=True,
        env=environment(None),
        stdin=subprocess.DEVNULL,
        preexec_fn=small_files,
    )

    report = json.loads(done.stdout)["metadata"]
    assert done.returncode == 74, done.stderr
    assert report["error"]["code"] == "io_error"
    assert report["artifacts"] == []
    assert report["job_id"] in report["error"]["hint"]
    assert report_beside(video)["status"] == "failed"
    assert video.read_bytes() == OLD_VIDEO
    assert leftovers(tmp_path) == []
    assert states(server)[0] == "succeeded"

"""What operators see: health under load, readiness, figures, logs, and the command line's own manners."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.omnirt_cli_runs import environment, omnirt, wait_for
from tests.server.server_runs import Server, finished, serving, submit, waiting_caller, with_media


def test_health_does_not_wait_for_renders(tmp_path: Path) -> None:
    """The published server's health took as long as the job before it."""
    with serving(tmp_path, "--max-concurrency", "2") as server, with_media(server).client() as client:
        jobs = [submit(client) for _ in range(4)]
        with server.client() as waiting:
            waits = waiting_caller(server)
            times = []
            while waits.poll() is None:
                began = time.monotonic()
                assert waiting.get("/healthz").json() == {"ok": True}
                times.append(time.monotonic() - began)
                time.sleep(0.02)

        assert len(times) > 20
        assert statistics.median(times) < 0.2
        assert {finished(client, one)["state"] for one in jobs} == {"succeeded"}


def test_a_ready_server_says_what_it_can_render(client: httpx.Client) -> None:
    ready = wait_for(lambda: (now := client.get("/readyz")).status_code == 200 and now.json(), what="readiness")

    assert ready["ok"]
    assert ready["models"]["soulx-flashtalk-14b"] == {"ok": True, "reason": None, "hint": None}
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    assert {one["id"] for one in listed["data"]} == {"soulx-flashtalk-14b", "soulx-flashhead-1.3b", "soulx-liveact-14b"}
    assert all(one["ready"] and one["object"] == "model" for one in listed["data"])
    assert "repo_path" not in listed["data"][0]["knobs"]
    connected = client.get("/v1/audio2video/models").json()
    assert connected["models"] == ["flashtalk", "flashhead", "liveact"]
    assert all(one["connected"] for one in connected["statuses"])


def test_figures_have_the_published_names(client: httpx.Client) -> None:
    finished(client, submit(client))

    text = client.get("/metrics").text

    for line in (
        'omnirt_jobs_total{execution_mode="subprocess",model="soulx-flashtalk-14b",state="succeeded",task="audio2video"}',
        'omnirt_stage_duration_seconds_count{model="soulx-flashtalk-14b",stage="generate"}',
        'omnirt_queue_depth{priority="normal"} 0.0',
        'omnirt_chunk_seconds_count{model="soulx-flashtalk-14b"}',
        'omnirt_http_requests_total{method="POST",route="/v1/jobs",status="202"}',
        "omnirt_jobs_running 0.0",
        "omnirt_ready 1.0",
    ):
        assert line in text


def test_paths_that_do_not_exist_make_no_new_figures(client: httpx.Client) -> None:
    for number in range(20):
        client.get(f"/nothing/{number}")
        client.request(f"M{number}", "/healthz")

    text = client.get("/metrics").text
    assert "/nothing" not in text
    assert "M1" not in text


def test_each_request_has_its_id_in_answer_and_log(server: Server, client: httpx.Client) -> None:
    ours = client.get("/healthz?key=hidden", headers={"X-Request-ID": "of-the-test-1"})
    forged = client.get("/healthz", headers={"X-Request-ID": "a\\nb {}"})

    assert ours.headers["x-request-id"] == "of-the-test-1"
    assert forged.headers["x-request-id"] != "a\\nb {}"
    line = wait_for(lambda: next((x for x in server.log_lines() if x.get("request") == "of-the-test-1"), None))
    assert (line["method"], line["path"], line["status"], line["event"]) == ("GET", "/healthz", 200, "request")
    assert line["ms"] < 1000
    assert "hidden" not in server.log()


def test_a_log_that_nobody_reads_holds_up_nothing(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    server = Server(tmp_path, stderr=writer)
    try:
        with server.start().client() as client:
            for _ in range(600):
                assert client.get("/healthz", headers={"X-Request-ID": "x" * 64}).status_code == 200
    finally:
        assert server.process is not None
        server.process.kill()
        server.wait()
        os.close(reader)
        os.close(writer)


def test_a_server_without_its_libraries_says_what_to_install() -> None:
    blocked = "import sys; sys.modules['fastapi'] = None; sys.argv = ['omnirt', 'serve']; "
    blocked += "from omnirt_cli.main import main; main()"

    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, env=environment(None))

    assert done.returncode == 66
    assert "omnirt[server]" in done.stderr


@pytest.mark.parametrize("args", [("--help",), ("generate", "--help"), ("models",)])
def test_other_commands_import_nothing_of_the_server(args: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "omnirt", *args],
        capture_output=True,
        text=True,
        env=environment(None),
    )

    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert not imported & {"fastapi", "uvicorn", "starlette", "sse_starlette", "prometheus_client", "httpx"}


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--log-format", "xml"), 2),
        (("--media-root", "/nothing/at/all"), 2),
        (("--api-key-file", "/nothing/at/all"), 66),
        (("--host", "no.such.host.invalid"), 2),
        (("--max-concurrency", "-3"), 2),
        (("--state-dir", "/proc/nothing"), 73),
    ],
)
def test_what_cannot_be_served_is_told_at_once(flags: tuple[str, ...], code: int) -> None:
    done = omnirt("serve", "--port", "0", *flags)

    assert done.code == code, done.stderr
    assert flags[0] in done.stderr or flags[1] in done.stderr

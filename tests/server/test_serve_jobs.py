"""Jobs over HTTP: listed, queued in their order, refused when there are too many, cancelled, forgotten."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import psutil

from tests.omnirt_cli_runs import marked_processes, wait_for
from tests.server.server_runs import SLOW, Server, error_of, finished, generating, job, serving, submit, with_media


def test_a_running_job_is_really_cancelled(tmp_path: Path) -> None:
    with serving(tmp_path, env={"MINIATURE_CHUNK_S": "60"}) as server, with_media(server).client() as client:
        job_id = submit(client)
        wait_for(
            lambda: (job(client, job_id)["progress"] or {}).get("stage") == "generate",
            seconds=90,
            what="the first chunk",
        )
        run_id = client.get(f"/v1/jobs/{job_id}/report").json()["run_id"]
        assert marked_processes(run_id)

        answer = client.delete(f"/v1/jobs/{job_id}")

        assert answer.status_code == 202
        assert answer.json()["cancel_requested"]
        ended = finished(client, job_id, seconds=20)
        assert ended["state"] == "cancelled"
        assert ended["error"]["code"] == "cancelled"
        assert not marked_processes(run_id)
        assert client.delete(f"/v1/jobs/{job_id}").json()["state"] == "cancelled"


def test_jobs_wait_in_their_order_and_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--max-queue", "3", env={"MINIATURE_CHUNK_S": "60"}) as server,
        with_media(server).client() as client,
    ):
        first = submit(client)
        wait_for(lambda: job(client, first)["state"] == "running", what="the first job")
        low = submit(client, priority="low")
        normal = submit(client)
        high = submit(client, priority="high")

        full = client.post("/v1/jobs", json={"model": "soulx-flashtalk-14b"})

        assert full.status_code == 429
        assert error_of(full)["code"] == "busy"
        assert int(full.headers["retry-after"]) >= 1
        assert [job(client, one)["position"] for one in (high, normal, low)] == [0, 1, 2]
        figures = client.get("/metrics").text
        assert 'omnirt_queue_depth{priority="high"} 1.0' in figures
        assert "omnirt_jobs_running 1.0" in figures
        cancelled = client.delete(f"/v1/jobs/{high}")
        assert 'execution_mode="",model="soulx-flashtalk-14b",state="cancelled"' in client.get("/metrics").text
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        client.delete(f"/v1/jobs/{first}")
        wait_for(lambda: job(client, normal)["state"] == "running", what="the next in turn")
        assert job(client, low)["state"] == "queued"


def test_a_cancel_that_comes_before_the_render_has_begun_counts(client: httpx.Client) -> None:
    ids = [submit(client) for _ in range(3)]
    for job_id in reversed(ids):
        client.delete(f"/v1/jobs/{job_id}")

    assert {finished(client, job_id)["state"] for job_id in ids} == {"cancelled"}


def test_jobs_are_listed_page_by_page(client: httpx.Client) -> None:
    made = [submit(client) for _ in range(3)]
    for job_id in made:
        client.delete(f"/v1/jobs/{job_id}")
    seen: list[str] = []
    cursor = None
    while True:
        page = client.get("/v1/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [one["id"] for one in page["data"]]
        cursor = page["next"]
        if cursor is None:
            break

    assert len(seen) == len(set(seen))
    assert seen[:3] == made[::-1]
    assert client.get("/v1/jobs", params={"model": "soulx-liveact-14b"}).json()["data"] == []
    assert client.get("/v1/jobs", params={"state": "elsewhere"}).status_code == 422
    assert client.get("/v1/jobs", params={"cursor": "²"}).status_code == 422


def test_two_renders_run_at_a_time_where_that_is_allowed(tmp_path: Path) -> None:
    with serving(tmp_path, "--max-concurrency", "2", env=SLOW) as server, with_media(server).client() as client:
        first, second = submit(client), submit(client)

        wait_for(lambda: {job(client, first)["state"], job(client, second)["state"]} == {"running"}, what="both to run")
        assert {finished(client, one)["state"] for one in (first, second)} == {"succeeded"}


def test_old_jobs_and_their_files_are_forgotten(tmp_path: Path) -> None:
    with serving(tmp_path, "--job-ttl", "2", "--max-finished", "1") as server, with_media(server).client() as client:
        older, newer = submit(client), submit(client)
        client.delete(f"/v1/jobs/{older}")
        finished(client, newer)

        wait_for(lambda: client.get(f"/v1/jobs/{older}").status_code == 404, what="the older one's end")
        wait_for(lambda: client.get(f"/v1/jobs/{newer}").status_code == 404, what="the newer one's end")
        wait_for(lambda: not list((server.state / "jobs").iterdir()), what="their files' end")


def test_a_job_whose_process_is_killed_is_rendered_again(tmp_path: Path) -> None:
    with serving(tmp_path, env=SLOW) as server, with_media(server).client() as client:
        job_id = submit(client)
        generating(client, job_id)
        run_id = client.get(f"/v1/jobs/{job_id}/report").json()["run_id"]

        server.render_processes()[0].kill()

        ended = finished(client, job_id)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 2)
        assert not marked_processes(run_id)
        names = [line["event"] for line in server.log_lines()]
        assert "render process died" in names


def test_a_job_that_kills_its_process_every_time_fails(tmp_path: Path) -> None:
    with serving(tmp_path, env={"MINIATURE_CHUNK_S": "60"}) as server, with_media(server).client() as client:
        job_id = submit(client)
        for attempt in (1, 2, 3):
            wait_for(
                lambda attempt=attempt: job(client, job_id)["attempt"] == attempt and job(client, job_id)["progress"]
            )
            wait_for(
                lambda: (job(client, job_id)["progress"] or {}).get("stage") == "generate",
                seconds=90,
                what="the render",
            )
            server.render_processes()[0].kill()

        ended = finished(client, job_id)

        assert (ended["state"], ended["attempt"], ended["error"]["code"]) == ("failed", 3, "model_failed")
        assert client.get("/readyz").json()["running"] == 0


def test_there_is_nothing_where_there_is_no_job(client: httpx.Client) -> None:
    for path in ("", "/events", "/log", "/report", "/video"):
        for job_id in ("0" * 32, "nothing", "..%2f..%2fetc%2fpasswd"):
            answer = client.get(f"/v1/jobs/{job_id}{path}")
            assert answer.status_code == 404
            assert error_of(answer)["code"] == "input_missing"


def test_idle_costs_next_to_nothing(server: Server, client: httpx.Client) -> None:
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    wait_for(lambda: client.get("/readyz").json()["models"], what="the survey")
    wait_for(lambda: client.get("/readyz").json()["running"] == 0, what="quiet")
    before = sum(process.cpu_times()[:2])
    time.sleep(2)

    assert sum(process.cpu_times()[:2]) - before < 0.3
